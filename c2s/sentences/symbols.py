"""Gene symbols: which words the columns of a matrix become, and the tables the kernels write them from."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from c2s.errors import GeneError
from c2s.missing import is_null
from c2s.sentences.features import GENOMIC_RANGE, Features, features_of, texts_or_null

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Names that are no gene symbols, by what they are. RE2.
_NO_SYMBOLS = {
    "Ensembl ids": r"^ENS[A-Z]{0,5}[EGTP]\d{8,}(\.\d+)?$",
    "Ensembl ids joined with symbols": r"^ENS[A-Z]{0,5}G\d{8,}(\.\d+)?[_|:-]|[_|:-]ENS[A-Z]{0,5}G\d{8,}(\.\d+)?$",
    "numbers (of rows, or Entrez ids)": r"^[VX]?\d+(\.0)?$",
    "cell barcodes": r"(^|[^A-Za-z])[ACGTN]{8,}|[ACGT]{14,}",
    "genomic ranges": f"(?i){GENOMIC_RANGE}",
    "accession numbers": r"^[NX][MRP]_\d+(\.\d+)?$|^([OPQ]\d[A-Z\d]{3}\d|[A-NR-Z]\d[A-Z][A-Z\d]{2}\d)$",
    "ids of a database": r"^(FBgn\d+|WBGene\d+|ZDB-GENE-[\d-]+|(HGNC|MGI|RGD|ENTREZ|NCBI|entrez|ncbi):?_?\d+)$",
    "ids of probes": r"^(\d+(_[a-z]+)?_at|AFFX-.*|ILMN_\d+|A_\d+_P\d+|cg\d{8})$",
    "names in quotes": r"^b?['\"].*['\"]$",
    "symbols joined with positions or numbers": r"__chr[\dXYM]+$|^\S+\|\d+$",
}
_NO_SYMBOL = "|".join(f"(?:{pattern})" for pattern in _NO_SYMBOLS.values())
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
#: What the cells of a table may be called.
_CELLS = (
    r"(?i)(^|[^a-z])(cell|barcode|bc|sample|well|spot|nucleus|gsm|srr|err)[\W_]?\d+|^[a-z]\d+$|"
    r"^p\d+_[a-p]\d{1,2}$"
)
#: Genes that nearly every dataset of human or mouse has: rows called so are genes, not cells.
_USUAL = {"ACTB", "B2M", "EEF1A1", "FTH1", "FTL", "GAPDH", "MALAT1", "RPL13", "RPLP0", "RPS27", "TMSB4X", "UBC"}
#: Longer names than this are no symbols, and would not fit the tables of the kernels.
_LONGEST = 200
_MAX_GENES = 1 << 24  # the kernels keep a symbol's rank in 24 bits
_NAMED = 5


@dataclass(frozen=True)
class Words:
    """The words of a matrix: one per column, distinct, without white space.

    Attributes
    ----------
    names
        Arrow string array ``[genes]``, in column order.
    features
        What the columns of the matrix are; ``features.genes`` are the columns that the names belong to.
    """

    names: pa.StringArray
    features: Features = field(default_factory=Features)

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
    """Return the words of those columns of `adata` that are genes (see `c2s.sentences.features`).

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
        There is no gene, the column is missing, most names are no symbols (Ensembl or Entrez ids, row numbers,
        barcodes, genomic ranges, ...), or a symbol is empty, duplicated, holds white space, or collides when
        upper-cased.
    """
    if symbols is None:
        values: Any = adata.var_names
    elif symbols in adata.var:
        values = adata.var[symbols]
    else:
        columns = ", ".join(map(str, adata.var.columns)) or "none"
        raise GeneError(
            f"var has no column {symbols!r}; it has {columns}.", fix="name one of them as symbols= (--symbols)."
        )
    where = f"var[{symbols!r}]" if symbols else "var_names"
    return table_words(adata.var, list(values), where=where, uppercase=uppercase, rows=adata.obs_names)


def table_words(
    var: pd.DataFrame, names: Sequence[Any], *, where: str, uppercase: bool = False, rows: Iterable[Any] = ()
) -> Words:
    """Return the words of a matrix of which only ``var`` is at hand; see `matrix_words`.

    Parameters
    ----------
    var
        One row per column of the matrix.
    names
        Their names.
    where
        What errors call the place that the names come from.
    uppercase
        Upper-case the symbols.
    rows
        Names of (some of) the rows, to tell a matrix that is transposed.
    """
    if not len(names):
        raise GeneError("the matrix has no genes (no columns).", fix="check how it was filtered or transposed.")
    if len(names) >= _MAX_GENES:
        raise GeneError(f"{len(names)} genes are too many.", fix="is the matrix transposed? Try adata.T.")
    features = features_of(names, var)
    if features.genes is not None:
        names = [names[i] for i in features.genes]
    words = check_words(names, where=where, uppercase=uppercase, var=var, rows=rows)
    return Words(words.names, features)


def check_words(
    values: Any, *, where: str, uppercase: bool = False, var: Any = None, rows: Iterable[Any] = ()
) -> Words:
    """Check gene symbols and return them as `Words`; see `matrix_words`."""
    names = texts_or_null(values)
    if names.null_count:
        raise GeneError(
            f"{names.null_count} gene(s) in {where} have no symbol, first that at {_first(pc.is_null(names))}.",
            fix="drop these columns, or fill them: adata = adata[:, adata.var[column].notna()].",
        )
    texts = names.to_pylist()
    # What str.split makes of it is what every reader of a sentence makes of it; what it splits at, but for the
    # space, is not printable.
    joined = "".join(texts)
    if not (joined.isprintable() and " " not in joined and all(texts)):
        blank = [text for text in texts if text.split() != [text] or not text.isprintable()]
        raise GeneError(
            f"{_quoted(blank)} in {where} is empty or holds white space, which separates words, or a character "
            "that is not seen.",
            fix="rename these genes, e.g. replace spaces by '-'.",
        )
    if (pc.max(pc.binary_length(names)).as_py() or 0) > _LONGEST:
        long = [text for text in texts if len(text.encode()) > _LONGEST]
        raise GeneError(
            f"{len(long)} name(s) in {where} have more than {_LONGEST} bytes, first {long[0][:40]!r}...",
            fix="give gene symbols.",
        )
    _refuse_other_names(names, where, var, rows)
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


def no_symbols(names: pa.StringArray) -> tuple[int, str, str]:
    """Return how many names are no symbols, what most of these are, and the first of those."""
    found = names.filter(pc.match_substring_regex(names, _NO_SYMBOL))
    masks = {kind: pc.match_substring_regex(found, pattern) for kind, pattern in _NO_SYMBOLS.items()}
    counts = {kind: pc.sum(mask).as_py() or 0 for kind, mask in masks.items()}  # None where there is no name
    most = max(counts, key=lambda kind: counts[kind])
    return (len(found), most, str(found.filter(masks[most])[0].as_py())) if len(found) else (0, "", "")


def usual_genes(names: Iterable[Any]) -> int:
    """Return how many of a few genes that every dataset of human or mouse has are among some names."""
    return len(_USUAL.intersection(str(name).upper() for name in names))


def names_of_genes(names: Sequence[Any]) -> float:
    """Return how sure it is that some names are those of genes, from 0 to 1: usual symbols, or ids of genes."""
    if usual_genes(names) >= 3:
        return 1.0
    return _share(
        names, ("Ensembl ids", "Ensembl ids joined with symbols", "accession numbers", "ids of a database")
    )


def names_of_cells(names: Sequence[Any]) -> float:
    """Return the share of names that only cells have: barcodes, and numbers after *cell* or after one letter."""
    if names_of_genes(names) > 0.5:
        return 0.0
    return _share(names, ("cell barcodes", "cells"))


def _share(names: Sequence[Any], kinds: Sequence[str]) -> float:
    texts = pa.array([str(name) for name in names], pa.string())
    patterns = {**_NO_SYMBOLS, "cells": _CELLS}
    masks = [np.asarray(pc.match_substring_regex(texts, patterns[kind])) for kind in kinds]
    return float(np.logical_or.reduce(masks).mean()) if len(texts) else 0.0


def symbol_columns(var: Any) -> list[str]:
    """Return the columns of ``var`` whose values look like gene symbols, those with a usual name first."""
    found = []
    for column in [] if var is None else var.columns:
        values = [str(v) for v in var[column].astype(object) if not is_null(v)]
        texts = pa.array(values, pa.string())
        letters = pc.sum(pc.match_substring_regex(texts, r"^[A-Za-z][^\s]{0,40}$")).as_py() or 0
        if 2 * len(set(values)) > len(var) and 2 * letters > len(var) and 2 * no_symbols(texts)[0] <= len(values):
            found.append(str(column))
    usual = {name: i for i, name in enumerate(_SYMBOL_COLUMNS)}
    return sorted(found, key=lambda column: usual.get(column.lower(), len(usual)))


def _refuse_other_names(names: pa.StringArray, where: str, var: Any, rows: Iterable[Any]) -> None:
    n, kind, first = no_symbols(names)
    if 2 * n <= len(names):
        return
    columns = [column for column in symbol_columns(var) if f"[{column!r}]" not in where]
    remedy: dict[str, Any] = {}
    if usual_genes(rows) >= 3:
        fix = "the genes are in its rows: turn it around, adata.T.write_h5ad(...), or write cells x genes."
    elif columns:
        remedy, option = {"symbols": columns[0]}, shlex.quote(columns[0])
        others = "".join(f", or {column!r}" for column in columns[1:3])
        fix = f"pass the column of var that holds symbols: symbols={columns[0]!r} (--symbols {option}){others}."
    elif kind == "Ensembl ids joined with symbols":
        remedy = {"strip": ("ensembl",)}
        fix = "take the ids away: strip=('ensembl',) (--strip ensembl)."
    else:
        fix = "write gene symbols into a column of var, and name it: symbols='COLUMN' (--symbols COLUMN)."
    raise GeneError(
        f"{n} of {len(names)} names in {where} are {kind} (first {first!r}), where gene symbols are expected.",
        fix=fix,
        remedy=remedy,
    )


def _refuse_duplicates(names: pa.StringArray, where: str) -> None:
    counts = pc.value_counts(names)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise GeneError(
            f"{len(twice)} gene symbol(s) occur more than once in {where}: {_quoted(twice)}.",
            fix="sum or drop the duplicates, or make them distinct with adata.var_names_make_unique().",
        )


def _first(mask: pa.BooleanArray) -> int:
    return int(np.flatnonzero(np.asarray(mask))[0])


def _quoted(values: Sequence[Any] | pa.Array) -> str:
    shown = [repr(v.as_py() if hasattr(v, "as_py") else v) for v in values[:_NAMED]]
    return ", ".join(shown) + (f" and {len(values) - _NAMED} more" if len(values) > _NAMED else "")
