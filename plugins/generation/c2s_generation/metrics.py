"""Overlap of answers that hold several cells (section 4.4; table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from c2s import Metric
from c2s.errors import MetricError
from c2s.metrics import mean_of_examples
from c2s_generation.answers import cells_of

Floats = npt.NDArray[np.float64]


def cell_overlaps(
    predictions: Sequence[str | None], references: Sequence[str], **columns: object
) -> dict[str, Floats]:
    """Return how far each answer's cells are the true ones.

    Parameters
    ----------
    predictions, references
        Texts that `cells_of` reads.

    Returns
    -------
    dict
        float64 ``[examples]``, each in [0, 1], higher is better: ``cells_overlap``, the mean over true cells of
        the share of their genes that the cell at the same place has (0 where there is none);
        ``cells_overlap_matched``, the same under the best one-to-one assignment, for samples without an order;
        ``cells_right_number``, 1 where as many cells were written as asked for.

    Raises
    ------
    MetricError
        There is no example, the lengths differ, or a reference holds an empty cell.
    """
    if not references or len(predictions) != len(references):
        raise MetricError(
            f"cells_overlap got {len(predictions)} predictions for {len(references)} references.",
            fix="give one prediction (or None) per reference, and at least one.",
        )
    values = np.zeros((3, len(references)))
    for place, (given, reference) in enumerate(zip(predictions, references, strict=True)):
        truth, written = cells_of(reference), cells_of(given)
        if not truth or not all(truth):
            raise MetricError(
                f"reference {place} holds a cell without genes.", fix="leave out cells without expressed genes."
            )
        shared = np.zeros((len(truth), max(len(written), len(truth))))
        for i, genes in enumerate(map(set, truth)):
            for j, words in enumerate(map(set, written)):
                shared[i, j] = len(genes & words) / len(genes)
        best = linear_sum_assignment(shared, maximize=True)
        values[:, place] = shared.diagonal().mean(), shared[best].mean(), len(written) == len(truth)
    return dict(zip(("cells_overlap", "cells_overlap_matched", "cells_right_number"), values, strict=True))


CELLS_OVERLAP = Metric("cells_overlap", mean_of_examples(cell_overlaps), higher_is_better=True, range=(0.0, 1.0))
