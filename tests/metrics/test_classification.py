from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from sklearn import metrics as sk

from c2s.errors import MetricError
from c2s.metrics import (
    accuracy,
    accuracy_metric,
    confusion_matrix,
    ece,
    exact_match,
    exact_match_metric,
    macro_f1,
    macro_f1_metric,
)
from c2s.metrics.classification import (
    checked_answers,
    checked_probabilities,
    confidence_bins,
    ece_of_confidence,
)

NAMES = ["B cell", "T cell", "NK", "Monocyte", "DC"]


def random_answers(seed, n=200, missing=0.1, labels=5, invented=True):
    rng = np.random.default_rng(seed)
    truth = [NAMES[i] for i in rng.integers(labels, size=n)]
    pool = NAMES[:labels] + ["never a reference"] * invented
    predicted = [pool[i] if rng.random() > missing else None for i in rng.integers(len(pool), size=n)]
    return [t if rng.random() < 0.4 else p for t, p in zip(truth, predicted, strict=True)], truth


pairs = st.lists(
    st.tuples(st.sampled_from([*NAMES, "other", None]), st.sampled_from(NAMES)), min_size=1, max_size=30
)


@given(pairs)
def test_accuracy_and_f1_equal_scikit_learn_on_any_answers(answers):
    predicted, truth = map(list, zip(*answers, strict=True))
    # scikit-learn knows no missing answers: they become a label that does not count.
    filled = ["" if p is None else p for p in predicted]
    assert accuracy(predicted, truth) == {"accuracy": pytest.approx(sk.accuracy_score(truth, filled), rel=1e-6)}
    labels = sorted({*truth, *filled} - {""})
    expected = sk.f1_score(truth, filled, labels=labels, average="macro", zero_division=0)
    assert macro_f1(predicted, truth)["macro_f1"] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_f1_by_hand():
    # B: 1 hit, 2 references, 1 prediction -> 2/3; T: 0 hits; "X": predicted once, never a reference -> 0.
    assert macro_f1(["B", "X", None], ["B", "B", "T"])["macro_f1"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert macro_f1(["B", None], ["B", "T"])["macro_f1"] == 0.5
    assert macro_f1(["B", "T"], ["B", "T"])["macro_f1"] == 1.0
    assert macro_f1([None], ["B"])["macro_f1"] == 0.0


def test_accuracy_is_strict_and_exact_match_ignores_white_space():
    predicted = ["B cell", " B cell", "B  cell", "b cell", "B cel l", None, ""]
    truth = ["B cell"] * 7
    assert accuracy(predicted, truth)["accuracy"] == pytest.approx(1 / 7)
    assert exact_match(predicted, truth)["exact_match"] == pytest.approx(3 / 7)


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, np.float64("nan"), pd.NA])
def test_missing_answers_are_wrong(missing):
    for metric in (accuracy, exact_match):
        assert next(iter(metric([missing, "B"], ["B", "B"]).values())) == 0.5
    assert macro_f1([missing, "B"], ["B", "B"])["macro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", [accuracy, exact_match, macro_f1, confusion_matrix])
@pytest.mark.parametrize(
    "predicted, truth, message, fix",
    [
        ([], [], "a metric of no examples is not defined.", "give at least one example."),
        (["B"], [], "1 predictions but 0 references.", "give one prediction per reference."),
        (["B"], ["B", "T"], "1 predictions but 2 references.", "give one prediction per reference."),
        (["B", "B"], ["B", None], "reference 1 is None, not a string.", "leave out examples without an answer."),
        (["B"], [float("nan")], "reference 0 is nan, not a string.", "leave out examples without an answer."),
        (["B", 3], ["B", "T"], "prediction 1 is 3, not a string or None.", "pass labels as strings."),
        ([1.5], ["B"], "prediction 0 is 1.5, not a string or None.", "pass labels as strings."),
    ],
)
def test_undefined_input(metric, predicted, truth, message, fix):
    with pytest.raises(MetricError) as error:
        metric(predicted, truth)
    assert (error.value.problem, error.value.fix) == (message, fix)


def test_columns_of_the_examples_are_allowed():
    assert accuracy(["B"], ["B"], donor=["d1"]) == {"accuracy": 1.0}
    assert macro_f1(["B"], ["B"], donor=["d1"]) == {"macro_f1": 1.0}
    assert exact_match(["B"], ["B"], donor=["d1"]) == {"exact_match": 1.0}


def test_registered_metrics():
    for metric, name in (
        (accuracy_metric, "accuracy"),
        (macro_f1_metric, "macro_f1"),
        (exact_match_metric, "exact_match"),
    ):
        assert metric.name == name
        assert metric.higher_is_better
        assert metric.bootstrap
        assert metric.range == (0.0, 1.0)
        assert list(metric.function(["B"], ["B"])) == [name]


def test_answers_become_lists():
    predicted, truth = checked_answers(pd.Series(["B", None], index=[4, 7]), pd.Series(["B", "T"], index=[4, 7]))
    assert predicted == ["B", None]
    assert truth == ["B", "T"]


@pytest.mark.parametrize("seed", range(3))
def test_confusion_matrix_equals_scikit_learn(seed):
    predicted, truth = random_answers(seed, missing=0)
    found = confusion_matrix(predicted, truth)
    labels = sorted({*truth, *predicted})
    np.testing.assert_array_equal(found, sk.confusion_matrix(truth, predicted, labels=labels))
    assert list(found.index) == labels == list(found.columns)
    assert (found.index.name, found.columns.name) == ("reference", "prediction")
    assert set(found.dtypes) == {np.dtype("int64")}


def test_confusion_matrix_of_missing_answers_and_given_order():
    found = confusion_matrix(["B", None, "T", None, "B"], ["B", "B", "B", "T", "B"], labels=["T", "NK", "B"])
    assert list(found.index) == ["T", "NK", "B"]
    assert list(found.columns) == ["T", "NK", "B", "(no answer)"]
    assert found.to_numpy().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 2, 1]]
    named = confusion_matrix(["B", None], ["B", "B"], missing="unassigned")
    assert list(named.columns) == ["B", "unassigned"]
    with pytest.raises(MetricError) as error:
        confusion_matrix(["B", "X"], ["B", "T"], labels=["B"])
    assert str(error.value) == "'T' is not among the labels given. Fix: add it, or leave labels out."


def plain_ece(p, labels, n_bins):
    total = 0.0
    edges = np.linspace(0, 1, n_bins + 1)
    for low, high in itertools.pairwise(edges):
        inside = [i for i in range(len(p)) if low < max(p[i]) <= high]
        if inside:
            gap = sum((np.argmax(p[i]) == labels[i]) - max(p[i]) for i in inside) / len(inside)
            total += abs(gap) * len(inside) / len(p)
    return total


@pytest.mark.parametrize("n_bins", [1, 7, 15])
@pytest.mark.parametrize("seed", range(3))
def test_ece_equals_a_direct_loop(seed, n_bins):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), 150)
    labels = rng.integers(4, size=150)
    assert ece(p, labels, n_bins=n_bins) == pytest.approx(plain_ece(p, labels, n_bins), rel=1e-6)
    assert ece(p, labels) == pytest.approx(plain_ece(p, labels, 15), rel=1e-6)


def test_ece_by_hand():
    assert ece([[0.8, 0.2]] * 5, [0, 0, 0, 0, 1]) == pytest.approx(0)
    assert ece([[0.9, 0.1]] * 2, [1, 1]) == pytest.approx(0.9)
    assert ece([[1.0, 0.0]], [0]) == 0.0
    # An upper edge belongs to its bin: 0.5 and 0.6 are apart with two bins, together with one.
    assert ece([[0.5, 0.5], [0.6, 0.4]], [0, 1], n_bins=2) == pytest.approx((0.5 + 0.6) / 2)
    assert ece([[0.5, 0.5], [0.6, 0.4]], [0, 1], n_bins=1) == pytest.approx(0.1 / 2)


def test_ece_from_confidences_alone():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 80)
    labels = rng.integers(4, size=80)
    correct = p.argmax(axis=1) == labels
    for n_bins in (3, 15):
        assert ece_of_confidence(p.max(axis=1), correct, n_bins=n_bins) == ece(p, labels, n_bins=n_bins)
    assert ece_of_confidence([0.0, 1.0], [True, True]) == 0.5
    assert ece([[1 + 1e-7, 0.0]], [0]) == pytest.approx(0, abs=1e-6)  # rounding of float32
    for confidence, correct in (
        ([], []),
        ([0.5], [True, False]),
        ([1.1], [True]),
        ([-0.1], [True]),
        ([np.nan], [True]),
        ([[0.5]], [[True]]),
    ):
        with pytest.raises(MetricError, match="not one probability and one outcome per example"):
            ece_of_confidence(confidence, correct)


def test_bins():
    p = [[0.5, 0.5], [0.51, 0.49], [1.0, 0.0], [0.75, 0.25]]
    confidence, correct, bins = confidence_bins(p, [0, 1, 0, 1], 4)
    assert confidence.tolist() == [0.5, 0.51, 1.0, 0.75]
    assert correct.tolist() == [True, False, True, False]
    assert bins.tolist() == [1, 2, 3, 2]
    with pytest.raises(MetricError, match="n_bins is 0"):
        confidence_bins(p, [0, 0, 0, 0], 0)


@pytest.mark.parametrize(
    "p, message",
    [
        (np.zeros((0, 2)), r"probabilities of shape \(0, 2\)"),
        (np.zeros((2, 0)), r"probabilities of shape \(2, 0\)"),
        ([0.5, 0.5], r"probabilities of shape \(2,\)"),
        ([[0.5, 0.5], [0.5, 0.4]], "row 1 does not hold probabilities"),
        ([[1.5, -0.5]], "row 0 does not hold probabilities"),
        ([[0.5, 0.5], [np.nan, 0.5]], "row 1 does not hold probabilities"),
        (np.log([[0.5, 0.5]]), "row 0 does not hold probabilities"),
    ],
)
def test_what_is_no_probability(p, message):
    with pytest.raises(MetricError, match=message):
        checked_probabilities(p)


def test_rounded_probabilities_pass():
    assert checked_probabilities(np.float32([[1 / 3] * 3, [1 + 1e-7, 0, 0]])).dtype == np.float64
