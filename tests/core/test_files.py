"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, strategies as st

from c2s.errors import OutputError
from c2s.files import atomic_output, short_names


def everything(folder):
    return sorted(p.name for p in folder.rglob("*"))


def test_the_output_appears_only_when_the_block_ends(tmp_path):
    out = tmp_path / "new" / "a.parquet"
    with atomic_output(out) as temporary:
        temporary.write_text("half")
        assert not out.exists()
        assert temporary.suffix == ".parquet"
    assert out.read_text() == "half"
    assert everything(tmp_path / "new") == ["a.parquet"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failing_block_leaves_nothing_and_the_old_output_as_it_was(tmp_path, error):
    old, fresh = tmp_path / "old.txt", tmp_path / "fresh.txt"
    old.write_text("old")
    for path in (old, fresh):
        with pytest.raises(type(error)), atomic_output(path, overwrite=True) as temporary:
            temporary.write_text("new")
            raise error
    assert everything(tmp_path) == ["old.txt"]
    assert old.read_text() == "old"


def test_an_existing_output_is_refused_before_any_work(tmp_path):
    (tmp_path / "a").write_text("precious")
    worked = False
    with pytest.raises(OutputError, match=r"a exists already.*overwrite=True"), atomic_output(tmp_path / "a"):
        worked = True
    assert not worked
    assert (tmp_path / "a").read_text() == "precious"


def test_a_folder_replaces_a_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale").write_text("")
    with atomic_output(tmp_path / "model", overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("w")
    assert everything(tmp_path) == ["model", "weights"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, code):
    with (
        pytest.raises(OutputError, match=r"disk is full while writing .*a\.txt.*free some space"),
        atomic_output(tmp_path / "a.txt") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(code, "no space")
    assert everything(tmp_path) == []


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deeper" / "a.txt"):
        with pytest.raises(OutputError, match=r"cannot write .*a\.txt.*choose a folder"), atomic_output(place):
            pytest.fail("the block must not run")


def test_other_system_errors_pass_through(tmp_path):
    with pytest.raises(ConnectionError), atomic_output(tmp_path / "a"):
        raise ConnectionError("elsewhere")


@pytest.mark.parametrize(
    "names, short",
    [
        (["pbmc68k_reduced"], ["pbmc68k_reduced"]),
        (["x/PBMC, day 3.h5ad", "y/atlas.zarr"], ["PBMC, day 3", "atlas"]),
        (["a/model", "b/model", "c/other"], ["a/model", "b/model", "other"]),
        (["/x/a/model", "/y/a/model"], ["x/a/model", "y/a/model"]),
        (["cells.h5ad", "cells.zarr"], ["cells.h5ad", "cells.zarr"]),
        (["a/cells.h5ad", "b/cells.h5ad", "a/cells.zarr"], ["cells.h5ad", "b/cells", "cells.zarr"]),
        (["kang", "kang.h5ad"], ["kang", "kang.h5ad"]),
        (["pythia-1.4b", "org/pythia-1.4b"], ["pythia-1.4b", "org/pythia-1.4b"]),
        (["model", "./model"], ["model", "model-2"]),
        (["a/m/x", "b/m/x", "m-x"], ["a/m/x", "b/m/x", "m-x"]),
        (["Model", "model"], ["Model", "model-2"]),
    ],
)
def test_short_names_stay_apart_also_as_names_of_files(names, short):
    assert short_names(names) == dict(zip(names, short))
    assert len({name.replace("/", "-").casefold() for name in short}) == len(names)


@given(st.lists(st.text("ab./_-", min_size=1, max_size=6), unique=True, max_size=8))
def test_any_names_stay_apart(names):
    short = short_names(names)
    assert list(short) == names
    assert len({name.replace("/", "-").replace("_", "-").casefold() for name in short.values()}) == len(names)


def test_a_folder_called_previous_is_replaced_too(tmp_path):
    for text in ("one", "two"):
        with atomic_output(tmp_path / "previous", overwrite=True) as temporary:
            temporary.mkdir()
            (temporary / "a.txt").write_text(text)
    assert (tmp_path / "previous" / "a.txt").read_text() == "two"
