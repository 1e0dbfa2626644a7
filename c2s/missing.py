"""Values that stand for "not known": one idea of them for labels, donors, conditions and corpora."""

from __future__ import annotations

from typing import Any

import pandas as pd

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


def is_missing(value: Any) -> bool:
    """Whether a value says nothing: None, NaN, or a text such as ``"nan"``, ``"unknown"`` or ``""``."""
    if isinstance(value, str):
        return value.strip().casefold() in MISSING
    return value is None or value is pd.NA or value != value  # NaN and NaT differ from themselves


def missing_values(values: pd.Series) -> pd.Series:
    """Say which values of a column say nothing, see `is_missing`; bool, with the column's index."""
    return values.astype(object).map(is_missing).astype(bool)
