"""Attention masks where tokens do not simply see all those before them."""

from __future__ import annotations

from typing import Any

import torch

#: Model families whose attention takes masks of our own; the tests compare each with plain forward passes.
OWN_MASK_MODELS = frozenset({"gemma", "gemma2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"})


def takes_own_masks(network: Any) -> bool:
    """Whether a network runs with masks of our own, and so with shared beginnings and rows of any length."""
    config = network.config
    return config.model_type in OWN_MASK_MODELS and config._attn_implementation in {"eager", "sdpa"}


class AttentionMasks:
    """Makes the masks of a network's layers from who may see whom.

    Parameters
    ----------
    network
        A causal language model.

    Attributes
    ----------
    window
        Tokens that a layer with a sliding window sees; None where all layers see everything.
    """

    def __init__(self, network: Any) -> None:
        self.network = network
        config = network.config
        layer_types = set(getattr(config, "layer_types", None) or ())
        self.window: int | None = getattr(config, "sliding_window", None)
        if layer_types == {"full_attention"}:
            self.window = None
        self.mixes_layers = "full_attention" in layer_types

    def of(
        self, visible: torch.Tensor, key_positions: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Turn visibility ``[texts or 1, queries, keys]`` into the additive masks of the attention layers.

        Parameters
        ----------
        visible
            Whether a query may see a key, bool.
        key_positions, positions
            Place of each key and of each query in its text, ``[texts, keys]`` and ``[texts, queries]``. A sliding
            window counts these, not places in the packed sequence.
        """
        if self.window is None or int(positions.max()) < self.window:
            return self._additive(visible)
        near = visible & (key_positions[:, None, :] > positions[:, :, None] - self.window)
        if not self.mixes_layers:
            return self._additive(near)
        return {"full_attention": self._additive(visible), "sliding_attention": self._additive(near)}

    def _additive(self, seen: torch.Tensor) -> torch.Tensor:
        dtype = self.network.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        # Finite also where a float64 network takes its softmax in float32: rows of padding see nothing at all.
        return mask.masked_fill(~seen, max(torch.finfo(dtype).min, torch.finfo(torch.float32).min))[:, None]
