"""Several right answers to one question: each prediction is measured against the one it fits best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from c2s.errors import MetricError
from c2s.metrics.arrays import Floats

#: ``(predictions, references, **columns) -> {key: one value per example}``; the first key is the headline.
ExampleScores = Callable[..., dict[str, Floats]]


def best_of_references(
    scores: ExampleScores,
    predictions: Sequence[str | None],
    references: Sequence[Sequence[str]],
    *,
    higher_is_better: bool = True,
    **columns: Sequence[Any],
) -> dict[str, Floats]:
    """Score each prediction against all its references, and keep the best.

    Parameters
    ----------
    scores
        Values per example, such as `c2s.metrics.gene_overlaps` or `c2s.metrics.bert_scores`. Its first key decides
        which reference is best; the other values are those of that reference. The first of equal ones counts.
    predictions
        One per example, or None.
    references
        One or more right answers for each example.
    higher_is_better
        Direction of the first key.
    columns
        More columns of the examples, one value each.

    Returns
    -------
    dict
        As `scores`, float64 ``[examples]``; never worse than against any single reference.

    Raises
    ------
    MetricError
        An example has no reference, the lengths differ, or from `scores`.
    """
    predicted, truths = list(predictions), [list(each) for each in references]
    if len(predicted) != len(truths):
        raise MetricError(
            f"{len(predicted)} predictions but {len(truths)} lists of references.",
            fix="give one list of references per prediction.",
        )
    if text := [place for place, each in enumerate(references) if isinstance(each, str)]:
        raise MetricError(
            f"the references of example {text[0]} are one text, not a list.", fix="pass a list of texts for each."
        )
    if empty := [place for place, each in enumerate(truths) if not each]:
        raise MetricError(f"example {empty[0]} has no reference.", fix="leave out examples without a true answer.")
    owners = [place for place, each in enumerate(truths) for _ in each]
    values = scores(
        [predicted[i] for i in owners],
        [text for each in truths for text in each],
        **{key: [listed[i] for i in owners] for key, listed in columns.items()},
    )
    headline = next(iter(values.values())) * (1 if higher_is_better else -1)
    # By example, then from best to worst; stable, so that the first of equal ones comes first.
    order = np.lexsort((-headline, np.array(owners)))
    first = np.searchsorted(np.array(owners)[order], np.arange(len(truths)))
    chosen = order[first]
    return {key: each[chosen] for key, each in values.items()}


def with_alternatives(scores: ExampleScores) -> ExampleScores:
    """Let a score per example know the column ``alternatives``: lists (or None) of further right answers."""

    def best(
        predictions: Sequence[str | None],
        references: Sequence[str],
        *,
        alternatives: Sequence[Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> dict[str, Floats]:
        if alternatives is None:
            return scores(predictions, references, **columns)
        truths = [
            [reference, *([] if more is None else more)]
            for reference, more in zip(references, alternatives, strict=True)
        ]
        return best_of_references(scores, predictions, truths, **columns)

    return best
