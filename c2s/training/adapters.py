"""Adapters of a run: put on before it, merged or written alone after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c2s.models.loading import LanguageModel
from c2s.models.lora import LoraOptions, add_lora, merge_lora

if TYPE_CHECKING:
    from c2s.training.config import SFTConfig
    from c2s.training.grpo_config import GRPOConfig


def adapter_options(config: SFTConfig | GRPOConfig, *, dropout: float = 0.0) -> LoraOptions | None:
    """Return how the adapters of a run are made; None where all weights are trained."""
    if config.lora_rank is None:
        return None
    return LoraOptions(
        rank=config.lora_rank,
        alpha=config.lora_alpha or 2.0 * config.lora_rank,
        dropout=dropout,
        targets=config.lora_targets or "auto",
    )


def add_adapters(model: LanguageModel, config: SFTConfig) -> None:
    """Wrap the network in LoRA adapters where the configuration asks for them.

    Raises
    ------
    ModelError
        A target is not in the model.
    """
    options = adapter_options(config, dropout=config.lora_dropout)
    if options is not None:
        model.model = add_lora(model, options, seed=config.seed).model


def finish_adapters(model: LanguageModel, config: SFTConfig) -> None:
    """Merge the adapters into the weights, unless they are to be written alone."""
    if config.lora_rank is not None and config.lora_merge:
        model.model = merge_lora(model).model
