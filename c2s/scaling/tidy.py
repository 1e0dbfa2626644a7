"""The results of a grid as the project's table of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from c2s.metrics import bootstrap_mean
from c2s.results import ResultsTable
from c2s.scaling.run import ScalingResults


def tidy_results(
    results: ScalingResults,
    fits: pd.DataFrame,
    *,
    inputs: Sequence[Mapping[str, object]] = (),
    data: Sequence[str] = (),
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> ResultsTable:
    """Return the mean of each run, task and metric, and the exponents that were fitted.

    Parameters
    ----------
    results
        Of `c2s.scaling.run_grid`.
    fits
        Of `c2s.scaling.fit_results`.
    inputs, data
        What was read, as for `c2s.results.ResultsTable`, and the names in it of what the corpus was made from.
    n_bootstrap, seed
        Of the intervals over held-out samples.
    """
    table = ResultsTable(results.grid.name, source="c2s scaling", inputs=inputs)
    keys = ["size", "way", "samples", "seed", "task", "metric"]
    for key, values in results.table.groupby(keys, sort=False)["value"]:
        size, way, samples, run_seed, task, metric = map(str, key)
        found = bootstrap_mean(values.to_numpy(), n_bootstrap=n_bootstrap, seed=seed)
        table.add(
            metric,
            found.value,
            predictor=f"{size}, {way}, {samples} samples, seed {run_seed}",
            task=task,
            low=found.low,
            high=found.high,
            n=len(values),
            unit="held-out samples",
            data=data,
        )
    for fit in fits.to_dict("records"):
        fitted = fit["metric"] if fit["metric"] == "loss" else f"1 - {fit['metric']}"
        table.add(
            f"exponent of {fitted} in parameters",
            fit["exponent"],
            predictor=fit["way"],
            task=fit["task"],
            low=fit["low"],
            high=fit["high"],
            n=fit["n"],
            unit=f"held-out samples, {fit['sizes']} sizes",
            data=data,
        )
    return table
