"""How good one answer is, for reinforcement learning (section 4.5.2)."""

from __future__ import annotations

from collections.abc import Sequence

from c2s import Reward
from c2s.metrics import bert_scores


def gene_set_overlap(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give the overlap of section 4.4, divided down when more is listed than the set holds.

    Overlap alone is a recall: a policy would learn to list every gene there is. So the genes in common are divided
    by the number of true genes or of words listed, repeats included, whichever is larger; an answer of at most the
    set's size gets its overlap. None where the truth is unknown: the reward does not apply.
    """
    values: list[float | None] = []
    for given, truth in zip(answers, answer, strict=True):
        true = set((truth or "").split())
        words = given.replace(",", " ").replace(";", " ").split()
        values.append(len(true & set(words)) / max(len(true), len(words)) if true else None)
    return values


def name_bert_score(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give the F1 of BERTScore between the given and the true name, at least 0; None where that is unknown."""
    known = [(given, truth) for given, truth in zip(answers, answer, strict=True) if truth]
    if not known:
        return [None] * len(answers)
    scores = iter(bert_scores([given for given, _ in known], [truth for _, truth in known])["f1"])
    return [max(0.0, float(next(scores))) if truth else None for truth in answer]


OVERLAP = Reward("gene_set_overlap", gene_set_overlap)
NAME_BERT_SCORE = Reward("gene_set_name_bert_score", name_bert_score)
