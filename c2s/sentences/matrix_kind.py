"""What an expression matrix already is: counts, log1p of normalised counts, another logarithm, scaled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from c2s.errors import MatrixError
from c2s.reading import reading
from c2s.sentences.features import features_of
from c2s.sentences.matrix import Rows, by_rows, file_of, finish_rows, matrix_of, on_read, raw_chunks, rows_at

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

Kind = Literal["empty", "counts", "fractional", "normalised", "log1p", "log2", "log10", "scaled", "mixed"]

#: Logarithms people take of ``1 + x``; "normalised" is none at all.
_BASES: dict[Kind, float] = {"log1p": math.e, "log2": 2.0, "log10": 10.0}
_BLOCKS, _BLOCK_ROWS = 8, 8
#: No logarithm of expression is higher.
_HIGHEST_LOG = 30.0
_FEW_VALUES = 20
_SHOWN = 3


@dataclass(frozen=True)
class MatrixKind:
    """What a matrix was found to be.

    Attributes
    ----------
    name
        ``"counts"`` (whole numbers), ``"fractional"`` (counts that were corrected, so that they are no whole
        numbers), ``"normalised"`` (not logarithmic), ``"log1p"``, ``"log2"``, ``"log10"`` (of 1 + normalised
        counts), ``"scaled"`` (has negative values), ``"mixed"`` (cells of two kinds) or ``"empty"``.
    evidence
        One sentence: what it was recognised by.
    guess
        Whether the evidence is weak.
    """

    name: Kind
    evidence: str
    guess: bool = False

    @property
    def words(self) -> str:
        """The name, in words."""
        return {"fractional": "counts that are no whole numbers"}.get(self.name, self.name)


@dataclass(frozen=True)
class _Cell:
    """One sampled cell: where it is, and its values that are not 0."""

    row: int
    values: npt.NDArray[np.float64]

    @property
    def fractions(self) -> float:
        """Share of values that are no whole numbers."""
        return float(np.mean(self.values != np.floor(self.values)))


def matrix_kind(adata: AnnData, layer: str | None = None) -> MatrixKind:
    """Find out what ``X`` or a layer holds, from at most 64 cells spread over the matrix.

    Cells whose values are whole numbers hold counts. Normalised counts of one cell are whole multiples of a
    smallest step, its size factor; the function whose inverse makes the other cells so is the one they were
    transformed by. Where no function does, it is the one that makes the totals of the cells equal. Failing that,
    the spread of the totals and the size of the values decide, which is a guess.

    Columns that are no genes (`c2s.sentences.features`) are not looked at.

    Raises
    ------
    MatrixError
        There is no such matrix, or it has no cells.
    InputFileError
        A backed matrix cannot be read.
    """
    if layer is None and on_read(adata):
        return MatrixKind("log1p", "it is normalised as it is read")
    genes = features_of(adata.var_names, adata.var).genes
    matrix = matrix_of(adata, layer)
    with reading(file_of(adata)):
        return kind_of_rows(by_rows(matrix, stacklevel=None), adata.obs, genes)


def kind_of_rows(
    matrix: Any, obs: pd.DataFrame | None = None, genes: npt.NDArray[np.int64] | None = None
) -> MatrixKind:
    """Find out what a matrix holds; see `matrix_kind`.

    Parameters
    ----------
    matrix
        What `c2s.sentences.matrix.by_rows` returned.
    obs
        What is known of its rows, for the evidence.
    genes
        Columns to look at; None for all.
    """
    cells = list(_sample(matrix, genes))
    values = np.concatenate([np.zeros(0), *(cell.values for cell in cells)])
    if not len(values):
        return MatrixKind("empty", "no sampled cell expresses a gene")
    whole = [cell for cell in cells if cell.fractions == 0]
    if len(whole) == len(cells):
        return MatrixKind("counts", "all values are whole numbers")
    negative = values < 0
    if negative.mean() >= 0.05:
        return MatrixKind("scaled", f"{negative.mean():.0%} of the values that are not 0 are negative")
    if len(values) < _FEW_VALUES:
        return MatrixKind("log1p", f"{len(values)} values are too few to tell", True)
    others = [cell for cell in cells if cell.fractions >= 0.5]
    if not others:
        share = np.mean([cell.fractions for cell in cells])
        return MatrixKind("fractional", f"{share:.0%} of the values are no whole numbers, the others are", True)
    found = _kind_of_fractions([cell.values[cell.values > 0] for cell in others])
    counted = [cell for cell in whole if _is_of_counts(cell.values, found.name, others)]
    # One cell may have a size factor of exactly 1.
    if len(counted) < (2 if found.name == "normalised" else 1):
        return found
    names = list(obs.index.astype(str)) if obs is not None else []
    told = [_named([cell.row for cell in some], names) for some in (counted, others)]
    evidence = (
        f"of {len(cells)} sampled cells {told[0]} hold whole numbers, as counts are, and {told[1]} {found.words}"
    )
    column = None if obs is None else _column_between(obs, counted, others)
    return MatrixKind("mixed", evidence + (f"; obs[{column!r}] tells them apart" if column else ""))


def _kind_of_fractions(cells: list[npt.NDArray[np.float64]]) -> MatrixKind:
    """Say what function cells with fractions were transformed by."""
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
    highest = max(float(cell.max()) for cell in cells)
    if highest > _HIGHEST_LOG:
        return MatrixKind(
            "fractional",
            f"its values reach {highest:.0f}, too high for a logarithm, and are no whole numbers",
            True,
        )
    undone, as_is = by_total["log1p"], by_total["normalised"]
    if math.isfinite(undone) and undone > 1 and undone > 2 * as_is:
        return MatrixKind(
            "fractional",
            f"taken for logarithms, the totals of the cells would differ wildly (variation {undone:.1f}, "
            f"as they are {as_is:.1f})",
            True,
        )
    return MatrixKind("log1p", f"fractions up to {highest:.1f} without a sign of another transformation", True)


def _is_of_counts(values: npt.NDArray[np.float64], found: str, others: Sequence[_Cell]) -> bool:
    """Whether a cell of whole numbers cannot be of the kind that cells with fractions were found to be."""
    if found in _BASES:
        # log2(1 + 1) is a whole number, and so may a few values be.
        return len(values) >= 3 and (found == "log1p" or values.max() >= 5)
    if found == "normalised":  # a cell whose size factor is a whole number has whole numbers too, multiples of it
        total = float(np.median([cell.values.sum() for cell in others]))
        return bool(values.min() == 1) and abs(values.sum() - total) > 0.05 * total
    return False


def _named(rows: Sequence[int], names: Sequence[str]) -> str:
    shown = [repr(names[row]) if names else f"row {row}" for row in rows[:_SHOWN]]
    return f"{len(rows)} ({', '.join(shown)}{', ...' if len(rows) > _SHOWN else ''})"


def _column_between(obs: pd.DataFrame, one: Sequence[_Cell], other: Sequence[_Cell]) -> str | None:
    """Return a column of `obs` no value of which two groups of cells share."""
    a, b = [cell.row for cell in one], [cell.row for cell in other]
    for column in obs.columns:
        texts = obs[column].astype(str)
        values = [set(texts.iloc[rows]) for rows in (a, b)]
        if not values[0] & values[1] and len(values[0] | values[1]) <= max(2, (len(a) + len(b)) // 4):
            return str(column)
    return None


def _sample(matrix: Any, genes: npt.NDArray[np.int64] | None) -> Iterator[_Cell]:
    """Yield cells from blocks of rows spread over the matrix, those without a finite value left out."""
    n, n_genes = matrix.shape
    starts = np.unique(np.linspace(0, max(0, n - _BLOCK_ROWS), _BLOCKS).astype(int))
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else n
        rows = rows_at(matrix, int(start), int(min(start + _BLOCK_ROWS, end)))
        if genes is not None:
            rows = rows.columns(genes, n_genes)
        for i in range(len(rows)):
            values = rows.data[rows.indptr[i] : rows.indptr[i + 1]].astype(np.float64)
            values = values[np.isfinite(values) & (values != 0)]
            if len(values):
                yield _Cell(int(start) + i, values)


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


def checked_chunks(
    adata: AnnData,
    layer: str | None,
    chunk_size: int,
    *,
    kind: str | None = None,
    genes: npt.NDArray[np.int64] | None = None,
) -> Iterator[Rows]:
    """Yield the rows of ``X`` or a layer, checked; those of a backed matrix as `c2s.read_cells` promised them.

    Parameters
    ----------
    adata, layer, chunk_size, genes
        As for `c2s.sentences.matrix.raw_chunks`.
    kind
        What `matrix_kind` found; a cell of another kind is refused. Of a backed matrix, what was found when it was
        opened.

    Raises
    ------
    MatrixError
        A value is negative, infinite or NaN, or a cell is of another kind than the others; the cell is named.
    InputFileError
        A backed matrix cannot be read on.
    """
    pending = on_read(adata) if layer is None else {}
    kind = pending.pop("kind", kind)
    for rows in raw_chunks(adata, layer, chunk_size, genes):
        check_rows(rows, kind, adata.obs_names, layer)
        yield finish_rows(rows, len(genes) if genes is not None else adata.n_vars, **pending) if pending else rows


def check_rows(rows: Rows, kind: str | None, names: Any, layer: str | None = None) -> None:
    """Refuse rows that hold what expression cannot be, or that are of another kind than the rest of the matrix.

    Parameters
    ----------
    rows
        As they are stored.
    kind
        What `matrix_kind` found of the whole; None does not compare.
    names
        Ids of all cells of the matrix.
    layer
        For the message.

    Raises
    ------
    MatrixError
        The first such cell is named, with the value.
    """
    from c2s.sentences import kernels

    values = rows.data[int(rows.indptr[0]) : int(rows.indptr[-1])]
    if not len(values):
        return
    where = "X" if layer is None else f"layer {layer!r}"
    if not values.min() >= 0 or values.max() == np.inf:
        first = int(np.flatnonzero(~(values >= 0) | (values == np.inf))[0])
        row = int(np.searchsorted(rows.indptr - rows.indptr[0], first, side="right")) - 1
        raise _impossible(str(names[rows.start + row]), rows.start + row, float(values[first]), kind, where)
    if kind != "counts" and kind not in _BASES:
        return
    row = int(kernels.other_kind(rows.indptr, rows.data, kind == "counts", kind != "log1p"))
    if row < 0 and kind != "counts" and values.max() > _HIGHEST_LOG:
        row = int(np.searchsorted(rows.indptr - rows.indptr[0], int(values.argmax()), side="right")) - 1
    if row >= 0:
        holds = "fractions" if kind == "counts" else "counts, or values too high for a logarithm"
        raise MatrixError(
            f"cell {str(names[rows.start + row])!r} (row {rows.start + row}) of {where} holds {holds}, "
            f"while other cells hold {kind}: these are cells of two kinds.",
            fix=_SPLIT,
        )


_SPLIT = (
    "write each kind to a file of its own, e.g. adata[adata.obs['batch'] == 'a'].write_h5ad(...), "
    "or name a layer where all cells are alike (--layer)."
)


def refuse_mixed(kind: MatrixKind, where: str) -> None:
    """Refuse a matrix whose cells are of two kinds.

    Raises
    ------
    MatrixError
        The cells are named.
    """
    if kind.name == "mixed":
        raise MatrixError(f"{where} holds cells of two kinds: {kind.evidence}.", fix=_SPLIT)


def _impossible(cell: str, row: int, value: float, kind: str | None, where: str) -> MatrixError:
    if math.isnan(value) or math.isinf(value):
        what = "NaN" if math.isnan(value) else "infinite"
        fixes = {
            "NaN": "find out where it comes from; name a layer without (--layer), or set it to 0: "
            "np.nan_to_num(adata.X.data, copy=False).",
            "infinite": "find out where it comes from, log of 0 and division by 0 as a rule; name a layer without "
            "(--layer).",
        }
        return MatrixError(f"cell {cell!r} (row {row}) has a value that is {what} in {where}.", fix=fixes[what])
    shown = int(value) if value.is_integer() else float(f"{value:.6g}")
    if kind == "counts":
        return MatrixError(
            f"cell {cell!r} (row {row}) holds {shown} among counts in {where}, and no count is negative.",
            fix="find out what it stands for (missing, often); leave such cells out, or set it to 0: "
            "adata.X.data[adata.X.data < 0] = 0.",
        )
    return MatrixError(
        f"cell {cell!r} (row {row}) has a value that is negative ({shown}) in {where}, as scaled or "
        "batch-corrected values are.",
        fix="sentences need expression: name the layer with the values before sc.pp.scale or the correction, or "
        "adata.raw (--layer raw).",
    )
