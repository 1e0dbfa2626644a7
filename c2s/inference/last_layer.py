"""The last layer of a network, run only at the positions that are read.

Nothing after its attention mixes positions, so of the other positions only their keys and values matter. A large
model hardly notices; in a network of two layers this saves a third of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from c2s.inference.batching import decoder

_NAME = "c2s_last_positions"


@contextmanager
def last_layer_at(reads: int, *, of: int, network: Any) -> Iterator[dict[str, Any]]:
    """Run the last layer for the last `reads` of `of` positions; what it says of the others is not to be read.

    Parameters
    ----------
    reads, of
        Positions that are read, at the end, and all positions of the pass.
    network
        A causal language model. Parts that are not where most families have them are run whole.

    Yields
    ------
    dict
        More keyword arguments for the network's forward pass.
    """
    layers = getattr(decoder(network), "layers", None)
    feed_forward = getattr(layers[-1], "mlp", None) if layers is not None else None
    config = network.config
    own = config._attn_implementation
    hooks = []

    def cut(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][:, -reads:], *inputs[1:])

    def fill(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return pad(output, (0, 0, of - reads, 0))

    try:
        if feed_forward is not None and reads < of:
            hooks += [feed_forward.register_forward_pre_hook(cut), feed_forward.register_forward_hook(fill)]
        if own == "sdpa":
            config._attn_implementation = _NAME
        yield {"reads": reads} if own == "sdpa" else {}
    finally:
        config._attn_implementation = own
        for hook in hooks:
            hook.remove()


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    reads: int,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as usual; in the last layer, from the last `reads` positions only, with 0 for the others.

    Parameters
    ----------
    query, key, value
        ``[batch, heads, positions, head size]``; key and value also of what was read before.
    attention_mask
        Additive, ``[batch or 1, 1, queries, keys]``.

    Returns
    -------
    tuple
        ``[batch, queries, heads, head size]``, and None for the weights.
    """
    skipped = 0
    if module.layer_idx == module.config.num_hidden_layers - 1:
        skipped = query.shape[2] - reads
        query, attention_mask = query[:, :, skipped:], attention_mask[:, :, skipped:]
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return pad(output, (0, 0, 0, 0, skipped, 0)), None


AttentionInterface.register(_NAME, _attention)
