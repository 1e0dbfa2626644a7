"""Baselines, metric and reward against references worked out by hand or by scikit-learn."""

from __future__ import annotations

import builtins

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from c2s_annotation.baselines import (
    celltypist,
    knn,
    logistic_regression,
    logistic_regression_hvg,
    majority,
)
from c2s_annotation.metrics import cell_types_f1
from c2s_annotation.rewards import label_match
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from c2s import default_host
from c2s.errors import MetricError, PluginError


@pytest.fixture
def two_groups():
    """Simulated cells of two groups that differ in five of twenty genes."""
    rng = np.random.default_rng(0)
    y = np.array(["a", "b"] * 60)
    X = rng.poisson(1.0, size=(120, 20)).astype(np.float32)
    X[y == "b", :5] += 3
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(X)), obs=pd.DataFrame(index=[f"c{i}" for i in range(120)]))
    return adata[:80], y[:80].tolist(), adata[80:], y[80:]


def test_majority_answers_the_most_frequent_label_and_breaks_ties_by_name(two_groups):
    train, _, test, _ = two_groups
    assert majority(train, ["b"] * 41 + ["a"] * 39, test) == ["b"] * 40
    assert majority(train, ["b"] * 40 + ["a"] * 40, test) == ["a"] * 40


def test_logistic_regression_is_scikit_learns(two_groups):
    train, y, test, truth = two_groups
    expected = LogisticRegression(max_iter=1000).fit(train.X, y).predict(test.X)
    assert logistic_regression(train, y, test) == expected.tolist()
    assert (expected == truth).mean() > 0.9


def test_variable_genes_are_chosen_on_the_training_cells_alone(two_groups):
    train, y, test, truth = two_groups
    # The five genes that differ vary most; a gene that varies among the test cells only must not be chosen.
    loud = test.copy()
    loud.X = loud.X.toarray()
    loud.X[::2, 19] = 9.0
    few = logistic_regression_hvg(train, y, loud, n_top_genes=5)
    assert (np.array(few) == truth).mean() > 0.9
    assert logistic_regression_hvg(train, y, test) == logistic_regression(train, y, test)


def test_knn_separates_the_groups_and_is_seeded(two_groups):
    train, y, test, truth = two_groups
    first = knn(train, y, test, seed=1)
    assert first == knn(train, y, test, seed=1)
    assert (np.array(first) == truth).mean() > 0.9


def test_different_genes_are_refused(two_groups):
    train, y, test, _ = two_groups
    with pytest.raises(PluginError, match="different genes"):
        logistic_regression(train, y, test[:, ::-1])


def test_celltypist_says_how_to_get_it(two_groups, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "celltypist":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    train, y, test, _ = two_groups
    with pytest.raises(PluginError, match=r"pip install 'c2s-annotation\[celltypist\]'"):
        celltypist(train, y, test)


def test_celltypist_learns_the_groups(two_groups):
    pytest.importorskip("celltypist", reason="the extra c2s-annotation[celltypist] is not installed")
    train, y, test, truth = two_groups
    assert (np.array(celltypist(train, y, test)) == truth).mean() > 0.8


@pytest.mark.parametrize(
    ("predicted", "truth", "f1"),
    [
        ("B , T", "B , T", 1.0),
        ("T,B", "B , T", 1.0),
        ("B , B", "B , T", 0.5),
        ("B", "B , T", 2 / 3),
        ("NK", "B , T", 0.0),
        (None, "B , T", 0.0),
        ("", "B", 0.0),
    ],
)
def test_cell_types_f1_by_hand(predicted, truth, f1):
    assert cell_types_f1([predicted], [truth])["cell_types_f1"] == pytest.approx(f1)


def test_cell_types_f1_averages_and_refuses_nothing_to_average():
    assert cell_types_f1(["B", "T"], ["B", "B"])["cell_types_f1"] == 0.5
    for predictions, references in (([], []), (["B"], ["B", "T"])):
        with pytest.raises(MetricError, match=f"{len(predictions)} predictions for {len(references)}"):
            cell_types_f1(predictions, references)


def test_label_match_by_hand():
    given = ["CD8+ T", "CD4+ T", "", "T T T", "x"]
    truth = ["CD8+ T", "CD8+ T", "B", "T", None]
    assert label_match([""] * 5, given, answer=truth) == [1.0, 0.25, 0.0, 0.25, None]


def test_everything_this_plugin_names_is_registered_by_it():
    host = default_host()
    ours = {
        entry.name
        for kind in host.registries().values()
        for entry in kind.entries()
        if entry.owner.plugin == "annotation"
    }
    assert {
        "annotation",
        "tissue",
        "sample-cell-types",
        "cell_types_f1",
        "label_match",
        "majority",
        "celltypist",
    } <= ours
    for name in ("annotation", "tissue", "sample-cell-types"):
        task = host.tasks.get(name)
        assert all(metric in host.metrics.names() for metric in task.metrics)
        assert all(reward in host.rewards.names() for reward in task.rewards)
        assert all(baseline in host.baselines.names() for baseline in task.baselines)
        assert task.prompts in host.prompts.names()
