"""F1 between two lists of cell types, counting repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from c2s import Metric
from c2s.errors import MetricError


def listed(answer: str | None) -> list[str]:
    """Split ``"B cell, T cell"`` into its names; None and empty answers give none."""
    return [name for part in (answer or "").split(",") if (name := " ".join(part.split()))]


def cell_types_f1(
    predictions: Sequence[str | None], references: Sequence[str], **columns: object
) -> dict[str, float]:
    """Average over examples the F1 between predicted and true multisets of cell types.

    Raises
    ------
    MetricError
        There is no example, or the lengths differ.
    """
    if not references or len(predictions) != len(references):
        raise MetricError(
            f"cell_types_f1 got {len(predictions)} predictions for {len(references)} references.",
            fix="give one prediction (or None) per reference, and at least one.",
        )
    scores = []
    for predicted, reference in zip(predictions, references, strict=True):
        ours, truth = Counter(listed(predicted)), Counter(listed(reference))
        total = ours.total() + truth.total()
        scores.append(2 * (ours & truth).total() / total if total else 1.0)
    return {"cell_types_f1": float(np.mean(scores))}


cell_types_f1_metric = Metric("cell_types_f1", cell_types_f1, higher_is_better=True, range=(0.0, 1.0))
