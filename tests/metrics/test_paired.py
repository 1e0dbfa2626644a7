"""McNemar's test against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from c2s.errors import MetricError
from c2s.metrics import McNemar, mcnemar, mcnemar_of_predictions

outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize("options", [{}, {"continuity": False}, {"exact": True}])
@given(rows=outcomes)
def test_it_is_statsmodels(options, rows):
    statsmodels = pytest.importorskip("statsmodels.stats.contingency_tables")
    first, second = (np.array(column) for column in zip(*rows))
    table = [
        [(first & second).sum(), (first & ~second).sum()],
        [(~first & second).sum(), (~first & ~second).sum()],
    ]
    got = mcnemar(first, second, **options)
    if table[0][1] + table[1][0] == 0:
        assert got == McNemar(0.0, 1.0, 0, 0, len(rows))
        return
    correction = options.get("continuity", True)
    if correction and not options.get("exact") and table[0][1] == table[1][0]:
        # statsmodels corrects past 0 here, (0 - 1)² / (b + c), as if the methods differed.
        assert (got.statistic, got.p_value) == (0.0, 1.0)
        return
    theirs = statsmodels.mcnemar(table, exact=options.get("exact", False), correction=correction)
    assert got.statistic == pytest.approx(theirs.statistic, rel=1e-6)
    assert got.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
    assert (got.only_first, got.only_second, got.n) == (table[0][1], table[1][0], len(rows))


def test_by_hand():
    # 10 against 2: (8 - 1)² / 12.
    first = [True] * 10 + [False] * 2 + [True] * 5
    second = [False] * 10 + [True] * 2 + [True] * 5
    assert mcnemar(first, second).statistic == pytest.approx(49 / 12)
    assert mcnemar(np.array(first).astype(int), second) == mcnemar(first, second)


def test_methods_that_are_right_equally_often_do_not_differ():
    first, second = [True, False, True], [False, True, True]
    for continuity in (True, False):
        assert mcnemar(first, second, continuity=continuity) == McNemar(0.0, 1.0, 1, 1, 3)


def test_predictions_are_right_if_they_equal_the_reference():
    got = mcnemar_of_predictions(["a", None, "b"], ["a", "b", "a"], ["a", "b", "b"])
    assert (got.only_first, got.only_second, got.n) == (1, 1, 3)
    with pytest.raises(MetricError, match="no examples"):
        mcnemar_of_predictions([], [], [])
