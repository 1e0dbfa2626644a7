"""The log-probability of each allowed label given the prompt.

For every prompt, every label is scored as the text that training taught: one space, the label, end of text. How
the network is run for that is in `c2s.inference.tree`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2s.errors import ConfigError, ModelError, PromptError
from c2s.inference.batching import (
    Reads,
    as_texts,
    batch_tokens,
    check_context,
    common_prefix,
    encode,
    end_of_text,
    evaluating,
    length_buckets,
    padding_token,
)
from c2s.inference.memory import explained_memory, fitting_rows
from c2s.inference.tree import TreeScorer
from c2s.progress import progress

if TYPE_CHECKING:
    from c2s.models import LanguageModel

#: Words at the end of a prompt that may decide whether a token covers both its end and the beginning of a label.
_TAIL_WORDS = 3


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
    tokens_per_batch: int | None = None,
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
        Most prompt tokens of one forward pass after padding; by default what suits the device.
    show_progress
        Show a progress bar.

    Returns
    -------
    Scores
        One row per prompt, one column per candidate, both in the order given.

    Raises
    ------
    ConfigError
        The candidates are fewer than two, empty, repeated or the same to the tokenizer (all problems are named),
        or `tokens_per_batch` is not positive.
    PromptError
        A prompt is not a text or is empty.
    ContextError
        A prompt and the longest label do not fit the context.
    ModelError
        The model answers with NaN, or its tokenizer has no end-of-text token.
    """
    texts = as_texts(prompts)
    labels = _checked_candidates(candidates)
    per_batch = batch_tokens(model, tokens_per_batch)
    result = np.empty((len(texts), len(labels)), dtype=np.float64)
    groups = _shared_prefixes(model, texts, labels)
    for group in groups:
        longest = max(map(len, group.continuations)) - 1  # the end of text is predicted, never read
        check_context(model, [len(p) for p in group.prefixes], longest, "the longest label")
    with (
        evaluating(model) as network,
        progress("scoring", len(texts), enabled=show_progress) as advance,
        explained_memory(model.name, per_batch),
    ):
        scorer = TreeScorer(network, padding_token(model))
        for group in groups:
            for stem, members in scorer.families(group.prefixes):
                prefixes = [group.prefixes[i] for i in members]
                cache = scorer.read_stem(prefixes[0][:stem])
                lengths = [len(prefix) - stem for prefix in prefixes]
                most = min(fitting_rows(network, stem, lengths), scorer.most_rows)
                for batch in length_buckets(lengths, per_batch, rows=most):
                    rests = [prefixes[i][stem:] for i in batch]
                    places = [group.places[members[i]] for i in batch]
                    result[places] = scorer.score(cache, rests, group.continuations)
                    advance(len(batch))
    if np.isnan(result).any():
        first = int(np.flatnonzero(np.isnan(result).any(axis=1))[0])
        raise ModelError(
            f"{model.name} gives NaN for prompt {first}.",
            fix="its weights are damaged or overflow in this dtype: load it in float32, or train it again.",
        )
    return Scores(result, tuple(labels))


def label_continuations(
    model: Reads, prompts: Sequence[str], candidates: Sequence[str]
) -> tuple[list[str], list[list[tuple[list[int], tuple[int, ...]]]]]:
    """Return the labels, and per prompt and label the tokens that are given and those that are scored.

    For programs that score whole texts; the errors are those of `score`.
    """
    labels = _checked_candidates(candidates)
    result: list[list[tuple[list[int], tuple[int, ...]]]] = [[] for _ in prompts]
    for group in _shared_prefixes(model, prompts, labels):
        longest = max(map(len, group.continuations))
        check_context(model, [len(p) for p in group.prefixes], longest, "the longest label")
        for place, prefix in zip(group.places, group.prefixes, strict=True):
            result[place] = [(prefix, continuation) for continuation in group.continuations]
    return labels, result


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


def _shared_prefixes(model: Reads, prompts: Sequence[str], labels: Sequence[str]) -> list[_Group]:
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
        words = prompt.rsplit(maxsplit=_TAIL_WORDS)
        tail = prompt.removeprefix(words[0]) if len(words) > _TAIL_WORDS else prompt
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
    model: Reads, prompt: str, tokens: list[int], labels: Sequence[str], end: int
) -> tuple[int, tuple[tuple[int, ...], ...]]:
    """Return how many last tokens of the prompt are not shared, and each label's tokens after the shared ones."""
    whole = [[*ids, end] for ids in encode(model, [f"{prompt} {label}" for label in labels])]
    shared = min(common_prefix(tokens, ids) for ids in whole)
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
