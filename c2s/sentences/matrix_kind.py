"""What an expression matrix already is: counts, log1p of normalised counts, another logarithm, scaled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from c2s.sentences.matrix import matrix_of, on_read, rows_at

if TYPE_CHECKING:
    from anndata import AnnData

Kind = Literal["empty", "counts", "normalised", "log1p", "log2", "log10", "scaled"]

#: Logarithms people take of ``1 + x``; "normalised" is none at all.
_BASES: dict[Kind, float] = {"log1p": math.e, "log2": 2.0, "log10": 10.0}
_BLOCKS, _BLOCK_ROWS = 8, 8


@dataclass(frozen=True)
class MatrixKind:
    """What a matrix was found to be.

    Attributes
    ----------
    name
        ``"counts"`` (whole numbers), ``"normalised"`` (not logarithmic), ``"log1p"``, ``"log2"``, ``"log10"`` (of
        1 + normalised counts), ``"scaled"`` (has negative values) or ``"empty"``.
    evidence
        One sentence: what it was recognised by.
    """

    name: Kind
    evidence: str


def matrix_kind(adata: AnnData, layer: str | None = None) -> MatrixKind:
    """Find out what ``X`` or a layer holds, from at most 64 cells spread over the matrix.

    Normalised counts of one cell are whole multiples of a smallest step, its size factor; the function whose
    inverse makes the sampled cells so is the one they were transformed by. Where no function does, it is the one
    that makes the totals of the cells equal, and failing that, the size of the values decides.

    Raises
    ------
    MatrixError
        There is no such matrix, or it has no cells.
    """
    if layer is None and on_read(adata):
        return MatrixKind("log1p", "it is normalised as it is read")
    cells = list(_sample(matrix_of(adata, layer)))
    values = np.concatenate([np.zeros(0), *cells])
    values = values[np.isfinite(values)]
    if (values < 0).any():
        return MatrixKind("scaled", "it has negative values")
    if not (values > 0).any():
        return MatrixKind("empty", "no sampled cell expresses a gene")
    if np.array_equal(values, np.floor(values)):
        return MatrixKind("counts", "all values are whole numbers")
    cells = [c[c > 0] for c in cells if (c > 0).any()]
    by_step = {name: _distance_from_steps(cells, name) for name in ("normalised", *_BASES)}
    name = min(by_step, key=lambda n: by_step[n])
    if by_step[name] < 0.06:
        return MatrixKind(
            name, f"undone, each cell is whole multiples of one step (mean distance {by_step[name]:.3f})"
        )
    by_total = {name: _variation_of_totals(cells, name) for name in ("normalised", *_BASES)}
    name = min(by_total, key=lambda n: by_total[n])
    others = min(v for n, v in by_total.items() if n != name)
    if by_total[name] < 0.005 and others > 0.01:  # the totals of identical cells say nothing
        return MatrixKind(name, f"undone, the cells have equal totals (variation {by_total[name]:.3f})")
    if values.max() > 30:
        return MatrixKind("normalised", f"its values reach {values.max():.0f}, too high for a logarithm")
    return MatrixKind(
        "log1p", f"assumed: fractions up to {values.max():.1f} without a sign of another transformation"
    )


def _sample(matrix: Any) -> Iterator[npt.NDArray[np.float64]]:
    n = matrix.shape[0]
    starts = np.unique(np.linspace(0, max(0, n - _BLOCK_ROWS), _BLOCKS).astype(int))
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else n
        rows = rows_at(matrix, int(start), int(min(start + _BLOCK_ROWS, end)))
        for i in range(len(rows)):
            yield rows.data[rows.indptr[i] : rows.indptr[i + 1]].astype(np.float64)


def _undo(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return values if name == "normalised" else np.expm1(values * math.log(_BASES[name]))  # type: ignore[index]


def _distance_from_steps(cells: list[npt.NDArray[np.float64]], name: str) -> float:
    """Return how far values are from whole multiples of their cell's smallest, 0 to 0.5 (0.25 by chance)."""
    distances = [np.zeros(0)]
    for cell in cells:
        steps = _undo(cell, name)
        with np.errstate(over="ignore", invalid="ignore"):
            steps = steps / steps.min()
        # The smallest itself says nothing, and high multiples drown in rounding.
        told = steps[(steps > 1.01) & (steps < 12)]
        distances.append(np.abs(told - np.round(told)))
    joined = np.concatenate(distances)
    return float(joined.mean()) if len(joined) >= 20 else math.inf


def _variation_of_totals(cells: list[npt.NDArray[np.float64]], name: str) -> float:
    totals = np.array([_undo(cell, name).sum() for cell in cells])
    if len(totals) < 5 or not np.isfinite(totals).all():
        return math.inf
    return float(totals.std() / totals.mean())
