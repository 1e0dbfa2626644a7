"""Cells in other formats than AnnData: Cell Ranger's, loom and tables of counts are read, others are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from c2s.data.text_matrices import MATRIX_MARKET, TABLE, as_anndata, matrix_files, read_matrix_market, read_table
from c2s.errors import InputFileError

if TYPE_CHECKING:
    from anndata import AnnData

#: What is read; for the fixes of errors.
FORMATS = ".h5ad, .zarr, .loom, .csv or .tsv, and the .h5 or the folder of matrix.mtx of Cell Ranger"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZARR = (".zgroup", ".zattrs", "zarr.json")
_COLUMNS_AT_ONCE = 512


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does, whatever it is called: a mirror keeps files under any name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == _HDF5


def holds_cells(path: Path) -> bool:
    """Whether a folder is one that cells are read from: a zarr store, or Cell Ranger's folder of a matrix."""
    return path.is_dir() and (any((path / name).exists() for name in _ZARR) or len(matrix_files(path)) == 1)


def refuse_other_files(path: Path) -> None:
    """Refuse what no reader of cells takes, by what it is.

    Raises
    ------
    InputFileError
        The path is missing or empty, or of a format that is not read; the message says which, and what to do.
    """
    if not path.exists():
        raise InputFileError(f"there is no file {path}.", fix=f"check the path; c2s reads {FORMATS}.")
    if path.is_dir():
        _refuse_folder(path)
        return
    size = path.stat().st_size
    if size == 0:
        raise InputFileError(f"{path} is empty (0 bytes).", fix="download or write it again.")
    if is_hdf5(path):
        _refuse_hdf5(path)
        return
    with path.open("rb") as file:
        head = file.read(512)
    told = _other_content(path, head)
    if told is not None:
        raise InputFileError(f"{path} {told[0]}.", fix=told[1])
    if not (TABLE.search(path.name) or MATRIX_MARKET.search(path.name) or head.startswith(b"%%MatrixMarket")):
        raise InputFileError(
            f"{path} is not an .h5ad file (it does not begin as HDF5 does), nor any other that is read.",
            fix=f"convert it to one of {FORMATS}.",
        )


def _other_content(path: Path, head: bytes) -> tuple[str, str] | None:
    """Say what a file is that cannot be read, by its first bytes, and what to do."""
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return (
            "is a web page, not data: the download failed",
            "download it again, by the link of the file itself.",
        )
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file", "git lfs pull"
    if head.startswith(b"PAR1"):
        return (
            "is a Parquet file",
            "give cells; c2s invert and c2s predict take Parquet of cell sentences.",
        )
    if head.startswith((b"RDX", b"RDA")) or re.search(r"\.(rds|rda|rdata)$", path.name, re.IGNORECASE):
        return (
            "is an R object",
            "write it as .h5ad in R, e.g. zellkonverter::writeH5AD(sce, 'cells.h5ad').",
        )
    if head.startswith(b"PK\x03\x04"):
        what = "an Excel workbook" if path.suffix.lower() in {".xlsx", ".xlsm"} else "a zip archive"
        fix = "save the table as .csv." if "Excel" in what else "unpack it, and name what is in it."
        return f"is {what}", fix
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        if TABLE.search(path.name) or MATRIX_MARKET.search(path.name):
            return None
        return "is packed", f"unpack it: gunzip {path.name}, say."
    return None


def _refuse_folder(path: Path) -> None:
    if any((path / name).exists() for name in _ZARR):
        import zarr

        try:
            group: Any = zarr.open_group(str(path), mode="r")
            kind = str(group.attrs.get("encoding-type", ""))
            names = sorted(map(str, group))
        except Exception:  # a damaged store: the reader says how
            return
        _refuse_modalities(path, kind, names, group)
        if "tables" in names and "X" not in names:
            inner = sorted(map(str, group["tables"]))
            raise InputFileError(
                f"{path} is SpatialData with the tables {', '.join(inner) or 'none'}.",
                fix=f"name the folder of one table: {path}/tables/{inner[0] if inner else 'table'}.",
            )
        return
    matrices = matrix_files(path)
    if len(matrices) == 1:
        return
    inside = [p.name for p in matrices] or sorted(
        p.name
        for p in path.iterdir()
        if p.suffix in {".h5ad", ".zarr", ".h5", ".loom"} or TABLE.search(p.name) or holds_cells(p)
    )
    raise InputFileError(
        f"{path} is a folder with {len(matrices)} matrices."
        if matrices
        else f"{path} is a folder, but not a zarr store, nor one with a matrix.mtx.",
        fix=f"name one of {', '.join(inside[:5])} in it." if inside else f"c2s reads {FORMATS}.",
    )


def _refuse_modalities(path: Path, kind: str, names: Sequence[str], group: Any) -> None:
    if kind == "MuData" or ("mod" in names and "X" not in names):
        inner = sorted(map(str, group["mod"])) if "mod" in names else []
        chosen = next((name for name in inner if name.casefold() in {"rna", "gex"}), inner[0] if inner else "rna")
        raise InputFileError(
            f"{path} is MuData, of the modalities {', '.join(inner) or 'none'}.",
            fix=f"write the one with genes: mudata.read({str(path)!r})[{chosen!r}].write_h5ad('{chosen}.h5ad').",
        )


def _refuse_hdf5(path: Path) -> None:
    """Refuse HDF5 of other programs that holds no matrix of cells which could be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            kind, names = str(file.attrs.get("encoding-type", "")), list(map(str, file))
            _refuse_modalities(path, kind, names, file)
            if "X" in names or "obs" in names or _hdf5_reader(file) is not None:
                return
            convert = "convert it to .h5ad"
            told = {
                "assays": ("is h5Seurat", "in R: SeuratDisk::Convert('FILE', dest = 'h5ad'), or anndataR."),
                "barcode_idx": ("holds Cell Ranger's molecules, not cells", "name filtered_feature_bc_matrix.h5."),
                "0": ("is GCTX of L1000", f"{convert}: cmapPy.pandasGEXpress.parse reads it."),
                "model_weights": ("holds the weights of a model, not cells", "name a file of cells."),
            }
            for name, (what, fix) in told.items():
                if name in names:
                    raise InputFileError(f"{path} {what}.", fix=fix)
            raise InputFileError(
                f"{path} is HDF5 without cells: it has no X, and is of no other kind that is known "
                f"(it holds {', '.join(names[:8]) or 'nothing'}).",
                fix=f"c2s reads {FORMATS}.",
            )
    except OSError:  # truncated or damaged: the reader says so
        return


def read_foreign(path: Path) -> AnnData | None:
    """Read cells of another format than AnnData; None for AnnData.

    Raises
    ------
    InputFileError
        Parts are missing, or do not belong together.
    """
    if path.is_dir():
        if any((path / name).exists() for name in _ZARR):
            return None
        return read_matrix_market(matrix_files(path)[0])
    if is_hdf5(path):
        import h5py

        with h5py.File(path, "r") as file:
            reader = None if "obs" in file or "X" in file else _hdf5_reader(file)
            return None if reader is None else reader(path, file)
    if TABLE.search(path.name):
        return read_table(path)
    return read_matrix_market(path)


def _hdf5_reader(file: Any) -> Callable[[Path, Any], AnnData] | None:
    if hasattr(file.get("matrix"), "shape") and "row_attrs" in file and "col_attrs" in file:
        return _loom
    if _cell_ranger_groups(file):
        return _cell_ranger
    return None


def _cell_ranger_groups(file: Any) -> list[Any]:
    wanted = {"data", "indices", "indptr", "shape", "barcodes"}
    return [file[name] for name in file if hasattr(file[name], "keys") and wanted <= set(file[name])]


def _cell_ranger(path: Path, file: Any) -> AnnData:
    """Read the matrix of Cell Ranger 2 (a group per genome) or later (one group)."""
    groups = _cell_ranger_groups(file)
    if len(groups) > 1:
        genomes = ", ".join(group.name.strip("/") for group in groups)
        raise InputFileError(
            f"{path} holds a matrix for each of the genomes {genomes}.",
            fix="write one of them: scanpy.read_10x_h5(path, genome=...).write_h5ad('cells.h5ad').",
        )
    group = groups[0]
    n_genes, n_cells = (int(n) for n in group["shape"][:])
    matrix = sp.csr_matrix(tuple(group[p][:] for p in ("data", "indices", "indptr")), shape=(n_cells, n_genes))
    features = group.get("features", group)
    columns = {"name": "name", "gene_names": "name", "id": "gene_ids", "genes": "gene_ids"}
    columns |= {"feature_type": "feature_types", "genome": "genome"}
    found = {new: _texts(features[old][:]) for old, new in columns.items() if old in features}
    found = {new: values for new, values in found.items() if len(values) == n_genes}
    names = found.pop("name", None) or found.get("gene_ids")
    if names is None:
        raise InputFileError(
            f"{path} is Cell Ranger's matrix, without names of its features.", fix="download or write it again."
        )
    return as_anndata(path, matrix, _texts(group["barcodes"][:]), names, found)


def _loom(path: Path, file: Any) -> AnnData:
    """Read a loom file, genes x cells, some columns at a time."""
    stored = file["matrix"]
    n_genes, n_cells = stored.shape
    blocks = [
        sp.csr_matrix(np.asarray(stored[:, start : start + _COLUMNS_AT_ONCE]).T)
        for start in range(0, n_cells, _COLUMNS_AT_ONCE)
    ]
    tables = []
    for name, n in (("col_attrs", n_cells), ("row_attrs", n_genes)):
        columns = {key: np.asarray(value[:]) for key, value in file[name].items() if value.shape == (n,)}
        tables.append({k: _texts(v) if v.dtype.kind in "OSU" else v for k, v in columns.items()})
    obs, var = tables
    cell = _first_of(obs, ("CellID", "obs_names", "cell_id", "cell_names", "barcode", "barcodes", "Barcode"))
    gene = _first_of(var, ("Gene", "gene", "var_names", "gene_name", "gene_names", "Symbol", "GeneName"))
    cells = [str(v) for v in obs.pop(cell)] if cell else [f"cell{i}" for i in range(n_cells)]
    names = [str(v) for v in var.pop(gene)] if gene else [str(i) for i in range(n_genes)]
    adata = as_anndata(path, sp.vstack(blocks, format="csr") if blocks else None, cells, names, var)
    for column, values in obs.items():
        adata.obs[column] = values
    return adata


def _first_of(columns: dict[str, Any], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in columns), None)


def _texts(values: Any) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]
