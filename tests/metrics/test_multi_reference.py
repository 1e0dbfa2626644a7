"""Several right answers: the best of the scores against each of them, computed one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from c2s.errors import MetricError
from c2s.metrics import (
    accuracy_metric,
    bert_score_metric,
    best_of_references,
    evaluate_predictions,
    exact_match_metric,
    gene_overlaps,
    kendall_tau_metric,
    overlap_metric,
)
from c2s.metrics.resampling import Resamples

texts = st.lists(st.sampled_from(["A", "B", "C", "D"]), max_size=5).map(" ".join)
truths = st.lists(texts.filter(bool), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.one_of(st.none(), texts), truths), min_size=1, max_size=6))
def test_it_is_the_best_of_each(rows):
    predictions, references = (list(column) for column in zip(*rows))
    got = best_of_references(gene_overlaps, predictions, references)
    for place, (prediction, truth) in enumerate(rows):
        each = [gene_overlaps([prediction], [reference]) for reference in truth]
        best = max(range(len(each)), key=lambda i: each[i]["overlap"][0])  # the first of equal ones
        assert {key: values[place] for key, values in got.items()} == {k: v[0] for k, v in each[best].items()}
    lowest = best_of_references(gene_overlaps, predictions, references, higher_is_better=False)
    assert (lowest["overlap"] <= got["overlap"]).all()


@pytest.mark.parametrize("metric", [overlap_metric, exact_match_metric, accuracy_metric, kendall_tau_metric])
def test_metrics_read_the_column_alternatives(metric):
    predictions, references = ["A B C", "C B", None], ["A D", "B C", "A B"]
    alternatives = [["A B C"], None, ["C D", "D E"]]
    plain = metric.function(predictions, references)[metric.name]
    best = metric.function(predictions, references, alternatives=alternatives)[metric.name]
    assert best > plain
    columns = {"alternatives": alternatives}
    table = evaluate_predictions([metric], predictions, references, columns=columns, n_bootstrap=30, seed=2)
    row = table.set_index("metric").loc[metric.name]
    assert row["value"] == best and row["low"] <= best <= row["high"]
    resamples = Resamples(3, 30, 2)
    fast = metric.function.resampled(predictions, references, resamples, **columns)[metric.name]
    slow = [
        metric.function(
            [predictions[i] for i in chosen],
            [references[i] for i in chosen],
            alternatives=[alternatives[i] for i in chosen],
        )[metric.name]
        for chosen in resamples.indices()
    ]
    assert fast == pytest.approx(slow, rel=1e-12)


def test_bert_score_takes_the_better_reference():
    pytest.importorskip("bert_score")
    columns = {"alternatives": [["a T cell of the blood"]]}
    best = bert_score_metric.function(["a T cell of the blood"], ["liver tissue"], **columns)
    assert best == {"bert_score": 1.0, "bert_score_precision": 1.0, "bert_score_recall": 1.0}
    assert bert_score_metric.function(["a T cell of the blood"], ["liver tissue"])["bert_score"] < 1


def test_columns_go_with_their_examples():
    def scores(predictions, references, *, weight):
        return {"score": np.array([w * (p == r) for p, r, w in zip(predictions, references, weight)], dtype=float)}

    got = best_of_references(scores, ["a", "b"], [["x", "a"], ["b"]], weight=[2, 5])
    assert got["score"].tolist() == [2, 5]


def test_examples_without_references_are_named():
    with pytest.raises(MetricError, match=r"example 1 has no reference"):
        best_of_references(gene_overlaps, ["A", "B"], [["A"], []])
    with pytest.raises(MetricError, match=r"one text, not a list"):
        best_of_references(gene_overlaps, ["A"], ["A"])
    with pytest.raises(MetricError, match="1 predictions but 2 lists"):
        best_of_references(gene_overlaps, ["A"], [["A"], ["B"]])
