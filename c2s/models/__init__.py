"""Language models: presets, loading, adapters, the tiny model, its tokenizer, and the context budget.

`c2s.models.plan` says what a run costs; it is imported on its own.
"""

from __future__ import annotations

from c2s.models.context import ContextBudget, check_context, fit_sentence
from c2s.models.loading import LanguageModel, load_model
from c2s.models.lora import LoraOptions, add_lora, merge_lora
from c2s.models.presets import PRESETS, ModelPreset, find_preset
from c2s.models.tiny import TinyConfig
from c2s.models.tokenizer import learn_tokenizer

__all__ = [
    "PRESETS",
    "ContextBudget",
    "LanguageModel",
    "LoraOptions",
    "ModelPreset",
    "TinyConfig",
    "add_lora",
    "check_context",
    "find_preset",
    "fit_sentence",
    "learn_tokenizer",
    "load_model",
    "merge_lora",
]
