"""Metrics of answers that are lists of genes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError
from c2s.metrics.classification import checked_answers
from c2s.metrics.multi_reference import with_alternatives
from c2s.metrics.resampling import mean_of_examples

Floats = npt.NDArray[np.float64]


def gene_overlaps(predictions: Sequence[str | None], references: Sequence[str]) -> dict[str, Floats]:
    """Return the overlap of each example (section 4.4), and its counterpart from the side of the prediction.

    Genes are the words of a text; repeated ones count once, order does not count, case does.

    Parameters
    ----------
    predictions
        Genes separated by white space; None or no word overlaps nothing.
    references
        The true genes, one or more.

    Returns
    -------
    dict
        float64 ``[examples]``: ``overlap``, the share of the true genes that were predicted (the paper's formula,
        a recall: longer answers can only gain), and ``gene_precision``, the share of the predicted genes that are
        true, 0 where none was predicted.

    Raises
    ------
    MetricError
        A reference has no gene, or as `checked_answers`.
    """
    predicted, truth = checked_answers(predictions, references)
    values = np.zeros((2, len(truth)))
    for place, (text, reference) in enumerate(zip(predicted, truth, strict=True)):
        true, given = set(reference.split()), set((text or "").split())
        if not true:
            raise MetricError(
                f"reference {place} has no gene, so that nothing can overlap with it.",
                fix="leave out examples whose true list of genes is empty.",
            )
        shared = len(true & given)
        values[:, place] = shared / len(true), shared / max(len(given), 1)
    return {"overlap": values[0], "gene_precision": values[1]}


def _scores(predictions: Sequence[str | None], references: Sequence[str], **columns: object) -> dict[str, Floats]:
    return gene_overlaps(predictions, references)


#: The mean of `gene_overlaps` over the examples (section 4.4); with a column ``alternatives``, the best
#: reference's.
overlap = mean_of_examples(with_alternatives(_scores))
