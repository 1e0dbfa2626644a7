"""Gene symbols: which words the columns of a matrix become, and the tables the kernels write them from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from c2s.errors import GeneError

if TYPE_CHECKING:
    from anndata import AnnData

_ENSEMBL = r"^ENS[A-Z]{0,5}[EGTP]\d{8,}(\.\d+)?$"
#: Columns of ``var`` that commonly hold symbols, in the order they are proposed.
_SYMBOL_COLUMNS = (
    "symbol",
    "symbols",
    "gene_symbol",
    "gene_symbols",
    "feature_name",
    "gene_name",
    "gene_short_name",
)
_MAX_GENES = 1 << 24  # the kernels keep a symbol's rank in 24 bits
_NAMED = 5


@dataclass(frozen=True)
class Words:
    """The words of a matrix: one per column, distinct, without white space.

    Attributes
    ----------
    names
        Arrow string array ``[genes]``, in column order.
    """

    names: pa.StringArray

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def by_rank(self) -> npt.NDArray[np.int64]:
        """Column of each rank, ``[genes]``: columns in the order of their symbols' UTF-8 bytes."""
        return np.asarray(pc.sort_indices(self.names)).astype(np.int64)

    @cached_property
    def rank(self) -> npt.NDArray[np.int32]:
        """Rank of each column's symbol, ``[genes]``: what ties are broken by."""
        rank = np.empty(len(self), np.int32)
        rank[self.by_rank] = np.arange(len(self), dtype=np.int32)
        return rank

    @cached_property
    def letters(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        """Offsets ``[genes + 1]`` and UTF-8 bytes of the symbols in rank order."""
        return string_buffers(self.names.take(pa.array(self.by_rank)))

    @cached_property
    def packed(self) -> npt.NDArray[np.uint64]:
        """Each symbol in rank order with its space and their length in 16 bytes, ``[2 * genes]``.

        The last byte is the length; it is 0 where the symbol does not fit.
        """
        starts, letters = self.letters
        lengths = np.diff(starts)
        table = np.zeros((len(self), 16), np.uint8)
        fits = lengths <= 14
        for place in range(14):
            has = np.flatnonzero(fits & (lengths > place))
            table[has, place] = letters[starts[has] + place]
        rows = np.flatnonzero(fits)
        table[rows, lengths[rows]] = ord(" ")
        table[rows, 15] = lengths[rows] + 1
        return table.reshape(-1).view("<u8")

    @cached_property
    def word_bytes(self) -> npt.NDArray[np.uint16]:
        """Length in bytes of each symbol, in rank order, ``[genes]``."""
        return np.diff(self.letters[0]).astype(np.uint16)


def string_buffers(
    array: pa.StringArray,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Return the offsets ``[n + 1]`` and the bytes of an Arrow string array, without copying."""
    _, offsets, data = array.buffers()
    if len(array) == 0 or offsets is None:
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    starts = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    letters = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return starts, letters


def matrix_words(adata: AnnData, *, symbols: str | None = None, uppercase: bool = False) -> Words:
    """Return the words of `adata`'s columns.

    Parameters
    ----------
    adata
        Its ``var`` is read, nothing else.
    symbols
        Column of ``var`` that holds the symbols; None takes ``var_names``.
    uppercase
        Upper-case the symbols, and refuse those that then collide.

    Raises
    ------
    GeneError
        There is no gene, the column is missing, or a symbol is an Ensembl id (most of them), empty, duplicated,
        holds white space, or collides when upper-cased.
    """
    if adata.n_vars == 0:
        raise GeneError("the matrix has no genes (no columns).", fix="check how it was filtered or transposed.")
    if adata.n_vars >= _MAX_GENES:
        raise GeneError(f"{adata.n_vars} genes are too many.", fix="is the matrix transposed? Try adata.T.")
    if symbols is None:
        values: Any = adata.var_names
    elif symbols in adata.var:
        values = adata.var[symbols]
    else:
        columns = ", ".join(map(str, adata.var.columns)) or "none"
        raise GeneError(f"var has no column {symbols!r}; it has {columns}.", fix="name one of them as symbols=.")
    return check_words(
        values, where=f"var[{symbols!r}]" if symbols else "var_names", uppercase=uppercase, var=adata.var
    )


def check_words(values: Any, *, where: str, uppercase: bool = False, var: Any = None) -> Words:
    """Check gene symbols and return them as `Words`; see `matrix_words`."""
    names = pa.array([None if _missing(v) else str(v) for v in values], pa.string())
    if names.null_count:
        raise GeneError(
            f"{names.null_count} gene(s) in {where} have no symbol, first that at {_first(pc.is_null(names))}.",
            fix="drop these columns, or fill them: adata = adata[:, adata.var[column].notna()].",
        )
    blank = pc.match_substring_regex(names, r"\s|^$|\x00")
    if pc.any(blank).as_py():
        raise GeneError(
            f"{_quoted(names.filter(blank))} in {where} is empty or holds white space, which separates words.",
            fix="rename these genes, e.g. replace spaces by '-'.",
        )
    ensembl = pc.sum(pc.match_substring_regex(names, _ENSEMBL)).as_py() or 0  # None where there is no name
    if ensembl > len(names) / 2:
        raise GeneError(
            f"{ensembl} of {len(names)} names in {where} are Ensembl ids (first {names[0].as_py()!r}), "
            "where gene symbols are expected.",
            fix=f"pass the column of var that holds symbols: symbols={_proposal(var)!r} (--symbols).",
        )
    _refuse_duplicates(names, where)
    if uppercase:
        upper = pc.utf8_upper(names)
        counts = pc.value_counts(upper)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            collide = names.filter(pc.is_in(upper, value_set=twice)).to_pylist()
            groups = sorted(sorted(n for n in collide if n.upper() == u) for u in twice.to_pylist()[:_NAMED])
            raise GeneError(
                f"upper-casing makes {len(twice)} group(s) of gene symbols collide: "
                + "; ".join(" = ".join(g) for g in groups)
                + ".",
                fix="leave uppercase=False, or rename one of each.",
            )
        names = upper
    return Words(names)


def _refuse_duplicates(names: pa.StringArray, where: str) -> None:
    counts = pc.value_counts(names)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise GeneError(
            f"{len(twice)} gene symbol(s) occur more than once in {where}: {_quoted(twice)}.",
            fix="sum or drop the duplicates, or make them distinct with adata.var_names_make_unique().",
        )


def _missing(value: object) -> bool:
    return value is None or value != value  # NaN and NaT differ from themselves


def _first(mask: pa.BooleanArray) -> int:
    return int(np.flatnonzero(np.asarray(mask))[0])


def _quoted(values: Sequence[Any] | pa.Array) -> str:
    shown = [repr(v.as_py() if hasattr(v, "as_py") else v) for v in values[:_NAMED]]
    return ", ".join(shown) + (f" and {len(values) - _NAMED} more" if len(values) > _NAMED else "")


def _proposal(var: Any) -> str:
    columns = [] if var is None else [str(c) for c in var.columns]
    for known in _SYMBOL_COLUMNS:
        for column in columns:
            if column.lower() == known:
                return column
    return "COLUMN"
