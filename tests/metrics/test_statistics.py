from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from c2s.errors import MetricError
from c2s.metrics import (
    accuracy_metric,
    bootstrap_mean,
    evaluate_predictions,
    exact_match_metric,
    macro_f1_metric,
    paired_difference,
    percentile_interval,
)
from c2s.metrics.resampling import Resamples
from c2s.tasks import Metric

from .test_classification import random_answers

METRICS = [accuracy_metric, macro_f1_metric, exact_match_metric]


def direct(metric: Metric) -> Metric:
    """The same metric without its fast way through resamples."""
    return Metric(metric.name, lambda p, r, **c: metric.function(p, r, **c))


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_fast_way_equals_the_metric_on_each_resample(metric, seed):
    predicted, truth = random_answers(seed, n=40)
    fast = metric.function.resampled(predicted, truth, Resamples(40, 60, seed))[metric.name]
    slow = [
        metric.function([predicted[i] for i in chosen], [truth[i] for i in chosen])[metric.name]
        for chosen in Resamples(40, 60, seed).indices()
    ]
    np.testing.assert_allclose(fast, slow, rtol=1e-9)
    pd.testing.assert_frame_equal(
        evaluate_predictions([metric], predicted, truth, n_bootstrap=60, seed=seed),
        evaluate_predictions([direct(metric)], predicted, truth, n_bootstrap=60, seed=seed),
    )


def test_resamples():
    draws = list(Resamples(7, 3, 5).indices())
    assert [d.shape for d in draws] == [(7,)] * 3
    assert all(((d >= 0) & (d < 7)).all() for d in draws)
    np.testing.assert_array_equal(draws, list(Resamples(7, 3, 5).indices()))
    assert not np.array_equal(draws, list(Resamples(7, 3, 6).indices()))
    codes = np.array([0, 1, 1, 3, 0, 0, 3])
    counts = Resamples(7, 3, 5).counts(codes, 5)
    assert counts.tolist() == [[int((codes[d] == c).sum()) for c in range(5)] for d in draws]
    assert counts.sum(axis=1).tolist() == [7, 7, 7]


def test_the_table():
    predicted, truth = random_answers(0)
    table = evaluate_predictions(METRICS, predicted, truth)
    assert list(table.columns) == ["metric", "value", "low", "high", "n"]
    assert table["metric"].tolist() == ["accuracy", "macro_f1", "exact_match"]
    assert table["n"].tolist() == [200] * 3
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()
    pd.testing.assert_frame_equal(table, evaluate_predictions(METRICS, predicted, truth))
    other = evaluate_predictions(METRICS, predicted, truth, seed=1)
    assert (table["value"] == other["value"]).all()
    assert (table["low"] != other["low"]).any()
    narrow = evaluate_predictions(METRICS, predicted, truth, level=0.5)
    assert (narrow["low"] > table["low"]).all()
    assert (narrow["high"] < table["high"]).all()


def test_intervals_equal_scipy_within_resampling_noise():
    predicted, truth = random_answers(3, n=300)
    correct = np.array([p == t for p, t in zip(predicted, truth, strict=True)], dtype=float)
    table = evaluate_predictions([accuracy_metric], predicted, truth, n_bootstrap=9000).iloc[0]
    theirs = stats.bootstrap((correct,), np.mean, n_resamples=9000, method="percentile", rng=0).confidence_interval
    assert table["low"] == pytest.approx(theirs.low, abs=0.005)
    assert table["high"] == pytest.approx(theirs.high, abs=0.005)
    mine = bootstrap_mean(correct, n_bootstrap=9000)
    assert mine.value == correct.mean()
    assert mine.low == pytest.approx(theirs.low, abs=0.005)
    assert mine.high == pytest.approx(theirs.high, abs=0.005)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        right = rng.random(80) < 0.7
        predicted = ["B" if r else "T" for r in right]
        options = {"n_bootstrap": 200, "level": 0.9, "seed": trial}
        row = evaluate_predictions([accuracy_metric], predicted, ["B"] * 80, **options)
        covered += bool(row["low"][0] <= 0.7 <= row["high"][0])
    assert 0.84 <= covered / 300 <= 0.95


def test_columns_go_along_with_their_examples():
    def weighted(predictions, references, *, weight):
        hits = [w * (p == r) for p, r, w in zip(predictions, references, weight, strict=True)]
        return {"weighted": sum(hits) / sum(weight), "total": float(sum(weight))}

    metric = Metric("weighted", weighted, range=(0, 1))
    predicted, truth = ["B", "T", "B"], ["B", "B", "B"]
    table = evaluate_predictions([metric], predicted, truth, columns={"weight": [1, 2, 5]}, n_bootstrap=50)
    assert table["metric"].tolist() == ["weighted", "total"]
    assert table["value"].tolist() == [0.75, 8.0]
    weights, won = np.array([1, 2, 5]), np.array([1, 0, 5])
    draws = [won[chosen].sum() / weights[chosen].sum() for chosen in Resamples(3, 50, 0).indices()]
    np.testing.assert_allclose(table.loc[0, ["low", "high"]].astype(float), np.quantile(draws, [0.025, 0.975]))


def test_a_metric_without_a_bootstrap_has_no_interval():
    metric = Metric("plain", lambda p, r: {"plain": 0.5}, bootstrap=False)
    row = evaluate_predictions([metric], ["B"], ["B"]).iloc[0]
    assert row["value"] == 0.5
    assert np.isnan(row["low"])
    assert np.isnan(row["high"])


def test_a_metric_that_is_not_defined_is_nan():
    metric = Metric("odd", lambda p, r: {"odd": float("nan")})
    row = evaluate_predictions([metric], ["B", "T"], ["B", "T"], n_bootstrap=10).iloc[0]
    assert np.isnan([row["value"], row["low"], row["high"]]).all()
    # Defined on the examples but not on every resample: those are left out.
    sometimes = Metric("some", lambda p, r: {"some": 1.0 if "T" in r else float("nan")})
    row = evaluate_predictions([sometimes], ["B", "T"], ["B", "T"], n_bootstrap=40).iloc[0]
    assert (row["value"], row["low"], row["high"]) == (1.0, 1.0, 1.0)
    # Not defined on the examples: an interval from the resamples where it is would mislead.
    rarely = Metric("rare", lambda p, r: {"rare": float("nan") if len(set(r)) > 1 else 1.0})
    row = evaluate_predictions([rarely], ["B", "T"], ["B", "T"], n_bootstrap=40).iloc[0]
    assert np.isnan([row["value"], row["low"], row["high"]]).all()


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_a_single_example_and_constant_answers_have_no_width(metric):
    for n in (1, 6):
        row = evaluate_predictions([metric], ["B"] * n, ["B"] * n, n_bootstrap=20).iloc[0]
        assert (row["value"], row["low"], row["high"], row["n"]) == (1.0, 1.0, 1.0, n)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"level": 0.0}, "the level is 0.0."),
        ({"level": 1.0}, "the level is 1.0."),
        ({"n_bootstrap": 0}, "n_bootstrap is 0."),
        ({"columns": {"donor": ["d"]}}, "column 'donor' has 1 values for 2 examples."),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(MetricError) as error:
        evaluate_predictions([accuracy_metric], ["B", "T"], ["B", "T"], **options)
    assert error.value.problem == message
    assert error.value.fix


def test_no_examples():
    with pytest.raises(MetricError, match="no examples"):
        evaluate_predictions([accuracy_metric], [], [])
    with pytest.raises(MetricError, match="no examples"):
        paired_difference(accuracy_metric, [], [], [])
    for values in ([], [[1.0]], 3.0):
        with pytest.raises(MetricError, match="values of shape"):
            bootstrap_mean(values)


def test_percentile_interval():
    draws = np.arange(101.0)
    assert percentile_interval(draws, 0.9) == pytest.approx((5.0, 95.0))
    assert percentile_interval([*draws, np.nan], 0.5) == pytest.approx((25.0, 75.0))
    assert np.isnan(percentile_interval([])).all()
    assert np.isnan(percentile_interval([np.nan, np.nan])).all()
    assert percentile_interval([4.0]) == (4.0, 4.0)
    np.testing.assert_allclose(percentile_interval(draws), np.quantile(draws, [0.025, 0.975]))


def test_bootstrap_mean():
    same = bootstrap_mean([2.0, 2.0, 2.0])
    assert (same.value, same.low, same.high) == (2.0, 2.0, 2.0)
    one = bootstrap_mean([5.0])
    assert (one.value, one.low, one.high) == (5.0, 5.0, 5.0)
    undefined = bootstrap_mean([1.0, float("nan")], n_bootstrap=5)
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all()
    x = np.random.default_rng(0).normal(size=50)
    found = bootstrap_mean(x, n_bootstrap=300, level=0.8, seed=4)
    draws = [x[chosen].mean() for chosen in Resamples(50, 300, 4).indices()]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.1, 0.9])))


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_differences_are_paired(metric):
    first, truth = random_answers(0, n=150)
    second, _ = random_answers(1, n=150)
    found = paired_difference(metric, first, second, truth, n_bootstrap=200, seed=2)
    name = metric.name
    assert found.value == pytest.approx(metric.function(first, truth)[name] - metric.function(second, truth)[name])
    draws = []
    for chosen in Resamples(150, 200, 2).indices():
        references = [truth[i] for i in chosen]
        one = metric.function([first[i] for i in chosen], references)[name]
        draws.append(one - metric.function([second[i] for i in chosen], references)[name])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    same = paired_difference(metric, first, first, truth, n_bootstrap=50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_pairing_is_sharper_than_two_separate_intervals():
    truth = ["B"] * 200
    rng = np.random.default_rng(0)
    first = ["B" if r < 0.6 else "T" for r in rng.random(200)]
    second = list(first)
    for place in np.flatnonzero(np.array(first) == "B")[:12]:
        second[place] = "T"
    found = paired_difference(accuracy_metric, first, second, truth)
    assert found.low > 0  # 12 of 200 lost and none won
    separate = evaluate_predictions([accuracy_metric], first, truth).iloc[0]
    assert found.high - found.low < 0.6 * (separate["high"] - separate["low"])


def test_thousand_resamples_of_macro_f1_are_quick():
    rng = np.random.default_rng(0)
    names = [f"type {i}" for i in range(30)]
    truth = [names[i] for i in rng.integers(30, size=5000)]
    predicted = [names[i] for i in rng.integers(30, size=5000)]
    start = time.process_time()
    evaluate_predictions([macro_f1_metric], predicted, truth, n_bootstrap=1000)
    assert time.process_time() - start < 3
