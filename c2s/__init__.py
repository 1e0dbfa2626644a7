"""Cell sentences, read and written by language models.

Everything public is reachable from here and imported when first used, so that ``import c2s`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from c2s.caches import ensure_numba_cache

__version__ = "0.1.0"

ensure_numba_cache()  # before anything imports numba

_PUBLIC = {
    # sentences
    "CellSentences": "c2s.sentences",
    "RankExpressionModel": "c2s.sentences",
    "to_cell_sentences": "c2s.sentences",
    "parse_sentences": "c2s.sentences",
    # data
    "read_cells": "c2s.data",
    "load_dataset": "c2s.data",
    # tasks and plugins
    "Baseline": "c2s.tasks",
    "Chapter": "c2s.tasks",
    "Dataset": "c2s.tasks",
    "Embedder": "c2s.tasks",
    "Metric": "c2s.tasks",
    "Reward": "c2s.tasks",
    "Task": "c2s.tasks",
    "example_table": "c2s.tasks",
    "PromptTemplate": "c2s.prompts",
    "GeneDropout": "c2s.prompts",
    "choose_template": "c2s.prompts",
    "Split": "c2s.splits",
    "split_cells": "c2s.splits",
    "hookimpl": "c2s.hookspecs",
    "PluginHost": "c2s.plugins",
    "default_host": "c2s.plugins",
    # models, training, inference
    "load_model": "c2s.models",
    "LanguageModel": "c2s.models",
    "SFTConfig": "c2s.training",
    "train_sft": "c2s.training",
    "GRPOConfig": "c2s.training",
    "train_grpo": "c2s.training",
    "generate": "c2s.inference",
    "score": "c2s.inference",
    "embed": "c2s.inference",
    "Calibration": "c2s.inference",
    # results
    "evaluate_predictions": "c2s.metrics",
    "C2SError": "c2s.errors",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    # Spelled "as" so that type checkers see them as exported.
    from c2s.data import (
        load_dataset as load_dataset,
        read_cells as read_cells,
    )
    from c2s.errors import C2SError as C2SError
    from c2s.hookspecs import hookimpl as hookimpl
    from c2s.inference import (
        Calibration as Calibration,
        embed as embed,
        generate as generate,
        score as score,
    )
    from c2s.metrics import evaluate_predictions as evaluate_predictions
    from c2s.models import (
        LanguageModel as LanguageModel,
        load_model as load_model,
    )
    from c2s.plugins import (
        PluginHost as PluginHost,
        default_host as default_host,
    )
    from c2s.prompts import (
        GeneDropout as GeneDropout,
        PromptTemplate as PromptTemplate,
        choose_template as choose_template,
    )
    from c2s.sentences import (
        CellSentences as CellSentences,
        RankExpressionModel as RankExpressionModel,
        parse_sentences as parse_sentences,
        to_cell_sentences as to_cell_sentences,
    )
    from c2s.splits import (
        Split as Split,
        split_cells as split_cells,
    )
    from c2s.tasks import (
        Baseline as Baseline,
        Chapter as Chapter,
        Dataset as Dataset,
        Embedder as Embedder,
        Metric as Metric,
        Reward as Reward,
        Task as Task,
        example_table as example_table,
    )
    from c2s.training import (
        GRPOConfig as GRPOConfig,
        SFTConfig as SFTConfig,
        train_grpo as train_grpo,
        train_sft as train_sft,
    )
