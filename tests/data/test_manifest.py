"""Manifests: what is allowed, and every problem at once with its line."""

from __future__ import annotations

import pytest

from c2s.data.manifest import STANDARD_COLUMNS, Constant, read_manifest, url_problem
from c2s.errors import ConfigError


def problems(path):
    with pytest.raises(ConfigError) as caught:
        read_manifest(path)
    return caught.value.problems


def file(**changes):
    return {"name": "cells.h5ad", "role": "cells", "urls": [], "sha256": "0" * 64} | changes


def test_a_sound_manifest(manifest_file):
    manifest = read_manifest(manifest_file(columns={"cell_type": "label", "tissue": {"value": "blood"}}))
    assert manifest.columns == {"cell_type": "label", "tissue": Constant(value="blood")}
    assert (manifest.study, manifest.label, manifest.simulated) == ("some_cells", "cell_type", False)
    assert manifest.file() is manifest.file("cells.h5ad") is manifest.with_role("cells")
    assert manifest.with_role("genes") is None
    assert read_manifest(manifest_file(study="a_study")).study == "a_study"
    with pytest.raises(ConfigError, match=r"no file 'x'.*its files are: cells\.h5ad"):
        manifest.file("x")
    two = read_manifest(manifest_file(files=[file(), file(name="b.tsv", role="samples")]))
    with pytest.raises(ConfigError, match="several files"):
        two.file()
    none = read_manifest(manifest_file(loader="none", files=[]))
    with pytest.raises(ConfigError, match="it has no files"):
        none.file()


def test_all_problems_at_once_each_with_its_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(
        """name: broken
title: ""
citation: Somebody (2020).
doi: doi:10.1000/x
licence: CC0
homepage: http://example.org
species: Homo sapiens
matrix: counts
loader: h5ad
colour: red
files:
  - name: ../../etc/passwd
    role: cells
    urls:
      - https://example.org/a
      - http://example.org/b
    sha256: abc
  - name: b.h5ad
    role: Cells
    sha256: null
columns:
  cell_types: x
  tissue: {value: blood, colour: red}
  sex: 1
fallbacks: [Other]
"""
    )
    found = problems(path)
    lines = [int(problem.split(":")[0].removeprefix("line ")) for problem in found]
    assert lines == sorted(lines)
    expected = {2, 4, 6, 8, 10, 12, 14, 17, 19, 23, 24, 25}
    assert expected <= set(lines)
    text = "\n".join(found)
    assert "line 10: colour: unknown key" in text
    assert "line 12: files.0.name: '../../etc/passwd' does not have the form" in text
    assert "'http://example.org/b' is not allowed: only https and file addresses are" in text
    assert "line 23: columns.tissue" in text


def test_what_is_checked_once_the_parts_are_sound(manifest_file):
    unknown = problems(manifest_file(columns={"cell_types": "x"}))
    assert unknown[0].endswith(f"not a standard name; those are {', '.join(STANDARD_COLUMNS)}")
    assert (
        "two files are called 'cells.h5ad'" in problems(manifest_file(files=[file(), file(name="CELLS.h5ad")]))[0]
    )
    assert "exactly one file must have the role 'cells'" in problems(manifest_file(files=[file(role="x")]))[0]
    assert "needs files" in problems(manifest_file(loader="gmt", files=[]))[0]
    assert "other datasets, each once" in problems(manifest_file(fallbacks=["some_cells"]))[0]
    assert "other datasets, each once" in problems(manifest_file(overlaps=["a", "a"]))[0]
    assert "has a simulation and no files" in problems(manifest_file(loader="simulated"))[0]
    assert "is for the loader 'simulated'" in problems(manifest_file(simulation={"function": "atlas"}))[0]


def test_a_checksum_is_stated_or_its_absence_explained(manifest_file):
    assert problems(manifest_file(files=[file(sha256=None)])) == [
        "line 11: files.0: sha256 is null without a sha256_reason"
    ]
    assert "for a sha256 that is null" in problems(manifest_file(files=[file(sha256_reason="why")]))[0]
    missing = file()
    del missing["sha256"]
    assert problems(manifest_file(files=[missing])) == ["line 11: files.0.sha256: Field required"]
    assert read_manifest(manifest_file(files=[file(sha256=None, sha256_reason="nobody states one")])).file()
    assert "does not have the form" in problems(manifest_file(files=[file(sha256="A" * 64)]))[0]


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", ".hidden", "a\\b", "/a", "x.part", "x.lock", "x.refused-12345678", "recorded.json", "a b"],
)
def test_names_stay_in_the_folder(manifest_file, name):
    assert "files.0.name" in problems(manifest_file(files=[file(name=name)]))[0]


@pytest.mark.parametrize("role", ["../x", "A", "", "a/b"])
def test_roles_are_words(manifest_file, role):
    assert any("files.0.role" in problem for problem in problems(manifest_file(files=[file(role=role)])))


@pytest.mark.parametrize("package", ["scanpy:../../x", "scanpy:/etc/passwd", "../scanpy:x", "scanpy"])
def test_packages_keep_their_folder(manifest_file, package):
    changed = file(package=package, sha256=None, sha256_reason="comes with it")
    assert "files.0.package" in problems(manifest_file(files=[changed]))[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "http://127.0.0.1/a",
        "ftp://example.org/a",
        "https:///a",
        "https://user:word@example.org/a",
        "file://server/a",
        "file:///a/../../etc/passwd",
        "file:relative",
        "data:text/plain,x",
        "javascript:1",
        "https://[::1/a",
        "",
    ],
)
def test_addresses_that_are_not_allowed(manifest_file, url):
    assert url_problem(url)
    assert "files.0.urls" in problems(manifest_file(files=[file(urls=[url])]))[0]


def test_addresses_that_are_allowed():
    assert url_problem("https://example.org/a?b=c") is None
    assert url_problem("file:///a/b") is None
    assert url_problem("http://127.0.0.1:80/a", loopback_http=True) is None
    assert url_problem("http://[::1]:80/a", loopback_http=True) is None
    assert url_problem("http://127.0.0.1:80@example.org/a", loopback_http=True)
    assert url_problem("http://127.0.0.1.example.org/a", loopback_http=True)


def test_an_address_given_twice(manifest_file):
    twice = file(urls=["https://example.org/a", "https://example.org/a"])
    assert "given twice" in problems(manifest_file(files=[twice]))[0]


@pytest.mark.parametrize(
    "text, says",
    [
        ("name: a\ntitle: b\nname: c\n", "line 3: the key 'name' is given twice"),
        ("files:\n  - name: a\n    name: b\n", "line 3: the key 'name' is given twice"),
        ("a: &x [1]\nb: [*x, *x]\n", "line 1: an alias"),
        ("a: &x [*x]\n", "line 1: an alias"),
        ("name: [unclosed\n", "line 2: not YAML"),
        ("name: \t- x\n", "line 1: not YAML"),
        ("", "line 1: Input should be a valid dictionary"),
        ("- a\n- b\n", "line 1: Input should be a valid dictionary"),
        ("name: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("title: caf\xe9\nname: b\xff\n", "line 1: not UTF-8"),
        ("# " + "x" * (1 << 20), "it is 1,048,578 bytes long"),
        ("name: 2020-13-45\n", "month must be in 1..12"),
        ("name: a\n? [b, c]\n: d\n", "line 2: a key must be a word"),
        ("a: " + "[" * 20_000, "not YAML"),
    ],
)
def test_text_that_is_no_manifest(tmp_path, text, says):
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode("latin-1"))
    assert any(says in problem for problem in problems(path)), problems(path)


def test_a_missing_file_and_a_file_of_another_name(tmp_path, manifest_file):
    assert problems(tmp_path / "gone.yaml") == ["No such file or directory"]
    path = manifest_file("some_cells")
    assert problems(path.rename(tmp_path / "other.yaml")) == [
        "line 1: name: 'some_cells', but the file is called other.yaml"
    ]
