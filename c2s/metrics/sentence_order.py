"""Metrics of predicted cell sentences that look at the order of the genes (section 4.6.9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from c2s.errors import MetricError
from c2s.metrics.arrays import Floats
from c2s.metrics.classification import checked_answers
from c2s.metrics.multi_reference import with_alternatives
from c2s.metrics.ranking import kendall_tau, sentence_ranks, spearman
from c2s.metrics.resampling import mean_of_examples
from c2s.tasks import Metric

#: The genes that are compared: one list for all examples, a list (or text) for each, or None.
Panel = Sequence[str] | Sequence[Sequence[str]] | None


def sentence_correlations(
    predictions: Sequence[str | None],
    references: Sequence[str],
    *,
    panel: Panel = None,
    correlation: Callable[[Any, Any], Floats] = kendall_tau,
) -> Floats:
    """Return a rank correlation of each predicted cell sentence with its reference.

    Ranks are those of `c2s.metrics.sentence_ranks`: absent genes share the last.

    Parameters
    ----------
    predictions
        Generated cell sentences; None holds no gene.
    references
        True cell sentences.
    panel
        The genes that are compared (the 978 of L1000, the 40 of apoptosis): a list of symbols for all examples, or
        one list or text for each. Default: the genes of each reference and its prediction together, two or more of
        them in the reference. A larger panel holds more pairs that neither sentence orders.
    correlation
        `kendall_tau`, `spearman`, or another function of two matrices of ranks.

    Returns
    -------
    numpy.ndarray
        float64 ``[examples]`` in [-1, 1]; higher is better. A prediction of which no gene is compared scores 0,
        also where the correlation is not defined.

    Raises
    ------
    MetricError
        A reference orders no gene of the panel, a panel has fewer than two genes, or as `checked_answers`.
    """
    predicted, truth = checked_answers(predictions, references)
    panels = _panels(panel, predicted, truth)
    scores = np.zeros(len(truth))
    order = sorted(range(len(truth)), key=lambda i: panels[i])
    for genes, members in groupby(order, key=lambda i: panels[i]):
        rows = list(members)
        true = sentence_ranks([truth[i] for i in rows], genes)
        flat = np.flatnonzero((true == true[:, :1]).all(axis=1))
        if len(flat):
            raise MetricError(
                f"reference {rows[flat[0]]} orders none of the {len(genes)} genes compared.",
                fix="leave out examples whose true sentence has no gene of the panel.",
            )
        given = sentence_ranks([predicted[i] for i in rows], genes)
        # A prediction without a gene of the panel orders nothing, which is as good as chance.
        scores[rows] = np.nan_to_num(correlation(given, true), nan=0.0)
    return scores


def _panels(panel: Panel, predicted: Sequence[str | None], truth: Sequence[str]) -> list[tuple[str, ...]]:
    if panel is None:
        panels = []
        for place, (prediction, reference) in enumerate(zip(predicted, truth, strict=True)):
            true = dict.fromkeys(reference.split())
            if len(true) < 2:
                raise MetricError(
                    f"reference {place} has {len(true)} gene(s), which have no order.",
                    fix="leave out examples with fewer than two true genes, or pass the panel that is compared.",
                )
            panels.append(tuple(sorted({*true, *(prediction or "").split()})))
        return panels
    listed = list(panel)
    each = [tuple(genes.split() if isinstance(genes, str) else genes) for genes in listed]
    one_for_all = all(isinstance(genes, str) and len(genes.split()) == 1 for genes in listed)
    if one_for_all and len(listed) >= 2:
        each = [tuple(genes[0] for genes in each)] * len(truth)
    if len(each) != len(truth):
        raise MetricError(
            f"{len(each)} panels for {len(truth)} examples.",
            fix="pass one list of genes, or one per example.",
        )
    if short := [place for place, genes in enumerate(each) if len(genes) < 2]:
        raise MetricError(
            f"the panel of example {short[0]} has {len(each[short[0]])} gene(s).", fix="compare two genes or more."
        )
    return each


def rank_metric(
    name: str, correlation: Callable[[Any, Any], Floats], *, genes: Sequence[str] | None = None
) -> Metric:
    """Return a metric of predicted cell sentences by a rank correlation.

    Parameters
    ----------
    name
        Name of the metric, and the key of its value, the mean over examples.
    correlation
        As for `sentence_correlations`.
    genes
        The panel; default the examples' column ``panel`` (a list or text for each), else each example's own genes.
    """

    def scores(
        predictions: Sequence[str | None], references: Sequence[str], *, panel: Panel = None, **columns: object
    ) -> dict[str, Floats]:
        chosen = [list(genes)] * len(references) if genes is not None else panel
        values = sentence_correlations(predictions, references, panel=chosen, correlation=correlation)
        return {name: values}

    return Metric(name, mean_of_examples(with_alternatives(scores)), range=(-1.0, 1.0))


def _tau_b(x: Any, y: Any) -> Floats:
    return kendall_tau(x, y, variant="b")


kendall_tau_metric = rank_metric("kendall_tau", kendall_tau)
kendall_tau_b_metric = rank_metric("kendall_tau_b", _tau_b)
spearman_metric = rank_metric("spearman", spearman)
