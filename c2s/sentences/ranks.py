"""Pairs of a rank and an expression value, chunk by chunk, and a straight line through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s.errors import MatrixError
from c2s.sentences.features import features_of
from c2s.sentences.matrix import Rows
from c2s.sentences.matrix_kind import map_chunks

if TYPE_CHECKING:
    from anndata import AnnData

_CHUNK = 1024


@dataclass(frozen=True)
class Pairs:
    """The expressed genes of some cells.

    Attributes
    ----------
    values
        Expression, float64 ``[pairs]``, highest first within a cell.
    ranks
        Rank in the cell, from 1, int32 ``[pairs]``.
    cells
        Row of the cell in the whole matrix, int64 ``[pairs]``.
    n_cells
        Cells of the chunk, those without any pair included.
    """

    values: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int32]
    cells: npt.NDArray[np.int64]
    n_cells: int


def ranked_values(
    adata: AnnData,
    *,
    layer: str | None = None,
    top_k: int | None = None,
    chunk_size: int | None = None,
    kind: str | None = None,
) -> Iterator[Pairs]:
    """Yield the positive values of each chunk of cells with their ranks; columns that are no genes are left out.

    Which of two equal values has the lower rank makes no difference here, so ties need no breaking.

    Raises
    ------
    MatrixError
        A cell has a negative, infinite or NaN value, or is of another kind than `kind` (see
        `c2s.sentences.matrix_kind.map_chunks`); it is named.
    """
    genes = features_of(adata.var_names, adata.var).genes
    n_genes = adata.n_vars if genes is None else len(genes)

    def work(rows: Rows) -> Pairs:
        return _pairs(adata, rows, n_genes, top_k or n_genes)

    yield from map_chunks(work, adata, layer, chunk_size or _CHUNK, kind=kind, genes=genes)


def _pairs(adata: AnnData, rows: Rows, n_genes: int, top_k: int) -> Pairs:
    from c2s.sentences import kernels

    for source in (rows, None):
        checked = source or rows.canonical(n_genes)
        n = int(checked.indptr[-1])
        values, ranks = np.empty(n, np.float64), np.empty(n, np.int32)
        n_kept = np.empty(len(checked), np.int32)
        status, row, n = kernels.sort_values(
            checked.indptr, checked.indices, checked.data, top_k, values, ranks, n_kept
        )
        if status != kernels.NOT_CANONICAL:
            break
    if status != kernels.FINE:
        what = {kernels.NOT_A_NUMBER: "NaN", kernels.INFINITE: "infinite"}.get(status, "negative")
        raise MatrixError(
            f"cell {str(adata.obs_names[rows.start + row])!r} has a value that is {what}.",
            fix="use normalised, logarithmic expression, from before sc.pp.scale.",
        )
    cells = np.repeat(np.arange(rows.start, rows.start + len(rows)), n_kept)
    return Pairs(values[:n], ranks[:n], cells, len(rows))


class Moments:
    """Sums of pairs of log10 rank and value, from which a line and its R² follow; no pair needs to be kept."""

    def __init__(self) -> None:
        self.n = 0
        self.sums = np.zeros(5)

    def add(self, ranks: npt.NDArray[Any], values: npt.NDArray[np.float64]) -> None:
        """Add pairs of a rank and a value, both ``[pairs]``."""
        x = np.log10(ranks)
        self.n += len(x)
        self.sums += [x.sum(), values.sum(), x @ x, x @ values, values @ values]

    def line(self) -> tuple[float, float]:
        """Return slope and intercept by least squares.

        Raises
        ------
        MatrixError
            There are not two different ranks.
        """
        sx, sy, sxx, sxy, _ = self.sums
        spread = self.n * sxx - sx * sx
        if self.n < 2 or spread <= 1e-9 * max(1.0, sxx):
            raise MatrixError(
                "no cell of the fit expresses two genes, so there is no line to fit.",
                fix="give more cells or genes; `c2s transform --no-model` goes without a model.",
            )
        slope = (self.n * sxy - sx * sy) / spread
        return float(slope), float((sy - slope * sx) / self.n)

    def r2(self, slope: float, intercept: float) -> float:
        """Return the coefficient of determination of a line on these pairs; 0 if their values are constant."""
        sx, sy, sxx, sxy, syy = self.sums
        residual = syy - 2 * (intercept * sy + slope * sxy) + self.n * intercept**2
        residual += 2 * slope * intercept * sx + slope**2 * sxx
        total = syy - sy * sy / self.n
        return float(1 - residual / total) if total > 1e-12 * max(1.0, syy) else 0.0
