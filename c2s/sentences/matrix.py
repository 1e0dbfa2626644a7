"""The rows of a matrix, chunk by chunk, as CSR arrays: in memory or backed by a file, sparse or dense."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from c2s.errors import C2SWarning, MatrixError
from c2s.reading import reading

if TYPE_CHECKING:
    from anndata import AnnData

#: Logarithms people take of ``1 + x``, by their base.
LOGARITHMS: dict[str, float] = {"log1p": math.e, "log2": 2.0, "log10": 10.0}
#: Key of ``uns["c2s"]`` under which `c2s.read_cells` leaves what to do to each row of a backed matrix.
ON_READ = "on_read"


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a matrix.

    Attributes
    ----------
    start
        Position of the first row.
    indptr
        int64 ``[rows + 1]``, starting at any value; `indices` and `data` are indexed by it.
    indices
        int32 ``[nnz]``, columns.
    data
        float32 or float64 ``[nnz]``.
    """

    start: int
    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    data: npt.NDArray[np.floating[Any]]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def canonical(self, n_genes: int) -> Rows:
        """Return the rows with sorted columns, duplicated entries summed; the original is left as it is."""
        begin, end = int(self.indptr[0]), int(self.indptr[-1])
        matrix = sp.csr_matrix(
            (self.data[begin:end].copy(), self.indices[begin:end].copy(), self.indptr - begin),
            shape=(len(self), n_genes),
        )
        matrix.sum_duplicates()
        return Rows(self.start, matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)

    def has_duplicates(self) -> bool:
        """Whether the columns of some row are not in rising order, so that one may be there twice."""
        begin, end = int(self.indptr[0]), int(self.indptr[-1])
        falls = np.flatnonzero(np.diff(self.indices[begin:end]) <= 0) + 1
        return bool(np.isin(falls, self.indptr - begin, invert=True).any())

    def columns(self, chosen: npt.NDArray[np.int64], n_genes: int) -> Rows:
        """Return the rows with some of the columns, which get new numbers in the order of `chosen`."""
        begin, end = int(self.indptr[0]), int(self.indptr[-1])
        indices = self.indices[begin:end]
        if len(indices) and not 0 <= indices.min() <= indices.max() < n_genes:
            raise MatrixError(
                f"an index is out of range: the matrix has {n_genes} columns, and a value is in column "
                f"{int(indices.max())}.",
                fix="build the matrix again.",
            )
        new = np.full(n_genes, -1, np.int32)
        new[chosen] = np.arange(len(chosen), dtype=np.int32)
        indices = new[indices]
        kept = np.concatenate([[0], np.cumsum(indices >= 0)])
        stays = indices >= 0
        return Rows(self.start, kept[self.indptr - begin], indices[stays], self.data[begin:end][stays])


def matrix_of(adata: AnnData, layer: str | None) -> Any:
    """Return ``X`` or a layer.

    Raises
    ------
    MatrixError
        There is no such layer, or no ``X``, or no cell.
    """
    if layer is not None and layer not in adata.layers:
        layers = ", ".join(adata.layers) or "none"
        raise MatrixError(
            f"there is no layer {layer!r}; there is {layers}.", fix="name one of them, or leave layer out."
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise MatrixError("the data have no matrix X.", fix="name the layer that holds expression: layer=... .")
    if adata.n_obs == 0:
        raise MatrixError("the matrix has no cells (no rows).", fix="check how it was filtered.")
    return matrix


def raw_chunks(
    adata: AnnData, layer: str | None, chunk_size: int, genes: npt.NDArray[np.int64] | None = None
) -> Iterator[Rows]:
    """Yield the rows of ``X`` or a layer as they are stored, `chunk_size` at a time.

    A CSR matrix in memory is not copied. A backed matrix, or a dense one, is read chunk by chunk, so that the
    memory used does not grow with the number of cells. A CSC matrix is converted once, as a whole.

    Parameters
    ----------
    adata, layer
        The matrix.
    chunk_size
        Rows of a chunk.
    genes
        Columns to keep; None keeps all.

    Raises
    ------
    MatrixError
        The matrix is of an unknown kind, its values are not numbers, or its index arrays are inconsistent.
    InputFileError
        A backed matrix cannot be read on.
    """
    matrix = matrix_of(adata, layer)
    with reading(file_of(adata)):
        matrix = by_rows(matrix, stacklevel=6)  # the caller of to_cell_sentences, or of RankExpressionModel.fit
    if isinstance(matrix, sp.csr_matrix | sp.csr_array):
        _check_structure(matrix)
    for start in range(0, adata.n_obs, chunk_size):
        with reading(file_of(adata)):
            rows = rows_at(matrix, start, min(start + chunk_size, adata.n_obs))
        yield rows if genes is None else rows.columns(genes, adata.n_vars)


class StoredCSR:
    """The rows of a CSR matrix in a file; read as they are, since scipy has no matrix of 16-bit floats.

    Parameters
    ----------
    group
        The group of HDF5 or zarr that holds ``data``, ``indices`` and ``indptr``.
    shape
        Cells and genes.

    Raises
    ------
    ValueError
        Its parts contradict each other.
    """

    def __init__(self, group: Any, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._indices, self._data = group["indices"], group["data"]
        self._indptr = np.asarray(group["indptr"][:]).astype(np.int64)
        # Compiled code follows it.
        if np.any(np.diff(self._indptr, prepend=0) < 0) or self._indptr[-1] > min(
            self._data.shape[0], self._indices.shape[0]
        ):
            raise ValueError("the indptr of a sparse matrix falls, or leads beyond its values")

    def rows(self, start: int, stop: int) -> Rows:
        """Read some rows."""
        indptr = self._indptr[start : stop + 1]
        begin, end = int(indptr[0]), int(indptr[-1])
        indices, data = np.asarray(self._indices[begin:end]), np.asarray(self._data[begin:end])
        return Rows(start, indptr - begin, indices.astype(np.int32, copy=False), as_float(data))


def by_rows(matrix: Any, *, stacklevel: int | None = 2) -> Any:
    """Return a matrix as one whose rows can be read: what is stored by gene (CSC) is read whole.

    Warns
    -----
    C2SWarning
        The matrix is on disk, and stored by gene; not with `stacklevel` None.
    """
    if isinstance(matrix, sp.csc_matrix | sp.csc_array):
        return matrix.tocsr()
    group = getattr(matrix, "group", None)  # of a sparse matrix on disk, as anndata opens it
    if group is None:
        return matrix
    if matrix.format == "csr":
        return StoredCSR(group, matrix.shape)
    if stacklevel is not None:
        warnings.warn(
            "the matrix on disk is stored by gene (CSC), so it is read whole; stored as CSR it would not be.",
            C2SWarning,
            stacklevel=stacklevel + 1,
        )
    return in_memory(matrix).tocsr()


def in_memory(matrix: Any) -> Any:
    """Read a matrix that is on disk as it is stored; only 16-bit floats, which scipy has not, become 32."""
    group = getattr(matrix, "group", None)
    if group is None:
        return matrix if sp.issparse(matrix) else np.asarray(matrix[...])
    data = np.asarray(group["data"][:])
    parts = (
        data.astype(np.float32) if data.dtype == np.float16 else data,
        group["indices"][:],
        group["indptr"][:],
    )
    return (sp.csr_matrix if matrix.format == "csr" else sp.csc_matrix)(parts, shape=matrix.shape)


def on_read(adata: AnnData) -> dict[str, Any]:
    """Return what `c2s.read_cells` left to be done to each row of a backed matrix; empty when nothing is."""
    return dict(reading_notes(adata).get(ON_READ, {}))


def file_of(adata: AnnData) -> str:
    """Return the name of the file that the matrix is read from, for errors."""
    return str(reading_notes(adata).get("source") or adata.filename or "the matrix")


def reading_notes(adata: AnnData) -> Mapping[str, Any]:
    """Return what `c2s.read_cells` wrote into ``uns["c2s"]``; empty when another program made the data."""
    notes = adata.uns.get("c2s")
    return notes if isinstance(notes, Mapping) else {}


def _check_structure(matrix: Any) -> None:
    indptr = matrix.indptr
    broken = (
        indptr[0] != 0 or np.any(np.diff(indptr) < 0) or indptr[-1] > min(len(matrix.indices), len(matrix.data))
    )
    if broken or len(indptr) != matrix.shape[0] + 1:
        raise MatrixError(
            "the CSR matrix is inconsistent: its indptr is broken.", fix="build it again with scipy."
        )


def rows_at(matrix: Any, start: int, stop: int) -> Rows:
    """Return some rows of what `by_rows` returned."""
    if isinstance(matrix, StoredCSR):
        return matrix.rows(start, stop)
    if isinstance(matrix, sp.csr_matrix | sp.csr_array):
        # Views of the arrays: slicing the matrix itself would copy.
        indptr = matrix.indptr[start : stop + 1].astype(np.int64, copy=False)
        begin, end = int(indptr[0]), int(indptr[-1])
        indices, data = matrix.indices[begin:end], matrix.data[begin:end]
        indptr = indptr - begin
    else:
        chunk = matrix[start:stop]
        if isinstance(chunk, np.matrix) or not sp.issparse(chunk):
            chunk = np.asarray(chunk)
            if chunk.ndim != 2:
                raise MatrixError(f"the matrix has {chunk.ndim} dimension(s).", fix="give cells x genes.")
            chunk = sp.csr_matrix(as_float(chunk))
        chunk = chunk.tocsr()
        indptr, indices, data = chunk.indptr.astype(np.int64), chunk.indices, chunk.data
    return Rows(start, indptr, indices.astype(np.int32, copy=False), as_float(data))


def as_float(data: npt.NDArray[Any]) -> npt.NDArray[np.floating[Any]]:
    """Return float32 or float64 values, exactly those given where float64 holds them."""
    if data.dtype in (np.float32, np.float64):
        return data
    if data.dtype.kind not in "biuf":
        raise MatrixError(
            f"the matrix holds {data.dtype}, not numbers.", fix="convert it: adata.X.astype('float32')."
        )
    return data.astype(np.float32 if data.dtype.itemsize < 4 else np.float64)


def undo(values: npt.NDArray[np.floating[Any]], kind: str) -> npt.NDArray[np.floating[Any]]:
    """Undo the logarithm that values are of by their kind (see `c2s.sentences.matrix_kind`); others stay."""
    name = kind.removesuffix(" of counts")
    if name in LOGARITHMS:
        values = np.expm1(values * math.log(LOGARITHMS[name]))
    return np.expm1(np.expm1(values)) if name == "log1p twice" else values


def as_read(rows: Rows, adata: AnnData) -> Rows:
    """Bring rows of a backed matrix that `c2s.read_cells` leaves as they are to the type of those in memory."""
    in_memory = sp.issparse(adata.X) or isinstance(adata.X, np.ndarray)
    if "done" in adata.uns.get("c2s", {}) and not in_memory and rows.data.dtype == np.float64:
        return Rows(rows.start, rows.indptr, rows.indices, rows.data.astype(np.float32))
    return rows


def finish_rows(rows: Rows, n_genes: int, operation: str, value: float, undone: str = "") -> Rows:
    """Do to the rows of a backed matrix what `c2s.read_cells` would have done to the whole.

    Parameters
    ----------
    rows
        Rows as they are on disk.
    n_genes
        Columns of the matrix.
    operation, value
        ``"normalise_total"``: log1p of the values scaled to a total of `value` (rows that sum to 0 stay);
        ``"log1p"``; ``"expm1"``; ``"multiply"`` by `value`.
    undone
        With ``"normalise_total"``, a kind of matrix whose logarithm is undone before.
    """
    if rows.has_duplicates():  # the logarithm of a sum is not the sum of logarithms
        rows = rows.canonical(n_genes)
    if operation == "normalise_total":
        owner = np.repeat(np.arange(len(rows)), np.diff(rows.indptr))
        data = undo(rows.data, undone)
        totals = np.bincount(owner, weights=data, minlength=len(rows))
        factor = np.divide(value, totals, out=np.zeros_like(totals), where=totals > 0)
        data = np.log1p(data * factor[owner])
    elif operation in {"log1p", "expm1"}:
        data = getattr(np, operation)(rows.data)
    else:
        data = rows.data * value
    return Rows(rows.start, rows.indptr, rows.indices, data.astype(np.float32))
