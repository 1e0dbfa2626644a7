"""Keys and values of what a network has read: a beginning that many texts share, and rows of running answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin


def read_stem(network: Any, stem: Sequence[int]) -> Any:
    """Return the cache of one text, batch size 1; empty for an empty text."""
    # Without a config the cache keeps every key, those a sliding window drops too: masks leave them out.
    cache = DynamicCache()
    if stem:
        ids = torch.tensor([list(stem)], device=network.device)
        network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def repeated(cache: Any, rows: int) -> Any:
    """Return a new cache that holds that of one text for each of `rows` prompts."""
    result = copy.deepcopy(cache)
    for layer in result.layers:
        # Views: the first update of the cache makes the copies.
        layer.keys, layer.values = (part.expand(rows, -1, -1, -1) for part in (layer.keys, layer.values))
    return result


class _SlotLayer(CacheLayerMixin):
    """One layer of a `SlotCache`."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Reserve the rows, once the shapes are known.

        Zeros, since a column that is masked counts as 0 times what is there: left-over memory may hold NaN.
        """
        slots, capacity = self.owner.slots, self.owner.capacity
        self.keys, self.values = (
            part.new_zeros((slots, part.shape[1], capacity, part.shape[3])) for part in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one new token per running row behind its last one; return what all running rows hold."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, at, longest = self.owner.rows, self.owner.at, self.owner.longest
        self.keys[rows, :, at] = key_states[:, :, 0]
        self.values[rows, :, at] = value_states[:, :, 0]
        running = len(rows)
        return self.keys[:running, :, :longest], self.values[:running, :, :longest]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and offset of the keys."""
        return self.owner.longest, 0

    def get_seq_length(self) -> int:
        """Return the number of tokens of the longest running row."""
        return self.owner.longest

    def get_max_length(self) -> int:
        """Return how many tokens a row can hold."""
        return self.owner.capacity


class SlotCache(Cache):
    """Preallocated rows, each with an answer of its own length; the running ones are the first.

    A row is written from its first column on, so no row waits for or is padded to another.

    Parameters
    ----------
    layers
        Layers of the network.
    slots
        Rows.
    capacity
        Tokens that a row can hold.

    Attributes
    ----------
    rows
        Indices of the running rows, int64 ``[running]``: 0, 1, 2, ...
    at
        Column where each running row's next token goes, int64 ``[running]``.
    longest
        Columns that are looked at.
    """

    def __init__(self, layers: int, slots: int, capacity: int) -> None:
        self.slots, self.capacity = slots, capacity
        self.rows = self.at = torch.empty(0, dtype=torch.int64)
        self.longest = 0
        self.parts = [_SlotLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self.parts))

    def point(self, lengths: torch.Tensor, longest: int) -> None:
        """Say how long the running rows are, int64 ``[running]``, before the network reads one token of each."""
        self.rows = torch.arange(len(lengths), device=lengths.device)
        self.at, self.longest = lengths, longest + 1

    def fill(self, first: int, cache: Any, source: torch.Tensor) -> None:
        """Copy what `cache` holds for its rows `source` (int64 ``[new]``) to the rows from `first` on."""
        stop = first + len(source)
        for layer, read in zip(self.parts, cache.layers, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(read.keys, read.values)
            length = min(read.keys.shape[2], self.capacity)
            for mine, theirs in ((layer.keys, read.keys), (layer.values, read.values)):
                # One prompt for many rows is read once; otherwise each row looks its own up.
                rows = theirs[:1] if len(theirs) == 1 else theirs[source]
                mine[first:stop, :, :length] = rows[:, :, :length]

    def move(self, holes: torch.Tensor, movers: torch.Tensor, longest: int) -> None:
        """Copy the rows `movers` over the rows `holes` (int64), their first `longest` columns."""
        for layer in self.parts:
            for part in (layer.keys, layer.values):
                part[holes, :, :longest] = part[movers, :, :longest]
