"""What a grid would take, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from c2s.models.presets import PRESETS

if TYPE_CHECKING:
    from c2s.scaling.grid import ScalingGrid


def plan_grid(grid: ScalingGrid, *, tokens_per_sample: int | None = None) -> pd.DataFrame:
    """List the runs of a grid with their size and arithmetic; no weight is read and no corpus built.

    Parameters
    ----------
    grid
        See `ScalingGrid`.
    tokens_per_sample
        Tokens of a prompt and its answer; by default the grid's context, which is the most it can be.

    Returns
    -------
    pandas.DataFrame
        One row per run, pretraining included (``way`` is ``pretrain``): ``size``, ``parameters`` (those asked for,
        of models built from nothing), ``way``, ``samples``, ``seed``, ``steps``, ``tokens``, ``flops``: six
        operations per parameter and token, four with adapters, whose forward pass and backward pass to the
        activations go through all weights, while gradients of weights are left out.
    """
    from c2s.models.shapes import count_parameters, empty_network, preset_config

    counted: dict[int | str, int] = {}
    for size in grid.sizes:
        counted[size] = (
            size if isinstance(size, int) else count_parameters(empty_network(preset_config(PRESETS[size])))
        )
    length = tokens_per_sample or grid.context_length
    rows = []

    def add(size: int | str, way: str, samples: int, seed: int) -> None:
        steps = samples // grid.batch_size
        tokens = steps * grid.batch_size * length
        operations = (4.0 if way == "lora" else 6.0) * counted[size] * tokens
        rows.append((str(size), counted[size], way, samples, seed, steps, tokens, operations))

    for seed in grid.seeds:
        for size in grid.sizes:
            if grid.pretrain.samples:
                add(size, "pretrain", grid.pretrain.samples, seed)
    for unit in grid.units():
        add(unit.size, unit.way, unit.samples, unit.seed)
    columns = ["size", "parameters", "way", "samples", "seed", "steps", "tokens", "flops"]
    return pd.DataFrame(rows, columns=columns)
