from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import special, stats

from c2s.errors import InputFileError, MetricError, OutputError
from c2s.inference import Calibration, entropy, reliability_curve, risk_coverage
from c2s.inference.calibrate import tempered


def simulated(n=4000, labels=5, temperature=3.0, seed=0):
    """Labels drawn from the softmax of `scores`, which are then reported too confidently."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, labels)) * 2
    p = special.softmax(scores, axis=1)
    truth = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return scores * temperature, truth


def plain_ece(probabilities, labels, n_bins=15):
    total = 0.0
    for b in range(n_bins):
        members = [
            i
            for i, p in enumerate(probabilities)
            if (b / n_bins < p.max() <= (b + 1) / n_bins) or (b == 0 and p.max() == 0)
        ]
        if members:
            confidence = np.mean([probabilities[i].max() for i in members])
            accuracy = np.mean([probabilities[i].argmax() == labels[i] for i in members])
            total += len(members) / len(labels) * abs(accuracy - confidence)
    return total


def test_a_known_temperature_is_found():
    scores, truth = simulated()
    found = Calibration.fit(scores, truth)
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.ece_after < 0.03 < found.ece_before
    assert found.n == 4000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_temperature_minimises_the_loss(seed):
    scores, truth = simulated(200, temperature=0.5 + seed, seed=seed)
    found = Calibration.fit(scores, truth).temperature

    def loss(temperature):
        return -special.log_softmax(scores / temperature, axis=1)[np.arange(200), truth].mean()

    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 20_001))
    best = grid[np.argmin([loss(t) for t in grid])]
    assert found == pytest.approx(best, rel=1e-3)


def test_ece_before_and_after_are_those_of_a_direct_loop():
    scores, truth = simulated(300)
    found = Calibration.fit(scores, truth)
    assert found.ece_before == pytest.approx(plain_ece(special.softmax(scores, axis=1), truth), rel=1e-6)
    assert found.ece_after == pytest.approx(
        plain_ece(special.softmax(scores / found.temperature, axis=1), truth), rel=1e-6
    )
    np.testing.assert_allclose(found.probabilities(scores), special.softmax(scores / found.temperature, axis=1))


def test_the_temperature_stays_within_its_bounds():
    always_right = Calibration.fit([[0.0, -1.0], [-1.0, 0.0]], [0, 1])
    assert 0.01 <= always_right.temperature < 0.03  # the loss is flat at 0 down there
    never_right = Calibration.fit([[0.0, -1.0], [-1.0, 0.0]], [1, 0])
    assert never_right.temperature == pytest.approx(100, rel=1e-3)


def test_a_constant_per_row_changes_nothing():
    scores, truth = simulated(100)
    shifted = scores - 1000 * np.arange(100)[:, None]
    # Float64 keeps eleven digits of scores near 1e5, and the loss is flat at its lowest.
    expected = Calibration.fit(scores, truth).temperature
    assert Calibration.fit(shifted, truth).temperature == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(tempered(shifted, 2.0), tempered(scores, 2.0), rtol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperatures_must_be_positive(temperature):
    with pytest.raises(MetricError, match=f"the temperature is {temperature}"):
        tempered([[0.0, 1.0]], temperature)


@pytest.mark.parametrize(
    "scores, labels, message",
    [
        (np.zeros((0, 2)), [], r"log-probabilities of shape \(0, 2\) cannot be calibrated"),
        (np.zeros((2, 1)), [0, 0], r"shape \(2, 1\)"),
        (np.zeros(3), [0, 0, 0], r"shape \(3,\)"),
        ([[0.0, 1.0], [np.nan, 0.0]], [0, 1], "log-probabilities of example 1 are not finite"),
        ([[0.0, 1.0], [0.0, -np.inf]], [0, 1], "log-probabilities of example 1 are not finite"),
        ([[0.0, 1.0]], [2], "label index of example 0 is 2 of 2 labels"),
        ([[0.0, 1.0]], [-1], "label index of example 0 is -1 of 2 labels"),
        ([[0.0, 1.0]], [0, 1], r"1 rows of probabilities but label indices of shape \(2,\)"),
        ([[0.0, 1.0]], [0.5], "type float64"),
    ],
)
def test_bad_input(scores, labels, message):
    with pytest.raises(MetricError, match=message):
        Calibration.fit(scores, np.asarray(labels, dtype=None if len(labels) else int))


def test_saved_and_loaded(tmp_path):
    calibration = Calibration(1.7, 0.2, 0.05, 40)
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert json.loads(path.read_text()) == {"temperature": 1.7, "ece_before": 0.2, "ece_after": 0.05, "n": 40}
    assert Calibration.load(path) == calibration
    with pytest.raises(OutputError, match="exists already"):
        calibration.save(path)
    Calibration(2.0, 0, 0, 1).save(path, overwrite=True)
    assert Calibration.load(path).temperature == 2.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        '{"temperature": 1}',
        '{"temperature": "warm", "ece_before": 0, "ece_after": 0, "n": 1}',
        '{"temperature": -1, "ece_before": 0, "ece_after": 0, "n": 1}',
        '{"temperature": 0, "ece_before": 0, "ece_after": 0, "n": 1}',
        '{"temperature": Infinity, "ece_before": 0, "ece_after": 0, "n": 1}',
    ],
)
def test_files_that_hold_no_calibration(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(InputFileError) as error:
        Calibration.load(path)
    assert str(path) in str(error.value)
    assert "Calibration.fit" in error.value.fix


def test_a_missing_file(tmp_path):
    with pytest.raises(InputFileError, match="there is no calibration at"):
        Calibration.load(tmp_path / "none.json")


def test_abstention_is_below_the_threshold():
    p = [[0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [1.0, 0.0]]
    assert Calibration.abstain(p, 0.75).tolist() == [True, False, False, False]
    assert Calibration.abstain(p, 0.0).tolist() == [False] * 4
    assert Calibration.abstain(p, 1.0).tolist() == [True, True, True, False]
    for threshold in (-0.01, 1.01, float("nan")):
        with pytest.raises(MetricError, match="abstention threshold"):
            Calibration.abstain(p, threshold)


def test_entropy_is_in_nats():
    p = np.random.default_rng(0).dirichlet(np.ones(6), 30)
    np.testing.assert_allclose(entropy(p), stats.entropy(p, axis=1), rtol=1e-6)
    found = entropy([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    np.testing.assert_allclose(found, [0, math.log(2), 0])
    assert not np.signbit(found).any()


def test_reliability_curve_against_a_loop():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 200)
    labels = rng.integers(3, size=200)
    curve = reliability_curve(p, labels, n_bins=10)
    assert list(curve.columns) == ["low", "high", "n", "confidence", "accuracy"]
    assert len(curve) == 10
    for low, high, n, confidence, accuracy in curve.itertuples(index=False):
        members = (p.max(1) > low) & (p.max(1) <= high)
        assert n == members.sum()
        if n:
            assert confidence == pytest.approx(p.max(1)[members].mean(), rel=1e-6)
            assert accuracy == pytest.approx((p.argmax(1) == labels)[members].mean(), rel=1e-6)
        else:
            assert math.isnan(confidence)
            assert math.isnan(accuracy)
    weights = curve["n"] / 200
    assert plain_ece(p, labels, 10) == pytest.approx(
        (weights * (curve["accuracy"] - curve["confidence"]).abs()).sum(), rel=1e-6
    )
    assert len(reliability_curve(p, labels)) == 15


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_coverage_ends_with_every_example_and_the_share_of_errors(n):
    rng = np.random.default_rng(n)
    p = rng.dirichlet(np.ones(3), n)
    curve = risk_coverage(p, np.zeros(n, int))
    assert len(curve) == n
    np.testing.assert_allclose(curve["coverage"], np.arange(1, n + 1) / n)
    assert curve["risk"].iloc[-1] == pytest.approx((p.argmax(1) != 0).mean())


def test_risk_and_coverage_by_hand():
    p = [[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.2, 0.8]]
    curve = risk_coverage(p, [0, 1, 1, 0])
    assert curve["threshold"].tolist() == [0.9, 0.8, 0.6]
    assert curve["coverage"].tolist() == [0.25, 0.5, 1.0]
    assert curve["risk"].tolist() == [0.0, 0.5, 0.5]
    for threshold, coverage, risk in curve.itertuples(index=False):
        answered = ~Calibration.abstain(p, threshold)
        wrong = np.argmax(p, axis=1) != [0, 1, 1, 0]
        assert coverage == answered.mean()
        assert risk == wrong[answered].mean()
