"""The Fréchet distance against the formula of section 4.7 with SciPy's square root of a matrix."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.linalg import sqrtm

from c2s.errors import C2SWarning
from c2s.metrics import (
    bootstrap_distance,
    frechet_distance,
    frechet_extrapolation,
    frechet_of_moments,
    scfid,
)


def formula(x, y):
    """|mu_r - mu_g|² + tr(S_r + S_g - 2 (S_r S_g)^½)."""
    gap = x.mean(axis=0) - y.mean(axis=0)
    s, t = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    return float(gap @ gap + np.trace(s + t - 2 * sqrtm(s @ t).real))


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40), st.integers(0, 10**6))
def test_it_is_the_formula(d, more, still_more, seed):
    rng = np.random.default_rng(seed)
    n, m = d + 2 + more, d + 2 + still_more
    mixing = rng.normal(size=(d, d))
    x, y = rng.normal(size=(n, d)) @ mixing, rng.normal(size=(m, d)) * 2 + 1
    expected = formula(x, y)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    moments = (
        x.mean(0),
        np.atleast_2d(np.cov(x, rowvar=False)),
        y.mean(0),
        np.atleast_2d(np.cov(y, rowvar=False)),
    )
    assert frechet_of_moments(*moments) == pytest.approx(expected, rel=1e-6)


def test_fewer_cells_than_dimensions_are_exact_real_and_warned_of():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 50)), rng.normal(size=(9, 50)) + 0.3
    # The reference: the same points in coordinates that span them all, where nothing is lost.
    basis = np.linalg.qr(np.concatenate((x, y)).T)[0]
    with pytest.warns(C2SWarning, match=r"12 cells and 9 cells for 50 dimensions"):
        got = frechet_distance(x, y)
    assert got == pytest.approx(frechet_distance(x @ basis, y @ basis, warn=False), rel=1e-9)
    # The formula holds as far as SciPy's root of a singular matrix does: made regular by a little, it comes close.
    s, t = (np.cov(z, rowvar=False) + 1e-10 * np.eye(50) for z in (x, y))
    gap = x.mean(0) - y.mean(0)
    assert got == pytest.approx(gap @ gap + np.trace(s + t - 2 * sqrtm(s @ t).real), rel=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert frechet_distance(x, y, warn=False) == got


def test_known_values():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 4))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x, x + 2) == pytest.approx(4 * 4, rel=1e-9)
    assert frechet_distance(x, 3 * x - 2 * x.mean(0)) == pytest.approx(
        4 * np.trace(np.cov(x, rowvar=False)), rel=1e-9
    )
    constant = np.ones((5, 4))
    assert frechet_distance(constant, constant) == 0
    assert frechet_distance(constant, x) == pytest.approx(
        ((1 - x.mean(0)) ** 2).sum() + np.trace(np.cov(x, rowvar=False)), rel=1e-9
    )
    assert frechet_of_moments([0.0, 0], np.diag([1.0, 4]), [1.0, 0], np.diag([4.0, 0])) == pytest.approx(1 + 1 + 4)


def test_no_complex_noise_where_covariances_are_singular():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 30))
    value = frechet_distance(x, x + 1e-3)
    assert value == pytest.approx(30 * 1e-6, rel=1e-6)


def test_on_any_embedder():
    rng = np.random.default_rng(3)
    real, made = (ad.AnnData(rng.poisson(2, size=(60, 8)).astype(np.float32)) for _ in range(2))
    project = rng.normal(size=(8, 3))

    def embedder(adata):
        return adata.X @ project

    assert scfid(real, made, embedder=embedder) == pytest.approx(
        frechet_distance(real.X @ project, made.X @ project), rel=1e-9
    )
    assert scfid(real.X, made.X) == pytest.approx(frechet_distance(real.X, made.X), rel=1e-9)


def test_small_samples_are_too_far_apart_and_extrapolation_mends_it():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(600, 10)), rng.normal(size=(600, 10)) + 0.5
    result = frechet_extrapolation(x, y, seed=1)
    assert result.table["n"].corr(result.table["value"], method="spearman") < -0.7, "fewer cells, farther apart"
    assert result.table["bias"].min() > 0
    assert result.infinite.low <= result.infinite.value <= result.infinite.high
    assert result.observed == frechet_distance(x, y)
    again = frechet_extrapolation(x, y, seed=1)
    assert again.table.equals(result.table) and again.infinite == result.infinite
    assert not frechet_extrapolation(x, y, seed=2).table.equals(result.table)


def test_extrapolation_is_nearer_to_the_truth_on_average():
    rng = np.random.default_rng(8)
    observed, infinite = [], []
    for seed in range(20):
        x, y = rng.normal(size=(150, 8)), rng.normal(size=(150, 8)) + 0.5
        result = frechet_extrapolation(x, y, repeats=5, n_bootstrap=10, seed=seed)
        observed.append(result.observed)
        infinite.append(result.infinite.value)
    truth = 8 * 0.25
    assert abs(np.mean(infinite) - truth) < 0.5 * abs(np.mean(observed) - truth)


def test_extrapolation_through_two_sizes_is_the_line_through_two_points():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(50, 3))
    result = frechet_extrapolation(x, y, sizes=[40, 20], repeats=3, n_bootstrap=50)
    (a, b), (n, m) = result.table["value"], result.table["n"]
    assert (n, m) == (20, 40)
    assert result.infinite.value == pytest.approx(b - (a - b) / (1 / n - 1 / m) / m)


def test_extrapolation_warns_of_sizes_where_the_bias_is_no_line():
    x = np.random.default_rng(6).normal(size=(40, 20))
    with pytest.warns(C2SWarning, match="subsamples of 10 cells in 20 dimensions"):
        frechet_extrapolation(x, x[::-1], repeats=2, n_bootstrap=10)


def test_bootstrap_over_cells():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(80, 3)), rng.normal(size=(90, 3)) + 1
    interval = bootstrap_distance(lambda a, b: frechet_distance(a, b, warn=False), x, y, n_bootstrap=100)
    assert 0 < interval.low < interval.value < interval.high
