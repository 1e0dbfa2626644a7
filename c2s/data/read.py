"""Read cells from a file: quality control, normalisation, and what the matrix was found to be."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.data.claims import refuse_false_claims
from c2s.data.gene_sets import is_gmt, read_gmt
from c2s.errors import C2SWarning, ConfigError, InputFileError, MatrixError
from c2s.sentences.matrix_kind import MatrixKind, matrix_kind
from c2s.sentences.symbols import matrix_words

if TYPE_CHECKING:
    from anndata import AnnData

Normalise = Literal["auto", "always", "never"]

_LOGS = {"log2": math.log(2), "log10": math.log(10)}


def read_cells(
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    symbols: str | None = None,
    normalise: Normalise = "auto",
    target_sum: float = 1e4,
    min_genes: int = 0,
    min_cells: int = 0,
    max_mitochondrial: float | None = None,
    backed: bool = False,
) -> AnnData:
    """Read cells and bring their expression to log1p of normalised counts (section 4.1).

    Parameters
    ----------
    path
        An ``.h5ad`` file or a ``.zarr`` folder; or a ``.gmt`` file, whose gene sets take the place of cells (see
        `c2s.data.gene_sets`).
    layer
        Layer to take as ``X``; ``"raw"`` takes ``adata.raw``.
    symbols
        Column of ``var`` with gene symbols, which become ``var_names``; the old names are kept in ``var``.
    normalise
        ``"auto"`` does what the matrix still needs: counts are scaled to `target_sum` and logarithmised,
        normalised values are logarithmised, log2 and log10 are brought to the natural logarithm, log1p is left.
        ``"always"`` takes the values for counts, ``"never"`` leaves them.
    target_sum
        Total of a cell after normalisation.
    min_genes
        Leave out cells that express fewer genes; default none. The paper uses 50 or more.
    min_cells
        Leave out genes expressed in fewer cells; default none, because with it a cell's sentence depends on the
        cells around it.
    max_mitochondrial
        Leave out cells with a larger share (0 to 1) of counts in genes named ``MT-…``; counts only.
    backed
        Leave the matrix on disk; it is then read, and normalised, chunk by chunk. Nothing can be filtered.

    Returns
    -------
    AnnData
        ``X`` is CSR float32 (backed: what is on disk). ``uns["c2s"]`` says what was found and what was done, and
        of gene sets the sha256 of their file.

    Raises
    ------
    InputFileError
        The path is missing, not a readable ``.h5ad`` or ``.zarr``, or claims what it does not hold
        (`c2s.data.claims`).
    MatrixError
        The matrix is scaled, or holds NaN, infinite or negative values; or nothing passed the filter.
    GeneError
        `symbols` names no column, or its symbols are not usable.
    ConfigError
        An option is out of range, or filters are asked of a backed matrix.
    """
    _check(normalise, target_sum, min_genes, min_cells, max_mitochondrial, backed)
    source = Path(path)
    told: dict[str, Any] = {}
    if is_gmt(source) and not _is_hdf5(source):
        adata = _gene_sets(source, layer)
        told = {key: adata.uns["c2s"][key] for key in ("unit", "sha256")}
    else:
        adata = _open(source, layer) if backed else _load(source, layer)
        _refuse_broken(source, adata.X)
    adata.uns.pop("c2s", None)  # what an earlier reading found is not what this file holds
    kind = matrix_kind(adata)
    if kind.name == "scaled" and normalise != "never":
        raise MatrixError(
            f"{source} holds scaled values ({kind.evidence}), whose order is not that of expression.",
            fix=_unscaled(source),
        )
    found = told | {"source": source.name, "matrix_kind": kind.name, "evidence": kind.evidence}
    if symbols is not None:
        words = matrix_words(adata, symbols=symbols).names.to_pylist()
        adata.var["original_name"] = adata.var_names.to_numpy()
        adata.var_names = pd.Index(words, dtype=object)
    steps = _steps(kind, normalise, target_sum)
    if backed:
        if steps:
            found["on_read"] = {"operation": steps[0], "value": float(steps[1])}
    else:
        adata.X = _as_csr(adata)
        _filter(adata, found, min_genes, min_cells, max_mitochondrial)
        _normalise(adata, steps)
    found["done"] = " ".join(s if isinstance(s, str) else f"{s:g}" for s in steps) or "nothing"
    adata.uns["c2s"] = found  # last, because filtering makes a new uns
    return adata


def _check(
    normalise: str,
    target_sum: float,
    min_genes: int,
    min_cells: int,
    max_mitochondrial: float | None,
    backed: bool,
) -> None:
    problems = []
    if normalise not in get_args(Normalise):
        problems.append(f"normalise must be one of {', '.join(get_args(Normalise))}, got {normalise!r}")
    if not target_sum > 0:
        problems.append(f"target_sum must be above 0, got {target_sum!r}")
    if min_genes < 0 or min_cells < 0:
        problems.append("min_genes and min_cells cannot be negative")
    if max_mitochondrial is not None and not 0 <= max_mitochondrial <= 1:
        problems.append(f"max_mitochondrial is a share, from 0 to 1, got {max_mitochondrial!r}")
    if backed and (min_genes or min_cells or max_mitochondrial is not None):
        problems.append("a backed matrix cannot be filtered")
    if problems:
        raise ConfigError(
            "read_cells", problems, fix="correct these arguments, or read with backed=False to filter."
        )


def _gene_sets(path: Path, layer: str | None) -> AnnData:
    """Read a GMT file as a table of sets x genes."""
    if layer is not None:
        raise MatrixError(f"{path} holds gene sets, which have no layer {layer!r}.", fix="leave layer out.")
    return read_gmt(path).to_anndata()


def _load(path: Path, layer: str | None) -> AnnData:
    """Read the whole file and move the wanted matrix to ``X``."""
    import anndata

    _refuse_other_files(path)
    refuse_false_claims(path)
    with _reading(path), warnings.catch_warnings():
        # Files of anndata's early years keep their graphs in uns; that they are moved changes nothing here.
        warnings.filterwarnings("ignore", message="Moving element from", category=FutureWarning)
        adata = anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path)
    if layer == "raw":
        if adata.raw is None:
            raise MatrixError(f"{path} has no raw.", fix="leave layer out, or name a layer.")
        raw = adata.raw.to_adata()
        raw.obs = adata.obs
        return raw
    if layer is not None:
        if layer not in adata.layers:
            raise MatrixError(
                f"{path} has no layer {layer!r}; it has {', '.join(adata.layers) or 'none'}.", fix="name one."
            )
        adata.X = adata.layers.pop(layer)
    return adata


def _refuse_broken(path: Path, matrix: Any) -> None:
    """Refuse a sparse matrix whose indices lead out of it, before compiled code follows them."""
    if sp.issparse(matrix) and hasattr(matrix, "check_format"):
        try:
            matrix.check_format(full_check=True)
        except ValueError as error:
            raise InputFileError(
                f"{path} holds a sparse matrix whose parts contradict each other ({error}).",
                fix="download or write it again, and compare its checksum.",
            ) from error


def _open(path: Path, layer: str | None) -> AnnData:
    """Open the file and leave the wanted matrix on disk; ``obs`` and ``var`` are read."""
    import anndata
    import h5py
    from anndata.io import read_elem, sparse_dataset

    _refuse_other_files(path)
    refuse_false_claims(path)
    with _reading(path):
        if path.is_dir():
            import zarr

            group = zarr.open(str(path), mode="r")
        else:
            group = h5py.File(path, "r")
        place = "X" if layer is None else "raw/X" if layer == "raw" else f"layers/{layer}"
        if place not in group:
            raise MatrixError(f"{path} has no {place}.", fix="name a layer that it has, or leave layer out.")
        node = group[place]
        matrix = node if hasattr(node, "shape") else sparse_dataset(node)
        var = read_elem(group["raw/var" if layer == "raw" else "var"])
        return anndata.AnnData(X=matrix, obs=read_elem(group["obs"]), var=var)


def _refuse_other_files(path: Path) -> None:
    if not path.exists():
        raise InputFileError(
            f"there is no file {path}.", fix="check the path; c2s reads .h5ad files and .zarr folders."
        )
    if path.is_dir():
        if not any((path / name).exists() for name in (".zgroup", ".zattrs", "zarr.json")):
            raise InputFileError(
                f"{path} is a folder, but not a zarr store.", fix="name an .h5ad file or a .zarr folder."
            )
        return
    size = path.stat().st_size
    if size == 0:
        raise InputFileError(f"{path} is empty (0 bytes).", fix="download or write it again.")
    if not _is_hdf5(path):
        raise InputFileError(
            f"{path} is not an .h5ad file (it does not begin as HDF5 does).",
            fix="convert it, e.g. scanpy.read_10x_mtx(...).write_h5ad(...).",
        )


def _is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does, whatever it is called: a mirror keeps files under any name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


class _reading:
    """Turn whatever a damaged file makes the readers raise into an `InputFileError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, MatrixError):
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise InputFileError(
                f"{self.path} cannot be read as AnnData, being truncated, damaged or of other layout ({reason}).",
                fix="download or write it again, and compare its checksum.",
            ) from error


def _unscaled(path: Path) -> str:
    """Say where the file has unscaled values, if it does."""
    import anndata

    if path.is_dir():
        places = list(anndata.read_zarr(path).layers)
    else:
        import h5py

        with h5py.File(path, "r") as file:
            places = [*(["raw"] if "raw" in file else []), *file.get("layers", {})]
    if places:
        return f"name the layer with the values before scaling, e.g. layer={places[0]!r} (--layer {places[0]})."
    return "write the file again with the values from before sc.pp.scale."


def _as_csr(adata: AnnData) -> sp.csr_matrix:
    """Return ``X`` as CSR float32 with sorted columns; refuse what expression cannot be."""
    sparse = bool(sp.issparse(adata.X))
    values: Any = adata.X
    matrix = sp.csr_matrix(values if sparse else np.asarray(values))
    if not matrix.has_canonical_format:
        matrix.sum_duplicates()
    bad = np.flatnonzero(~np.isfinite(matrix.data) | (matrix.data < 0))
    if len(bad):
        row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        raise MatrixError(
            f"{len(bad)} value(s) are NaN, infinite or negative, first in cell {str(adata.obs_names[row])!r}.",
            fix="find out where they come from, or name a layer without them: layer=... (--layer).",
        )
    return matrix.astype(np.float32)


def _filter(
    adata: AnnData, found: dict[str, Any], min_genes: int, min_cells: int, max_mitochondrial: float | None
) -> None:
    """Leave out cells and genes, in place, and say how many."""
    before = adata.shape
    if min_genes or min_cells or max_mitochondrial is not None:
        import scanpy as sc

        if max_mitochondrial is not None:
            if found["matrix_kind"] != "counts":
                raise MatrixError(
                    "a mitochondrial share needs counts, and these are not.", fix="leave max_mitochondrial out."
                )
            mitochondrial = adata.var_names.str.upper().str.startswith("MT-")
            totals = np.asarray(adata.X.sum(axis=1)).ravel()
            inside = np.asarray(adata.X[:, np.flatnonzero(mitochondrial)].sum(axis=1)).ravel()
            adata._inplace_subset_obs(inside <= max_mitochondrial * totals)
        if min_genes:
            sc.pp.filter_cells(adata, min_genes=min_genes)
        if min_cells:
            sc.pp.filter_genes(adata, min_cells=min_cells)
    if 0 in adata.shape:
        raise MatrixError(
            f"no cell or no gene passes the filter (of {before[0]} cells x {before[1]} genes).",
            fix="lower min_genes and min_cells (--min-genes, --min-cells).",
        )
    found["n_cells_left_out"] = before[0] - adata.n_obs
    found["n_genes_left_out"] = before[1] - adata.n_vars
    empty = int(np.count_nonzero(np.diff(adata.X.indptr) == 0))
    if empty:
        warnings.warn(f"{empty} of {adata.n_obs} cells express no gene; they are kept.", C2SWarning, stacklevel=3)


def _steps(kind: MatrixKind, normalise: Normalise, target_sum: float) -> tuple[str, float] | tuple[()]:
    """Return the one operation that brings this kind of matrix to log1p of normalised counts, if it needs one."""
    if normalise == "never":
        return ()
    if normalise == "always" or kind.name == "counts":
        return ("normalise_total", target_sum)
    if kind.name == "normalised":
        return ("log1p", 1.0)
    if kind.name in _LOGS:
        return ("multiply", _LOGS[kind.name])
    return ()


def _normalise(adata: AnnData, steps: tuple[str, float] | tuple[()]) -> None:
    if not steps:
        return
    import scanpy as sc

    operation, value = steps
    if operation == "multiply":
        adata.X.data *= np.float32(value)
        return
    if operation == "normalise_total":
        sc.pp.normalize_total(adata, target_sum=value)
    adata.uns.pop("log1p", None)  # a trace of an earlier log1p would make scanpy warn of a second
    sc.pp.log1p(adata)
