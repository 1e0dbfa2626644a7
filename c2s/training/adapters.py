"""Adapters of a run: put on before it, merged or written alone after it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from c2s.errors import C2SWarning, ConfigError, TrainingError
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


def training_dtype(config: SFTConfig | GRPOConfig) -> str:
    """Return the dtype a run loads its model in: weights that are trained need float32, frozen ones do not."""
    return "float32" if config.lora_rank is None else "auto"


def check_trainable(model: LanguageModel) -> None:
    """Make sure that there are weights to train, in a precision that takes small steps.

    Raises
    ------
    TrainingError
        Nothing can be trained, or weights in float16 are to be.

    Warns
    -----
    C2SWarning
        Weights in bfloat16 are trained: it keeps 8 bits, so that most steps at a small learning rate round away.
    """
    import torch

    kinds = {weight.dtype for weight in model.model.parameters() if weight.requires_grad}
    fix = 'load the model with dtype="float32"; bf16=True then computes in bfloat16 and keeps float32 weights.'
    if not kinds:
        raise TrainingError(
            f"{model.name} has no weight that can be trained: its adapter was loaded to be used.",
            fix="load it with merge=True, or train a new adapter (lora_rank) on its base.",
        )
    if torch.float16 in kinds:
        raise TrainingError(f"the weights of {model.name} are float16, whose range training leaves.", fix=fix)
    if torch.bfloat16 in kinds:
        warnings.warn(
            f"the weights of {model.name} are bfloat16: small steps round away. Better {fix}",
            C2SWarning,
            stacklevel=3,
        )


def check_base_is_kept(model: LanguageModel, config: SFTConfig) -> None:
    """Refuse to write an adapter alone whose base is nowhere.

    Raises
    ------
    ConfigError
        The base model is only in memory.
    """
    if config.lora_rank is not None and not config.lora_merge and model.path is None:
        raise ConfigError(
            "LoRA",
            [f"lora_merge is false, and the adapter's base {model.name!r} is only in memory"],
            fix="save the base first (model.save(folder)) and train from that folder, or leave lora_merge true.",
        )


def finish_adapters(model: LanguageModel, config: SFTConfig) -> None:
    """Merge the adapters into the weights, unless they are to be written alone."""
    if config.lora_rank is not None and config.lora_merge:
        model.model = merge_lora(model).model
