"""Simulated tissue: niches, places, and receivers that answer the ligands of their neighbours."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy.spatial import cKDTree

from c2s.data.simulate import spatial, truth_of
from c2s.data.simulate.programs import switched_genes
from c2s.data.simulate.spatial_cells import EXPOSURE
from c2s.errors import ConfigError


@pytest.fixture(scope="module")
def tissue(few_genes):
    return spatial(n_cells=5000, seed=1, model=few_genes)


@pytest.fixture(scope="module")
def uncoupled(few_genes):
    return spatial(n_cells=5000, coupling=0, seed=1, model=few_genes)


def counts_of(adata, genes):
    columns = adata.var_names.get_indexer(list(genes))
    return np.asarray(adata.X[:, columns].sum(axis=1), dtype=np.float64).ravel()


def response(adata, signal, exposure):
    """Log ratio of the targets' counts between fully exposed and unexposed receivers, and its standard error."""
    receiver = adata.obs["cell_type"].isin(signal["receivers"]).to_numpy()
    still = adata.var_names[~adata.var_names.isin(switched_genes())]
    found, variance = [], 0.0
    for group in (receiver & (exposure == 1), receiver & (exposure == 0)):
        x, total = counts_of(adata[group], signal["targets"]), counts_of(adata[group], still)
        residual = x - x.sum() / total.sum() * total
        variance += (residual**2).sum() / x.sum() ** 2
        found.append(np.log(x.sum() / total.sum()))
    return found[0] - found[1], np.sqrt(variance)


def test_cells_lie_apart_in_sections_and_niches(tissue):
    adata, truth = tissue
    at = adata.obsm["spatial"]
    assert at.shape == (5000, 2) and np.isfinite(at).all()
    nearest = cKDTree(at).query(at, k=2)[0][:, 1]
    assert nearest.min() > 0.25 * 14 and np.median(nearest) == pytest.approx(14, rel=0.35)
    one, two = (at[(adata.obs["section"] == s).to_numpy()] for s in ("section01", "section02"))
    assert cKDTree(one).query(two)[0].min() > 500
    assert adata.obs.groupby("section", observed=True)["donor_id"].nunique().eq(1).all()
    seen = adata.obs["niche"].value_counts(normalize=True)
    for niche, share in truth.options["niche_shares"].items():
        assert seen[niche] == pytest.approx(share, abs=0.01)


def test_niches_are_regions_and_not_salt_and_pepper(tissue):
    adata, _ = tissue
    niche = adata.obs["niche"].cat.codes.to_numpy()
    around = cKDTree(adata.obsm["spatial"]).query(adata.obsm["spatial"], k=7)[1][:, 1:]
    assert (niche[around] == niche[:, None]).mean() > 0.8
    shuffled = np.random.default_rng(0).permutation(niche)
    assert (shuffled[around] == shuffled[:, None]).mean() < 0.45


def test_niches_have_the_planted_cell_types(tissue):
    adata, truth = tissue
    for niche, shares in truth.composition.items():
        inside = adata.obs.loc[adata.obs["niche"] == niche, "cell_type"]
        seen = inside.value_counts(normalize=True)
        for kind, share in shares.items():
            assert abs(seen.get(kind, 0) - share) < 5 * np.sqrt(share * (1 - share) / len(inside)) + 1e-3
        assert set(inside) <= set(shares)


def test_the_exposure_is_what_lies_within_the_radius(tissue):
    adata, truth = tissue
    signal = truth.interactions["IFNG-IFNGR1"]
    sends = adata.obs["cell_type"].isin(signal["senders"]).to_numpy()
    ligand = counts_of(adata, ["IFNG"])
    exposure = adata.obsm[EXPOSURE]["IFNG-IFNGR1"].to_numpy()
    assert ligand[sends].mean() > 10 * ligand[~sends].mean()
    receives = adata.obs["cell_type"].isin(signal["receivers"]).to_numpy()
    assert (exposure[~receives] == 0).all() and set(np.unique(exposure)) == {0, 0.5, 1}
    neighbours = cKDTree(adata.obsm["spatial"]).query_ball_point(adata.obsm["spatial"], truth.radius)
    sender_near = np.array([sends[[j for j in near if j != i]].sum() for i, near in enumerate(neighbours)])
    assert (sender_near[exposure == 1] >= 2).all()


@pytest.mark.parametrize("name", ["IFNG-IFNGR1", "TNF-TNFRSF1A", "TGFB1-TGFBR2", "JAG1-NOTCH3", "CD40LG-CD40"])
def test_targets_rise_in_exposed_receivers_by_what_was_planted(tissue, uncoupled, name):
    (adata, truth), (without, nothing) = tissue, uncoupled
    signal = truth.interactions[name]
    exposure = adata.obsm[EXPOSURE][name].to_numpy()
    estimate, error = response(adata, signal, exposure)
    planted = list(signal["targets"].values())
    assert error < 0.25
    assert min(planted) - 4 * error - 0.1 < estimate < max(planted) + 4 * error + 0.1
    # Without coupling the same cells are as exposed, and nothing follows from it.
    np.testing.assert_array_equal(without.obsm[EXPOSURE][name], exposure)
    assert set(nothing.interactions[name]["targets"].values()) == {0.0}
    estimate, error = response(without, nothing.interactions[name], exposure)
    assert abs(estimate) < 4 * error + 0.1


def test_the_coupling_is_seen_from_places_and_counts_alone(tissue, uncoupled):
    found = []
    for adata, truth in (tissue, uncoupled):
        signal = truth.interactions["IFNG-IFNGR1"]
        receives = np.flatnonzero(adata.obs["cell_type"].isin(signal["receivers"]))
        at = adata.obsm["spatial"]
        near = cKDTree(at).query_ball_point(at[receives], truth.radius)
        ligand = counts_of(adata, ["IFNG"])
        around = np.array([ligand[[j for j in n if j != i]].sum() for i, n in zip(receives, near, strict=True)])
        depth = np.asarray(adata.X[receives].sum(axis=1)).ravel()
        targets = counts_of(adata[receives], signal["targets"]) / depth
        found.append(np.corrcoef(around, targets)[0, 1] * np.sqrt(len(receives)))
    assert found[0] > 6 and abs(found[1]) < 4


def test_the_truth_and_the_places_survive_a_file(tissue, tmp_path):
    adata, truth = tissue
    adata[:40].copy().write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert truth_of(read) == truth
    np.testing.assert_array_equal(read.obsm["spatial"], adata.obsm["spatial"][:40])
    assert list(read.obsm[EXPOSURE]) == list(truth.interactions)


def test_same_seed_same_tissue():
    one, two, other = (spatial(n_cells=200, seed=s).adata for s in (3, 3, 4))
    assert (one.X != two.X).nnz == 0 and np.array_equal(one.obsm["spatial"], two.obsm["spatial"])
    assert not np.array_equal(one.obsm["spatial"], other.obsm["spatial"])


def test_one_niche_and_fewer_signals():
    adata, truth = spatial(n_cells=100, n_sections=1, niche_shares={"lymphoid aggregate": 1})
    assert set(adata.obs["niche"]) == {"lymphoid aggregate"}
    assert "CD40LG-CD40" in truth.interactions and "JAG1-NOTCH3" not in truth.interactions


def test_bad_options_are_named_together():
    with pytest.raises(ConfigError) as caught:
        spatial(n_cells=3, niche_shares={"mantle": 1}, coupling=-1, radius=0)
    text = str(caught.value)
    for words in ("n_cells", "'mantle'", "coupling", "radius", "tumour nest"):
        assert words in text
