"""Ids and columns of simulated cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def cell_names(first: int, n: int) -> list[str]:
    """Return the ids of the cells `first` to ``first + n - 1``."""
    return [f"sim-{i:09d}" for i in range(first, first + n)]


def category(values: Sequence[str], codes: npt.NDArray[np.int64]) -> Any:
    """Return ``values[codes]`` as a `pandas.Categorical` whose categories are all of `values`, drawn or not."""
    categories = sorted(set(values))
    of = np.array([categories.index(v) for v in values], dtype=np.int64)
    return pd.Categorical.from_codes(of[codes], categories=pd.Index(categories, dtype=object))
