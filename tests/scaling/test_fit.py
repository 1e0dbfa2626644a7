"""Power laws: found where they are, refused where there is none, and as sure as the samples make them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from c2s.errors import MetricError
from c2s.scaling import fit_power_law

SIZES = np.array([5e4, 2e5, 1e6, 8e6])


def samples(exponent: float, *, n: int = 400, noise: float = 0.2, seed: int = 0) -> np.ndarray:
    """Samples whose means follow 30 * x ** exponent, each with a difficulty of its own at all sizes."""
    rng = np.random.default_rng(seed)
    difficulty = rng.lognormal(0, noise, n)
    return 30 * SIZES[:, None] ** exponent * difficulty / difficulty.mean()


@pytest.mark.parametrize("exponent", [-0.31, -0.05, 0.12])
def test_an_exact_law_is_found(exponent: float) -> None:
    law = fit_power_law(SIZES, samples(exponent))
    assert law.exponent == pytest.approx(exponent, rel=1e-9)
    assert law.scale == pytest.approx(30, rel=1e-9)
    np.testing.assert_allclose(law(SIZES), 30 * SIZES**exponent, rtol=1e-9)
    assert law.monotone
    assert law.r2 == pytest.approx(1)


def test_it_is_the_line_that_scipy_finds() -> None:
    rng = np.random.default_rng(3)
    values = rng.gamma(2.0, 1.0, size=(4, 50)) * SIZES[:, None] ** -0.1
    reference = stats.linregress(np.log(SIZES), np.log(values.mean(axis=1)))
    law = fit_power_law(SIZES, values)
    assert law.exponent == pytest.approx(reference.slope, rel=1e-6)
    assert np.log(law.scale) == pytest.approx(reference.intercept, rel=1e-6)
    assert law.r2 == pytest.approx(reference.rvalue**2, rel=1e-6)


def test_the_order_of_the_sizes_does_not_matter() -> None:
    values = samples(-0.2) * np.random.default_rng(1).gamma(5, 0.2, size=(4, 400))
    turned = fit_power_law(SIZES[::-1], values[::-1])
    assert turned == fit_power_law(SIZES, values)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = 5 * SIZES[:, None] ** -0.15 * rng.gamma(4, 0.25, size=(4, 120))
        law = fit_power_law(SIZES, values, n_bootstrap=200, seed=seed)
        hits += law.low <= -0.15 <= law.high
    # 95% of 60 is 57; fewer than 50 would happen once in some thousand times.
    assert hits >= 50


def test_shared_difficulty_does_not_widen_the_interval() -> None:
    law = fit_power_law(SIZES, samples(-0.2, noise=1.0))
    assert law.high - law.low < 1e-9


def test_means_that_do_not_fall_all_the_way_are_told() -> None:
    values = samples(-0.2)
    values[2] *= 1.8
    assert not fit_power_law(SIZES, values).monotone


@pytest.mark.parametrize(
    ("x", "values", "message"),
    [
        (SIZES[:2], np.ones((2, 5)), "three sizes"),
        (SIZES, np.ones((3, 5)), "three sizes"),
        ([1e5, 1e5, 1e5, 1e5], np.ones((4, 5)), "three sizes"),
        (SIZES, np.zeros((4, 5)), "positive numbers"),
        (SIZES, np.full((4, 5), np.nan), "positive numbers"),
        (SIZES, np.ones((4, 0)), "three sizes"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x: object, values: np.ndarray, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        fit_power_law(x, values)


def test_a_table_of_results_is_fitted_by_way_task_and_metric() -> None:
    from types import SimpleNamespace

    from c2s.scaling import fit_results

    rows = []
    for size in (1e4, 1e5, 1e6):
        for seen in (10, 20):
            for i in range(30):
                score = 1 - 2 * size**-0.2 * (1 + i / 30) / 1.5 * (20 / seen) ** 0.1
                rows.append((int(size), "full", seen, "annotate", f"e{i}", "overlap", score))
                rows.append((int(size), "full", seen, "annotate", f"e{i}", "exact_match", 1.0))
    names = ["parameters", "way", "samples", "task", "example_id", "metric", "value"]
    fits = fit_results(SimpleNamespace(table=pd.DataFrame(rows, columns=names))).set_index("metric")
    expected = np.mean([2 * (1 + i / 30) / 1.5 for i in range(30)])
    assert fits.loc["overlap", "exponent"] == pytest.approx(-0.2, rel=1e-6)
    assert fits.loc["overlap", "first"] == pytest.approx(1 - expected * 1e4**-0.2)
    assert np.isnan(fits.loc["exact_match", "exponent"])  # nothing is left to improve
