"""Scaling evaluation (sections 2.3 and 4.4): sizes x tasks x ways of training x samples seen, on held-out ones."""

from __future__ import annotations

from c2s.scaling.figure import scaling_figure
from c2s.scaling.fit import PowerLaw, fit_power_law, fit_results
from c2s.scaling.grid import ScalingGrid, Unit, load_grid, make_grid
from c2s.scaling.plan import plan_grid
from c2s.scaling.run import ScalingResults, read_results, run_grid
from c2s.scaling.tidy import tidy_results

__all__ = [
    "PowerLaw",
    "ScalingGrid",
    "ScalingResults",
    "Unit",
    "fit_power_law",
    "fit_results",
    "load_grid",
    "make_grid",
    "plan_grid",
    "read_results",
    "run_grid",
    "scaling_figure",
    "tidy_results",
]
