"""What an expression matrix already is: counts, log1p of normalised counts, another logarithm, scaled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from c2s.errors import MatrixError
from c2s.reading import reading
from c2s.sentences.features import Features, features_of
from c2s.sentences.matrix import (
    LOGARITHMS,
    Rows,
    as_read,
    by_rows,
    file_of,
    finish_rows,
    matrix_of,
    on_read,
    raw_chunks,
    rows_at,
    undo,
)
from c2s.sentences.transformations import (
    FEW_VALUES,
    HIGHEST_LOG,
    Kind,
    Steps,
    clear_functions,
    distances_from_steps,
    logarithm_of_counts,
    transformed_by,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

T = TypeVar("T")

_BLOCKS, _BLOCK_ROWS = 8, 8
#: Fewer cells with fractions may look like another kind by chance.
_FEW_CELLS = 3
#: Variation of totals that are one total but for rounding.
_ONE_TOTAL = 0.002
_TOO_HIGH = "reach values too high for a logarithm"
_SHOWN = 3


@dataclass(frozen=True)
class MatrixKind:
    """What a matrix was found to be.

    Attributes
    ----------
    name
        ``"counts"`` (whole numbers), ``"fractional"`` (counts that were corrected, so that they are no whole
        numbers), ``"normalised"`` (not logarithmic), ``"shares"`` (of the
        total of a cell), ``"log1p"``, ``"log2"``, ``"log10"`` (of 1 + normalised
        counts), ``"log1p twice"``, ``"log1p of counts"`` and the like (cells were not brought to one total),
        ``"scaled"`` (has negative values), ``"ranks"``, ``"mixed"`` (cells of two kinds) or ``"empty"``.
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
        return {
            "fractional": "counts that are no whole numbers",
            "scaled": "scaled values",
            "shares": "shares of the total of a cell",
        }.get(self.name, self.name)


@dataclass(frozen=True)
class _Cell:
    """One sampled cell: where it is, and its values that are not 0."""

    row: int
    values: npt.NDArray[np.float64]

    @property
    def fractions(self) -> float:
        """Share of values that are no whole numbers."""
        # Counts that were normalised and brought back are whole but for rounding.
        rounding = np.clip(2e-5 * self.values, 1e-4, 1e-2)
        return float(np.mean(np.abs(self.values - np.round(self.values)) > rounding))


def matrix_kind(adata: AnnData, layer: str | None = None, *, features: Features | None = None) -> MatrixKind:
    """Find out what ``X`` or a layer holds, from at most 64 cells spread over the matrix.

    Cells whose values are whole numbers hold counts. Normalised counts of one cell are whole multiples of a
    smallest step, its size factor; the function whose inverse makes the other cells so is the one they were
    transformed by. Where no function does, it is the one that makes the totals of the cells equal. Failing that,
    the spread of the totals and the size of the values decide, which is a guess.

    Columns that are no genes are not looked at.

    Parameters
    ----------
    adata
        Cells x genes.
    layer
        Layer to look at; None is ``X``.
    features
        What its columns are, where that is known; None finds out (`c2s.sentences.features`).

    Raises
    ------
    MatrixError
        There is no such matrix, or it has no cells.
    InputFileError
        A backed matrix cannot be read.
    """
    if layer is None and on_read(adata):
        return MatrixKind("log1p", "it is normalised as it is read")
    genes = (features or features_of(adata.var_names, adata.var)).genes
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
        return _kind_of_whole_numbers(cells)
    negative = values < 0
    if negative.mean() >= 0.05:
        return MatrixKind("scaled", f"{negative.mean():.0%} of the values that are not 0 are negative")
    if len(values) < FEW_VALUES:
        return MatrixKind("log1p", f"{len(values)} values are too few to tell", True)
    some = [cell for cell in cells if cell.fractions and cell.values.max() > 0]
    others = [cell for cell in some if cell.fractions >= 0.5]
    undone = logarithm_of_counts(_positive(some))
    if undone is None and not others:
        share = np.mean([cell.fractions for cell in cells])
        return MatrixKind("fractional", f"{share:.0%} of the values are no whole numbers, the others are", True)
    positive = _positive(some if undone else others)
    steps = distances_from_steps(positive)
    found = MatrixKind(*(undone or transformed_by(positive, steps)))
    others = some if undone else others
    counted = [cell for cell in whole if _is_of_counts(cell.values, found.name.removesuffix(" of counts"), others)]
    # One cell may have a size factor of exactly 1.
    if len(counted) >= (2 if found.name == "normalised" else 1):
        return _mixed(len(cells), {"hold whole numbers, as counts are,": counted, found.words: others}, obs)
    groups = _groups(others, steps)
    if len(groups) > 1:
        return _mixed(len(cells), groups, obs)
    groups = _groups_by_total(others, found.name)
    if not groups:
        return found
    mixed = _mixed(len(cells), groups, obs)
    if all(_has_total_or_counts(side, found.name) for side in groups.values()):
        return mixed
    # As where genes of some cells were left out of the total (exclude_highly_expressed of scanpy).
    return MatrixKind(found.name, f"{found.evidence}, but {mixed.evidence}", True)


def _kind_of_whole_numbers(cells: Sequence[_Cell]) -> MatrixKind:
    many = [cell.values for cell in cells if len(cell.values) >= FEW_VALUES]
    if many and all(v.max() == len(v) and len(np.unique(v)) == len(v) for v in many):
        return MatrixKind("ranks", "each cell holds every whole number from 1 to its number of genes once")
    if 2 * len(many) > len(cells) and all(cell.values.max() == 1 for cell in cells):
        return MatrixKind("counts", "all values are 0 or 1, of which no order of genes can be told", True)
    return MatrixKind("counts", "all values are whole numbers")


def _groups(cells: Sequence[_Cell], steps: Steps) -> dict[str, list[_Cell]]:
    """Sort cells with fractions by what each shows by itself, where most show something."""
    groups: dict[str, list[_Cell]] = {}
    for cell, function in zip(cells, clear_functions(steps), strict=True):
        if function is not None:
            groups.setdefault(function, []).append(cell)
    if set(groups) & set(LOGARITHMS):
        known = {cell.row for some in groups.values() for cell in some}
        if high := [c for c in cells if c.row not in known and c.values.max() > HIGHEST_LOG]:
            groups.setdefault("normalised" if "normalised" in groups else _TOO_HIGH, []).extend(high)
    told = sum(map(len, groups.values())) >= len(cells) / 2
    return {name: some for name, some in groups.items() if told and len(some) >= _FEW_CELLS}


def _groups_by_total(cells: Sequence[_Cell], kind: str) -> dict[str, list[_Cell]]:
    """Tell cells that were brought to one total from those that were brought to another, or to none."""
    if kind.removesuffix(" of counts") not in LOGARITHMS:
        return {}
    totals = np.array([undo(values, kind).sum() for values in _positive(cells)])
    order = np.argsort(totals)
    cut = 1 + int(np.argmax(np.diff(np.log10(totals[order])))) if len(cells) > 1 else 0
    sides = [order[:cut], order[cut:]]
    if min(map(len, sides)) < _FEW_CELLS or totals[order[cut]] < 2 * totals[order[cut - 1]]:
        return {}
    if min(totals[side].std() / totals[side].mean() for side in sides) > _ONE_TOTAL:
        return {}
    named = {f"{kind} of cells that add up to {np.median(totals[side]):,.0f}": side for side in sides}
    return {words: [cells[i] for i in side] for words, side in named.items()}


def _has_total_or_counts(cells: Sequence[_Cell], kind: str) -> bool:
    """Whether cells are counts once the logarithm is undone, or add up to one total by this or another one."""
    positive = _positive(cells)
    values = np.concatenate([undo(some, kind) for some in positive])
    low = values[values < 50]  # where rounding shows least
    if len(low) and np.abs(low - np.round(low)).mean() < 0.03:
        return True
    totals = np.array([[undo(some, name).sum() for some in positive] for name in (kind, *LOGARITHMS)])
    return bool((totals.std(1) < _ONE_TOTAL * totals.mean(1)).any())


def _mixed(n: int, groups: Mapping[str, Sequence[_Cell]], obs: pd.DataFrame | None) -> MatrixKind:
    names = list(obs.index.astype(str)) if obs is not None else []
    told = " and ".join(f"{_named([cell.row for cell in some], names)} {words}" for words, some in groups.items())
    one, other = list(groups.values())[:2]
    column = None if obs is None else _column_between(obs, one, other)
    apart = f"; obs[{column!r}] tells them apart" if column else ""
    return MatrixKind("mixed", f"of {n} sampled cells {told}{apart}")


def _positive(cells: Sequence[_Cell]) -> list[npt.NDArray[np.float64]]:
    return [cell.values[cell.values > 0] for cell in cells if cell.values.max() > 0]


def _is_of_counts(values: npt.NDArray[np.float64], found: str, others: Sequence[_Cell]) -> bool:
    """Whether a cell of whole numbers cannot be of the kind that cells with fractions were found to be."""
    if found in LOGARITHMS:
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


def map_chunks(
    work: Callable[[Rows], T],
    adata: AnnData,
    layer: str | None,
    chunk_size: int,
    *,
    kind: str | None = None,
    genes: npt.NDArray[np.int64] | None = None,
) -> Iterator[T]:
    """Work on the checked rows of ``X`` or a layer in threads; a backed matrix is as `c2s.read_cells` promised.

    Parameters
    ----------
    work
        Called from several threads.
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
    from c2s.sentences.jit import in_threads

    pending = on_read(adata) if layer is None else {}
    kind = pending.pop("kind", kind)
    n_genes = adata.n_vars if genes is None else len(genes)

    def on_checked(rows: Rows) -> T:
        check_rows(rows, kind, adata.obs_names, layer)
        return work(finish_rows(rows, n_genes, **pending) if pending else as_read(rows, adata))

    yield from in_threads(on_checked, raw_chunks(adata, layer, chunk_size, genes))


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
    kind = kind and kind.removesuffix(" of counts")
    logs = kind in LOGARITHMS
    within = kernels.all_within(values, HIGHEST_LOG if logs else np.finfo(np.float64).max)
    if within and not logs and kind != "counts":
        return
    where = "X" if layer is None else f"layer {layer!r}"
    if not within and not (values.min() >= 0 and values.max() < np.inf):
        first = int(np.flatnonzero(~(values >= 0) | (values == np.inf))[0])
        row = int(np.searchsorted(rows.indptr - rows.indptr[0], first, side="right")) - 1
        raise _impossible(str(names[rows.start + row]), rows.start + row, float(values[first]), kind, where)
    row = int(kernels.other_kind(rows.indptr, rows.data, kind == "counts", kind != "log1p"))
    if row < 0 and not within:
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
            "NaN": "find out where it comes from; name a layer without (--layer), or set it to 0 in the file.",
            "infinite": "find out where it comes from, log of 0 and division by 0 as a rule; name a layer without "
            "(--layer).",
        }
        return MatrixError(f"cell {cell!r} (row {row}) has a value that is {what} in {where}.", fix=fixes[what])
    shown = int(value) if value.is_integer() else float(f"{value:.6g}")
    if kind == "counts":
        return MatrixError(
            f"cell {cell!r} (row {row}) holds {shown} among counts in {where}, and no count is negative.",
            fix="find out what it stands for (missing, often); leave such cells out, or set it to 0 in the file.",
        )
    return MatrixError(
        f"cell {cell!r} (row {row}) has a value that is negative ({shown}) in {where}, as scaled or "
        "batch-corrected values are.",
        fix="sentences need expression: name the layer with the values before sc.pp.scale or the correction "
        "(--layer; raw reads adata.raw).",
    )
