"""The draw and the constraint as logits processors of transformers' own generation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from c2s.inference.constrain import Spelled
from c2s.inference.sampling import Sampling, penalised, uniforms
from c2s.inference.word_tree import TreeWalk


class Draw(LogitsProcessor):
    """Draw each row's next token with a random number of that row's own, and leave only that token.

    Parameters
    ----------
    sampling
        How tokens are drawn; its temperature is above 0.
    seeds
        Seed of each row.
    steps
        Most new tokens.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int], steps: int) -> None:
        self.sampling, self.step = sampling, 0
        self.numbers = torch.from_numpy(uniforms(seeds, steps))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return minus infinity for every token but the one that is drawn."""
        uniform = self.numbers[:, self.step].to(scores.device)
        self.step += 1
        chosen = self.sampling.choose(scores, uniform)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen[:, None], 0.0)


class Penalise(LogitsProcessor):
    """Make tokens of each row's own prompt and answer less probable; padding is no token of the prompt.

    Parameters
    ----------
    penalty
        See `Sampling`.
    prompts
        Tokens of each row's prompt.
    """

    def __init__(self, penalty: float, prompts: Sequence[Sequence[int]]) -> None:
        self.penalty, self.prompts = penalty, prompts
        self.seen: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the penalised logits."""
        if self.seen is None:
            self.seen = torch.zeros_like(scores, dtype=torch.bool)
            for row, prompt in enumerate(self.prompts):
                self.seen[row, torch.tensor(list(prompt), device=scores.device)] = True
        else:
            self.seen.scatter_(1, input_ids[:, -1:], True)
        return penalised(scores, self.seen, self.penalty)


class Constrain(LogitsProcessor):
    """Keep the answers of a batch to a constraint; for greedy decoding and sampling, one answer per row.

    Parameters
    ----------
    spelled
        The constraint in the model's tokens, from `c2s.inference.constrain.Speller`.
    """

    def __init__(self, spelled: Spelled) -> None:
        self.spelled = spelled
        self.walk: TreeWalk | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return minus infinity for tokens that are not allowed; a row that has ended may only end again."""
        rows = slice(0, len(scores))
        if self.walk is None:
            self.walk = TreeWalk(self.spelled, len(scores), scores.shape[1], scores.device)
            self.walk.begin(0, len(scores))
        else:
            self.walk.advance(rows, input_ids[:, -1])
        return self.walk.masked(rows, scores)


class ConstrainRequest:
    """Keep one request to a constraint, in the form that vLLM calls: tokens written so far, logits of the next.

    Parameters
    ----------
    spelled
        The constraint in the model's tokens.
    """

    def __init__(self, spelled: Spelled) -> None:
        self.spelled = spelled
        self.walk: TreeWalk | None = None
        self.taken = 0

    def __call__(self, output_ids: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[vocabulary]`` with minus infinity where a token is not allowed."""
        # A request that was put off and begun again has fewer tokens than were seen.
        if self.walk is None or len(output_ids) < self.taken:
            self.walk = TreeWalk(self.spelled, 1, logits.shape[-1], logits.device)
            self.walk.begin(0, 1)
            self.taken = 0
        for token in output_ids[self.taken :]:
            self.walk.advance(slice(0, 1), torch.tensor([token], device=logits.device))
        self.taken = len(output_ids)
        return self.walk.masked(slice(0, 1), logits[None])[0]
