"""Bad input to metrics and embedders: the error class names the mistake, the message ends with the fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
After every row nothing is in the folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import c2s
from c2s import errors as e, metrics as m

X = np.random.default_rng(0).normal(size=(12, 3))
BROKEN = np.where(np.arange(36).reshape(12, 3) == 7, np.nan, X)
TABLE = pd.DataFrame(np.abs(X), columns=["A", "B", "C"])


def embedder(name, *args, **options):
    return c2s.default_host().embedders.get(name).fitted(*args, **options)


def cells(values=None, genes=("A", "B", "C")):
    return ad.AnnData(np.abs(X) if values is None else values, var=pd.DataFrame(index=list(genes)))


@dataclass(frozen=True)
class Case:
    """One mistake."""

    name: str
    says: str
    fix: str
    do: Callable[[Path], object]
    error: type[e.C2SError] = e.MetricError


CASES = [
    Case("no cells", r"has 0 row\(s\)", "more cells", lambda d: m.mmd(X[:0], X)),
    Case("NaN cell", r"second sample holds NaN or infinity in 1 row.*row 2", "leave", lambda d: m.mmd(X, BROKEN)),
    Case("infinity", "NaN or infinity", "leave", lambda d: m.energy_distance(X, X * np.inf)),
    Case("text", "not a matrix of numbers", "array", lambda d: m.wasserstein_per_gene([["a"]], X)),
    Case("three axes", r"shape \(2, 2, 2\)", "cells, dimensions", lambda d: m.mmd(np.ones((2, 2, 2)), X)),
    Case("no dimensions", r"shape \(3, 0\)", "cells, dimensions", lambda d: m.mmd(np.ones((3, 0)), X)),
    Case("other embedder", "3 dimensions, the second 2", "same embedder", lambda d: m.mmd(X, X[:, :2])),
    Case("one cell for an unbiased estimate", "too few: 2 needed", "more cells", lambda d: m.mmd(X[:1], X)),
    Case("bandwidth of 0", "bandwidths 0", "positive", lambda d: m.mmd(X, X, bandwidths=0)),
    Case("no bandwidths", r"bandwidths \[\]", "None for the default", lambda d: m.mmd(X, X, bandwidths=[])),
    Case("Wasserstein of order 3", "order=3", "1 or 2", lambda d: m.wasserstein(X, X, order=3)),
    Case(
        "too many cells", "more than most_cells=5", "energy_distance", lambda d: m.wasserstein(X, X, most_cells=5)
    ),
    Case(
        "regularisation below 0",
        "regularisation=-1",
        "positive",
        lambda d: m.wasserstein(X, X, regularisation=-1),
    ),
    Case("scFID of one cell", "too few: 2 needed", "more cells", lambda d: m.scfid(X[:1], X)),
    Case("scFID of NaN", "NaN or infinity", "leave", lambda d: m.scfid(BROKEN, X)),
    Case(
        "covariance that is none",
        "second covariance is not symmetric",
        r"numpy\.cov",
        lambda d: m.frechet_of_moments([0, 0], np.eye(2), [0, 0], [[1, 2], [2, 1]]),
    ),
    Case(
        "covariance of another size",
        r"shapes \(2,\), \(2,\), \(3, 3\), \(2, 2\)",
        r"\[d, d\]",
        lambda d: m.frechet_of_moments([0, 0], np.eye(3), [0, 0], np.eye(2)),
    ),
    Case(
        "covariance with NaN",
        "holds NaN",
        "finite",
        lambda d: m.frechet_of_moments([0.0], [[np.nan]], [0.0], [[1.0]]),
    ),
    Case("one size", r"sizes \[5\]", "from 2 to 12", lambda d: m.frechet_extrapolation(X, X, sizes=[5, 5])),
    Case("size above n", r"sizes \[5, 13\]", "to 12", lambda d: m.frechet_extrapolation(X, X, sizes=[5, 13])),
    Case("no repeats", "repeats=0", "at least 1", lambda d: m.frechet_extrapolation(X, X, repeats=0)),
    Case("views of different length", "12 rows in one view, 11", "per pair", lambda d: m.foscttm(X, X[:11])),
    Case("unknown likeness", "unknown metric 'dot'", "cosine", lambda d: m.foscttm(X, X, metric="dot")),
    Case("groups of other length", "2 groups for 12 pairs", "per pair", lambda d: m.foscttm(X, X, groups=[1, 2])),
    Case("tau of one gene", r"1 gene\(s\) have no order", "two genes", lambda d: m.kendall_tau([[1]], [[2]])),
    Case("tau of NaN", "first matrix holds NaN", "leave", lambda d: m.kendall_tau(BROKEN, X)),
    Case("tau-c", "unknown variant 'c'", "'b'", lambda d: m.kendall_tau(X, X, variant="c")),
    Case("r of other shapes", r"\(12, 3\) and \(12, 2\)", "same rows", lambda d: m.pearson(X, X[:, :2])),
    Case("r of text", "not a matrix of numbers", "arrays", lambda d: m.spearman([["a", "b"]], [[1, 2]])),
    Case("no rows", r"\(0, 3\)", "rows, genes", lambda d: m.pearson(X[:0], X[:0])),
    Case("panel with a repeat", "'A' is listed twice", "once", lambda d: m.sentence_ranks(["A"], ["A", "B", "A"])),
    Case("empty panel", "no genes to rank", "pass the genes", lambda d: m.sentence_ranks(["A"], [])),
    Case(
        "panels of other length",
        "2 panels for 1 examples",
        "one per example",
        lambda d: m.sentence_correlations(["A B"], ["A B"], panel=[["A", "B"], ["A", "C"]]),
    ),
    Case("no questions", r"shape \(0,\)", "at least one", lambda d: m.mcnemar([], [])),
    Case("outcomes of other length", "1 outcomes and 2", "both", lambda d: m.mcnemar([True], [True, False])),
    Case("outcomes that are labels", "second method", "prediction == ref", lambda d: m.mcnemar([1], ["yes"])),
    Case("outcomes that are scores", "first method", "prediction == ref", lambda d: m.mcnemar([0.4], [True])),
    Case(
        "a condition on one side",
        r"1 condition\(s\) are in one sample only, first IFNB",
        "generate",
        lambda d: m.distance_per_condition(m.mmd, X, X, ["none"] * 12, ["none"] * 6 + ["IFNB"] * 6),
    ),
    Case(
        "a condition with too few cells",
        "condition IFNB: .*too few",
        "more cells",
        lambda d: m.distance_per_condition(m.mmd, X, X, *[["none"] * 11 + ["IFNB"]] * 2),
    ),
    Case(
        "a cell without condition",
        "cell 3 of the second sample has no condition",
        "leave cells",
        lambda d: m.distance_per_condition(m.mmd, X, X, ["a"] * 12, ["a"] * 3 + [None] * 9),
    ),
    Case(
        "conditions of other length",
        "11 conditions for 12 cells of the first",
        "per cell",
        lambda d: m.distance_per_condition(m.mmd, X, X, ["a"] * 11, ["a"] * 12),
    ),
    Case("no resamples", "n_bootstrap is 0", "1", lambda d: m.bootstrap_distance(m.mmd, X, X, n_bootstrap=0)),
    Case("level of 95", "level is 95", "0.95", lambda d: m.bootstrap_distance(m.mmd, X, X, level=95)),
    Case("groups for no values", r"shape \(0,\)", "one group", lambda d: m.bootstrap_groups([], [])),
    Case("no gene set", "no gene set", "at least one", lambda d: m.ssgsea(TABLE, {})),
    Case("set of other genes", r"0 gene\(s\) of the set 's'", "symbols", lambda d: m.ssgsea(TABLE, {"s": ["X"]})),
    Case("set that is all", "is all 3 genes", "smaller", lambda d: m.ssgsea(TABLE, {"s": ["A", "B", "C"]})),
    Case("expression with NaN", "NaN", "leave", lambda d: m.ssgsea(TABLE * np.nan, {"s": ["A"]})),
    Case("no samples", "0 samples", "at least one", lambda d: m.rank_zscore(TABLE[:0], ["A"])),
    Case("set not in the table", "none of the 1 genes", "letter case", lambda d: m.rank_zscore(TABLE, ["a"])),
    Case("scaled values", "values are negative", "log1p", lambda d: m.rank_zscore(TABLE - 1, ["A"])),
    Case(
        "unknown embedder",
        "unknown embedder 'sgpt'.*Did you mean 'scgpt'",
        "choose one of",
        lambda d: embedder("sgpt"),
        e.RegistryError,
    ),
    Case(
        "components below 1",
        "n_components=0",
        "50",
        lambda d: embedder("pca", cells(), n_components=0),
        e.ConfigError,
    ),
    Case(
        "genes below 1",
        "n_genes=0",
        "2000",
        lambda d: embedder("hvg", cells(), n_genes=0),
        e.ConfigError,
    ),
    Case("one training cell", "one cell has no", "two", lambda d: embedder("hvg", cells()[:1]), e.MatrixError),
    Case("no cells to fit on", "0 cells", "one of each", lambda d: embedder("hvg", cells()[:0]), e.MatrixError),
    Case("scaled training cells", "negative", "log1p", lambda d: embedder("pca", cells(X)), e.MatrixError),
    Case(
        "a gene twice",
        "'A' is there twice",
        "make_unique",
        lambda d: embedder("pca", cells(genes=["A", "A", "C"])),
        e.GeneError,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_message_says_what_was_wrong_and_how_to_mend_it(case, tmp_path):
    if "ssgsea" in case.do.__code__.co_names:
        pytest.importorskip("gseapy")
    with pytest.raises(e.C2SError) as caught:
        case.do(tmp_path)
    assert type(caught.value) is case.error, repr(caught.value)
    assert re.search(case.says, caught.value.problem, flags=re.DOTALL), caught.value.problem
    assert re.search(case.fix, caught.value.fix), caught.value.fix
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("package", "extra"), [("ot", "metrics"), ("gseapy", "metrics")])
def test_a_missing_extra_names_its_command(package, extra, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(e.MetricError, match=rf"is not installed\. Fix: pip install 'c2s\[{extra}\]'"):
        if package == "ot":
            m.wasserstein(X, X)
        else:
            m.ssgsea(TABLE, {"s": ["A"]})
