"""How good an answer is, for reinforcement learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from c2s import Reward


def label_match(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give 1 for the exact label, else half of the F1 of the words; None where the truth is unknown.

    Half keeps a near miss ("CD8+ T" for "CD4+ T") well below the truth.
    """
    scores: list[float | None] = []
    for given, truth in zip(answers, answer, strict=True):
        if truth is None:
            scores.append(None)
            continue
        ours, wanted = Counter(given.split()), Counter(truth.split())
        total = ours.total() + wanted.total()
        f1 = 2 * (ours & wanted).total() / total if total else 0.0
        scores.append(1.0 if given.split() == truth.split() else 0.5 * f1)
    return scores


label_match_reward = Reward("label_match", label_match, range=(0.0, 1.0))
