"""What a network costs: parameters, FLOPs, and bytes of weights, gradients, optimizer, activations and cache.

Counted from a network without weights (`c2s.models.shapes.empty_network`). A multiplication and an addition are
two FLOPs. Counts of parameters, of the optimizer and of the cache are exact; FLOPs leave out what is not a matrix
multiplication; activations are what autograd keeps when the network runs on the meta device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PretrainedConfig

from c2s.models.lora import LoraOptions, linear_layers, lora_targets
from c2s.models.shapes import empty_network

_FUSED = "c2s_planned_kernel"


@dataclass(frozen=True)
class Flops:
    """FLOPs of a batch.

    Attributes
    ----------
    forward
        Of one forward pass.
    backward
        Of the backward pass: twice the forward pass where all weights are trained, about once where an adapter is.
    again
        Forward passes repeated because activations were not kept.
    """

    forward: int
    backward: int
    again: int

    @property
    def total(self) -> int:
        """All of a training step."""
        return self.forward + self.backward + self.again


def _heads(config: PretrainedConfig) -> tuple[int, int, int]:
    """Return heads of queries, heads of keys and values, and dimensions of a head."""
    heads = int(config.num_attention_heads)
    pairs = int(getattr(config, "num_key_value_heads", None) or heads)
    return heads, pairs, int(getattr(config, "head_dim", None) or config.hidden_size // heads)


def _windows(config: PretrainedConfig) -> list[int | None]:
    """Return how far each layer looks back; None for everything."""
    types = getattr(config, "layer_types", None) or ["full_attention"] * int(config.num_hidden_layers)
    return [int(config.sliding_window) if kind == "sliding_attention" else None for kind in types]


def attention_flops(config: PretrainedConfig, batch: int, length: int, *, attention: str) -> int:
    """Return the FLOPs of scores and weighted sums in all layers, forward.

    Parameters
    ----------
    attention
        ``"eager"`` computes every pair of positions; a fused kernel (``"sdpa"``, ``"flash_attention_2"``) only the
        pairs that the mask lets through.
    """
    heads, _, size = _heads(config)
    pairs = 0
    for window in _windows(config):
        if attention == "eager":
            pairs += length * length
        else:
            reach = min(length, window or length)
            pairs += reach * (reach + 1) // 2 + (length - reach) * reach
    return 4 * batch * heads * size * pairs


def training_flops(
    network: Any,
    batch: int,
    length: int,
    *,
    attention: str = "eager",
    lora: LoraOptions | None = None,
    checkpointing: bool = False,
) -> Flops:
    """Return the FLOPs of one training step on `batch` sequences of `length` tokens.

    Parameters
    ----------
    network
        A causal language model without an adapter.
    lora
        Count an adapter, and the backward pass of frozen weights.
    """
    tokens = batch * length
    sizes = {name: 2 * layer.in_features * layer.out_features for name, layer in linear_layers(network).items()}
    blocks = tokens * sum(sizes.values()) + attention_flops(network.config, batch, length, attention=attention)
    output = network.get_output_embeddings()
    head = 2 * tokens * output.in_features * output.out_features
    adapter = 0
    if lora is not None:
        layers = linear_layers(network)
        widths = sum(layers[n].in_features + layers[n].out_features for n in lora_targets(network, lora.targets))
        adapter = 2 * tokens * lora.rank * widths
    forward = blocks + head + adapter
    if lora is None:
        backward = 2 * forward
    else:
        # Frozen weights need the gradient of their input alone; scores and weighted sums have no weights.
        pairs = attention_flops(network.config, batch, length, attention=attention)
        backward = (blocks - pairs) + 2 * pairs + head + 2 * adapter
    return Flops(forward, backward, blocks + adapter if checkpointing else 0)


def kv_cache_bytes(config: PretrainedConfig, batch: int, length: int, *, itemsize: int) -> int:
    """Return the bytes of keys and values of `batch` sequences of `length` tokens.

    A layer with a sliding window keeps one token less than the window, as transformers' cache does.
    """
    _, pairs, size = _heads(config)
    kept = sum(length if window is None else min(length, window - 1) for window in _windows(config))
    return 2 * batch * pairs * size * kept * itemsize


def optimizer_bytes(network: Any) -> int:
    """Return the bytes of AdamW's state: two moments in the parameter's type, and a float32 step per tensor."""
    trained = [p for p in network.parameters() if p.requires_grad]
    moments = sum(2 * int(p.numel()) * int(p.element_size()) for p in trained)
    return moments + 4 * len(trained)


def parameter_bytes(network: Any, *, trainable: bool = False) -> int:
    """Return the bytes of the parameters (of the trained ones: of their gradients as well)."""
    return sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad or not trainable)


def activation_bytes(
    config: PretrainedConfig,
    batch: int,
    length: int,
    *,
    dtype: torch.dtype,
    attention: str = "eager",
    lora: LoraOptions | None = None,
    checkpointing: bool = False,
) -> int:
    """Return the bytes that autograd keeps between the forward and the backward pass, the loss included.

    One and two layers are run on the meta device; the difference is a layer's, the rest is that of embedding,
    output layer and loss. With `checkpointing`, each layer keeps its input, and one layer at a time all it needs.
    """
    one, two = (_kept_bytes(config, n, batch, length, dtype, attention, lora) for n in (1, 2))
    layer, rest = two - one, 2 * one - two
    layers = int(config.num_hidden_layers)
    if not checkpointing:
        return rest + layers * layer
    return rest + layer + layers * batch * length * int(config.hidden_size) * dtype.itemsize


def _kept_bytes(
    config: PretrainedConfig,
    layers: int,
    batch: int,
    length: int,
    dtype: torch.dtype,
    attention: str,
    lora: LoraOptions | None,
) -> int:
    shape = config.to_dict() | {"num_hidden_layers": layers, "layer_types": None}
    for unwanted in ("architectures", "dtype", "transformers_version"):
        shape.pop(unwanted, None)
    if not hasattr(config, "layer_types"):
        shape.pop("layer_types")
    network: Any = empty_network(type(config)(**shape), dtype=dtype)
    network.config._attn_implementation = "eager" if attention == "eager" else _FUSED
    if lora is not None:
        network = planned_adapter(network, lora)
    network.train()
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    ids = torch.zeros((batch, length), dtype=torch.int64, device="meta")
    # A ready mask, since building one asks for values; what it holds does not matter here.
    mask = torch.zeros((1, 1, length, length), dtype=dtype, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values()) - (mask.nbytes if _of(mask) in kept else 0)


def _of(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def planned_adapter(network: Any, options: LoraOptions) -> Any:
    """Put an adapter on a network without weights, to count it."""
    from c2s.models.lora import wrap_lora

    return wrap_lora(network, options, seed=0)


class _Fused(torch.autograd.Function):
    """Stands for a fused attention kernel: keeps queries, keys, values, its output and one number per query."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output = torch.empty_like(query)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def _fused_attention(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    output: torch.Tensor = _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(_FUSED, _fused_attention)
