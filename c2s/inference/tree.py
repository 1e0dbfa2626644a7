"""Running a network so that nothing is computed twice: common beginnings, prompts, and labels as a tree.

What all prompts of a template begin with runs once. Behind its keys and values, each prompt's own part and the
tree of its labels run as one sequence: every token of the prompt sees those before it, every token of the tree
sees the prompt and its own ancestors. A batch costs its prompts' own tokens plus one position per distinct
beginning of a label, and what comes after the last attention is computed only where it is read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from c2s.inference.batching import PaddedBatch, families, pad_left
from c2s.inference.caches import read_stem, repeated
from c2s.inference.last_layer import last_layer_at
from c2s.inference.masks import AttentionMasks, takes_own_masks
from c2s.inference.trie import LabelTrie, tries_within

#: Most logits held at once (float32: 256 MB), a vocabulary counting as 16,384 words at least; bounds the tree.
MOST_LOGITS, LEAST_VOCABULARY = 2**26, 2**14


class _Context(NamedTuple):
    """What the network has read: its cache, which of the cached tokens are real, and their positions."""

    cache: Any
    mask: torch.Tensor  # int64 [prompts, tokens]
    positions: torch.Tensor  # int64 [prompts, tokens]


class TreeScorer:
    """Scores label continuations with one network; batches know nothing of each other.

    Parameters
    ----------
    network
        A causal language model of transformers, in evaluation mode.
    pad
        Token to pad with.
    """

    def __init__(self, network: Any, pad: int) -> None:
        self.network, self.pad = network, pad
        self.vocabulary = max(int(network.config.get_text_config().vocab_size), LEAST_VOCABULARY)
        self.takes_trees = takes_own_masks(network)
        self.masks = AttentionMasks(network)

    @property
    def most_rows(self) -> int:
        """Prompts whose logits of one place are all that may be held at once."""
        return max(1, MOST_LOGITS // self.vocabulary)

    def families(self, prefixes: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
        """Group prompts by common beginning (see `batching.families`), where the network can share one."""
        return families(prefixes) if self.takes_trees else [(0, list(range(len(prefixes))))]

    def read_stem(self, stem: Sequence[int]) -> Any:
        """Return the cache of one text, batch size 1; empty for an empty text."""
        return read_stem(self.network, stem)

    def score(
        self, stem: Any, rests: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> npt.NDArray[np.float64]:
        """Sum the log-probabilities of each continuation's tokens after each prompt.

        Parameters
        ----------
        stem
            Cache of what all prompts begin with, from `read_stem`; left as it is.
        rests
            Tokens of each prompt after the stem, at least one.
        continuations
            Tokens of each label.

        Returns
        -------
        numpy.ndarray
            float64 ``[prompts, continuations]``.
        """
        batch = pad_left(rests, self.pad, self.network.device)
        tries = tries_within(continuations, max(1, MOST_LOGITS // (len(rests) * self.vocabulary)))
        result = np.empty((len(rests), len(continuations)), dtype=np.float64)
        run = self._logits if self.takes_trees else self._logits_by_path
        for (indices, trie), logits in zip(tries, run(stem, batch, [trie for _, trie in tries]), strict=True):
            nodes, tokens = torch.from_numpy(trie.step_node), torch.from_numpy(trie.step_token)
            log_probs = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
            result[:, indices] = trie.totals(log_probs[:, nodes, tokens].double().cpu().numpy())
        return result

    def _logits(self, stem: Any, batch: PaddedBatch, tries: Sequence[LabelTrie]) -> Iterator[torch.Tensor]:
        """Yield the logits after the prompt and after each node, ``[prompts, 1 + nodes, vocabulary]``, per tree.

        The first tree runs together with the prompts; for the others, the prompts are in the cache.
        """
        rows, start = len(batch.mask), stem.get_seq_length()
        read = torch.arange(start, device=batch.mask.device).expand(rows, -1)
        context = _Context(repeated(stem, rows), torch.ones_like(read), read)
        rest = batch._replace(positions=batch.positions + start)
        after_prompt = None
        for trie in tries:
            logits = self._run(context, rest, trie)
            context.cache.crop(-len(trie.tokens))
            if after_prompt is None:
                after_prompt = logits[:, :1]
                context = context._replace(
                    mask=torch.cat([context.mask, rest.mask], 1),
                    positions=torch.cat([context.positions, rest.positions], 1),
                )
                rest = PaddedBatch(*(part[:, :0] for part in rest))
            else:
                logits = torch.cat([after_prompt, logits], dim=1)
            yield logits

    def _run(self, context: _Context, rest: PaddedBatch, trie: LabelTrie) -> torch.Tensor:
        """Run the rest of each prompt, if any, and a tree behind it, as one sequence.

        Returns
        -------
        torch.Tensor
            Logits after the prompt, if there is any rest of it, and after each node.
        """
        rows, length = rest.mask.shape
        nodes = len(trie.tokens)
        device = rest.mask.device
        real = torch.cat([context.mask, rest.mask, rest.mask.new_ones(rows, nodes)], dim=1)
        depth = torch.from_numpy(trie.depth).to(device)
        lengths = context.mask.sum(1, keepdim=True) + rest.mask.sum(1, keepdim=True)
        positions = torch.cat([rest.positions, lengths - 1 + depth], dim=1)
        # Who may see whom, before padding: [rest and nodes, context and rest and nodes].
        before = context.mask.shape[1]
        visible = torch.ones((length + nodes, before + length + nodes), dtype=torch.bool, device=device)
        visible[:length, before:].tril_()
        visible[length:, before + length :] = torch.from_numpy(trie.visible).to(device)
        seen = visible[None] & real[:, None].bool() if (real == 0).any() else visible[None]
        masks = self.masks.of(seen, torch.cat([context.positions, positions], 1), positions)
        wanted = nodes + bool(length)
        ids = torch.cat([rest.input_ids, torch.from_numpy(trie.tokens).to(device).expand(rows, -1)], dim=1)
        with last_layer_at(wanted, of=length + nodes, network=self.network) as options:
            output = self.network(
                input_ids=ids,
                attention_mask=masks,
                position_ids=positions,
                past_key_values=context.cache,
                use_cache=True,
                logits_to_keep=wanted,
                **options,
            )
        logits: torch.Tensor = output.logits
        return logits

    def _logits_by_path(self, stem: Any, batch: PaddedBatch, tries: Sequence[LabelTrie]) -> Iterator[torch.Tensor]:
        """Do what `_logits` does for a network without tree masks: one pass per path, on a copy of the cache."""
        from transformers import DynamicCache

        cache = DynamicCache()
        output = self.network(
            input_ids=batch.input_ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        last = batch.positions[:, -1:]
        for trie in tries:
            logits = output.logits.new_empty((len(last), 1 + len(trie.tokens), output.logits.shape[-1]))
            logits[:, :1] = output.logits[:, -1:]
            has_child = (trie.visible & ~np.eye(len(trie.tokens), dtype=np.bool_)).any(axis=0)
            for leaf in np.flatnonzero(~has_child):
                path = np.flatnonzero(trie.visible[leaf])
                ids = torch.from_numpy(trie.tokens[path]).to(last.device).expand(len(last), -1)
                branch = self.network(
                    input_ids=ids,
                    attention_mask=torch.cat([batch.mask, torch.ones_like(ids)], dim=1),
                    position_ids=last + torch.from_numpy(trie.depth[path]).to(last.device),
                    past_key_values=copy.deepcopy(cache),
                    use_cache=True,
                )
                logits[:, torch.from_numpy(path + 1).to(last.device)] = branch.logits
            yield logits
