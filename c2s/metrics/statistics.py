"""How sure a number is: percentile bootstrap intervals over examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import MetricError
from c2s.metrics.classification import checked_answers
from c2s.metrics.resampling import Resamplable, Resamples
from c2s.tasks import Metric

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value and its interval; NaN where they are not defined."""

    value: float
    low: float
    high: float


def percentile_interval(draws: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds `level` of the draws.

    Parameters
    ----------
    draws
        The statistic on each resample. Where it is NaN (not defined there), the resample is left out.
    level
        Share of the draws inside, in (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper end, linearly interpolated; NaN when nothing is left.

    Raises
    ------
    MetricError
        The level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise MetricError(f"the level is {level}.", fix="pass a share between 0 and 1, e.g. 0.95.")
    values = np.asarray(draws, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_mean(
    values: npt.ArrayLike, *, n_bootstrap: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of one number per example, with its percentile bootstrap interval.

    Parameters
    ----------
    values
        One number per example, ``[examples]``.
    n_bootstrap, level, seed
        Number of resamples, share of them inside the interval, and their seed.

    Returns
    -------
    Interval
        All NaN when a value is NaN; without width for a single example.

    Raises
    ------
    MetricError
        There is no value, or an argument is out of range.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x):
        raise MetricError(f"values of shape {x.shape}.", fix="pass one number per example, at least one.")
    draws = np.array([x[chosen].mean() for chosen in _resamples(len(x), n_bootstrap, seed).indices()])
    if np.isnan(x).any():
        draws = np.full(n_bootstrap, np.nan)
    return Interval(float(x.mean()), *percentile_interval(draws, level))


def bootstrap_groups(
    values: npt.ArrayLike,
    groups: Sequence[object],
    *,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of one number per example, with an interval from resampling whole groups.

    Examples of one group (cells of a donor, conditions of a drug) are not independent: resampling them one by one
    would give intervals that are too narrow.

    Parameters
    ----------
    values
        One number per example, ``[examples]``.
    groups
        The group of each example.
    n_bootstrap, level, seed
        As for `bootstrap_mean`.

    Returns
    -------
    Interval
        All NaN if a value is NaN; without width for a single group.

    Raises
    ------
    MetricError
        There is no value, the lengths differ, or `n_bootstrap` or `level` is out of range.
    """
    percentile_interval([], level)
    x = np.asarray(values, dtype=np.float64)
    place: dict[object, int] = {}
    codes = np.array([place.setdefault(group, len(place)) for group in groups], dtype=np.int64)
    if x.ndim != 1 or not len(x) or len(codes) != len(x):
        raise MetricError(
            f"values of shape {x.shape} and {len(codes)} groups.", fix="pass one number and one group per example."
        )
    if np.isnan(x).any():
        return Interval(float("nan"), float("nan"), float("nan"))
    sums, sizes = np.bincount(codes, x), np.bincount(codes)
    resamples = _resamples(len(sums), n_bootstrap, seed)
    draws = np.array([sums[chosen].sum() / sizes[chosen].sum() for chosen in resamples.indices()])
    return Interval(float(x.mean()), *percentile_interval(draws, level))


def evaluate_predictions(
    metrics: Sequence[Metric],
    predictions: Sequence[str | None],
    references: Sequence[str],
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute metrics with percentile bootstrap intervals over examples.

    Parameters
    ----------
    metrics
        What to compute. All see the same resamples.
    predictions
        Parsed answers; None where nothing could be parsed, which counts as wrong.
    references
        True answers.
    columns
        More columns of the examples, handed to the metrics by name.
    n_bootstrap, level, seed
        Number of resamples, share of them inside the interval, and their seed.

    Returns
    -------
    pandas.DataFrame
        One row per value: ``metric``, ``value``, ``low``, ``high``, ``n`` (examples). The interval is NaN for a
        metric that says its bootstrap makes no sense, and has no width for a single example or where all resamples
        agree.

    Raises
    ------
    MetricError
        There is no example, lengths differ, a reference is missing, or an argument is out of range.
    """
    predicted, truth = checked_answers(predictions, references)
    extra = _checked_columns(columns, len(truth))
    percentile_interval([], level)  # refuse a wrong level before the work
    resamples = _resamples(len(truth), n_bootstrap, seed)
    rows = []
    for metric in metrics:
        values = metric.function(predicted, truth, **extra)
        draws = _draws(metric, predicted, truth, extra, resamples) if metric.bootstrap else {}
        for key, value in values.items():
            low, high = percentile_interval(draws.get(key, []), level)
            if np.isnan(value):
                low = high = float("nan")
            rows.append((key, float(value), low, high, len(truth)))
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "n"])


def paired_difference(
    metric: Metric,
    first: Sequence[str | None],
    second: Sequence[str | None],
    references: Sequence[str],
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compare two sets of predictions for the same examples.

    Parameters
    ----------
    metric
        What to compare by; its headline value (the key that is its name).
    first, second
        Predictions of the two methods.
    references
        True answers.
    columns
        More columns of the examples, handed to the metric by name.
    n_bootstrap, level, seed
        Number of resamples (the same for both methods), share inside the interval, and their seed.

    Returns
    -------
    Interval
        The first method's value minus the second's. An interval that does not hold 0 says that they differ.

    Raises
    ------
    MetricError
        As `evaluate_predictions`.
    """
    one, truth = checked_answers(first, references)
    other, _ = checked_answers(second, references)
    extra = _checked_columns(columns, len(truth))
    resamples = _resamples(len(truth), n_bootstrap, seed)
    name = metric.name
    value = metric.function(one, truth, **extra)[name] - metric.function(other, truth, **extra)[name]
    draws = (
        _draws(metric, one, truth, extra, resamples)[name] - _draws(metric, other, truth, extra, resamples)[name]
    )
    return Interval(float(value), *percentile_interval(draws, level))


def _resamples(n: int, n_bootstrap: int, seed: int) -> Resamples:
    if n_bootstrap < 1:
        raise MetricError(f"n_bootstrap is {n_bootstrap}.", fix="pass at least 1; 1000 is usual.")
    return Resamples(n, n_bootstrap, seed)


def _checked_columns(columns: Mapping[str, Sequence[Any]] | None, n: int) -> dict[str, list[Any]]:
    listed = {key: list(values) for key, values in (columns or {}).items()}
    for key, values in listed.items():
        if len(values) != n:
            raise MetricError(
                f"column {key!r} has {len(values)} values for {n} examples.", fix="give one value per example."
            )
    return listed


def _draws(
    metric: Metric,
    predictions: Sequence[str | None],
    references: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    resamples: Resamples,
) -> dict[str, Floats]:
    """Return the metric's values on every resample, ``[resamples]`` per key."""
    if isinstance(metric.function, Resamplable):
        return metric.function.resampled(predictions, references, resamples, **columns)
    results = [
        metric.function(
            [predictions[i] for i in chosen],
            [references[i] for i in chosen],
            **{key: [values[i] for i in chosen] for key, values in columns.items()},
        )
        for chosen in resamples.indices()
    ]
    return {key: np.array([r.get(key, np.nan) for r in results], dtype=np.float64) for key in results[0]}
