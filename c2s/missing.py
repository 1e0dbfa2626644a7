"""Values that stand for "not known": one idea of them for labels, donors, conditions and corpora."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import pandas as pd

from c2s.errors import C2SWarning

#: Texts that stand for "not known", in lower case.
MISSING = frozenset(
    {
        "",
        "-",
        "?",
        "n/a",
        "na",
        "nan",
        "<na>",
        "none",
        "null",
        "not applicable",
        "not available",
        "unassigned",
        "undefined",
        "unknown",
    }
)


def is_null(value: Any) -> bool:
    """Whether a value is none at all: None, NaN, NaT or ``pd.NA``."""
    return value is None or value is pd.NA or value != value  # NaN and NaT differ from themselves


def is_missing(value: Any) -> bool:
    """Whether a value says nothing: None, NaN, or a text such as ``"nan"``, ``"unknown"`` or ``""``."""
    if isinstance(value, str):
        return value.strip().casefold() in MISSING
    return is_null(value)


def known_rows(table: pd.DataFrame, columns: Iterable[str]) -> pd.Series:
    """Say which rows have a value that says something in each of some columns, where these are there.

    Warns
    -----
    C2SWarning
        Some rows have none (counted, with what stands there).
    """
    known = pd.Series(True, index=table.index)
    for column in (column for column in columns if column in table):
        missing = missing_values(table[column])
        if missing.any() and not missing.all():
            found = table[column][missing].astype(object).map(lambda v: repr(v) if isinstance(v, str) else "empty")
            told = ", ".join(f"{n} {value}" for value, n in found.value_counts().items())
            warnings.warn(
                f"{int(missing.sum())} of {len(table)} cells are left out, since {column!r} says nothing: {told}.",
                C2SWarning,
                stacklevel=3,
            )
            known &= ~missing
    return known


def missing_values(values: pd.Series) -> pd.Series:
    """Say which values of a column say nothing, see `is_missing`; bool, with the column's index."""
    return values.astype(object).map(is_missing).astype(bool)
