"""Networks without weights: built on torch's meta device from a configuration, to be counted and planned with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from c2s.models.presets import ModelPreset


def preset_config(preset: ModelPreset, **changes: Any) -> PretrainedConfig:
    """Return the transformers configuration of a preset, from its numbers alone; nothing is read or downloaded.

    Parameters
    ----------
    preset
        See `c2s.models.PRESETS`.
    changes
        Fields that shall be different, e.g. ``num_hidden_layers=1``.
    """
    from transformers import AutoConfig

    return AutoConfig.for_model(**preset.config | changes)


def empty_network(config: PretrainedConfig, *, dtype: Any = None, attention: str | None = None) -> PreTrainedModel:
    """Build a causal language model whose tensors have shapes and no memory.

    Parameters
    ----------
    config
        Of any architecture that transformers knows.
    dtype
        torch type of the parameters; float32 by default.
    attention
        Attention implementation; by default what transformers takes for the architecture.
    """
    import torch
    from transformers import AutoModelForCausalLM

    chosen = {} if attention is None else {"attn_implementation": attention}
    # Nothing is drawn on the meta device, but initialisation may ask for the generator.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype or torch.float32, **chosen)
    return network


def count_parameters(network: Any, *, trainable: bool = False) -> int:
    """Return the number of parameters, tied ones counted once; only those that are trained if `trainable`."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable)
