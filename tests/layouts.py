"""The same cells as people have them: in layouts of anndata, Seurat, Cell Ranger, loom and tables of counts."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.io import mmwrite

Write = Callable[[ad.AnnData, Path], Path]

GENES = [
    *("ACTB", "B2M", "CD3D", "CD3E", "CD4", "CD8A", "EEF1A1", "FTH1", "FTL", "GAPDH"),
    *("GNLY", "HLA-DRA", "IL7R", "LYZ", "MALAT1", "MS4A1", "MT-CO1", "MT-ND1", "NKG7", "RPL13"),
    *("RPLP0", "RPS27", "TMSB4X", "UBC", "VIM", "ERCC1", "ADTRP", "ABCA1", "HTR1A", "PROTEIN"),
    *("CMA1", "CMKLR1", "ATRX", "Y_RNA", "RP11-34P13.7", "C1orf112", "7SK", "H1-2", "AC009403.1", "SEPTIN7"),
]


def counted_cells(n: int = 70, seed: int = 0) -> ad.AnnData:
    """Raw counts of two types of cells and four donors, of different depth; every cell is of its own."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    rates = rng.gamma(1.0, 1.0, (1, len(GENES))) * rng.uniform(0.5, 2.0, (n, 1))
    rates[kind == 0, :6] *= 4
    rates[kind == 1, 6:12] *= 4
    counts = rng.poisson(rates)
    counts[:, 0] += 1
    obs = {
        "cell_type": pd.Categorical(np.array(["B cell", "T cell"])[kind]),
        "donor_id": [f"donor{i // 2 % 5}" for i in range(n)],
        "n_counts": counts.sum(1),
        "age": rng.uniform(20, 80, n).round(2),
    }
    var = {"gene_ids": [f"ENSG{i:011d}" for i in range(len(GENES))], "feature_types": "Gene Expression"}
    return ad.AnnData(
        sp.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(obs, index=[f"AAACCTGAG{i:03d}-1" for i in range(n)]),
        var=pd.DataFrame(var, index=GENES),
    )


def log_normalised(adata: ad.AnnData) -> ad.AnnData:
    """Return log1p of counts per 10,000, float32."""
    logged = adata.copy()
    values = adata.X.astype(np.float64)
    logged.X = sp.csr_matrix(values.multiply(1e4 / values.sum(1)).log1p().astype(np.float32))
    return logged


# --- HDF5 by hand


def _texts(values: Iterable[Any]) -> Any:
    return np.array([str(v) for v in values], dtype=object)


def _put_matrix(file: Any, name: str, matrix: Any, age: str) -> None:
    """Write a matrix as anndata 0.6 ("old"), as it did since ("new"), or without saying what it is ("bare")."""
    if not hasattr(matrix, "indptr"):
        file[name] = matrix
        if age == "new":
            file[name].attrs["encoding-type"] = "array"
        return
    group = file.create_group(name)
    for part in ("data", "indices", "indptr"):
        group[part] = getattr(matrix, part)
    if age == "old":
        group.attrs.update({"h5sparse_format": matrix.format, "h5sparse_shape": matrix.shape})
    elif age == "new":
        group.attrs.update({"encoding-type": f"{matrix.format}_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = matrix.shape
    else:
        group.attrs["shape"] = matrix.shape


def _records(frame: pd.DataFrame, uns: Any = None) -> Any:
    """Make a table of records of fixed-width bytes, codes in place of categories, as anndata 0.6 did."""
    columns: dict[str, Any] = {"index": np.array([str(v).encode() for v in frame.index])}
    for name, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            uns[f"{name}_categories"] = _texts(values.cat.categories)
            columns[str(name)] = values.cat.codes.to_numpy()
        elif values.dtype == object:
            columns[str(name)] = np.array([str(v).encode() for v in values])
        else:
            columns[str(name)] = values.to_numpy()
    records = np.empty(len(frame), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        records[name] = values
    return records


def anndata_06(change: Callable[[Any], Any] = lambda x: x, *, raw: bool = False) -> Write:
    """As anndata 0.6: tables of records, categories in ``uns``, ``raw.X`` beside ``X``."""

    def write(adata: ad.AnnData, path: Path) -> Path:
        with h5py.File(path, "w") as file:
            uns = file.create_group("uns")
            file["obs"], file["var"] = _records(adata.obs, uns), _records(adata.var)
            file["obsm"] = np.zeros(adata.n_obs, [("X_pca", "f4", (2,))])
            if raw:
                _put_matrix(file, "raw.X", change(adata.X), "old")
                file["raw.var"] = _records(adata.var)
                file["X"] = adata.X.toarray()[:, :5] - 1.5
                del file["var"]
                file["var"] = _records(adata.var.iloc[:5])
            else:
                _put_matrix(file, "X", change(adata.X), "old")
        return path

    return write


def _put_frame(file: Any, name: str, frame: pd.DataFrame, *, encoded: bool, one_based: bool = False) -> None:
    """Write a table with one array a column: as anndata 0.7, or as SeuratDisk, which does not say what it is."""
    group = file.create_group(name)
    group.attrs["_index"] = "_index"
    group["_index"] = _texts(frame.index)
    if encoded:
        group.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0"})
        group.attrs["column-order"] = np.array(list(map(str, frame.columns)), dtype=h5py.string_dtype())
    for column, values in frame.items():
        if isinstance(values.dtype, pd.CategoricalDtype):
            categories = _texts(values.cat.categories)
            if one_based:  # the factors of R, as h5Seurat has them
                group[f"{column}/levels"], group[f"{column}/values"] = categories, values.cat.codes.to_numpy() + 1
                continue
            group[f"__categories/{column}"] = categories
            group[column] = values.cat.codes.to_numpy()
            if encoded:
                group[column].attrs["categories"] = group[f"__categories/{column}"].ref
        else:
            group[column] = _texts(values) if values.dtype == object else values.to_numpy()


def by_hand(
    change: Callable[[Any], Any] = lambda x: x, *, encoded: bool = True, age: str = "new", one_based: bool = False
) -> Write:
    """As anndata 0.7 wrote it, or (not `encoded`) SeuratDisk."""

    def write(adata: ad.AnnData, path: Path) -> Path:
        with h5py.File(path, "w") as file:
            _put_matrix(file, "X", change(adata.X), age)
            _put_frame(file, "obs", adata.obs, encoded=encoded, one_based=one_based)
            _put_frame(file, "var", adata.var, encoded=encoded)
            for name in ("layers", "obsm", "uns"):
                file.create_group(name)
        return path

    return write


# --- by anndata of today


def today(change: Callable[[ad.AnnData], ad.AnnData | None] = lambda a: a, **how: Any) -> Write:
    """As anndata writes it today, after some change of the data in memory."""

    def write(adata: ad.AnnData, path: Path) -> Path:
        copy = adata.copy()
        copy = change(copy) or copy
        with warnings.catch_warnings(), ad.settings.override(allow_write_nullable_strings=True):
            warnings.simplefilter("ignore")
            copy.write_h5ad(path, **how)
        return path

    return write


def zarr_store(version: int, change: Callable[[Any], Any] = lambda x: x, **how: Any) -> Write:
    """As a zarr store of format 2 or 3."""

    def write(adata: ad.AnnData, path: Path) -> Path:
        copy = adata.copy()
        copy.X = change(copy.X)
        with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
            warnings.simplefilter("ignore")
            copy.write_zarr(path, **how)
        return path

    return write


def with_matrix(change: Callable[[Any], Any]) -> Write:
    """With the matrix stored in another way."""

    def changed(adata: ad.AnnData) -> None:
        adata.X = change(adata.X)

    return today(changed)


def unsorted(matrix: Any) -> Any:
    """Turn the entries of every row around."""
    pieces = [slice(*matrix.indptr[i : i + 2]) for i in range(matrix.shape[0])]
    order = np.concatenate([np.arange(p.start, p.stop)[::-1] for p in pieces])
    return sp.csr_matrix((matrix.data[order], matrix.indices[order], matrix.indptr), shape=matrix.shape)


def duplicated(matrix: Any) -> Any:
    """Write every value above 1 as two entries that add up to it."""
    coo = matrix.tocoo()
    many = coo.data > 1
    data = np.concatenate([np.where(many, coo.data - 1, coo.data), np.ones(many.sum(), coo.data.dtype)])
    rows = np.concatenate([coo.row, coo.row[many]])
    columns = np.concatenate([coo.col, coo.col[many]])
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=matrix.shape[0]))])
    return sp.csr_matrix((data[order], columns[order], indptr), shape=matrix.shape)


def explicit_zeros(matrix: Any) -> Any:
    """Store every value, 0 or not."""
    n, m = matrix.shape
    return sp.csr_matrix((matrix.toarray().ravel(), np.tile(np.arange(m), n), np.arange(n + 1) * m), shape=(n, m))


def in_layer(adata: ad.AnnData) -> ad.AnnData:
    """Put the matrix into a layer, with scaled values of it in X."""
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.toarray() - adata.X.toarray().mean(0)
    return adata


def in_raw(adata: ad.AnnData) -> ad.AnnData:
    """Put the matrix into raw, with scaled values of a few genes in X."""
    few = adata[:, :5].copy()
    few.X = few.X.toarray() - few.X.toarray().mean(0)
    few.raw = adata
    return few


def nullable(adata: ad.AnnData) -> None:
    """Give every column a type that can be missing."""
    adata.obs["cell_type"] = adata.obs["cell_type"].astype("string")
    adata.obs["donor_id"] = adata.obs["donor_id"].astype("string")
    adata.obs["note"] = pd.array(["seen", None] * (adata.n_obs // 2), dtype="string")
    adata.obs["n_counts"] = adata.obs["n_counts"].astype("Int32")
    adata.obs["doublet"] = pd.array([True, None] * (adata.n_obs // 2), dtype="boolean")
    adata.var["feature_types"] = adata.var["feature_types"].astype("string")


def categorical_names(adata: ad.AnnData) -> None:
    """Make the ids of cells and genes categories."""
    adata.var.index, adata.obs.index = pd.CategoricalIndex(adata.var_names), pd.CategoricalIndex(adata.obs_names)


# --- other programs


def _whole(values: Any) -> Any:
    """Return whole numbers as such, as these programs write them, and others as they are."""
    finite = np.isfinite(values).all()
    return values.astype(np.int32) if finite and (values == np.floor(values)).all() else values.astype(np.float64)


def cell_ranger_2(adata: ad.AnnData, path: Path) -> Path:
    """As Cell Ranger 2: one group a genome."""
    with h5py.File(path, "w") as file:
        group = file.create_group("GRCh38")
        for part in ("data", "indices", "indptr"):
            group[part] = _whole(getattr(adata.X, part))
        group["shape"] = np.array(adata.shape[::-1], np.int32)
        group["barcodes"] = np.array([v.encode() for v in adata.obs_names])
        group["gene_names"] = np.array([v.encode() for v in adata.var_names])
        group["genes"] = np.array([v.encode() for v in adata.var["gene_ids"]])
    return path


def cell_ranger_3(adata: ad.AnnData, path: Path) -> Path:
    """As Cell Ranger 3 and later."""
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for part in ("data", "indices", "indptr"):
            group.create_dataset(
                part,
                data=_whole(getattr(adata.X, part)),
                compression="gzip",
            )
        group["shape"] = np.array(adata.shape[::-1], np.int32)
        group["barcodes"] = np.array([v.encode() for v in adata.obs_names])
        features = group.create_group("features")
        for name, values in (
            ("name", adata.var_names),
            ("id", adata.var["gene_ids"]),
            ("feature_type", adata.var["feature_types"]),
            ("genome", ["GRCh38"] * adata.n_vars),
        ):
            features[name] = np.array([v.encode() for v in values])
        features["_all_tag_keys"] = np.array([b"genome"])
    return path


def _pack(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


def matrix_folder(
    names: tuple[str, str, str] = ("matrix.mtx", "features.tsv", "barcodes.tsv"),
    *,
    packed: bool = False,
    columns: int = 3,
    turned: bool = False,
) -> Write:
    """As a folder of matrix.mtx with the names beside it; `turned` is cells x genes, as kallisto writes it."""

    def write(adata: ad.AnnData, path: Path) -> Path:
        path.mkdir()
        matrix, genes, cells = (path / name for name in names)
        stored = sp.coo_matrix(adata.X if turned else adata.X.T)
        stored.data = _whole(stored.data)
        mmwrite(matrix, stored)
        fields = [adata.var["gene_ids"], adata.var_names, adata.var["feature_types"]]
        fields = [adata.var_names] if columns == 1 else fields[:columns]
        lines = zip(*(map(str, field) for field in fields), strict=True)
        genes.write_text("".join("\t".join(line) + "\n" for line in lines))
        cells.write_text("".join(f"{name}\n" for name in adata.obs_names))
        for file in (matrix, genes, cells) if packed else ():
            _pack(file)
        return path

    return write


def loom(adata: ad.AnnData, path: Path) -> Path:
    """As loompy 3 writes it: genes x cells, dense, in chunks."""
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        chunks = tuple(min(16, n) for n in adata.shape[::-1])
        file.create_dataset("matrix", data=adata.X.T.toarray(), chunks=chunks, compression="gzip")
        rows = {"Gene": adata.var_names, "Accession": adata.var["gene_ids"]}
        columns = {"CellID": adata.obs_names, **{name: adata.obs[name] for name in adata.obs}}
        for group, attributes in (("row_attrs", rows), ("col_attrs", columns)):
            file.create_group(group)
            for name, values in attributes.items():
                numbers = pd.api.types.is_numeric_dtype(values.dtype)
                file[group].create_dataset(
                    name, data=np.asarray(values) if numbers else _texts(values), dtype=None if numbers else text
                )
        for name in ("layers", "row_graphs", "col_graphs", "attrs"):
            file.create_group(name)
        file["attrs"]["LOOM_SPEC_VERSION"] = "3.0.0"
    return path


def table(
    separator: str = ",", *, turned: bool = False, packed: bool = False, labels: bool = False, corner: bool = True
) -> Write:
    """As text: cells x genes, or (`turned`) genes x cells; R leaves out the name above the row names."""

    def write(adata: ad.AnnData, path: Path) -> Path:
        frame = pd.DataFrame(_whole(adata.X.toarray()), index=adata.obs_names, columns=adata.var_names)
        frame = frame.T if turned else frame
        if labels:
            frame.insert(0, "cell_type", adata.obs["cell_type"].astype(str).to_numpy())
        text = frame.to_csv(sep=separator)
        path.write_text(text if corner else text.removeprefix(separator))
        return _pack(path) if packed else path

    return write


#: Layouts of the counts in ``X``: the name of the file and what writes it.
COUNTS: Mapping[str, tuple[str, Write]] = {
    "today": ("cells.h5ad", today()),
    "0.6": ("cells.h5ad", anndata_06()),
    "0.6 dense": ("cells.h5ad", anndata_06(lambda x: x.toarray())),
    "0.6 CSC": ("cells.h5ad", anndata_06(lambda x: x.tocsc())),
    "0.7": ("cells.h5ad", by_hand()),
    "0.7 dense": ("cells.h5ad", by_hand(lambda x: x.toarray())),
    "SeuratDisk": ("cells.h5ad", by_hand(encoded=False)),
    "SeuratDisk factors": ("cells.h5ad", by_hand(encoded=False, one_based=True)),
    "nullable": ("cells.h5ad", today(nullable)),
    "categorical names": ("cells.h5ad", today(categorical_names)),
    **{
        str(dtype): ("cells.h5ad", with_matrix(lambda x, dtype=dtype: x.astype(dtype)))
        for dtype in ("float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    **{
        f"dense {dtype}": ("cells.h5ad", with_matrix(lambda x, dtype=dtype: x.toarray().astype(dtype)))
        for dtype in ("float16", "float32", "float64", "int64", "uint8")
    },
    "float16": ("cells.h5ad", by_hand(lambda x: _Float16(x))),
    "CSC": ("cells.h5ad", with_matrix(lambda x: x.tocsc())),
    "CSC int64": ("cells.h5ad", with_matrix(lambda x: x.tocsc().astype(np.int64))),
    "compressed": ("cells.h5ad", today(compression="gzip")),
    "compressed dense": ("cells.h5ad", today(lambda a: a.copy(), compression="lzf", as_dense=("X",))),
    "explicit zeros": ("cells.h5ad", with_matrix(explicit_zeros)),
    "unsorted": ("cells.h5ad", with_matrix(unsorted)),
    "duplicated": ("cells.h5ad", with_matrix(duplicated)),
    "zarr 2": ("cells.zarr", zarr_store(2)),
    "zarr 2 dense": ("cells.zarr", zarr_store(2, lambda x: x.toarray(), chunks=(16, 16))),
    "zarr 3": ("cells.zarr", zarr_store(3)),
    "zarr 3 CSC": ("cells.zarr", zarr_store(3, lambda x: x.tocsc())),
    "Cell Ranger 2": ("filtered_gene_bc_matrices_h5.h5", cell_ranger_2),
    "Cell Ranger 3": ("filtered_feature_bc_matrix.h5", cell_ranger_3),
    "matrix.mtx": ("filtered", matrix_folder()),
    "matrix.mtx of Cell Ranger 2": ("hg19", matrix_folder(("matrix.mtx", "genes.tsv", "barcodes.tsv"), columns=2)),
    "matrix.mtx.gz": ("filtered", matrix_folder(packed=True)),
    "matrix.mtx of GEO": (
        "GSE1",
        matrix_folder(("GSM1_a_matrix.mtx", "GSM1_a_features.tsv", "GSM1_a_barcodes.tsv"), packed=True),
    ),
    "matrix.mtx of kallisto": (
        "counts",
        matrix_folder(
            ("cells_x_genes.mtx", "cells_x_genes.genes.names.txt", "cells_x_genes.barcodes.txt"),
            columns=1,
            turned=True,
        ),
    ),
    "loom": ("cells.loom", loom),
    "csv": ("cells.csv", table()),
    "tsv": ("cells.tsv", table("\t")),
    "semicolons": ("cells.csv", table(";")),
    "csv.gz": ("cells.csv", table(packed=True)),
    "csv with labels": ("cells.csv", table(labels=True)),
    "genes x cells": ("GSE1_counts.txt", table("\t", turned=True, packed=True)),
    "genes x cells of R": ("counts.tsv", table("\t", turned=True, corner=False)),
}
#: Layouts with the counts elsewhere: the same, and the layer to name.
LAYERS: Mapping[str, tuple[str, Write, str]] = {
    "layer": ("cells.h5ad", today(in_layer), "counts"),
    "raw": ("cells.h5ad", today(in_raw), "raw"),
    "raw of 0.6": ("cells.h5ad", anndata_06(raw=True), "raw"),
}


class _Float16:
    """A CSR matrix of 16-bit floats, which scipy has not."""

    format = "csr"

    def __init__(self, matrix: Any) -> None:
        self.data, self.indices, self.indptr = matrix.data.astype(np.float16), matrix.indices, matrix.indptr
        self.shape = matrix.shape
