"""The figure of a scaling study, after panels C to E of figure 4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from c2s.metrics.statistics import percentile_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from c2s.scaling.run import ScalingResults

#: What is drawn of a task: the first of these that was measured.
_HEADLINES = ("overlap", "bert_score", "exact_match", "loss")
_TITLES = {"overlap": "overlap", "bert_score": "BERTScore F1", "exact_match": "exact match", "loss": "loss, nats"}


def scaling_figure(
    results: ScalingResults, *, metrics: dict[str, str] | None = None, n_bootstrap: int = 500, seed: int = 0
) -> Figure:
    """Draw scores against the number of parameters, for each way of training, and against samples seen.

    Parameters
    ----------
    results
        Of `c2s.scaling.run_grid`.
    metrics
        Metric of each task; by default overlap where genes are written, BERTScore where text is.
    n_bootstrap, seed
        Of the 95% intervals over held-out samples.

    Returns
    -------
    matplotlib.figure.Figure
        One row per task; a panel per way with more than one size, and one for samples seen by the largest model
        where there is more than one number of them.
    """
    import matplotlib.pyplot as plt

    table = results.table
    tasks = list(dict.fromkeys(table["task"]))
    ways = list(dict.fromkeys(table["way"]))
    by_samples = table["samples"].nunique() > 1
    columns = len(ways) + by_samples
    figure, axes = plt.subplots(
        len(tasks), columns, figsize=(3.4 * columns, 2.7 * len(tasks)), squeeze=False, layout="constrained"
    )
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for row, task in zip(axes, tasks, strict=True):
        of_task = table[table["task"] == task]
        metric = (metrics or {}).get(task) or next(m for m in _HEADLINES if (of_task["metric"] == m).any())
        values = of_task[of_task["metric"] == metric]
        most = values[values["samples"] == values["samples"].max()]
        for panel, (way, colour) in enumerate(zip(ways, colours, strict=False)):
            said = {"full": "all weights", "lora": f"LoRA, rank {results.grid.lora_rank}"}[way]
            _curve(row[panel], most[most["way"] == way], "parameters", colour, n_bootstrap, seed)
            row[panel].set(xscale="log", xlabel="parameters", ylabel=_TITLES.get(metric, metric))
            row[panel].set_title(f"{task}\n{said}", fontsize=9)
        if by_samples:
            largest = values[values["parameters"] == values["parameters"].max()]
            for way, colour in zip(ways, colours, strict=False):
                _curve(row[-1], largest[largest["way"] == way], "samples", colour, n_bootstrap, seed, label=way)
            row[-1].set(xscale="log", xlabel="samples seen", ylabel=_TITLES.get(metric, metric))
            seen = sorted(set(largest["samples"]))
            row[-1].set_xticks(seen, [f"{n:,}" for n in seen])
            row[-1].minorticks_off()
            row[-1].set_title(f"{task}\n{int(largest['parameters'].max()):,} parameters", fontsize=9)
            if len(ways) > 1:
                row[-1].legend(fontsize=8)
    drawn: Figure = figure
    return drawn


def _curve(
    axis: Any, values: pd.DataFrame, by: str, colour: str, n_bootstrap: int, seed: int, label: str | None = None
) -> None:
    """Draw means with intervals over held-out samples; seeds are averaged sample by sample."""
    grid = values.pivot_table(index=by, columns="example_id", values="value", aggfunc="mean")
    if not len(grid):
        return
    rng = np.random.default_rng(seed)
    drawn = grid.to_numpy()[:, rng.integers(grid.shape[1], size=(n_bootstrap, grid.shape[1]))].mean(axis=2)
    means = grid.to_numpy().mean(axis=1)
    intervals = np.array([percentile_interval(row) for row in drawn])
    reach = np.clip([means - intervals[:, 0], intervals[:, 1] - means], 0, None)
    axis.errorbar(grid.index, means, yerr=reach, marker="o", color=colour, capsize=3, label=label)
