"""How a measure changes with the number of parameters: a power law, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import MetricError
from c2s.metrics.resampling import Resamples

if TYPE_CHECKING:
    from c2s.scaling.run import ScalingResults

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """``value = scale * x ** exponent``, fitted as a line through logarithms.

    Attributes
    ----------
    scale, exponent
        Least squares on ``log(value)`` against ``log(x)``. A negative exponent falls with size.
    low, high
        Percentile interval of the exponent, from resampling the held-out samples (the same draw for every size).
    r2
        Share of the variance of ``log(value)`` that the line explains.
    n
        Held-out samples.
    monotone
        Whether the means fall (for a negative exponent) or rise from each size to the next.
    """

    scale: float
    exponent: float
    low: float
    high: float
    r2: float
    n: int
    monotone: bool

    def __call__(self, x: npt.ArrayLike) -> Floats:
        """Return the fitted values."""
        result: Floats = self.scale * np.asarray(x, dtype=np.float64) ** self.exponent
        return result


def fit_power_law(
    x: Sequence[float],
    values: npt.ArrayLike,
    *,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PowerLaw:
    """Fit a power law to the means of samples.

    Parameters
    ----------
    x
        Numbers of parameters (or of samples seen), at least three different ones.
    values
        Value of each sample at each `x`, ``[len(x), samples]``; means must be positive. Losses as they are; of a
        score whose best value is 1, pass ``1 - score``.
    n_bootstrap, level, seed
        Of the interval of the exponent.

    Raises
    ------
    MetricError
        There are fewer than three sizes, a mean is not positive, or a value is not a number.
    """
    sizes, table = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(sizes) or len(set(sizes.tolist())) < 3 or not table.shape[1]:
        raise MetricError(
            f"a power law needs a row of samples for each of three sizes or more, got {table.shape} for "
            f"{len(set(sizes.tolist()))} sizes.",
            fix="run a grid with more sizes.",
        )
    means = table.mean(axis=1)
    if not np.isfinite(table).all() or (means <= 0).any() or (sizes <= 0).any():
        raise MetricError(
            f"a power law needs positive numbers; the means are {', '.join(f'{m:.3g}' for m in means)}.",
            fix="fit losses, or 1 - score where the best score is 1 and none is perfect.",
        )
    order = np.argsort(sizes)
    sizes, table, means = sizes[order], table[order], means[order]
    slope, intercept, r2 = _line(np.log(sizes), np.log(means[:, None]))
    drawn = np.stack([table[:, chosen].mean(axis=1) for chosen in
                      Resamples(table.shape[1], n_bootstrap, seed).indices()], axis=1)  # fmt: skip
    drawn = drawn[:, (drawn > 0).all(axis=0)]
    slopes = _line(np.log(sizes), np.log(drawn))[0] if drawn.size else np.array([np.nan])
    low, high = np.quantile(slopes, [(1 - level) / 2, (1 + level) / 2])
    steps = np.diff(means)
    return PowerLaw(
        scale=float(np.exp(intercept[0])),
        exponent=float(slope[0]),
        low=float(low),
        high=float(high),
        r2=float(r2[0]),
        n=int(table.shape[1]),
        monotone=bool((steps < 0).all() if slope[0] < 0 else (steps > 0).all()),
    )


def _line(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Fit a line to each column of `y`; return slopes, intercepts and R squared."""
    centred = x - x.mean()
    slope = centred @ y / (centred @ centred)
    intercept = y.mean(axis=0) - slope * x.mean()
    left = y - (slope * x[:, None] + intercept)
    spread = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return slope, intercept, 1 - (left**2).sum(axis=0) / np.where(spread > 0, spread, 1)


def fit_results(results: ScalingResults, *, n_bootstrap: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Fit a power law in the number of parameters for each way, task and metric, at the most samples seen.

    Scores from 0 to 1 are fitted as ``1 - score``. Seeds are averaged sample by sample.

    Returns
    -------
    pandas.DataFrame
        ``way``, ``task``, ``metric``, ``sizes``, ``first``, ``last`` (means at the smallest and largest size),
        ``exponent``, ``low``, ``high``, ``r2``, ``monotone``, ``n``; NaN where nothing can be fitted.
    """
    table = results.table[results.table["samples"] == results.table["samples"].max()]
    rows = []
    for (way, task, metric), part in table.groupby(["way", "task", "metric"], sort=False):
        grid = part.pivot_table(index="parameters", columns="example_id", values="value", aggfunc="mean")
        values = grid.to_numpy() if metric == "loss" else 1 - grid.to_numpy()
        row = {
            "way": way, "task": task, "metric": metric, "sizes": len(grid),
            "first": float(grid.iloc[0].mean()), "last": float(grid.iloc[-1].mean()),
        }  # fmt: skip
        try:
            law = fit_power_law(grid.index.to_numpy(dtype=float), values, n_bootstrap=n_bootstrap, seed=seed)
        except MetricError:
            found = dict.fromkeys(("exponent", "low", "high", "r2"), np.nan) | {"monotone": None}
        else:
            found = {k: getattr(law, k) for k in ("exponent", "low", "high", "r2", "monotone")}
        rows.append(row | found | {"n": grid.shape[1]})
    return pd.DataFrame(rows)
