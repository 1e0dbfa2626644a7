"""``c2s data``: list, info, fetch, verify, path."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest
import yaml
from loopback_site import sha256

from c2s.cli import main
from c2s.data.catalogue import shipped_manifests
from c2s.tasks import Dataset


@pytest.fixture(autouse=True)
def _places(tmp_path, monkeypatch):
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("C2S_DATA_MIRROR", raising=False)
    monkeypatch.setenv("C2S_LOAD_PLUGINS", "")
    monkeypatch.setenv("C2S_OFFLINE", "1")


@pytest.fixture
def run(capsys):
    def call(*words):
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


@pytest.fixture
def table(tmp_path, manifest_file):
    """A manifest of one small table beside it."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    file = {"name": "a.csv", "urls": [(tmp_path / "a.csv").as_uri()], "sha256": sha256(b"x,y\n1,2\n")}
    return manifest_file(
        "a_table", loader="table", files=[file], overlaps=["biogrid"], columns={"sex": {"value": "f"}}
    )


def test_list_names_every_manifest_without_heavy_imports():
    program = """
import json, sys
from c2s.cli import main
try:
    main(["data", "list", "--json"])
except SystemExit:
    pass
heavy = {"torch", "scanpy", "anndata", "pandas", "scipy", "pyarrow", "requests"} & set(sys.modules)
sys.stderr.write(json.dumps(sorted(heavy)))
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # Processor time, since a stopwatch on a busy machine proves nothing.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.5
    assert json.loads(done.stderr) == []
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(shipped_manifests()) <= set(rows)
    assert rows["pbmc68k_reduced"]["where"] == "bundled"
    assert rows["pbmc3k"]["where"] == "mirror only"
    assert rows["kang_2018"]["where"] == "fetch"
    assert rows["immune_conde2022"]["where"] == "by hand"
    assert rows["simulated_atlas"]["where"] == "simulated"


def test_list_prints_whole_names_and_what_is_here(run):
    code, out, _ = run("data", "list")
    assert code == 0
    assert all(name in out for name in shipped_manifests())
    assert " datasets. WHERE: " in out
    _, out, _ = run("data", "list", "--here")
    assert "pbmc68k_reduced" in out
    assert "pbmc3k" not in out


def test_info_says_everything(run, table):
    code, out, _ = run("data", "info", "kang_control")
    assert code == 0
    for said in ("10.1038/nbt.4042", "column donor_id: donor_id", "always 'Homo sapiens'", "overlaps: kang_ifnb"):
        assert said in out
    _, out, _ = run("data", "info", "kang_2018")
    assert "https://ndownloader.figshare.com/files/34464122" in out
    assert "fallbacks, best first: kang_ifnb, kang_control, simulated_cytokines" in out
    _, out, _ = run("data", "info", "dong_2023")
    assert "not stated: neither pertpy nor Dryad states one" in out
    _, out, _ = run("data", "info", table, "--json")
    assert json.loads(out)["name"] == "a_table"
    code, _, err = run("data", "info", "pbmc3")
    assert code == 2
    assert "Did you mean 'pbmc3k'" in err


def test_info_says_where_a_file_is_or_how_it_can_be_had(run, tmp_path):
    home = tmp_path / "home"
    _, out, _ = run("data", "info", "pbmc3k")
    assert "set C2S_DATA_MIRROR to a folder that holds it, under any name" in out
    assert f"or put it at {home / 'pbmc3k' / 'pbmc3k_2638.h5ad'}" in out
    _, out, _ = run("data", "info", "retina_zuo2024")
    final = home / "retina_zuo2024" / "retina_zuo2024.h5ad"
    assert f"no sum to find it by in a mirror: put it at {final}" in out
    final.parent.mkdir(parents=True)
    final.write_bytes(b"x")
    _, out, _ = run("data", "info", "retina_zuo2024")
    assert "): in the store\n    sha256: not stated" in out and "no address" not in out
    _, out, _ = run("data", "info", "pbmc68k_reduced")
    assert "): here\n" in out and "comes with: scanpy" in out
    _, out, _ = run("data", "info", "simulated_atlas")
    assert "simulated by: c2s.data.simulate.atlas(n_cells=3000, seed=0)" in out
    assert "(made when it is first used)" in out


def test_info_of_what_a_plugin_brings_without_a_manifest(run, monkeypatch):
    made = Dataset("plain", "Made by hand", lambda: None, citation="Somebody (2020).", label="kind")
    monkeypatch.setattr("c2s.data.catalogue.dataset_without_manifest", lambda name: (made, "some"))
    code, out, _ = run("data", "info", "plain")
    assert code == 0
    assert out.splitlines()[0] == "plain: Made by hand"
    assert "citation: Somebody (2020)." in out and "plugin: some" in out and "licence" not in out
    assert json.loads(run("data", "info", "plain", "--json")[1])["label"] == "kind"


def test_fetch_path_and_verify_of_a_manifest_of_ones_own(run, table, tmp_path):
    code, out, _ = run("data", "verify", table)
    assert code == 1
    assert "absent" in out
    final = tmp_path / "home" / "a_table" / "a.csv"
    code, out, _ = run("data", "fetch", table)
    assert (code, out.strip()) == (0, f"a_table: {final}")
    assert run("data", "path", table)[1].strip() == str(final)
    assert run("data", "path", table, "a.csv")[1].strip() == str(final)
    code, out, _ = run("data", "verify", table, "--load")
    assert code == 0
    assert "1 rows" in out
    assert "1 of 1 files are here and sound." in out
    final.write_text("x,y\n1,3\n")
    code, out, _ = run("data", "verify", table, "--json")
    [row] = json.loads(out)["files"]
    assert (code, row["state"]) == (1, "refused")
    assert sha256(b"x,y\n1,2\n") in row["what"]
    assert not final.exists()


def test_verify_of_everything_is_green_about_what_is_here(run):
    code, out, _ = run("data", "verify")
    assert code == 0
    assert "pbmc68k_reduced" in out
    assert "are not here" in out
    code, out, _ = run("data", "verify", "pbmc68k_reduced", "--load")
    assert code == 0
    assert "700 cells x 765 genes; cell_type, tissue, disease, organism" in out


def test_verify_says_what_cannot_be_loaded(run, table, tmp_path):
    content = yaml.safe_load(table.read_text())
    table.write_text(
        yaml.safe_dump(content | {"loader": "gct", "files": [content["files"][0] | {"role": "cells"}]})
    )
    run("data", "fetch", table)
    code, out, _ = run("data", "verify", table, "--load")
    assert code == 1
    assert "not GCT 1.3" in out


def test_fetch_says_when_it_brings_something_else(run):
    code, out, err = run("data", "fetch", "immune_conde2022")
    assert code == 0
    assert "immune_conde2022 (instead: pbmc68k_reduced): " in out
    assert err.startswith("Warning: dataset 'immune_conde2022' is not available here; 'pbmc68k_reduced'")
    code, out, err = run("data", "fetch", "immune_conde2022", "--strict")
    assert (code, out) == (2, "")
    assert "put it into the store by hand" in err


def test_fetch_and_path_of_what_has_no_files(run, tmp_path):
    code, _, err = run("data", "fetch", "human_cell_atlas")
    assert code == 2
    assert "no file with a known address. Fix: Section 4.1" in err
    code, out, _ = run("data", "verify", "human_cell_atlas")
    assert code == 1
    assert "no file with a known address" in " ".join(out.split())
    code, _, err = run("data", "path", "human_cell_atlas")
    assert code == 2
    assert "it has no files" in err
    code, _, err = run("data", "path", "cellphonedb")
    assert code == 2
    assert "several files" in err


def test_a_recorded_sum_is_forgotten_on_demand(run, tmp_path, manifest_file):
    (tmp_path / "a.csv").write_text("x\n1\n")
    file = {
        "name": "a.csv",
        "urls": [(tmp_path / "a.csv").as_uri()],
        "sha256": None,
        "sha256_reason": "nobody does",
    }
    manifest = manifest_file("a_table", loader="table", files=[file])
    code, _, err = run("data", "fetch", manifest)
    assert code == 0
    assert "Warning: nobody states a checksum of a.csv" in err
    (tmp_path / "a.csv").write_text("x\n2\n")
    (tmp_path / "home" / "a_table" / "a.csv").unlink()
    code, _, err = run("data", "fetch", manifest)
    assert code == 2
    assert "--forget" in err
    code, out, _ = run("data", "fetch", manifest, "--forget")
    assert code == 0
    assert "is forgotten" in out
    assert (tmp_path / "home" / "a_table" / "a.csv").read_text() == "x\n2\n"


def test_path_of_simulated_cells_makes_them(run, tmp_path, manifest_file):
    made = {"function": "atlas", "arguments": {"n_cells": 20, "seed": 1}}
    manifest = manifest_file("made_up", loader="simulated", files=[], simulation=made)
    code, out, _ = run("data", "path", manifest)
    assert code == 0
    assert out.strip().endswith(".h5ad")
    assert (tmp_path / "home" / "made_up").is_dir()
    assert run("data", "path", manifest)[1] == out


@pytest.mark.mirror
def test_the_mirror_is_green(run, mirror, monkeypatch):
    monkeypatch.setenv("C2S_DATA_MIRROR", str(mirror))
    code, out, _ = run("data", "verify")
    assert code == 0
    assert "refused" not in out
    assert "26 of 43 files are here and sound, 17 are not here." in out
