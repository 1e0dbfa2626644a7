"""MMD, energy and Wasserstein distances against double loops, SciPy and linear programming."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, strategies as st
from scipy.optimize import linprog

from c2s.errors import MetricError
from c2s.metrics import (
    arrays,
    bootstrap_distance,
    distance_per_condition,
    energy_distance,
    median_bandwidth,
    mmd,
    wasserstein,
    wasserstein_per_gene,
)

sizes = st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))


def clouds(size):
    n, m, d, seed = size
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)).round(1), (rng.normal(size=(m, d)) * 2 + 1).round(1)


def kernel(a, b, bandwidths):
    return float(np.mean([np.exp(-((a - b) ** 2).sum() / (2 * s**2)) for s in bandwidths]))


@given(sizes, st.booleans())
def test_mmd_is_the_double_loop(size, unbiased):
    x, y = clouds(size)
    bandwidths = (0.5, 2.0)

    def within(z):
        pairs = [(i, j) for i in range(len(z)) for j in range(len(z)) if i != j or not unbiased]
        return np.mean([kernel(z[i], z[j], bandwidths) for i, j in pairs])

    across = np.mean([kernel(a, b, bandwidths) for a in x for b in y])
    expected = within(x) + within(y) - 2 * across
    got = mmd(x, y, bandwidths=bandwidths, unbiased=unbiased)
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert got == pytest.approx(mmd(y, x, bandwidths=bandwidths, unbiased=unbiased), rel=1e-9, abs=1e-12)


@given(sizes)
def test_default_bandwidths_are_multiples_of_the_median_distance(size):
    x, y = clouds(size)
    z = np.concatenate((x, y))
    far = [np.linalg.norm(z[i] - z[j]) for i in range(len(z)) for j in range(i)]
    far = [distance for distance in far if distance > 0]
    if far:
        assert median_bandwidth(x, y) == pytest.approx(np.median(far), rel=1e-9)
        widths = np.median(far) * np.array([0.25, 0.5, 1, 2, 4])
        assert mmd(x, y) == pytest.approx(mmd(x, y, bandwidths=widths), rel=1e-6, abs=1e-12)


def test_unbiased_mmd_is_zero_on_average_and_biased_is_not():
    rng = np.random.default_rng(0)
    draws = [rng.normal(size=(2, 20, 3)) for _ in range(200)]
    unbiased = [mmd(x, y, bandwidths=1.0) for x, y in draws]
    biased = [mmd(x, y, bandwidths=1.0, unbiased=False) for x, y in draws]
    assert abs(np.mean(unbiased)) < 3 * np.std(unbiased) / np.sqrt(200)
    assert min(biased) > 0 and min(unbiased) < 0


def test_median_of_many_points_follows_the_seed():
    x = np.random.default_rng(0).normal(size=(3000, 2))
    assert median_bandwidth(x, x, seed=1) == median_bandwidth(x, x, seed=1) != median_bandwidth(x, x, seed=2)


@given(sizes, st.booleans())
def test_energy_distance_is_the_double_loop(size, unbiased):
    x, y = clouds(size)

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and unbiased and i == j)]
        return np.mean([np.linalg.norm(a[i] - b[j]) for i, j in pairs])

    expected = 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)
    assert energy_distance(x, y, unbiased=unbiased) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(sizes)
def test_energy_distance_in_one_dimension_is_scipys_squared(size):
    x, y = (cloud[:, 0] for cloud in clouds(size))
    expected = scipy.stats.energy_distance(x, y) ** 2
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def transport(x, y, order):
    """Solve the transport as a linear programme."""
    n, m = len(x), len(y)
    cost = np.array([[np.linalg.norm(a - b) ** order for b in y] for a in x])
    rows = np.zeros((n + m, n * m))
    for i in range(n):
        rows[i, i * m : (i + 1) * m] = 1
    for j in range(m):
        rows[n + j, j::m] = 1
    weights = np.concatenate((np.full(n, 1 / n), np.full(m, 1 / m)))
    return linprog(cost.ravel(), A_eq=rows, b_eq=weights).fun ** (1 / order)


@pytest.mark.parametrize("order", [1, 2])
@given(size=sizes)
def test_wasserstein_is_the_linear_programme(order, size):
    pytest.importorskip("ot")
    x, y = clouds(size)
    assert wasserstein(x, y, order=order) == pytest.approx(transport(x, y, order), rel=1e-6, abs=1e-7)


def test_wasserstein_is_what_pot_returns_and_sinkhorn_comes_close():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(60, 5)) + 1
    cost = ot.dist(x, y, metric="sqeuclidean")
    assert wasserstein(x, y, order=2) == pytest.approx(np.sqrt(ot.emd2([], [], cost)), rel=1e-6)
    exact, blurred = wasserstein(x, y), wasserstein(x, y, regularisation=0.01)
    assert exact <= blurred < 1.05 * exact
    assert wasserstein(x, x) == 0 == wasserstein(np.ones((3, 2)), np.ones((5, 2)), regularisation=0.1)
    with pytest.raises(MetricError, match=r"not solved.*Fix: pass a larger regularisation"):
        wasserstein(x, y, regularisation=1e-6)


@given(sizes)
def test_wasserstein_of_each_gene_is_scipys(size):
    x, y = clouds(size)
    expected = [scipy.stats.wasserstein_distance(x[:, g], y[:, g]) for g in range(x.shape[1])]
    assert wasserstein_per_gene(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(31, 7)), rng.normal(size=(23, 7))
    whole = mmd(x, y), energy_distance(x, y), *wasserstein_per_gene(x, y)
    monkeypatch.setattr(arrays, "_BLOCK", 100)
    assert (mmd(x, y), energy_distance(x, y), *wasserstein_per_gene(x, y)) == pytest.approx(whole, rel=1e-12)


def test_points_at_one_place_are_at_no_distance():
    one, two = np.ones((3, 2)), np.ones((5, 2))
    assert mmd(one, two) == mmd(one, two, unbiased=False) == energy_distance(one, two) == 0
    assert wasserstein_per_gene(one, two).tolist() == [0, 0]
    # Single points are enough where nothing is averaged within a sample.
    assert mmd([[0.0]], [[1.0]], bandwidths=1.0, unbiased=False) == pytest.approx(2 - 2 * np.exp(-0.5))
    assert energy_distance([[0.0]], [[1.0]]) == 2
    assert wasserstein_per_gene([0.0], [2.0]).tolist() == [2]


def test_sparse_points_are_read():
    import scipy.sparse as sp

    x, y = np.eye(3), 2 * np.eye(3)
    assert energy_distance(sp.csr_matrix(x), sp.csr_matrix(y)) == energy_distance(x, y) > 0


def test_interval_covers_the_distance_of_the_populations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 1)), rng.normal(size=(3000, 1)) + 1
    truth = energy_distance(x, y)
    inside = 0
    for seed in range(40):
        a, b = rng.choice(x, 60, replace=False), rng.choice(y, 60, replace=False)
        interval = bootstrap_distance(energy_distance, a, b, n_bootstrap=100, seed=seed)
        inside += interval.low <= truth <= interval.high
    assert inside >= 34, "95% intervals, 40 times"


def test_interval_follows_the_seed_and_knows_where_values_end():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    first = bootstrap_distance(energy_distance, x, y, n_bootstrap=50, seed=1)
    assert first == bootstrap_distance(energy_distance, x, y, n_bootstrap=50, seed=1)
    assert first != bootstrap_distance(energy_distance, x, y, n_bootstrap=50, seed=2)
    assert first.low >= 0
    assert bootstrap_distance(mmd, x, x, n_bootstrap=50, lowest=None).low < 0
    single = bootstrap_distance(energy_distance, x[:1], y[:1], n_bootstrap=20)
    assert single.low == single.value == single.high


def test_a_value_below_the_lowest_lies_inside_its_interval():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 30, 2))
    negative = bootstrap_distance(mmd, x, y, n_bootstrap=50)
    assert negative.value < 0, "the unbiased estimate of equal distributions can be"
    assert negative.low <= negative.value <= negative.high
    assert negative == bootstrap_distance(mmd, x, y, n_bootstrap=50, lowest=None)


def test_distances_are_averaged_over_conditions():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=(90, 2)) + 0.5
    first = [("B" if i < 20 else "T", "IFNB" if i % 2 else "none") for i in range(60)]
    second = [("B" if i < 30 else "T", "IFNB" if i % 3 else "none") for i in range(90)]
    result = distance_per_condition(energy_distance, x, y, first, second, n_bootstrap=100)
    assert result.table["condition"].tolist() == [("B", "IFNB"), ("B", "none"), ("T", "IFNB"), ("T", "none")]
    for row in result.table.itertuples():
        i = [c == row.condition for c in first]
        j = [c == row.condition for c in second]
        assert (row.n_first, row.n_second) == (sum(i), sum(j))
        assert row.value == pytest.approx(energy_distance(x[i], y[j]), rel=1e-9)
    assert result.mean.value == pytest.approx(result.table["value"].mean())
    assert result.mean.low <= result.mean.value <= result.mean.high
