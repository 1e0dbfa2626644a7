"""Cells written by a language model: single ones and samples, given conditions or none; and how real they are."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "CellTexts": "c2s_generation.realism",
    "Yardstick": "c2s_generation.realism",
    "Wanted": "c2s_generation.writing",
    "cells_of": "c2s_generation.answers",
    "embedding_reward": "c2s_generation.rewards",
    "generate_cells": "c2s_generation.writing",
    "independent_genes": "c2s_generation.baselines",
    "mean_ranking": "c2s_generation.baselines",
    "resampled_cells": "c2s_generation.baselines",
    "unseen_combinations": "c2s_generation.conditions",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s_generation' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


if TYPE_CHECKING:
    from c2s_generation.answers import cells_of as cells_of
    from c2s_generation.baselines import (
        independent_genes as independent_genes,
        mean_ranking as mean_ranking,
        resampled_cells as resampled_cells,
    )
    from c2s_generation.conditions import unseen_combinations as unseen_combinations
    from c2s_generation.realism import CellTexts as CellTexts, Yardstick as Yardstick
    from c2s_generation.rewards import embedding_reward as embedding_reward
    from c2s_generation.writing import Wanted as Wanted, generate_cells as generate_cells
