"""FOSCTTM against a direct double loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from c2s.errors import MetricError
from c2s.metrics import alignment, arrays, bootstrap_groups, foscttm


def loop(first, second, metric, groups=None):
    """Both directions, pair by pair, with plain Python."""
    n = len(first)
    groups = list(range(n)) if groups is None else groups

    def alike(a, b):
        if metric == "cosine":
            return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
        return -float(np.sqrt(((a - b) ** 2).sum()))

    directions = []
    for one, other in ((first, second), (second, first)):
        values = []
        for i in range(n):
            score, compared = 0.0, 0
            for j in range(n):
                if groups[i] == groups[j]:
                    continue
                gap = alike(one[i], other[j]) - alike(one[i], other[i])
                score += 0.5 if abs(gap) < 1e-9 else float(gap > 0)
                compared += 1
            values.append(score / compared)
        directions.append(np.array(values))
    return directions


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@given(seed=st.integers(0, 10**6), n=st.integers(2, 12), d=st.integers(1, 4), grouped=st.booleans())
def test_it_is_the_double_loop(metric, seed, n, d, grouped):
    rng = np.random.default_rng(seed)
    # Whole numbers, so that ties happen; none of length 0.
    first, second = rng.integers(1, 4, (n, d)).astype(float), rng.integers(1, 4, (n, d)).astype(float)
    groups = [i % max(2, n // 2) for i in range(n)] if grouped else None
    forward, backward = loop(first, second, metric, groups)
    got = foscttm(first, second, metric=metric, groups=groups)
    assert got.forward == pytest.approx(forward.mean(), rel=1e-6)
    assert got.backward == pytest.approx(backward.mean(), rel=1e-6)
    assert got.value == pytest.approx((forward.mean() + backward.mean()) / 2, rel=1e-6)
    assert got.per_pair == pytest.approx((forward + backward) / 2, rel=1e-6)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(57, 5)), rng.normal(size=(57, 5))
    whole = foscttm(first, second)
    monkeypatch.setattr(arrays, "_BLOCK", 57 * 4)
    assert len(list(alignment.row_blocks(57, 57))) == 15
    assert foscttm(first, second).per_pair == pytest.approx(whole.per_pair, rel=1e-12)


def test_known_values():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 6))
    assert foscttm(x, 3 * x).value == 0
    assert foscttm(x, np.ones((30, 6))).forward == 0.5, "all matches alike are as good as chance"
    assert foscttm(x, -x).value == 1
    assert foscttm(rng.normal(size=(400, 20)), rng.normal(size=(400, 20))).value == pytest.approx(0.5, abs=0.03)
    float32 = rng.normal(size=(20, 600)).astype(np.float32)
    assert foscttm(float32, np.repeat(float32[:1], 20, axis=0)).forward == 0.5, "copies tie in spite of rounding"


def test_rows_of_one_group_are_no_wrong_match():
    rng = np.random.default_rng(2)
    bulk = rng.normal(size=(6, 8))
    cells, owner = np.repeat(bulk, 10, axis=0) + 0.01 * rng.normal(size=(60, 8)), np.repeat(np.arange(6), 10)
    assert foscttm(cells, bulk[owner]).value > 0.05, "its nine siblings have the same bulk vector"
    assert foscttm(cells, bulk[owner], groups=owner).value == 0


def test_intervals_hold_the_value_and_follow_the_seed():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 5))
    y = x + rng.normal(size=x.shape)
    groups = np.repeat(np.arange(12), 5)
    single, grouped = foscttm(x, y), foscttm(x, y, groups=groups)
    for result in (single, grouped):
        interval = result.interval(n_bootstrap=300, seed=4)
        assert interval.low < interval.value < interval.high
        assert interval.value == pytest.approx(result.value)
        assert interval == result.interval(n_bootstrap=300, seed=4) != result.interval(n_bootstrap=300, seed=5)


def test_groups_are_drawn_whole():
    values, groups = [0.0] * 50 + [1.0] * 50, [0] * 50 + [1] * 50
    interval = bootstrap_groups(values, groups, n_bootstrap=200)
    assert (interval.value, interval.low, interval.high) == (0.5, 0.0, 1.0)
    assert np.isnan(bootstrap_groups([1.0, np.nan], [0, 1]).value)
    single = bootstrap_groups([1.0, 2.0], ["a", "a"])
    assert (single.low, single.high) == (1.5, 1.5)


def test_what_it_is_not_defined_for():
    x = np.ones((3, 2))
    with pytest.raises(MetricError, match=r"too few: 2 needed"):
        foscttm(x[:1], x[:1])
    with pytest.raises(MetricError, match="no length"):
        foscttm(x, np.zeros((3, 2)))
    assert foscttm(x, np.zeros((3, 2)), metric="euclidean").value == 0.5
    with pytest.raises(MetricError, match="one group"):
        foscttm(x, x, groups=[1, 1, 1])
