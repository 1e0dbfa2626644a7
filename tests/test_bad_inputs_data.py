"""Bad datasets: manifests, downloads and files, in the form of `test_bad_inputs.py`'s table."""

from __future__ import annotations

import gzip
import hashlib
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from bad_inputs import Case, cells, check_error, cli, h5ad, write

import c2s
from c2s import errors as e
from c2s.data import (
    DatasetUnavailable,
    load_manifest,
    locate_cells,
    read_abstracts,
    read_cells,
    read_gmt,
    read_manifest,
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


def _bomb(folder: Path) -> Path:
    with h5py.File(folder / "bomb.h5ad", "w") as file:
        file.create_dataset("X", shape=(1_000_000, 100_000), dtype="f4", chunks=(1000, 1000), compression="gzip")
    return folder / "bomb.h5ad"


def _huge(folder: Path, name: str, shape: tuple[int, ...]) -> Path:
    path = h5ad(folder, cells())
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, shape=shape, dtype="f4", chunks=tuple(min(n, 1000) for n in shape))
    return path


def _other_shape(folder: Path) -> Path:
    path = h5ad(folder, cells())
    with h5py.File(path, "r+") as file:
        file["X"].attrs["shape"] = [10**12, file["X"].attrs["shape"][1]]
    return path


def _zarr_without_chunks(folder: Path) -> Path:
    path = folder / "in.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        cells().write_zarr(path)
    about = {".zarray", ".zattrs", "zarr.json"}
    next(p for p in (path / "X" / "data").rglob("*") if p.is_file() and p.name not in about).unlink()
    return path


def _donor_with_nan(folder: Path) -> Path:
    donors = np.array(["d1", "d2"] * 6, dtype=object)
    donors[4] = None
    return manifest(folder, h5ad(folder, cells(who=donors)), columns={"donor_id": "who"})


def _changed_after_first_use(folder: Path) -> object:
    source = h5ad(folder, cells())
    path = manifest(folder, source, file={"sha256": None, "sha256_reason": "nobody states one"})
    with pytest.warns(e.C2SWarning, match="nobody states a checksum"):
        c2s.load_dataset(path)
    (folder / "home" / "mine" / source.name).unlink()
    h5ad(folder, cells(n=8))
    return c2s.load_dataset(path)


def _damaged_in_the_store(folder: Path) -> object:
    path = manifest(folder, h5ad(folder, cells()))
    c2s.load_dataset(path)
    (folder / "home" / "mine" / "in.h5ad").write_bytes(b"damaged")
    return c2s.load_dataset(path)


def _out_of_the_store(folder: Path) -> object:
    path = manifest(folder, h5ad(folder, cells()))
    (folder / "elsewhere").mkdir()
    (folder / "home").mkdir()
    (folder / "home" / "mine").symlink_to(folder / "elsewhere")
    return c2s.load_dataset(path)


CASES = [
    # --- manifests
    Case(
        "manifest with an unknown key",
        e.ConfigError,
        r"line 14: colour: unknown key",
        "mine.yaml",
        lambda d, m: read_manifest(manifest(d, colour="red")) and None,
    ),
    Case(
        "manifest with two files of one name",
        e.ConfigError,
        r"two files are called 'a\.h5ad'",
        "mine.yaml",
        lambda d, m: read_manifest(
            manifest(d, files=[{"name": n, "role": "cells", "sha256": "0" * 64} for n in ("a.h5ad", "A.h5ad")])
        ),
    ),
    Case(
        "manifest with an address that is not allowed",
        e.ConfigError,
        r"line \d+: files\.0\.urls: 'ftp://example\.org/a' is not allowed: only https and file",
        "mine.yaml",
        lambda d, m: read_manifest(manifest(d, file={"urls": ["ftp://example.org/a"]})),
    ),
    Case(
        "manifest with a checksum that is null",
        e.ConfigError,
        r"line \d+: files\.0: sha256 is null without a sha256_reason",
        "mine.yaml",
        lambda d, m: read_manifest(manifest(d, file={"sha256": None})),
    ),
    Case(
        "manifest with a path that leaves the store",
        e.ConfigError,
        r"files\.0\.name: '\.\./\.\./x' does not have the form",
        "mine.yaml",
        lambda d, m: read_manifest(manifest(d, file={"name": "../../x"})),
    ),
    Case(
        "manifest with a key given twice",
        e.ConfigError,
        r"line 2: the key 'name' is given twice",
        "mine.yaml",
        lambda d, m: read_manifest(write(d, "mine.yaml", "name: mine\nname: mine\n")),
    ),
    Case(
        "manifest that is not UTF-8",
        e.ConfigError,
        r"line 2: not UTF-8",
        "UTF-8",
        lambda d, m: read_manifest(write(d, "mine.yaml", b"name: mine\ntitle: caf\xe9\n")),
    ),
    Case(
        "manifest that grows without end",
        e.ConfigError,
        r"an alias",
        "mine.yaml",
        lambda d, m: read_manifest(write(d, "mine.yaml", "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n")),
    ),
    Case(
        "unknown dataset",
        e.RegistryError,
        "Did you mean 'pbmc3k'",
        "list",
        lambda d, m: cli("data", "info", "pbmc3"),
    ),
    # --- what is not here
    Case(
        "dataset that is not here, offline",
        DatasetUnavailable,
        "'mine' is not on this machine.*C2S_OFFLINE is set",
        "C2S_DATA_MIRROR",
        lambda d, m: c2s.load_dataset(manifest(d, file={"urls": ["https://example.org/a"]})),
    ),
    Case(
        "dataset that is not here, and fallbacks refused",
        DatasetUnavailable,
        "no public address",
        "C2S_DATA_MIRROR",
        lambda d, m: c2s.load_dataset(manifest(d, fallbacks=["pbmc68k_reduced"]), strict=True),
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
        "download changed since its first use",
        ContentRefused,
        "was changed",
        "--forget",
        lambda d, m: _changed_after_first_use(d),
    ),
    Case(
        "file damaged in the store",
        e.DatasetError,
        "is corrupt or was changed",
        "fetch mine",
        lambda d, m: _damaged_in_the_store(d),
    ),
    Case(
        "link that leads out of the store",
        e.DatasetError,
        "leads out of",
        "remove that link",
        lambda d, m: _out_of_the_store(d),
    ),
    Case(
        "h5ad bomb",
        e.InputFileError,
        "claims 400,000,000,000 bytes",
        "again",
        lambda d, m: c2s.load_dataset(_bomb(d)),
    ),
    Case(
        "h5ad bomb, left on disk",
        e.InputFileError,
        "claims 400,000,000,000",
        "again",
        lambda d, m: locate_cells(_bomb(d)),
    ),
    *(
        Case(
            f"h5ad with a huge {name}",
            e.InputFileError,
            rf"the array {name} claims [0-9,]+ bytes, but 0 are stored",
            "compare its checksum",
            lambda d, m, name=name, shape=shape: read_cells(_huge(d, name, shape)),
        )
        for name, shape in {
            "raw/X": (10**6, 10**5),
            "X/indptr": (10**11,),
            "obs/cell_type/codes": (10**11,),
        }.items()
    ),
    Case(
        "sparse matrix of another shape",
        e.InputFileError,
        r"X/indptr has 13 values, where a shape of \[1000000000000, \d+\] needs",
        "compare its checksum",
        lambda d, m: read_cells(_other_shape(d)),
    ),
    Case(
        "packed text that grows without measure",
        e.InputFileError,
        "unpacks to more than",
        "do not use",
        lambda d, m: read_gmt(write(d, "bomb.gmt", gzip.compress(bytes(80 << 20)))),
    ),
    Case(
        "zarr with missing chunks",
        e.InputFileError,
        "lacks 1 of the chunks of X/data",
        "again",
        lambda d, m: c2s.load_dataset(_zarr_without_chunks(d)),
    ),
    Case(
        "donor column with NaN",
        e.ObsError,
        "'who' of dataset 'mine' is empty for 1 of 12 cells, first 'cell4'",
        "another column",
        lambda d, m: c2s.load_dataset(_donor_with_nan(d)),
    ),
    Case(
        "column of a manifest that the file lacks",
        e.ObsError,
        "no obs column 'organ', which its manifest gives as tissue",
        "cell_type",
        lambda d, m: c2s.load_dataset(manifest(d, h5ad(d, cells()), columns={"tissue": "organ"})),
    ),
    Case(
        "table that is not UTF-8",
        e.InputFileError,
        "cannot be read as a table",
        "encoding",
        lambda d, m: load_manifest(
            manifest(d, write(d, "a.csv", b"caf\xe9,b\n1,2\n"), {"role": "t"}, loader="table")
        ),
    ),
    Case(
        "gct that is cut off",
        e.InputFileError,
        "is cut off",
        "again",
        lambda d, m: c2s.load_dataset(
            manifest(d, write(d, "a.gct", "#1.3\n2\t1\t0\t0\nid\tw\nA\t1\n"), loader="gct")
        ),
    ),
    Case(
        "abstracts that are no table",
        e.InputFileError,
        "as a Parquet table",
        "write it again",
        lambda d, m: read_abstracts(write(d, "a.parquet", "none")),
    ),
    Case(
        "dataset without cells where cells are wanted",
        e.DatasetError,
        "holds no cells",
        "load_manifest",
        lambda d, m: c2s.load_dataset(manifest(d, write(d, "a.csv", "x\n1\n"), {"role": "t"}, loader="table")),
    ),
    Case(
        "several files and none named",
        e.ConfigError,
        "several files",
        "interaction_input.csv",
        lambda d, m: cli("data", "path", "cellphonedb"),
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
    assert list(tmp_path.glob("elsewhere/*")) == []
