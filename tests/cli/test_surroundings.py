"""Commands in poor surroundings: terminals that know few characters, no home, packages that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from layouts import counted_cells

from c2s.caches import ensure_numba_cache

LABEL = "Zelltyp äöü 細胞 🧬"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    cells = counted_cells(40)
    cells.obs[LABEL] = cells.obs.pop("cell_type").astype(str).replace({"B cell": "Γ-zell [a]"})
    path = tmp_path_factory.mktemp("données 細胞") / "cells.h5ad"
    cells.write_h5ad(path)
    return path


def run(*words, **changed):
    env = {k: v for k, v in {**os.environ, **changed}.items() if v is not None}
    told = subprocess.run(
        [sys.executable, "-m", "c2s", *map(str, words)], env=env, capture_output=True, check=False
    )
    return told.returncode, told.stdout, told.stderr.decode("ascii", "replace")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp932"])
def test_a_terminal_of_few_characters_breaks_nothing(encoding, path):
    for command in (["check", path], ["labels", path], ["labels", path.parent / "ø.h5ad"]):
        code, out, error = run(*command, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert "Traceback" not in error
        if command[1] == path:
            assert code == 0
            # In place of ASCII, click takes UTF-8.
            told = {LABEL.encode(known, "replace") for known in (encoding, "utf-8")}
            assert any(text in out.replace(b"\n", b"") for text in told)
        else:
            assert code == 2
            assert "Error: there is no file" in error


def test_without_a_home(path, tmp_path):
    code, _, error = run("transform", path, tmp_path / "out.parquet", HOME=None, XDG_CACHE_HOME=None)
    assert code == 0, error
    assert (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("cache", ["file", "folder"])
def test_numba_gets_a_folder_where_it_finds_none(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "numba").mkdir(parents=True)  # which cannot be written, as is said below
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    ensure_numba_cache()
    assert os.environ["NUMBA_CACHE_DIR"].startswith(str(tmp_path))
    assert Path(os.environ["NUMBA_CACHE_DIR"]).is_dir()
