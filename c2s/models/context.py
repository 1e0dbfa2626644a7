"""The context budget: a prompt and its answer fit, or genes are left out openly, or it is an error.

An answer is never cut silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2s.errors import ContextError

if TYPE_CHECKING:
    from c2s.models.loading import LanguageModel


@dataclass(frozen=True)
class ContextBudget:
    """How much of the context a set of prompts and answers takes.

    Attributes
    ----------
    tokens
        Tokens of each prompt with its answer, int64 of shape (examples,).
    context_length
        Tokens the model reads at most.
    """

    tokens: npt.NDArray[np.int64]
    context_length: int

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return int(self.tokens.max(initial=0))

    @property
    def too_long(self) -> npt.NDArray[np.int64]:
        """Positions of the examples that do not fit."""
        return np.flatnonzero(self.tokens > self.context_length)


def measure_context(
    model: LanguageModel,
    prompts: Sequence[str],
    answers: Sequence[str] | None = None,
    *,
    max_new_tokens: int = 0,
) -> ContextBudget:
    """Count the tokens of each prompt with its answer and the end-of-text token.

    Parameters
    ----------
    model
        Whose tokenizer counts and whose context is the budget.
    prompts
        Prompts, without a space at the end.
    answers
        Known answers, counted as ``prompt + " " + answer`` and one end-of-text token; None if not known yet.
    max_new_tokens
        Tokens to leave free for an answer that is yet to be written.
    """
    texts = [*prompts] if answers is None else [f"{p} {a}" for p, a in zip(prompts, answers, strict=True)]
    extra = max_new_tokens + (answers is not None)
    counts = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), 1024):
        encoded = model.tokenizer(texts[start : start + 1024], return_attention_mask=False, verbose=False)
        counts[start : start + 1024] = [len(ids) + extra for ids in encoded["input_ids"]]
    return ContextBudget(counts, model.context_length)


def check_context(
    model: LanguageModel,
    prompts: Sequence[str],
    answers: Sequence[str] | None = None,
    *,
    max_new_tokens: int = 0,
    ids: Sequence[str] | None = None,
) -> ContextBudget:
    """Measure the context and refuse examples that do not fit; see `measure_context` for the parameters.

    Parameters
    ----------
    ids
        Names of the examples, for the message; their positions by default.

    Raises
    ------
    ContextError
        An example does not fit; the message names the first, its tokens and how many others there are.
    """
    budget = measure_context(model, prompts, answers, max_new_tokens=max_new_tokens)
    if len(budget.too_long):
        first = int(budget.too_long[0])
        name = ids[first] if ids is not None else f"number {first}"
        raise ContextError(
            f"{len(budget.too_long)} of {len(prompts)} examples do not fit the context of {model.name} "
            f"({model.context_length} tokens); the first is {name!r} with {int(budget.tokens[first])} tokens of "
            "prompt and answer.",
            fix="use fewer genes per cell, top_k=... (--genes), a shorter template, or a model with a longer "
            "context.",
        )
    return budget


@dataclass(frozen=True)
class FittedPrompt:
    """A prompt whose cells were shortened until it fitted.

    Attributes
    ----------
    prompt
        The prompt, rendered from `sentences`.
    sentences
        The cell sentences as they are in the prompt.
    kept, given
        Genes per cell, kept and given.
    """

    prompt: str
    sentences: tuple[str, ...]
    kept: tuple[int, ...]
    given: tuple[int, ...]

    @property
    def shortened(self) -> bool:
        """Whether any gene was left out."""
        return self.kept != self.given


def fit_sentence(
    model: LanguageModel,
    sentences: Sequence[str],
    render: Callable[[Sequence[str]], str],
    *,
    reserve: int,
) -> FittedPrompt:
    """Leave out the lowest-ranked genes, evenly over the cells of the prompt, until it fits.

    Parameters
    ----------
    model
        Whose context is the budget.
    sentences
        The cell sentences of one prompt.
    render
        Makes the prompt from cell sentences; it must state the number of genes it is given.
    reserve
        Tokens kept free for the answer, its end-of-text token included.

    Returns
    -------
    FittedPrompt
        No cell has more than K genes, with K as large as the context allows.

    Raises
    ------
    ContextError
        The prompt does not fit even with one gene per cell.
    """
    words = [sentence.split() for sentence in sentences]
    given = tuple(len(w) for w in words)

    def with_at_most(k: int) -> FittedPrompt:
        cut = tuple(" ".join(w[:k]) for w in words)
        return FittedPrompt(render(cut), cut, tuple(min(k, n) for n in given), given)

    def fits(fitted: FittedPrompt) -> bool:
        used = measure_context(model, [fitted.prompt], max_new_tokens=reserve)
        return used.longest <= model.context_length

    whole = with_at_most(max(given, default=0))
    if fits(whole):
        return whole
    low, high = 1, max(given, default=1)
    best = with_at_most(low)
    if not fits(best):
        raise ContextError(
            f"the prompt does not fit the context of {model.name} ({model.context_length} tokens, {reserve} "
            f"of them kept for the answer) even with one gene for each of {len(words)} cell(s).",
            fix="use fewer cells per prompt, a shorter template, or a model with a longer context.",
        )
    # Invariant: `low` fits and `high` does not; more genes never need fewer tokens.
    while high - low > 1:
        middle = (low + high) // 2
        candidate = with_at_most(middle)
        if fits(candidate):
            low, best = middle, candidate
        else:
            high = middle
    return best
