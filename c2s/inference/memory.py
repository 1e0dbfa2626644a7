"""What fits into memory, and a message that says what to lower when something did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from c2s.errors import ModelError

#: Share of a GPU's free memory that the keys and values of running requests may take.
_SHARE = 0.5
#: Bytes for them where the free memory is not known.
_CPU_BYTES = 2**30
#: Tokens beyond which more requests at once make nothing faster.
_MOST_TOKENS = {"cpu": 2**15, "other": 2**19}


def cache_bytes_per_token(network: Any) -> int:
    """Return the bytes that the keys and values of one token take in all layers."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * network.dtype.itemsize)


def fitting_tokens(network: Any) -> int:
    """Return how many tokens' keys and values fit into the part of the device's memory that is theirs."""
    device = network.device
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0] * _SHARE)
    else:
        free = _CPU_BYTES
    return max(1, free // cache_bytes_per_token(network))


def fitting_rows(network: Any, stem: int, lengths: Sequence[int]) -> int:
    """Return how many texts may run behind a common beginning, which each of them gets a copy of."""
    return max(1, fitting_tokens(network) // (stem + max(lengths)))


def cached_tokens(network: Any) -> int:
    """Return how many tokens of running requests to keep at once on the network's device."""
    most = _MOST_TOKENS["cpu" if network.device.type == "cpu" else "other"]
    return min(most, fitting_tokens(network))


@contextmanager
def explained_memory(name: str, tokens_per_batch: int) -> Iterator[None]:
    """Turn running out of memory into an error that says what to lower.

    Raises
    ------
    ModelError
        The block ran out of the memory of its device.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text
        ):
            raise
        said = f": {text.splitlines()[0]}" if text else "."
        raise ModelError(
            f"{name} ran out of memory with {tokens_per_batch} tokens per batch{said}",
            fix=f"lower tokens_per_batch (e.g. {max(1, tokens_per_batch // 4)}), use fewer genes per cell "
            '(top_k), or load the model in dtype="bfloat16".',
        ) from error
