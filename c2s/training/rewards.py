"""Rewards: what GRPO is told to aim for (section 4.5.2), by name, as an object or as a plain function.

A reward is called with the answers of a whole step, and what it gives back is checked before anything learns from
it: a NaN or a list of the wrong length would otherwise end in the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s.errors import C2SError, ConfigError, RewardError
from c2s.tasks import Reward

if TYPE_CHECKING:
    from c2s.registry import Registry

Floats = npt.NDArray[np.float64]
#: Relative and absolute room around a reward's range, for rounding.
_ROOM = 1e-6


@dataclass(frozen=True)
class WeightedReward:
    """A reward and how much it counts.

    Attributes
    ----------
    reward
        The reward.
    weight
        What its values are multiplied by before they are added to those of the others; may be negative.
    """

    reward: Reward
    weight: float = 1.0

    @property
    def name(self) -> str:
        """Name of the reward."""
        return self.reward.name


#: What may be handed in as a reward.
RewardLike = WeightedReward | Reward | Callable[..., Sequence[float | None]]


def resolve_rewards(text: str | Sequence[str], registry: Registry[Reward]) -> list[WeightedReward]:
    """Look rewards up by name.

    Parameters
    ----------
    text
        ``"accuracy:1,overlap:0.5"``, or the parts as a list; a weight that is left out is 1.
    registry
        Where the names are known, e.g. ``c2s.default_host().rewards``.

    Raises
    ------
    RegistryError
        A name is unknown; close names are suggested.
    ConfigError
        A weight is not a number, a name comes twice, or nothing was named.
    """
    parts = [part.strip() for part in (text.split(",") if isinstance(text, str) else text)]
    problems, found = [], []
    for part in filter(None, parts):
        name, colon, weight = part.partition(":")
        try:
            value = float(weight) if colon else 1.0
        except ValueError:
            problems.append(f"the weight of {name!r} is {weight!r}, not a number")
            continue
        found.append((name.strip(), value))
    if problems:
        raise ConfigError("rewards", problems, fix='write names with weights, e.g. "exact_match:1,overlap:0.5".')
    return as_rewards([WeightedReward(registry.get(name), value) for name, value in found])


def as_rewards(rewards: RewardLike | Sequence[RewardLike]) -> list[WeightedReward]:
    """Return rewards with their weights; a plain function gets its own name, weight 1 and no range.

    Raises
    ------
    ConfigError
        There is none, one is of another kind, two have one name, or a weight is 0 or not finite.
    """
    listed = [rewards] if callable(rewards) or isinstance(rewards, Reward | WeightedReward) else list(rewards)
    result: list[WeightedReward] = []
    problems = []
    for given in listed:
        if isinstance(given, WeightedReward):
            one = given
        elif isinstance(given, Reward):
            one = WeightedReward(given)
        elif isinstance(given, str) or not callable(given):
            problems.append(f"{given!r} is neither a reward nor a function")
            continue
        else:
            name = getattr(given, "__name__", type(given).__name__)
            one = WeightedReward(Reward(name, given, range=(-math.inf, math.inf)))  # type: ignore[arg-type]
        if not math.isfinite(one.weight) or one.weight == 0:
            problems.append(f"the weight of {one.name!r} is {one.weight:g}")
        elif any(one.name == other.name for other in result):
            problems.append(f"{one.name!r} comes twice")
        else:
            result.append(one)
    if not listed:
        problems.append("there is no reward to aim for")
    if problems:
        raise ConfigError(
            "rewards",
            problems,
            fix="pass c2s.Reward objects or functions, or names through "
            'c2s.training.resolve_rewards("exact_match:1,overlap:0.5", c2s.default_host().rewards).',
        )
    return result


def score_answers(
    rewards: Sequence[WeightedReward],
    prompts: Sequence[str],
    answers: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
) -> Floats:
    """Return every reward of every answer, and make sure that they can be learned from.

    Parameters
    ----------
    rewards
        What to ask.
    prompts, answers
        Of each answer; several answers of one prompt stand beside each other.
    columns
        Columns of the examples, one value per answer; ``example_id`` names them in messages and ``answer`` holds
        the truth.

    Returns
    -------
    numpy.ndarray
        float64 ``[answers, rewards]``; NaN where a reward does not apply.

    Raises
    ------
    RewardError
        A reward raised, gave another number of values than there are answers, or a value that is not a finite
        number of its range; or no reward applies to any answer of an example.
    """
    ids = [str(name) for name in columns["example_id"]]
    values = np.full((len(answers), len(rewards)), np.nan)
    others = {
        name: list(column) for name, column in columns.items() if name not in ("prompt", "prompts", "answers")
    }
    for place, weighted in enumerate(rewards):
        given = _call(weighted.reward, list(prompts), list(answers), others)
        values[:, place] = _checked(weighted.reward, given, answers, ids)
    scored = {name for name, row in zip(ids, ~np.isnan(values).all(axis=1), strict=True) if row}
    lost = sorted(set(ids) - scored)
    if lost:
        raise RewardError(
            f"no reward applies to example {lost[0]!r} ({', '.join(w.name for w in rewards)} gave None for all of "
            f"its answers); {len(lost)} of {len(set(ids))} examples of this step have none.",
            fix="leave such examples out, or add a reward that applies to them.",
        )
    return values


def _call(reward: Reward, prompts: list[str], answers: list[str], columns: Mapping[str, list[Any]]) -> Any:
    try:
        return reward.function(prompts, answers, **columns)
    except C2SError:
        raise
    except Exception as error:
        raise RewardError(
            f"the reward {reward.name!r} raised {type(error).__name__}: {error}.",
            fix="a reward takes (prompts, answers, **columns) and gives one number or None per answer, whatever "
            "the answer says.",
        ) from error


def _checked(reward: Reward, given: Any, answers: Sequence[str], ids: Sequence[str]) -> list[float]:
    """Return the values of one reward, NaN for None."""
    try:
        listed = list(given)
    except TypeError:
        raise RewardError(
            f"the reward {reward.name!r} gave {given!r}, not a list.", fix="return one number or None per answer."
        ) from None
    if len(listed) != len(answers):
        raise RewardError(
            f"the reward {reward.name!r} gave {len(listed)} values for {len(answers)} answers, the first of "
            f"example {ids[0]!r}.",
            fix="return one number or None per answer, in their order.",
        )
    low, high = reward.range
    room = _ROOM * max([1.0, *(abs(end) for end in (low, high) if math.isfinite(end))])
    values = []
    for value, answer, name in zip(listed, answers, ids, strict=True):
        if value is None:
            values.append(math.nan)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or not low - room <= number <= high + room:
            where = (
                "not a finite number" if not math.isfinite(number) else f"outside its range {low:g} to {high:g}"
            )
            raise RewardError(
                f"the reward {reward.name!r} gave {value!r} for example {name!r}, {where}; the answer begins "
                f"{answer[:60]!r}.",
                fix="give every answer a finite number, None where the reward does not apply, and state the range "
                "it has.",
            )
        values.append(number)
    return values


def total_reward(values: Floats, rewards: Sequence[WeightedReward]) -> Floats:
    """Return the weighted sum of each answer, float64 ``[answers]``; NaN where no reward applies."""
    weights = np.array([weighted.weight for weighted in rewards])
    total = np.nansum(values * weights, axis=1)
    return np.where(np.isnan(values).all(axis=1), np.nan, total)


def exact_match(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give 1 for the true answer, word by word, and 0 for any other; None where the truth is unknown."""
    pairs = zip(answers, answer, strict=True)
    return [None if truth is None else float(given.split() == truth.split()) for given, truth in pairs]


def overlap(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give the share of the true genes that the answer names (section 4.4); None where the truth is unknown.

    A recall: an answer can only gain by naming more, which a policy finds out; not so with `gene_f1`.
    """
    return [None if shared is None else shared[0] for shared in _shared(answers, answer)]


def gene_f1(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give the F1 of the genes named, repeats counting as wrong; None where the truth is unknown."""
    return [None if shared is None else shared[1] for shared in _shared(answers, answer)]


def _shared(answers: Sequence[str], truths: Sequence[str | None]) -> list[tuple[float, float] | None]:
    """Return recall and F1 of the genes of each answer; None where there is no true gene."""
    found: list[tuple[float, float] | None] = []
    for given, truth in zip(answers, truths, strict=True):
        true, words = set((truth or "").split()), given.split()
        hits = len(true & set(words))
        found.append((hits / len(true), 2 * hits / (len(true) + len(words))) if true else None)
    return found


EXACT_MATCH = Reward("exact_match", exact_match)
OVERLAP = Reward("overlap", overlap)
GENE_F1 = Reward("gene_f1", gene_f1)
