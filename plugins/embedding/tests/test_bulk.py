"""Pseudo-bulk samples, their pairs, and FOSCTTM against what is known without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from c2s_embedding import bulk_integration, bulk_pairs, foscttm_of_knowing, pseudo_bulk

import c2s
from c2s.testing import simulated_cells

if TYPE_CHECKING:
    from anndata import AnnData

BY = ("donor_id", "cell_type")


@pytest.fixture(scope="module")
def cells() -> AnnData:
    adata = simulated_cells(480)
    rng = np.random.default_rng(0)
    adata.layers["counts"] = adata.X.copy()
    adata.layers["counts"].data = rng.integers(1, 9, len(adata.X.data)).astype(np.float32)
    return adata


def test_samples_keep_what_embedders_of_counts_and_ids_need(cells: AnnData) -> None:
    cells = cells.copy()
    cells.var["ensembl_id"] = [f"ENSG{i:011d}" for i in range(cells.n_vars)]
    found = pseudo_bulk(cells, by=BY)
    assert found.var["ensembl_id"].tolist() == cells.var["ensembl_id"].tolist()
    first = found.obs.iloc[0]
    mine = (
        (cells.obs["donor_id"] == first["donor_id"]) & (cells.obs["cell_type"] == first["cell_type"])
    ).to_numpy()
    summed = np.asarray(cells.layers["counts"][mine].sum(axis=0)).ravel()
    np.testing.assert_array_equal(found.layers["counts"][0].toarray().ravel(), summed)
    del cells.layers["counts"]
    assert not pseudo_bulk(cells, by=BY).layers


def test_a_sample_is_the_normalised_sum_of_its_cells_counts(cells: AnnData) -> None:
    found = pseudo_bulk(cells, by=BY, layer="counts")
    assert found.n_obs == 24 and list(found.obs_names) == sorted(found.obs_names)
    for i, row in enumerate(found.obs.itertuples()):
        mine = ((cells.obs["donor_id"] == row.donor_id) & (cells.obs["cell_type"] == row.cell_type)).to_numpy()
        total = np.asarray(cells.layers["counts"][mine].sum(axis=0)).ravel()
        np.testing.assert_allclose(found.X[i].toarray().ravel(), np.log1p(total / total.sum() * 1e4), rtol=1e-5)
        assert row.n_cells == mine.sum()


def test_without_counts_every_cell_weighs_alike(cells: AnnData) -> None:
    found = pseudo_bulk(cells, by=("cell_type",))
    mine = (cells.obs["cell_type"] == found.obs["cell_type"].iloc[0]).to_numpy()
    mean = np.expm1(cells.X[mine].toarray().astype(float)).mean(axis=0)
    np.testing.assert_allclose(found.X[0].toarray().ravel(), np.log1p(mean / mean.sum() * 1e4), rtol=1e-4)


@pytest.mark.parametrize("apart", [True, False])
def test_pairs_are_ten_cells_of_each_sample_and_apart_if_told(cells: AnnData, apart: bool) -> None:
    pairs = bulk_pairs(cells, by=BY, apart=apart)
    assert np.bincount(pairs.sample).tolist() == [10] * pairs.bulk.n_obs
    for column in BY:
        assert pairs.values(column) == pairs.cells.obs[column].astype(str).tolist()
    kept = cells[~cells.obs_names.isin(pairs.cells.obs_names)] if apart else cells
    np.testing.assert_allclose(pairs.bulk.X.toarray(), pseudo_bulk(kept, by=BY).X.toarray(), rtol=1e-5)
    assert ("kept out of" if apart else "counted in") in str(pairs)


def test_the_draw_depends_on_ids_and_seed_and_not_on_rows(cells: AnnData) -> None:
    first = bulk_pairs(cells, by=BY)
    order = np.random.default_rng(1).permutation(cells.n_obs)
    again = bulk_pairs(cells[order].copy(), by=BY)
    assert list(first.cells.obs_names) == list(again.cells.obs_names)
    np.testing.assert_allclose(first.bulk.X.toarray(), again.bulk.X.toarray(), rtol=1e-5)
    assert list(first.cells.obs_names) != list(bulk_pairs(cells, by=BY, seed=1).cells.obs_names)


def test_groups_with_too_few_cells_are_left_out_and_counted(cells: AnnData) -> None:
    rare = (cells.obs["cell_type"] == "B cell") & (cells.obs["donor_id"] == "donor1")
    drop = cells.obs_names[rare][7:]
    pairs = bulk_pairs(cells[~cells.obs_names.isin(drop)].copy(), by=BY)
    assert pairs.left_out == {"donor1|B cell": 7}
    assert pairs.bulk.n_obs == 23


def test_foscttm_is_that_of_a_double_loop(cells: AnnData) -> None:
    pairs = bulk_pairs(cells, by=BY, n_cells=3)
    pca = c2s.default_host().embedders.get("pca").fitted(cells, seed=0, n_components=5)
    found = bulk_integration(pairs, pca)
    x, y = pca(pairs.cells).astype(float), pca(pairs.bulk).astype(float)
    cosine = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    n = len(x)
    for direction, mean in (("forward", found.overall.forward), ("backward", found.overall.backward)):
        shares = []
        for i in range(n):
            others = [j for j in range(n) if pairs.sample[j] != pairs.sample[i]]
            own = cosine[i, pairs.sample[i]]
            forward = direction == "forward"
            of = [cosine[i, pairs.sample[j]] if forward else cosine[j, pairs.sample[i]] for j in others]
            shares.append(np.mean([value > own for value in of]))
        assert mean == pytest.approx(np.mean(shares), abs=1e-9)
    assert found.within is not None and set(found.within) == set(cells.obs["cell_type"])
    assert 0 <= found.within_value <= 1


def test_who_knows_the_sample_is_perfect_who_knows_nothing_is_at_chance(cells: AnnData) -> None:
    pairs = bulk_pairs(cells, by=BY)
    assert foscttm_of_knowing(pairs, *BY) == 0
    # Of the 23 wrong samples 5 are of the same type, and tie.
    assert foscttm_of_knowing(pairs, "cell_type") == pytest.approx(0.5 * 5 / 23)
    assert bulk_integration(pairs, lambda side: np.ones((side.n_obs, 2))).overall.value == 0.5
    rng = np.random.default_rng(0)
    noise = bulk_integration(pairs, lambda side: rng.normal(size=(side.n_obs, 8)))
    assert noise.overall.value == pytest.approx(0.5, abs=0.06)
    interval = noise.interval(n_bootstrap=200)
    assert interval.low <= noise.overall.value <= interval.high


def test_taking_means_removes_what_all_samples_share(cells: AnnData) -> None:
    pairs = bulk_pairs(cells, by=BY)
    one_hot = np.eye(pairs.bulk.n_obs)
    noise = np.random.default_rng(0).normal(size=one_hot.shape) * 0.02

    def shifted(side: AnnData) -> np.ndarray:
        if side is pairs.cells:
            return one_hot[pairs.sample]
        return one_hot + 40 * noise[:1]

    as_it_is, centred = (bulk_integration(pairs, shifted, centred=flag).overall.value for flag in (False, True))
    assert centred == 0 < as_it_is
