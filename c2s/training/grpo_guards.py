"""Guards of a GRPO run: what goes wrong quietly is said aloud.

Reinforcement learning rarely crashes. It stops learning because every answer of a group earns the same, it finds
that short answers are safe, or it walks away from the model it began with. A guard reads the record of the run and
nothing else, so that a resumed run warns where an uninterrupted one would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c2s.training.grpo_config import GRPOConfig

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Alarm:
    """What a guard found.

    Attributes
    ----------
    guard
        ``"signal"``, ``"length"`` or ``"kl"``.
    value, limit
        What was measured, and the threshold it crossed.
    message
        What happened and what helps.
    """

    guard: str
    value: float
    limit: float
    message: str


def look(lines: Sequence[Line], config: GRPOConfig) -> list[Alarm]:
    """Return the alarms that the newest step of a record raises.

    A guard that has warned is silent until its measure has come back within the limit.

    Parameters
    ----------
    lines
        The record so far, oldest first; only lines of steps that drew answers count.
    config
        Thresholds.
    """
    steps = [line for line in lines if "no_signal" in line]
    if not steps:
        return []
    found = []
    for guard in GUARDS.values():
        now = guard(steps, config)
        if now is not None and guard(steps[:-1], config) is None:
            found.append(now)
    return found


def _signal(steps: Sequence[Line], config: GRPOConfig) -> Alarm | None:
    window = steps[-config.guard_window :]
    if len(window) < config.guard_window:
        return None
    share = sum(line["no_signal"] for line in window) / len(window)
    if share < config.no_signal:
        return None
    return Alarm(
        "signal",
        share,
        config.no_signal,
        f"in {share:.0%} of the groups of the last {len(window)} steps all answers earned the same, so they teach "
        "nothing; raise temperature or group_size, leave out prompts that are always or never solved, or use a "
        "reward with more than two values",
    )


def _length(steps: Sequence[Line], config: GRPOConfig) -> Alarm | None:
    width = config.guard_window
    if len(steps) < 2 * width:
        return None
    first = sum(line["answer_tokens"] for line in steps[:width]) / width
    now = sum(line["answer_tokens"] for line in steps[-width:]) / width
    if now >= config.length_collapse * first:
        return None
    return Alarm(
        "length",
        now / first,
        config.length_collapse,
        f"answers have shrunk from {first:.1f} to {now:.1f} tokens; raise beta, lower learning_rate, or use a "
        "reward that short answers cannot earn",
    )


def _kl(steps: Sequence[Line], config: GRPOConfig) -> Alarm | None:
    if not steps:
        return None
    divergence = steps[-1].get("kl")
    if divergence is None or divergence <= config.max_kl:
        return None
    return Alarm(
        "kl",
        divergence,
        config.max_kl,
        f"the model is {divergence:.2f} nats per token away from the one training began with (limit "
        f"{config.max_kl:g}); lower learning_rate or raise beta",
    )


GUARDS: dict[str, Callable[[Sequence[Line], GRPOConfig], Alarm | None]] = {
    "signal": _signal,
    "length": _length,
    "kl": _kl,
}
