"""How sure a distance between two clouds of cells is: resampling cells, and averaging over conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import C2SError, MetricError
from c2s.metrics.arrays import Floats, checked_samples
from c2s.metrics.statistics import Interval, bootstrap_mean, percentile_interval

#: ``(first sample, second sample) -> distance``, such as `c2s.metrics.mmd`.
Distance = Callable[[Floats, Floats], float]


def bootstrap_distance(
    distance: Distance,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    n_bootstrap: int = 200,
    level: float = 0.95,
    seed: int = 0,
    lowest: float | None = 0.0,
) -> Interval:
    """Return a distance between two samples with a bootstrap interval over the cells of each.

    A resample holds cells twice, which makes every distance between samples larger on average. The interval
    therefore has the spread of the resamples, moved so that their mean lies at the value.

    Parameters
    ----------
    distance
        Pure; options (fixed bandwidths, say) go in with `functools.partial` or a lambda.
    x, y
        Points ``[cells, dimensions]``; each sample is drawn with replacement from itself.
    n_bootstrap, level, seed
        Number of resamples, share of them inside, and their seed.
    lowest
        Lowest value there is, where the interval ends; None where there is none (unbiased estimates). A value
        below it shows that there is none: its interval is then left as it is.

    Returns
    -------
    Interval
        Without width for samples of one cell each.

    Raises
    ------
    MetricError
        A sample is empty or holds NaN, the dimensions differ, an option is out of range, or from `distance`.
    """
    a, b = checked_samples(x, y)
    if n_bootstrap < 1:
        raise MetricError(f"n_bootstrap is {n_bootstrap}.", fix="pass at least 1; 200 is usual.")
    percentile_interval([], level)
    value = float(distance(a, b))
    rng = np.random.default_rng(seed)
    draws = np.empty(n_bootstrap)
    for i in range(n_bootstrap):
        draws[i] = distance(a[rng.integers(len(a), size=len(a))], b[rng.integers(len(b), size=len(b))])
    # Draws that are all alike (single cells) give no width, not the rounding of their mean.
    spread = draws - draws.mean() if np.ptp(draws) > 0 else np.zeros(n_bootstrap)
    low, high = percentile_interval(spread + value, level)
    if lowest is not None and value >= lowest:
        low, high = max(low, lowest), max(high, lowest)
    return Interval(value, low, high)


@dataclass(frozen=True, eq=False)
class ConditionDistances:
    """A distance in each condition, and its mean over conditions.

    Attributes
    ----------
    table
        One row per condition, sorted: ``condition``, ``value``, ``n_first``, ``n_second``.
    mean
        The mean over conditions (each weighs the same), with an interval from resampling conditions.
    """

    table: pd.DataFrame
    mean: Interval


def distance_per_condition(
    distance: Distance,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    x_conditions: Sequence[Any],
    y_conditions: Sequence[Any],
    *,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> ConditionDistances:
    """Compare two samples condition by condition, as sections 4.6.9 and 4.7 average their metrics.

    Parameters
    ----------
    distance
        As for `bootstrap_distance`.
    x, y
        Points ``[cells, dimensions]``, real and generated, say.
    x_conditions, y_conditions
        The condition of each cell: one value, or a tuple of labels (cell type, cytokine, duration).
    n_bootstrap, level, seed
        Resamples of the conditions, share of them inside the interval, and their seed.

    Raises
    ------
    MetricError
        A condition is on one side only or missing for a cell; lengths differ; or `distance` refuses the cells of a
        condition, which is named.
    """
    a, b = checked_samples(x, y)
    first, second = _places(x_conditions, len(a), "first"), _places(y_conditions, len(b), "second")
    lonely = sorted(map(str, first.keys() ^ second.keys()))
    if lonely:
        raise MetricError(
            f"{len(lonely)} condition(s) are in one sample only, first {lonely[0]}.",
            fix="leave them out of both, or generate cells for them.",
        )
    rows = []
    for condition in sorted(first, key=str):
        i, j = first[condition], second[condition]
        try:
            value = float(distance(a[i], b[j]))
        except C2SError as error:
            raise MetricError(f"condition {condition}: {error.problem}", fix=error.fix) from error
        rows.append((condition, value, len(i), len(j)))
    table = pd.DataFrame(rows, columns=["condition", "value", "n_first", "n_second"])
    mean = bootstrap_mean(table["value"].to_numpy(), n_bootstrap=n_bootstrap, level=level, seed=seed)
    return ConditionDistances(table, mean)


def _places(conditions: Sequence[Any], n: int, which: str) -> dict[Any, list[int]]:
    listed = list(conditions)
    if len(listed) != n:
        raise MetricError(
            f"{len(listed)} conditions for {n} cells of the {which} sample.", fix="give one condition per cell."
        )
    places: dict[Any, list[int]] = {}
    for place, condition in enumerate(listed):
        if any(pd.isna(part) for part in (condition if isinstance(condition, tuple) else (condition,))):
            raise MetricError(
                f"cell {place} of the {which} sample has no condition.", fix="leave cells without labels out."
            )
        places.setdefault(condition, []).append(place)
    return places
