"""Bad datasets: manifests, downloads and files, in the form of `test_bad_inputs.py`'s table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from bad_inputs import Case, cells, check_error, h5ad, write

import c2s
from c2s import errors as e
from c2s.data import (
    DatasetUnavailable,
)
from c2s.data.download import ContentRefused

SOUND = {
    "name": "mine",
    "title": "Mine",
    "citation": "Somebody (2020).",
    "doi": None,
    "licence": "CC0",
    "homepage": "https://example.org",
    "species": "Homo sapiens",
    "matrix": "raw",
    "loader": "h5ad",
}


def manifest(folder: Path, source: Path | None = None, file: dict[str, object] | None = None, **changes) -> Path:
    """Write a manifest, of a local file unless told otherwise."""
    about: dict[str, object] = {"name": "cells.h5ad", "role": "cells", "sha256": "0" * 64}
    if source is not None:
        content = source.read_bytes()
        about |= {"name": source.name, "urls": [source.as_uri()], "sha256": hashlib.sha256(content).hexdigest()}
    whole = SOUND | {"files": [about | (file or {})]} | changes
    return write(folder, "mine.yaml", yaml.safe_dump(whole, sort_keys=False))


CASES = [
    # --- what is not here
    Case(
        "dataset that is not here, offline",
        DatasetUnavailable,
        "'mine' is not on this machine.*C2S_OFFLINE is set",
        "C2S_DATA_MIRROR",
        lambda d, m: c2s.load_dataset(manifest(d, file={"urls": ["https://example.org/a"]})),
    ),
    # --- what is not what it should be
    Case(
        "download with another checksum",
        ContentRefused,
        "its sha256 must be 0000.*kept aside",
        "fetch it again",
        lambda d, m: c2s.load_dataset(manifest(d, h5ad(d, cells()), file={"sha256": "0" * 64})),
    ),
    Case(
        "mirror that is no folder",
        e.DatasetError,
        "which is no folder",
        "C2S_DATA_MIRROR",
        lambda d, m: _with_mirror(d / "nowhere"),
    ),
]


def _with_mirror(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C2S_DATA_MIRROR", str(folder))
        c2s.load_dataset("pbmc3k")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_error_names_the_thing_and_the_fix(case, tmp_path, monkeypatch):
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("C2S_OFFLINE", "1")
    monkeypatch.delenv("C2S_DATA_MIRROR", raising=False)
    check_error(case, tmp_path, tmp_path)
    kept = {path.name for path in (tmp_path / "home").rglob("*") if path.is_file()}
    assert not [name for name in kept if name.endswith((".part", ".tmp"))]
