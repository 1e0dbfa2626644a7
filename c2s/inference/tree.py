"""Running a network so that nothing is computed twice: common beginnings, prompts, and labels as a tree.

Three stages share one cache of keys and values. What all prompts of a template begin with runs once; each
prompt's own part runs behind it; the labels run as one tree of tokens behind the prompt, each token seeing the
prompt and its own ancestors. A batch costs its prompts' own tokens plus one position per distinct beginning of a
label.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from c2s.inference.batching import families, pad_left
from c2s.inference.trie import LabelTrie, tries_within

#: Model families whose attention takes the tree's own mask; the tests compare each with plain forward passes.
TREE_MODELS = frozenset({"gemma", "gemma2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"})
#: Most logits held at once (float32: 256 MB); bounds labels per pass for large vocabularies.
MOST_LOGITS = 2**26


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
        config = network.config
        self.takes_trees = config.model_type in TREE_MODELS and config._attn_implementation in {"eager", "sdpa"}
        layer_types = set(getattr(config, "layer_types", None) or ())
        self.window: int | None = getattr(config, "sliding_window", None)
        if layer_types == {"full_attention"}:
            self.window = None
        self.mixes_layers = "full_attention" in layer_types

    def families(self, prefixes: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
        """Group prompts by common beginning where the network can read the rest behind a shared one.

        Padding comes between the two. Windows count it, so texts longer than the window are read whole.
        """
        fits = self.window is None or max(map(len, prefixes), default=0) <= self.window
        return families(prefixes) if self.takes_trees and fits else [(0, list(range(len(prefixes))))]

    def read_stem(self, stem: Sequence[int]) -> Any:
        """Return the cache of one text, batch size 1; empty for an empty text."""
        from transformers import DynamicCache

        # Without a config the cache keeps every key, those a sliding window drops too: the tree masks them itself.
        cache = DynamicCache()
        if stem:
            ids = torch.tensor([list(stem)], device=self.network.device)
            self.network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

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
        cache, mask, positions, after_prompt = self._read_prompts(stem, rests)
        most_nodes = max(1, MOST_LOGITS // (len(rests) * after_prompt.shape[-1]))
        branch = self._tree_logits if self.takes_trees else self._path_logits
        result = np.empty((len(rests), len(continuations)), dtype=np.float64)
        for indices, trie in tries_within(continuations, most_nodes):
            logits = after_prompt
            if len(trie.tokens):
                logits = torch.cat([after_prompt, branch(cache, mask, positions, trie)], dim=1)
            nodes, tokens = torch.from_numpy(trie.step_node), torch.from_numpy(trie.step_token)
            logits = logits.float()
            steps = logits[:, nodes, tokens] - logits.logsumexp(-1)[:, nodes]
            result[:, indices] = trie.totals(steps.double().cpu().numpy())
        return result

    def _read_prompts(
        self, stem: Any, rests: Sequence[Sequence[int]]
    ) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run the prompts' own parts behind the stem.

        Returns
        -------
        tuple
            The cache; which of its keys are real and their positions, int64 ``[prompts, keys]``; and the logits
            after each prompt, ``[prompts, 1, vocabulary]``.
        """
        from transformers import DynamicCache

        batch = pad_left(rests, self.pad, self.network.device)
        cache, start = DynamicCache(), stem.get_seq_length()
        for index, layer in enumerate(stem.layers):
            shape = (len(rests), -1, -1, -1)
            cache.update(layer.keys.expand(shape), layer.values.expand(shape), index)
        before = torch.arange(start, device=batch.mask.device).expand(len(rests), -1)
        mask = torch.cat([torch.ones_like(before), batch.mask], dim=1)
        output = self.network(
            input_ids=batch.input_ids,
            attention_mask=mask,
            position_ids=batch.positions + start,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache, mask, torch.cat([before, batch.positions + start], dim=1), output.logits[:, -1:]

    def _tree_logits(
        self, cache: Any, mask: torch.Tensor, key_positions: torch.Tensor, trie: LabelTrie
    ) -> torch.Tensor:
        """Run the tree as one sequence behind the cached prompts, and take it out of the cache again.

        Returns
        -------
        torch.Tensor
            Logits after each node, ``[prompts, nodes, vocabulary]``.
        """
        rows, keys = mask.shape
        positions = mask.sum(-1, keepdim=True) - 1 + torch.from_numpy(trie.depth).to(mask.device)
        visible = torch.cat(
            [
                mask.bool()[:, None, :].expand(rows, len(trie.tokens), keys),
                torch.from_numpy(trie.visible).to(mask.device).expand(rows, -1, -1),
            ],
            dim=-1,
        )
        output = self.network(
            input_ids=torch.from_numpy(trie.tokens).to(mask.device).expand(rows, -1),
            attention_mask=self._attention_masks(visible, torch.cat([key_positions, positions], 1), positions),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        cache.crop(-len(trie.tokens))
        logits: torch.Tensor = output.logits
        return logits

    def _attention_masks(
        self, visible: torch.Tensor, key_positions: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Turn visibility ``[prompts, nodes, keys]`` into the additive masks of the network's attention layers.

        A sliding window counts positions of the text, not places in the packed tree.
        """

        def additive(seen: torch.Tensor) -> torch.Tensor:
            dtype = self.network.dtype
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]

        if self.window is None:
            return additive(visible)
        near = visible & (key_positions[:, None, :] > positions[:, :, None] - self.window)
        if not self.mixes_layers or torch.equal(near, visible):
            return additive(near)
        return {"full_attention": additive(visible), "sliding_attention": additive(near)}

    def _path_logits(
        self, cache: Any, mask: torch.Tensor, key_positions: torch.Tensor, trie: LabelTrie
    ) -> torch.Tensor:
        """Do what `_tree_logits` does for a network without tree masks: one pass per path, on a copy of the cache.

        Returns
        -------
        torch.Tensor
            Logits after each node, ``[prompts, nodes, vocabulary]``.
        """
        rows = len(mask)
        has_child = (trie.visible & ~np.eye(len(trie.tokens), dtype=np.bool_)).any(axis=0)
        logits: torch.Tensor | None = None
        for leaf in np.flatnonzero(~has_child):
            path = np.flatnonzero(trie.visible[leaf])
            ids = torch.from_numpy(trie.tokens[path]).to(mask.device).expand(rows, -1)
            output = self.network(
                input_ids=ids,
                attention_mask=torch.cat([mask, torch.ones_like(ids)], dim=1),
                position_ids=mask.sum(-1, keepdim=True) - 1 + torch.from_numpy(trie.depth[path]).to(mask.device),
                past_key_values=copy.deepcopy(cache),
                use_cache=True,
            )
            if logits is None:
                logits = output.logits.new_empty((rows, len(trie.tokens), output.logits.shape[-1]))
            logits[:, torch.from_numpy(path).to(mask.device)] = output.logits
        assert logits is not None  # the tree has at least one node
        return logits
