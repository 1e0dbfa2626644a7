"""How the next token is chosen: settings, random numbers of each request's own, and the draw."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from c2s.errors import ConfigError, PromptError
from c2s.prompts import stable_hash

#: Tokens of an answer where neither the caller nor a constraint says how many.
DEFAULT_NEW_TOKENS = 32
#: Words of the vocabulary whose probabilities are added up first, to find a draw's neighbourhood.
_BLOCK = 64
#: What each number has to be.
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_new_tokens": (lambda x: x >= 1, "at least 1"),
    "temperature": (lambda x: 0 <= x < math.inf, "0 or a positive number"),
    "top_p": (lambda x: 0 < x <= 1, "in (0, 1]"),
    "top_k": (lambda x: x >= 0, "0 or more"),
    "min_p": (lambda x: 0 <= x < 1, "in [0, 1)"),
    "repetition_penalty": (lambda x: 0 < x < math.inf, "a positive number"),
    "max_genes": (lambda x: x >= 1, "at least 1"),
    "seed": (lambda x: True, "a whole number"),
}
_FIX = "e.g. max_new_tokens=32, temperature=0.3, top_p=1.0."


@dataclass(frozen=True)
class Sampling:
    """Everything that decides which answer a request gets, apart from its prompt and its id.

    Attributes
    ----------
    max_new_tokens
        Most tokens of an answer; None for what the constraint needs, or 32.
    temperature
        0 takes the most probable token; above 0, tokens are drawn from the probabilities at this temperature.
    top_p
        Draw only from the fewest tokens that hold this share of the probability, in (0, 1].
    top_k
        Draw only from this many most probable tokens; 0 for all.
    min_p
        Draw only from tokens at least this share as probable as the most probable one, in [0, 1).
    repetition_penalty
        Above 1, tokens of the prompt and of the answer so far become less probable: positive logits are divided
        by it and negative ones multiplied, as in transformers.
    stop
        Texts before which an answer ends.
    max_genes
        Most words of an answer; None for no limit.
    seed
        Seed of the draws.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    max_genes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        problems = []
        for name, (fits, expected) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in ("max_new_tokens", "max_genes"):
                continue
            whole = isinstance(Sampling.__dataclass_fields__[name].default, int | None)
            try:
                # NumPy's numbers become Python's, which can be written down.
                number = operator.index(value) if whole else _real(value)
            except (TypeError, ValueError):
                problems.append(f"{name} is {value!r}, not a {'whole ' if whole else ''}number")
                continue
            object.__setattr__(self, name, number)
            if not fits(number):
                problems.append(f"{name} is {value}, not {expected}")
        if not all(isinstance(text, str) and text for text in self.stop):
            problems.append("a stop string is empty or not a text")
        if problems:
            raise ConfigError("generation", problems, fix=_FIX)

    def as_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {**asdict(self), "stop": list(self.stop)}

    def choose(self, logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Choose one token per row, int64 ``[batch]``; see `draw`."""
        if self.temperature == 0:
            return logits.argmax(-1)
        return draw(logits, uniform, self.temperature, self.top_p, self.top_k, self.min_p)


def _real(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError("a text is no number")
    return float(value)


def penalised(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Return the logits ``[batch, vocabulary]`` with those of `seen` tokens (bool, same shape) made less."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def request_seeds(prompts: Sequence[str], request_ids: Sequence[str] | None, seed: int) -> list[int]:
    """Return a seed per request: of the prompt and what tells it from its equals, never of its place.

    Raises
    ------
    PromptError
        There are not as many ids as prompts.
    """
    if request_ids is not None:
        if len(request_ids) != len(prompts):
            raise PromptError(
                f"{len(prompts)} prompts but {len(request_ids)} request ids.", fix="give one id per prompt."
            )
        return [stable_hash("request", seed, p, i) for p, i in zip(prompts, request_ids, strict=True)]
    seen: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        seen[prompt] = seen.get(prompt, -1) + 1
        seeds.append(stable_hash("request", seed, prompt, seen[prompt]))
    return seeds


def uniforms(seeds: Sequence[int], steps: int) -> npt.NDArray[np.float64]:
    """Return the random numbers of requests: the stream of SplitMix64 for each seed, as counters give it.

    Counters need no state, so all numbers of a batch are made at once, and the number of a step is the same
    whichever requests run beside it.

    Parameters
    ----------
    seeds
        64-bit seeds.
    steps
        Numbers per seed.

    Returns
    -------
    numpy.ndarray
        float64 ``[seeds, steps]``, in [0, 1).
    """
    counters = np.arange(1, steps + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = np.array(seeds, dtype=np.uint64)[:, None] + counters
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    result: npt.NDArray[np.float64] = (x >> np.uint64(11)) * 2.0**-53
    return result


def draw(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
) -> torch.Tensor:
    """Draw one token per row by inverting the cumulative distribution in the order of the vocabulary.

    The order is fixed on purpose: sorted by probability, two nearly equal tokens could change places with the
    rounding of another batch, and every later token's interval with them.

    Parameters
    ----------
    logits
        ``[batch, vocabulary]``; minus infinity where a token is not allowed.
    uniform
        One number in [0, 1) per row, float64 ``[batch]``.
    temperature
        Above 0.
    top_p
        Share of the probability to draw from: the fewest most probable tokens that hold at least this much.
    top_k
        Number of most probable tokens to draw from, before `top_p`; 0 for all.
    min_p
        Least probability, as a share of the highest.

    Returns
    -------
    torch.Tensor
        Tokens, int64 ``[batch]``.
    """
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    weights = (scaled - scaled.amax(-1, keepdim=True)).exp_()
    rows, words = weights.shape
    if 0 < top_k < words:
        weights = weights.masked_fill(weights < weights.topk(top_k, dim=-1).values[:, -1:], 0)
    if top_p < 1:
        ranked = weights.sort(dim=-1, descending=True).values
        before = ranked.cumsum(-1, dtype=torch.float64) - ranked
        # A token belongs to the nucleus while those before it hold less than top_p; the first one always does.
        size = (before < top_p * ranked.sum(-1, keepdim=True, dtype=torch.float64)).sum(-1, keepdim=True)
        weights = weights.masked_fill(weights < ranked.gather(1, size.clamp(min=1) - 1), 0)
    if min_p > 0:
        weights = weights.masked_fill(weights < min_p, 0)  # the highest weight is 1
    # First the block of the vocabulary, then the token in it: one pass over all words instead of three.
    blocks = torch.nn.functional.pad(weights, (0, -words % _BLOCK)).view(rows, -1, _BLOCK)
    block, inside = _inverted(blocks.sum(-1, dtype=torch.float64), uniform[:, None], None)
    chosen = blocks[torch.arange(rows, device=logits.device), block].double()
    token, _ = _inverted(chosen, None, inside)
    return block * _BLOCK + token


def _inverted(
    weights: torch.Tensor, share: torch.Tensor | None, target: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first place where the running sum passes `target` (or `share` of all), and the remainder."""
    running = weights.cumsum(-1)
    mass = running[:, -1:]
    wanted = target if share is None else share * mass
    assert wanted is not None
    # Below the mass also after rounding, so that the place found has a weight above 0.
    wanted = torch.minimum(wanted, torch.nextafter(mass, torch.zeros_like(mass)))
    place = torch.searchsorted(running, wanted, right=True)
    before = torch.where(place > 0, running.gather(1, (place - 1).clamp(min=0)), 0.0)
    return place[:, 0], wanted - before
