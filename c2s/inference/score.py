"""The log-probability of each allowed label given the prompt.

For every prompt, every label is scored as the text that training taught: one space, the label, end of text. The
prompt runs through the model once, and its keys and values serve all labels. The labels then run as one tree of
tokens behind it, each token seeing the prompt and its own ancestors, so a batch costs the prompts' tokens plus one
position per distinct beginning of a label.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from c2s.errors import ConfigError, ModelError, PromptError
from c2s.inference.batching import (
    TOKENS_PER_BATCH,
    PaddedBatch,
    as_texts,
    check_context,
    encode,
    end_of_text,
    evaluating,
    length_buckets,
    pad_left,
    padding_token,
)
from c2s.inference.trie import LabelTrie, tries_within
from c2s.progress import progress

if TYPE_CHECKING:
    from c2s.models import LanguageModel

#: Model families whose attention takes the tree's own mask; the tests compare each with plain forward passes.
TREE_MODELS = frozenset({"gemma", "gemma2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"})
#: Most logits held at once (float32: 256 MB); bounds labels per pass for large vocabularies.
MOST_LOGITS = 2**26
#: Characters at the end of a prompt that can take part in a token which also covers the beginning of a label.
_TAIL = 64


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of labels.

    Attributes
    ----------
    log_probs
        Sum of the log-probabilities of the tokens of ``" " + label`` and of the end of text, given the prompt;
        float64 ``[prompts, labels]``, natural logarithm.
    candidates
        The labels, in the order of the columns.
    """

    log_probs: npt.NDArray[np.float64]
    candidates: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.log_probs)

    def probabilities(self, temperature: float = 1.0) -> npt.NDArray[np.float64]:
        """Return probabilities that add up to one over the labels, float64 ``[prompts, labels]``.

        Parameters
        ----------
        temperature
            Divides the log-probabilities; from `c2s.Calibration`, or 1.
        """
        from c2s.inference.calibrate import tempered

        return tempered(self.log_probs, temperature)

    def best_indices(self) -> npt.NDArray[np.int64]:
        """Return the column of each prompt's most probable label (the first of equals), int64 ``[prompts]``."""
        best: npt.NDArray[np.int64] = self.log_probs.argmax(axis=1)
        return best

    def best(self) -> list[str]:
        """Return the most probable label of each prompt; the first of equals."""
        return [self.candidates[i] for i in self.best_indices()]


def score(
    model: LanguageModel,
    prompts: Sequence[str],
    candidates: Sequence[str],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    show_progress: bool = False,
) -> Scores:
    """Score every label for every prompt (used for annotation, section 4.6.1).

    Batch size, order and neighbours change no result beyond floating-point rounding (1e-5 in float32).

    Parameters
    ----------
    model
        A causal language model and its tokenizer.
    prompts
        Texts that end where the answer begins, without a trailing space.
    candidates
        At least two different labels.
    tokens_per_batch
        Most prompt tokens of one forward pass after padding.
    show_progress
        Show a progress bar.

    Returns
    -------
    Scores
        One row per prompt, one column per candidate, both in the order given.

    Raises
    ------
    ConfigError
        The candidates are fewer than two, empty, repeated or the same to the tokenizer; all problems are named.
    PromptError
        A prompt is not a text or is empty.
    ContextError
        A prompt and the longest label do not fit the context.
    ModelError
        The model answers with NaN, or its tokenizer has no end-of-text token.
    """
    texts = as_texts(prompts)
    labels = _checked_candidates(candidates)
    result = np.empty((len(texts), len(labels)), dtype=np.float64)
    groups = _shared_prefixes(model, texts, labels)
    for group in groups:
        longest = max(map(len, group.continuations)) - 1  # the end of text is predicted, never read
        check_context(model, [len(p) for p in group.prefixes], longest, "the longest label")
    with evaluating(model) as network, progress("scoring", len(texts), enabled=show_progress) as advance:
        for group in groups:
            for batch in length_buckets([len(prefix) for prefix in group.prefixes], tokens_per_batch):
                padded = pad_left([group.prefixes[i] for i in batch], padding_token(model), network.device)
                result[[group.places[i] for i in batch]] = _score_batch(network, padded, group.continuations)
                advance(len(batch))
    if np.isnan(result).any():
        first = int(np.flatnonzero(np.isnan(result).any(axis=1))[0])
        raise ModelError(
            f"{model.name} gives NaN for prompt {first}.",
            fix="its weights are damaged or overflow in this dtype: load it in float32, or train it again.",
        )
    return Scores(result, tuple(labels))


@dataclass
class _Group:
    """Prompts after which the labels are the same tokens."""

    continuations: tuple[tuple[int, ...], ...]
    places: list[int]
    prefixes: list[list[int]]


def _checked_candidates(candidates: Sequence[str]) -> list[str]:
    labels = [candidates] if isinstance(candidates, str) else list(candidates)
    problems = []
    if len(labels) < 2:
        problems.append(f"{len(labels)} label(s) leave nothing to choose from")
    problems += [f"label {i} is {c!r}" for i, c in enumerate(labels) if not isinstance(c, str) or not c.strip()]
    repeated = sorted({c for c in labels if isinstance(c, str) and labels.count(c) > 1})
    problems += [f"label {c!r} is given more than once" for c in repeated]
    if problems:
        raise ConfigError("candidates", problems, fix="pass two or more different labels that are not empty.")
    return labels


def _shared_prefixes(model: LanguageModel, prompts: Sequence[str], labels: Sequence[str]) -> list[_Group]:
    """Tokenise prompts and labels as one text each, and find what the labels of a prompt share.

    Nearly always the prompt's tokens are the beginning of the whole text's, and the labels are the same tokens
    after every prompt. Where a token would cover the end of the prompt and the beginning of a label, the shared
    part ends before it. Only the end of a prompt can matter for that, so prompts that end alike are tokenised with
    all the labels once.
    """
    end = end_of_text(model)
    groups: dict[tuple[tuple[int, ...], ...], _Group] = {}
    known: dict[str, tuple[int, tuple[tuple[int, ...], ...]]] = {}
    for place, (prompt, tokens) in enumerate(zip(prompts, encode(model, prompts), strict=True)):
        tail = prompt[-_TAIL:]
        if tail not in known:
            known[tail] = _continuations(model, prompt, tokens, labels, end)
        dropped, continuations = known[tail]
        prefix = tokens[: len(tokens) - dropped]
        if not prefix:
            raise PromptError(
                f"prompt {place} ({prompt!r}) has no token before the label to predict from.",
                fix="write a longer prompt.",
            )
        group = groups.setdefault(continuations, _Group(continuations, [], []))
        group.places.append(place)
        group.prefixes.append(prefix)
    return list(groups.values())


def _continuations(
    model: LanguageModel, prompt: str, tokens: list[int], labels: Sequence[str], end: int
) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """Return how many last tokens of the prompt are not shared, and each label's tokens after the shared ones."""
    whole = [[*ids, end] for ids in encode(model, [f"{prompt} {label}" for label in labels])]
    shared = min(_common(tokens, ids) for ids in whole)
    continuations = tuple(tuple(ids[shared:]) for ids in whole)
    first: dict[tuple[int, ...], str] = {}
    same = [
        f"labels {first[ids]!r} and {label!r} are the same tokens"
        for ids, label in zip(continuations, labels, strict=True)
        if first.setdefault(ids, label) != label
    ]
    if same:
        raise ConfigError(
            f"candidates for {model.name}",
            same,
            fix="use a model whose tokenizer knows their words (one trained on these labels), or merge them.",
        )
    return len(tokens) - shared, continuations


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common beginning."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _score_batch(
    network: Any, batch: PaddedBatch, continuations: Sequence[Sequence[int]]
) -> npt.NDArray[np.float64]:
    """Score all continuations after each prefix of a batch; float64 ``[batch, continuations]``."""
    from transformers import DynamicCache

    rows = len(batch.input_ids)
    # Without a config the cache keeps every key, also those a sliding window drops: the tree masks them itself.
    cache = DynamicCache()
    output = network(
        input_ids=batch.input_ids,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    after_prompt = output.logits[:, -1:]
    most_nodes = max(1, MOST_LOGITS // (rows * after_prompt.shape[-1]))
    branch = _tree_logits if _takes_tree_masks(network) else _expanded_logits
    result = np.empty((rows, len(continuations)), dtype=np.float64)
    for indices, trie in tries_within(continuations, most_nodes):
        logits = after_prompt
        if len(trie.tokens):
            logits = torch.cat([after_prompt, branch(network, batch, cache, trie)], dim=1)
        nodes, tokens = torch.from_numpy(trie.step_node), torch.from_numpy(trie.step_token)
        logits = logits.float()
        steps = logits[:, nodes, tokens] - logits.logsumexp(-1)[:, nodes]
        result[:, indices] = trie.totals(steps.double().cpu().numpy())
    return result


def _takes_tree_masks(network: Any) -> bool:
    config = network.config
    return config.model_type in TREE_MODELS and config._attn_implementation in {"eager", "sdpa"}


def _tree_logits(network: Any, batch: PaddedBatch, cache: Any, trie: LabelTrie) -> torch.Tensor:
    """Run the tree as one sequence behind the cached prompts, and take it out of the cache again.

    Returns
    -------
    torch.Tensor
        Logits after each node, ``[batch, nodes, vocabulary]``.
    """
    rows, length = batch.input_ids.shape
    device = batch.input_ids.device
    lengths = batch.mask.sum(-1, keepdim=True)
    positions = lengths - 1 + torch.from_numpy(trie.depth).to(device)
    visible = torch.cat(
        [
            batch.mask.bool()[:, None, :].expand(rows, len(trie.tokens), length),
            torch.from_numpy(trie.visible).to(device).expand(rows, -1, -1),
        ],
        dim=-1,
    )
    output = network(
        input_ids=torch.from_numpy(trie.tokens).to(device).expand(rows, -1),
        attention_mask=_attention_masks(network, visible, batch.positions, positions),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    cache.crop(-len(trie.tokens))
    logits: torch.Tensor = output.logits
    return logits


def _attention_masks(
    network: Any, visible: torch.Tensor, prompt_positions: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Turn visibility ``[batch, nodes, keys]`` into the additive masks of the model's attention layers.

    A sliding window counts positions of the text, not places in the packed tree.
    """

    def additive(seen: torch.Tensor) -> torch.Tensor:
        dtype = network.dtype
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[
            :, None
        ]

    config = network.config
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not window or kinds == {"full_attention"}:
        return additive(visible)
    keys = torch.cat([prompt_positions, positions], dim=1)
    near = visible & (keys[:, None, :] > positions[:, :, None] - window)
    if torch.equal(near, visible) or "full_attention" not in kinds:
        return additive(near)
    return {"full_attention": additive(visible), "sliding_attention": additive(near)}


def _expanded_logits(network: Any, batch: PaddedBatch, cache: Any, trie: LabelTrie) -> torch.Tensor:
    """Do what `_tree_logits` does for a model without tree masks: one pass per path, on a copy of the cache.

    Returns
    -------
    torch.Tensor
        Logits after each node, ``[batch, nodes, vocabulary]``.
    """
    rows, device = batch.input_ids.shape[0], batch.input_ids.device
    has_child = (trie.visible & ~np.eye(len(trie.tokens), dtype=bool)).any(axis=0)
    paths = [np.flatnonzero(trie.visible[leaf]) for leaf in np.flatnonzero(~has_child)]
    logits: torch.Tensor | None = None
    for path in paths:
        copied = copy.deepcopy(cache)
        ids = torch.from_numpy(trie.tokens[path]).to(device).expand(rows, -1)
        output = network(
            input_ids=ids,
            attention_mask=torch.cat([batch.mask, torch.ones_like(ids)], dim=1),
            position_ids=batch.mask.sum(-1, keepdim=True) - 1 + torch.from_numpy(trie.depth[path]).to(device),
            past_key_values=copied,
            use_cache=True,
        )
        if logits is None:
            logits = output.logits.new_empty((rows, len(trie.tokens), output.logits.shape[-1]))
        logits[:, torch.from_numpy(path).to(device)] = output.logits
    assert logits is not None  # the tree has at least one node
    return logits
