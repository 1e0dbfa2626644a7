"""A vector per text: the mean of the last hidden state (section 4.6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache

from c2s.inference.batching import (
    as_texts,
    batch_tokens,
    check_context,
    decoder,
    encode,
    evaluating,
    families,
    length_buckets,
)
from c2s.inference.caches import repeated
from c2s.inference.masks import takes_own_masks
from c2s.inference.memory import explained_memory, fitting_rows
from c2s.progress import progress

if TYPE_CHECKING:
    from c2s.models import LanguageModel


#: A common beginning is read apart where what follows is at most so many times as long.
_LEAST_STEM = 4


def embed(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> npt.NDArray[np.float32]:
    """Embed texts as the mean of the last hidden state over their real tokens.

    Padding is not averaged in, so an embedding does not depend on the other texts of its batch. The hidden state
    is the one the output layer sees (after the last normalisation), and tokens that the tokenizer adds at the
    beginning count as real. Equal texts are read once, and so is what many texts begin with.

    Parameters
    ----------
    model
        A causal language model and its tokenizer.
    texts
        Texts, usually prompts that hold a cell sentence.
    tokens_per_batch
        Most tokens of one forward pass after padding; by default what suits the device.
    show_progress
        Show a progress bar.

    Returns
    -------
    numpy.ndarray
        float32 ``[texts, hidden]``.

    Raises
    ------
    PromptError
        A text is not a string or is empty.
    ConfigError
        `tokens_per_batch` is not positive.
    ContextError
        A text does not fit the context.
    """
    listed = as_texts(texts, what="text")
    per_batch = batch_tokens(model, tokens_per_batch)
    tokens = encode(model, listed)
    check_context(model, [len(t) for t in tokens], 0, "")
    result = np.empty((len(listed), decoder(model.model).config.hidden_size), dtype=np.float32)
    places: dict[tuple[int, ...], list[int]] = {}
    for place, ids in enumerate(tokens):
        places.setdefault(tuple(ids), []).append(place)
    distinct = list(places)
    with (
        evaluating(model) as network,
        progress("embedding", len(listed), enabled=show_progress) as advance,
        explained_memory(model.name, per_batch),
    ):
        reader = _Reader(network)
        for stem, members in reader.families(distinct):
            begun = reader.read_stem(distinct[members[0]][:stem])
            rests = [distinct[i][stem:] for i in members]
            lengths = [len(rest) for rest in rests]
            most = fitting_rows(network, stem, lengths)
            for batch in length_buckets(lengths, per_batch, rows=most):
                means = reader.means(begun, [rests[i] for i in batch]).cpu().numpy()
                for row, i in enumerate(batch):
                    same = places[distinct[members[i]]]
                    result[same] = means[row]
                    advance(len(same))
    return result


class _Reader:
    """Reads texts with a network without its output layer."""

    def __init__(self, network: Any) -> None:
        self.network, self.body = network, decoder(network)

    def families(self, texts: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
        """Group texts by a common beginning, where it is at least a quarter as long as what follows it.

        A shorter one costs more than it saves: what follows then needs a mask of its own.
        """
        if not takes_own_masks(self.network):
            return [(0, list(range(len(texts))))]
        result, alone = [], []
        for stem, members in families(texts):
            longest = max(len(texts[i]) for i in members) - stem
            if _LEAST_STEM * stem >= longest:
                result.append((stem, members))
            else:
                alone += members
        return result + [(0, sorted(alone))] * bool(alone)

    def read_stem(self, stem: Sequence[int]) -> tuple[Any, torch.Tensor | None, int]:
        """Return the cache of a beginning, the sum of its hidden states and its length."""
        if not stem:
            return None, None, 0
        cache = DynamicCache()
        ids = torch.tensor([list(stem)], device=self.network.device)
        hidden = self.body(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return cache, hidden.float().sum(1), len(stem)

    def means(self, begun: tuple[Any, torch.Tensor | None, int], rests: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the mean hidden state of texts that begin alike, float32 ``[texts, hidden]``."""
        cache, total, start = begun
        device = self.network.device
        widest = max(map(len, rests))
        # Padding on the right: no real token sees it, so the plain causal mask will do.
        ids = torch.tensor([[*r, *[0] * (widest - len(r))] for r in rests], device=device)
        lengths = torch.tensor([len(r) for r in rests], device=device)
        output = self.body(
            input_ids=ids,
            position_ids=torch.arange(start, start + widest, device=device)[None],
            past_key_values=repeated(cache, len(rests)) if cache is not None else None,
            use_cache=cache is not None,
        )
        padding = torch.arange(widest, device=device) >= lengths[:, None]
        # Padding may hold anything, NaN included: leave it out before adding up.
        hidden = output.last_hidden_state.float().masked_fill(padding[..., None], 0).sum(1)
        if total is not None:
            hidden = hidden + total
        means: torch.Tensor = hidden / (lengths + start)[:, None]
        return means
