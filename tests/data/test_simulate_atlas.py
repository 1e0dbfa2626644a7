"""The simulated atlas: what is planted is found, and a cell is the same in whatever chunks it is drawn."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import c2s
from c2s.data import STANDARD_COLUMNS
from c2s.data.simulate import AtlasTruth, atlas, truth_of, write_atlas
from c2s.errors import ConfigError, ObsError, OutputError


@pytest.fixture(scope="module")
def simulated():
    return atlas(n_cells=3000, seed=3)


def shares(adata, genes):
    """Mean share of counts of each gene over the cells."""
    columns = adata.var_names.get_indexer(list(genes))
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    return np.asarray(adata[:, columns].X.sum(axis=0)).ravel() / totals.sum()


def test_it_holds_raw_counts_and_the_standard_columns(simulated):
    adata, truth = simulated
    assert adata.X.format == "csr" and adata.X.dtype == np.float32
    assert (adata.X.data == np.round(adata.X.data)).all() and (adata.X.data > 0).all()
    assert adata.X.has_sorted_indices
    expected = set(STANDARD_COLUMNS) - {"abstract_id"}
    assert expected <= set(adata.obs) and not adata.obs[list(expected)].isna().any().any()
    assert adata.uns["c2s"]["simulated"] is True
    assert isinstance(truth, AtlasTruth)
    assert set(adata.obs["tissue"]) == set(truth.options["tissues"])
    assert adata.obs["donor_id"].nunique() == 8 and adata.obs["batch"].nunique() == 3


def test_markers_are_on_in_their_type_and_leak_elsewhere(simulated):
    adata, truth = simulated
    for name in ("B cell", "macrophage", "hepatocyte", "endothelial cell"):
        inside = adata[adata.obs["cell_type"] == name]
        outside = adata[adata.obs["cell_type"] != name]
        only = [g for g in truth.own_markers[name] if sum(g in m for m in truth.markers.values()) == 1]
        ratio = shares(inside, only).sum() / shares(outside, only).sum()
        # 1 / leak, diluted by what donors and tissues change.
        assert ratio == pytest.approx(1 / truth.leak, rel=0.35)


def test_composition_is_the_planted_one(simulated):
    adata, truth = simulated
    sample = adata.obs["donor_id"].astype(str) + "|" + adata.obs["tissue"].astype(str)
    for name, members in adata.obs.groupby(sample, observed=True):
        seen = members["cell_type"].value_counts(normalize=True)
        for kind, share in truth.composition[name].items():
            error = np.sqrt(share * (1 - share) / len(members))
            assert abs(seen.get(kind, 0) - share) < 5 * error + 1e-3


def test_tissue_sex_and_disease_show_in_their_genes(simulated):
    adata, truth = simulated
    female = adata.obs["sex"] == "female"
    assert shares(adata[female], ["XIST"])[0] > 20 * shares(adata[~female], ["XIST"])[0]
    assert shares(adata[~female], ["RPS4Y1"])[0] > 20 * shares(adata[female], ["RPS4Y1"])[0]
    ill = adata.obs["disease"] == "influenza"
    assert set(adata.obs.loc[ill, "donor_id"]) == {
        d for d, v in truth.donors.items() if v["disease"] == "influenza"
    }
    genes = list(truth.disease_effects)
    change = np.log(shares(adata[ill], genes) / shares(adata[~ill], genes))
    # Four donors a side, each with a shift of its own per gene.
    tolerance = 4 * np.sqrt(2 / 4 * (0.15**2 + 0.1**2) + 0.1**2)
    assert np.abs(change - list(truth.disease_effects.values())).max() < tolerance
    assert np.corrcoef(change, list(truth.disease_effects.values()))[0, 1] > 0.5
    t_cells = adata[adata.obs["cell_type"].str.contains("T cell")]
    blood = t_cells.obs["tissue"] == "blood"
    assert shares(t_cells[blood], ["SELL"])[0] > 1.3 * shares(t_cells[~blood], ["SELL"])[0]


def test_no_markers_at_strength_zero():
    adata, truth = atlas(n_cells=1500, tissues=["blood"], marker_strength=0, donor_sd=0, batch_sd=0, seed=1)
    genes = truth.own_markers["B cell"]
    b = adata.obs["cell_type"] == "B cell"
    assert shares(adata[b], genes).sum() / shares(adata[~b], genes).sum() == pytest.approx(1, rel=0.15)


def test_same_seed_same_cells_and_another_seed_others():
    first, second, other = (atlas(n_cells=200, seed=s).adata for s in (5, 5, 6))
    assert (first.X != second.X).nnz == 0 and first.obs.equals(second.obs)
    assert (first.X != other.X).nnz > 1000


@pytest.mark.parametrize("chunk", [7, 256, 10_000])
def test_a_written_atlas_is_the_atlas_whatever_the_chunk(tmp_path, chunk):
    in_memory, truth = atlas(n_cells=600, seed=2)
    path = write_atlas(tmp_path / "atlas.h5ad", 600, chunk=chunk, seed=2)
    written = ad.read_h5ad(path)
    assert (written.X != in_memory.X).nnz == 0 and written.X.dtype == np.float32
    assert written.obs.equals(in_memory.obs)
    assert written.var_names.equals(in_memory.var_names)
    assert truth_of(written) == truth
    assert bool(written.uns["c2s"]["simulated"])


def test_more_cells_begin_with_the_same_cells():
    few, many = atlas(n_cells=50, seed=4).adata, atlas(n_cells=400, seed=4).adata
    assert (few.X != many[:50].X).nnz == 0
    assert (few.obs.astype(str) == many.obs[:50].astype(str)).all().all()


def test_the_same_bytes_in_memory_and_on_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("C2S_THREADS", "1")
    one = write_atlas(tmp_path / "one.h5ad", 900, chunk=100, seed=0).read_bytes()
    monkeypatch.setenv("C2S_THREADS", "3")
    assert write_atlas(tmp_path / "three.h5ad", 900, chunk=100, seed=0).read_bytes() == one


def test_a_written_atlas_reads_backed_and_becomes_sentences(tmp_path):
    path = write_atlas(tmp_path / "atlas.h5ad", 300, chunk=64)
    backed = c2s.to_cell_sentences(c2s.read_cells(path, backed=True), top_k=20)
    whole = c2s.to_cell_sentences(c2s.read_cells(path), top_k=20)
    assert backed.table.column("cell_sentence").equals(whole.table.column("cell_sentence"))


def test_an_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    from c2s.data.simulate.atlas_cells import AtlasPlan

    real = AtlasPlan.cells

    def broken(self, first, n):
        if first >= 200:
            raise KeyboardInterrupt
        return real(self, first, n)

    monkeypatch.setattr(AtlasPlan, "cells", broken)
    with pytest.raises(KeyboardInterrupt):
        write_atlas(tmp_path / "atlas.h5ad", 400, chunk=100)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "atlas.h5ad").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_atlas(tmp_path / "atlas.h5ad", 10)
    assert (tmp_path / "atlas.h5ad").read_text() == "mine"
    write_atlas(tmp_path / "atlas.h5ad", 10, overwrite=True)
    assert ad.read_h5ad(tmp_path / "atlas.h5ad").n_obs == 10


def test_all_problems_of_the_options_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        atlas(n_cells=0, tissues=["blod"], colour="red", sick_share=2)
    text = str(caught.value)
    assert (
        "n_cells" in text
        and "sick_share" in text
        and "'blod'" in text
        and "unknown option 'colour'" in text
        and "lymph node" in text
    )
    with pytest.raises(ConfigError, match="chunk must be 1 or more"):
        write_atlas("never.h5ad", 10, chunk=0)


def test_cells_without_a_truth_say_so(counts):
    with pytest.raises(ObsError, match="carry no truth"):
        truth_of(counts)


@pytest.mark.parametrize("name", ["atlas", "spatial", "cytokines", "drug_screen"])
def test_a_simulated_dataset_has_a_name_and_says_what_it_is(name, tmp_path, monkeypatch):
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path))
    dataset = c2s.default_host().datasets.get(f"simulated_{name}")
    assert dataset.simulated and dataset.donor == "donor_id" and "imulated" in dataset.title
    adata = c2s.load_dataset(f"simulated_{name}", label="cell_type")
    assert adata.uns["c2s"]["simulated"] is True and adata.uns["c2s"]["matrix_kind"] == "counts"
    assert truth_of(adata).simulator == name and truth_of(adata).counts_from["name"] == "pbmc_zheng_facs"
    np.testing.assert_allclose(np.expm1(adata.X[:50].toarray()).sum(axis=1), 1e4, rtol=1e-3)
    assert set(STANDARD_COLUMNS) - {"abstract_id"} <= set(adata.obs)
