"""Label transfer, silhouettes, and embedders side by side, against references written for the purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from c2s_embedding import compare_embedders, donor_halves, label_transfer, separation
from c2s_embedding.compare import MEASURES

import c2s
from c2s.errors import C2SWarning
from c2s.metrics import macro_f1
from c2s.testing import simulated_cells

if TYPE_CHECKING:
    from anndata import AnnData


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return simulated_cells(360)


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, list[str], list[str]]:
    rng = np.random.default_rng(0)
    types = rng.integers(4, size=240)
    donors = rng.integers(3, size=240)
    points = 2.5 * np.eye(6)[types] + rng.normal(size=(240, 6)) + 0.4 * rng.normal(size=(3, 6))[donors]
    return points, [f"t{i}" for i in types], [f"d{i}" for i in donors]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_labels_are_those_of_a_vote_counted_by_hand(metric: str) -> None:
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(60, 4)), rng.normal(size=(20, 4))
    labels = [f"t{i}" for i in rng.integers(3, size=60)]
    expected = []
    for point in test:
        if metric == "cosine":
            far = 1 - train @ point / np.linalg.norm(train, axis=1) / np.linalg.norm(point)
        else:
            far = np.linalg.norm(train - point, axis=1)
        votes = [labels[i] for i in np.argsort(far)[:7]]
        expected.append(min(set(votes), key=lambda name: (-votes.count(name), name)))
    assert label_transfer(train, labels, test, k=7, metric=metric) == expected
    assert label_transfer(train[:3], ["a", "a", "b"], test, k=50, metric=metric) == ["a"] * 20


def test_silhouettes_are_those_of_the_definition(clouds: tuple[np.ndarray, list[str], list[str]]) -> None:
    points, types, donors = clouds
    found = separation(points, types, donors)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    names = np.array(types)
    for i in range(20):
        own = [j for j in np.flatnonzero(names == names[i]) if j != i]
        a = distance[i, own].mean()
        b = min(distance[i, names == other].mean() for other in set(types) - {types[i]})
        assert found.label[i] == pytest.approx(((b - a) / max(a, b) + 1) / 2)
    assert found.label_score == pytest.approx(found.label.mean())
    low = found.label_interval(n_bootstrap=100).low
    assert found.label_interval(donors, n_bootstrap=100).high > found.label_score > low
    assert np.isnan(separation(points, types).batch_score)


def test_silhouettes_agree_with_scib(clouds: tuple[np.ndarray, list[str], list[str]]) -> None:
    sm = pytest.importorskip("scib_metrics", reason="the extra c2s-embedding[scib] is not installed")
    points, types, donors = clouds
    found = separation(points, types, donors)
    x, t, d = points.astype(np.float32), np.array(types), np.array(donors)
    assert found.label_score == pytest.approx(sm.silhouette_label(x, t), rel=1e-4)
    assert found.batch_score == pytest.approx(sm.silhouette_batch(x, t, d), rel=1e-4)


@pytest.mark.slow
def test_scores_of_integration_tell_good_vectors_from_bad(
    clouds: tuple[np.ndarray, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scib_metrics", reason="the extra c2s-embedding[scib] is not installed")
    from c2s_embedding import integration, integration_scores

    # kBET looks for neighbours with pynndescent, which compiles itself for most of a minute first.
    exact = lambda points, n_neighbors: integration._neighbours(points, n_neighbors)  # noqa: E731
    monkeypatch.setattr("scib_metrics.nearest_neighbors.pynndescent", exact)
    points, types, donors = clouds
    noise = np.random.default_rng(2).normal(size=points.shape)
    apart = 9 * np.eye(6)[[int(d[1]) for d in donors]]
    good, none, batchy = (
        integration_scores(x, types, donors, n_neighbors=60).set_index("score")["value"]
        for x in (points, noise, 0.2 * points + apart)
    )
    assert good["label conservation"] > none["label conservation"] + 0.1
    assert good["ilisi"] > batchy["ilisi"] + 0.2
    assert good["total"] == pytest.approx(0.6 * good["label conservation"] + 0.4 * good["batch mixing"])
    assert ((good >= 0) & (good <= 1)).all()


def test_halves_share_no_donor_and_leave_out_no_cell(cells: AnnData) -> None:
    first, second = donor_halves(cells.obs)
    donors = cells.obs["donor_id"].astype(str)
    assert not set(donors[first]) & set(donors[second])
    assert sorted(first + second) == sorted(cells.obs_names)
    assert donor_halves(cells.obs[::-1], seed=0)[0] == [i for i in cells.obs_names[::-1] if i in set(first)]


def test_a_comparison_tests_every_cell_once_by_what_saw_other_donors(cells: AnnData) -> None:
    seen: list[set[str]] = []

    def watched(train: AnnData, seed: int) -> object:
        seen.append(set(train.obs["donor_id"].astype(str)))
        return c2s.default_host().embedders.get("pca").fitted(train, seed=seed, n_components=8)

    def constant(train: AnnData, seed: int) -> object:
        return lambda some: np.tile([1.0, 2.0], (some.n_obs, 1))

    report = compare_embedders(cells, {"pca": watched, "constant": constant}, n_cells=5)
    mine = report.cells[report.cells["embedder"] == "pca"]
    assert sorted(mine["cell_id"]) == sorted(cells.obs_names)
    for half, donors in enumerate(seen):
        assert not donors & set(mine.loc[mine["half"] == half, "donor"])
    accuracy = (mine["predicted"] == mine["label"]).mean()
    assert report.value("pca", "accuracy") == pytest.approx(accuracy)
    f1 = macro_f1(mine["predicted"].tolist(), mine["label"].tolist())["macro_f1"]
    assert report.value("pca", "macro_f1") == pytest.approx(f1)
    assert report.value("constant", "foscttm") == 0.5
    assert report.value("pca", "foscttm") < 0.25 < report.value("constant", "foscttm")
    assert report.value("pca", "silhouette_label") == pytest.approx(mine["silhouette_label"].mean())
    of_types = mine.groupby("label")["silhouette_batch"].mean()
    assert report.value("pca", "silhouette_batch") == pytest.approx(of_types.mean())
    summary = report.summary(n_bootstrap=100)
    assert len(summary) == 2 * len(MEASURES)
    inside = summary.dropna()
    assert ((inside["low"] <= inside["value"] + 1e-9) & (inside["value"] <= inside["high"] + 1e-9)).mean() > 0.9
    gap = report.difference("pca", "constant", "foscttm", n_bootstrap=200)
    assert gap.value == pytest.approx(report.value("pca", "foscttm") - 0.5) and gap.high < 0
    again = compare_embedders(cells, {"pca": watched, "constant": constant}, n_cells=5).summary(n_bootstrap=100)
    assert summary.equals(again)


def test_labels_that_the_other_half_of_the_donors_does_not_have_are_warned_of(cells: AnnData) -> None:
    first, second = donor_halves(cells.obs)
    known = cells[first + second].copy()
    known.obs["kind"] = ["one", "two", "three"] * 60 + ["two", "three", "four"] * 60
    fits = {"constant": lambda train, seed: lambda some: np.tile([1.0, 2.0], (some.n_obs, 1))}
    with pytest.warns(
        C2SWarning, match=r"60 of 180 answers of the test part .* cannot have been learned: 'four' \(60\)"
    ):
        report = compare_embedders(known, fits, label="kind", n_cells=2)
    assert set(report.cells["label"]) == {"one", "two", "three", "four"}


def test_an_interval_resamples_donors(cells: AnnData) -> None:
    pca = c2s.default_host().embedders.get("pca")
    report = compare_embedders(cells, {"pca": lambda train, seed: pca.fitted(train, seed=seed)}, n_cells=5)
    right = report.cells["predicted"] == report.cells["label"]
    by_donor = right.groupby(report.cells["donor"])
    sums, sizes = by_donor.sum().to_numpy(), by_donor.size().to_numpy()
    draws = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=500)
    expected = np.quantile(draws @ sums / (draws @ sizes), [0.025, 0.975])
    found = report.interval("pca", "accuracy", n_bootstrap=500, seed=3)
    np.testing.assert_allclose([found.low, found.high], expected)


def test_cells_of_a_half_can_be_limited_and_the_pairs_are_not(cells: AnnData) -> None:
    pca = c2s.default_host().embedders.get("pca")
    fits = {"pca": lambda train, seed: pca.fitted(train, seed=seed)}
    few = compare_embedders(cells, fits, n_cells=5, max_cells=60)
    assert few.cells.groupby("half").size().tolist() == [60, 60]
    assert len(few.pairs) == len(compare_embedders(cells, fits, n_cells=5).pairs)
