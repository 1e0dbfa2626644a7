"""Tiny files that claim huge arrays are refused before anything is allocated, wherever the array is."""

from __future__ import annotations

import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr

import c2s
from c2s.data import claims, locate_cells, read_cells
from c2s.data.claims import refuse_false_claims
from c2s.errors import InputFileError

#: Everything that reads, or leads to reading.
READERS = {
    "read_cells": read_cells,
    "backed": lambda path: read_cells(path, backed=True),
    "load_dataset": c2s.load_dataset,
    "locate_cells": locate_cells,
}
HUGE = 10**11


@pytest.fixture
def whole(counts):
    """Cells with a sparse ``X``, ``raw``, a dense layer, a categorical column, ``obsm`` and ``uns``."""
    counts.obs["cell_type"] = pd.Categorical(counts.obs["cell_type"])
    counts.obs["tissue"] = pd.Categorical(["blood"] * counts.n_obs)
    counts.raw = counts.copy()
    counts.layers["dense"] = counts.X.toarray()
    counts.obsm["place"] = np.arange(counts.n_obs * 2.0).reshape(-1, 2)
    counts.uns["note"] = np.arange(3)
    return counts


def in_h5ad(path, name, shape, dtype="f4", **more):
    """Replace an array by one of this shape of which nothing is stored."""
    chunks = tuple(min(n, 1000) for n in shape)
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        attributes = {"encoding-type": "array", "encoding-version": "0.2.0"}
        made = file.create_dataset(
            name, shape=shape, dtype=dtype, **{"chunks": chunks, "compression": "gzip"} | more
        )
        made.attrs.update(attributes)
    return path


def in_zarr(path, name, shape, dtype="f4"):
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    if name in root:
        del root[name]
    array = root.create_array(name, shape=shape, dtype=dtype, chunks=tuple(min(n, 10**6) for n in shape))
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    zarr.consolidate_metadata(path)
    return path


BOMBS = [
    ("X", (10**6, 10**5), "f4"),
    ("raw/X", (10**6, 10**5), "f4"),
    ("layers/dense", (10**6, 10**5), "f4"),
    ("raw/X/data", (HUGE,), "f4"),
    ("X/indptr", (HUGE,), "i8"),
    ("obs/cell_type/codes", (HUGE,), "i1"),
    ("var/extra", (HUGE,), "f8"),
    ("obsm/place", (60, HUGE), "f4"),
    ("uns/note", (HUGE,), "f8"),
]


@pytest.mark.parametrize(("name", "shape", "dtype"), BOMBS, ids=[bomb[0] for bomb in BOMBS])
def test_an_h5ad_that_claims_a_huge_array(whole, write, name, shape, dtype):
    path = in_h5ad(write(whole), name, shape, dtype)
    assert path.stat().st_size < 2 << 20
    for read in READERS.values():
        with pytest.raises(InputFileError, match=f"the array {name} claims [0-9,]+ bytes, but 0 are stored"):
            read(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("name", "shape", "dtype"), [*BOMBS, ("obs/_index", (HUGE,), str)])
@pytest.mark.filterwarnings("ignore")
def test_a_zarr_that_claims_a_huge_array(whole, write, name, shape, dtype, version):
    with ad.settings.override(zarr_write_format=version):
        path = in_zarr(write(whole, "cells.zarr"), name, shape, dtype)
    # Of a sparse matrix, and of the ids, it is seen at once that chunks are not there.
    for read in READERS.values():
        with pytest.raises(
            InputFileError, match=rf"the array {name} claims [0-9,]+ bytes|of the chunks of {name}"
        ):
            read(path)


@pytest.mark.parametrize("n", [100, 300])
def test_many_small_claims_are_added_up(whole, write, n):
    path = write(whole)
    for i in range(n):
        in_h5ad(path, f"uns/a{i}", (500_000,), "i1")
    if n * 500_000 <= 64 << 20:
        assert read_cells(path).n_obs == 60
    else:
        with pytest.raises(
            InputFileError, match=r"uns/a\d+ claims 500,000 bytes.* \(and 299 more arrays likewise\)"
        ):
            read_cells(path)


def set_shape(path, name, shape):
    with h5py.File(path, "r+") as file:
        file[name].attrs["shape"] = shape
    return path


@pytest.mark.parametrize("name", ["X", "raw/X"])
def test_a_sparse_matrix_that_states_another_shape_than_it_has(whole, write, name):
    for shape, says in [
        ([HUGE, 80], rf"{name}/indptr has 61 values, where a shape of \[{HUGE}, 80\] needs 100,000,000,001"),
        ([60], "does not have the parts of one"),
        (["a", "b"], "does not have the parts of one"),
    ]:
        with pytest.raises(InputFileError, match=says):
            read_cells(set_shape(write(whole), name, shape))


def test_sparse_matrices_by_column_are_compared_too(whole, write):
    whole.X = sp.csc_matrix(whole.X)
    path = write(whole)
    assert read_cells(path).n_obs == 60
    with pytest.raises(InputFileError, match="needs 100,000,000,001"):
        read_cells(set_shape(path, "X", [60, HUGE]))


def changed(path, name, change):
    with h5py.File(path, "r+") as file:
        values = file[name][:]
        attributes = dict(file[name].attrs)
        del file[name]
        made = file.create_dataset(name, data=change(values))
        made.attrs.update(attributes)
    return path


def with_value(place, value):
    def change(values):
        values[place] = value
        return values

    return change


@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("indptr", with_value(-1, 10**9), "indptr goes from 0 to 1,000,000,000, but"),
        ("indptr", with_value(0, 5), "indptr goes from 5 to"),
        ("indptr", with_value(7, 10**9), "contradict each other"),
        ("indices", with_value(3, 10**6), "contradict each other"),
        ("indices", with_value(3, -1), "contradict each other"),
        ("indices", lambda values: values[:-1], "values but"),
    ],
)
def test_indices_that_lead_out_of_the_matrix(whole, write, part, change, says):
    path = changed(write(whole), f"X/{part}", change)
    with pytest.raises(InputFileError, match=says):
        read_cells(path)


def test_arrays_that_lie_in_another_file(whole, write, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["a"] = np.zeros(4)
    path = write(whole)
    with h5py.File(path, "r+") as file:
        file["uns/away"] = h5py.ExternalLink(str(other), "/a")
    with pytest.raises(InputFileError, match="the array uns/away lies in another file"):
        read_cells(path)
    path = write(whole)
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(other), "a", (4,))
        file.create_virtual_dataset("uns/virtual", layout)
    with pytest.raises(InputFileError, match="the array uns/virtual lies in another file"):
        read_cells(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore")
def test_a_zarr_that_has_lost_parts_of_raw_or_of_the_ids(whole, write, version):
    for name in ("raw/X/data", "X/indptr", "raw/X/indices", "obs/_index", "var/_index"):
        with ad.settings.override(zarr_write_format=version):
            path = write(whole, f"{name.replace('/', '-')}.zarr")
        refuse_false_claims(path)
        for chunk in [f for f in (path / name).rglob("*") if f.is_file() and f.name not in claims._ABOUT]:
            chunk.unlink()
        with pytest.raises(InputFileError, match=f"lacks 1 of the chunks of {name};"):
            read_cells(path)


@pytest.mark.parametrize("version", [2, 3])
def test_honest_files_pass_however_strict_the_limit(whole, write, monkeypatch, version):
    """Columns whose values are all alike, of which zarr stores no chunk; matrices of zeros; compression."""
    monkeypatch.setattr(claims, "_HARMLESS", 100)
    refuse_false_claims(write(whole))
    whole.write_h5ad(write(whole, "packed.h5ad"), compression="gzip")
    refuse_false_claims(write(whole, "packed.h5ad"))
    with ad.settings.override(zarr_write_format=version), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(whole, "cells.zarr")
        assert not [
            f for f in (path / "obs/tissue/codes").rglob("*") if f.is_file() and f.name not in claims._ABOUT
        ]
        refuse_false_claims(path)
        empty = ad.AnnData(sp.csr_matrix((3, 4), dtype=np.float32))
        refuse_false_claims(write(empty, "empty.zarr"))
        refuse_false_claims(write(empty, "empty.h5ad"))
    (path.parent / "text.h5ad").write_text("no HDF5")
    refuse_false_claims(path.parent / "text.h5ad")  # the reader says what it is
