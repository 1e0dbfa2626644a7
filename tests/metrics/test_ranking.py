"""Rank correlations against double loops and SciPy; sentences against the example of section 4.6.9."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, strategies as st

import c2s
from c2s.errors import MetricError
from c2s.metrics import (
    evaluate_predictions,
    kendall_tau,
    kendall_tau_b_metric,
    kendall_tau_metric,
    pearson,
    rank_metric,
    sentence_correlations,
    sentence_ranks,
    spearman,
    spearman_metric,
)

shapes = st.tuples(st.integers(1, 4), st.integers(2, 25), st.integers(1, 12), st.integers(0, 10**6))


def tables(shape):
    rows, genes, levels, seed = shape
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, (rows, genes)).astype(float), rng.integers(0, levels, (rows, genes)) / 3


def tau_of_pairs(x, y):
    """(n_c - n_d) / (n (n - 1) / 2), pair by pair."""
    n, score = len(x), 0
    for i in range(n):
        for j in range(i):
            score += int(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]))
    return score / (n * (n - 1) / 2)


@given(shapes)
def test_tau_of_the_paper_is_the_double_loop(shape):
    x, y = tables(shape)
    assert kendall_tau(x, y) == pytest.approx([tau_of_pairs(a, b) for a, b in zip(x, y)], rel=1e-12)


@given(shapes)
def test_the_others_are_scipys(shape):
    x, y = tables(shape)
    varied = [i for i in range(len(x)) if np.ptp(x[i]) > 0 and np.ptp(y[i]) > 0]
    constant = [i for i in range(len(x)) if i not in varied]
    for ours, theirs in (
        (lambda a, b: kendall_tau(a, b, variant="b"), scipy.stats.kendalltau),
        (spearman, scipy.stats.spearmanr),
        (pearson, scipy.stats.pearsonr),
    ):
        got = ours(x, y)
        assert got[varied] == pytest.approx([theirs(x[i], y[i]).statistic for i in varied], rel=1e-6, abs=1e-12)
        assert np.isnan(got[constant]).all()
    assert (kendall_tau(x, y)[constant] == 0).all()


def test_constant_rows_are_constant_in_spite_of_rounding():
    x = np.full((1, 7), 0.1)
    y = np.arange(7.0)
    assert np.isnan(pearson(x, y)).all() and np.isnan(spearman(x, y)).all()
    assert pearson([1e9 + np.arange(5.0)], [np.arange(5.0)]) == pytest.approx([1.0])


def test_a_row_is_a_matrix_of_one_row_and_sparse_is_read():
    import scipy.sparse as sp

    assert kendall_tau([1, 2, 3], [1, 2, 3]).tolist() == [1.0]
    assert pearson(sp.csr_matrix([[0, 1, 2]]), [0, 2, 4]).tolist() == pytest.approx([1.0])


def test_absent_genes_share_the_last_rank():
    genes = [f"G{i}" for i in range(978)]
    rank = sentence_ranks([" ".join(genes[:950])], genes)[0]
    assert rank[:950].tolist() == list(range(1, 951))
    assert set(rank[950:]) == {951}, "the example of section 4.6.9"


def test_words_that_are_no_gene_and_repeats_take_no_rank():
    assert sentence_ranks(["B x B A", None, ""], ["A", "B", "C"]).tolist() == [[2, 1, 3], [1, 1, 1], [1, 1, 1]]


sentences = st.lists(st.sampled_from("ABCDEFGH"), max_size=8, unique=True).map(" ".join)


@given(st.lists(st.tuples(sentences, sentences.filter(lambda s: len(s.split()) > 1)), min_size=1, max_size=5))
def test_sentences_are_compared_on_the_genes_of_both(rows):
    predictions, references = (list(column) for column in zip(*rows))
    expected = []
    for prediction, reference in rows:
        genes = sorted({*prediction.split(), *reference.split()})
        one, two = (
            [words.index(g) + 1 if g in words else len(words) + 1 for g in genes]
            for words in (prediction.split(), reference.split())
        )
        expected.append(tau_of_pairs(np.array(one), np.array(two)))
    assert sentence_correlations(predictions, references) == pytest.approx(expected, rel=1e-12)


def test_a_panel_adds_pairs_that_neither_orders():
    assert sentence_correlations(["A B"], ["A B"]).tolist() == [1.0]
    # Six pairs of four genes; C and D share the last rank in both: five concordant.
    assert sentence_correlations(["A B"], ["A B"], panel=list("ABCD")).tolist() == pytest.approx([5 / 6])
    assert sentence_correlations(["A X B"], ["B A"], panel=["A B C", "A B"][:1]).tolist() == pytest.approx([1 / 3])
    both = sentence_correlations(["A B", "B A"], ["A B", "A B"], panel=[["A", "B"], ["A", "B", "C"]])
    assert both.tolist() == pytest.approx([1.0, 1 / 3])


def test_no_prediction_is_as_good_as_chance():
    for metric in (kendall_tau_metric, kendall_tau_b_metric, spearman_metric):
        assert metric.function([None, ""], ["A B C", "C A"]) == {metric.name: 0.0}
        assert metric.function(["A B C"], ["A B C"])[metric.name] == pytest.approx(1.0)
        assert metric.range == (-1.0, 1.0) and metric.higher_is_better


def test_metrics_are_registered_and_read_the_panel_from_the_examples():
    metrics = c2s.default_host().metrics
    assert metrics.get("kendall_tau") is kendall_tau_metric
    assert metrics.get("kendall_tau_b") is kendall_tau_b_metric
    assert metrics.get("spearman") is spearman_metric
    predictions, references = ["A B", "B A", "A C"], ["A B", "A B", "A B C"]
    columns = {"panel": [list("ABCD")] * 3}
    table = evaluate_predictions([kendall_tau_metric], predictions, references, columns=columns, n_bootstrap=50)
    row = table.iloc[0]
    expected = sentence_correlations(predictions, references, panel=list("ABCD")).mean()
    assert row["value"] == pytest.approx(expected)
    assert row["low"] <= row["value"] <= row["high"]
    fixed = rank_metric("tau_of_four", kendall_tau, genes=list("ABCD"))
    assert fixed.function(predictions, references) == {"tau_of_four": pytest.approx(expected)}


def test_what_has_no_order():
    with pytest.raises(MetricError, match=r"reference 1 has 1 gene\(s\)"):
        sentence_correlations(["A", "A"], ["A B", "A"])
    with pytest.raises(MetricError, match="reference 0 orders none of the 2 genes"):
        sentence_correlations(["A"], ["A B"], panel=["X", "Y"])
    with pytest.raises(MetricError, match=r"panel of example 0 has 1 gene"):
        sentence_correlations(["A"], ["A B"], panel=[["X"]])
