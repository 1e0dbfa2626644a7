"""A cell's sentence is a function of that cell alone."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, strategies as st

import c2s

TIES = ("gene", "random")


def by_cell(adata: ad.AnnData, **options: object) -> dict[str, str]:
    table = c2s.to_cell_sentences(adata, **options).table
    return dict(zip(table["cell_id"].to_pylist(), table["cell_sentence"].to_pylist(), strict=True))


@given(data=st.data())
def test_order_of_cells_of_genes_and_chunks_change_no_sentence(make_cells, data):
    levels = data.draw(st.sampled_from([1, 2, 5, None]), "levels")
    adata = make_cells(30, 25, n_levels=levels, seed=data.draw(st.integers(0, 99), "seed"))
    options = {
        "tie_break": data.draw(st.sampled_from(TIES), "tie_break"),
        "top_k": data.draw(st.sampled_from([1, 4, None]), "top_k"),
        "seed": 3,
    }
    expected = by_cell(adata, **options)
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "shuffle"))
    rows = rng.permutation(adata.n_obs)[: data.draw(st.integers(1, adata.n_obs), "cells kept")]
    shuffled = adata[rows][:, rng.permutation(adata.n_vars)].copy()
    found = by_cell(shuffled, chunk_size=data.draw(st.integers(1, 40), "chunk"), **options)
    assert found == {cell: expected[cell] for cell in shuffled.obs_names}


@pytest.mark.parametrize("tie_break", TIES)
@pytest.mark.parametrize("build", [sp.csc_matrix, sp.csr_array, sp.csc_array, lambda x: x.toarray()])
def test_layout_of_the_matrix_changes_no_sentence(make_cells, build, tie_break):
    adata = make_cells()
    other = adata.copy()
    other.X = build(adata.X)
    assert by_cell(other, tie_break=tie_break) == by_cell(adata, tie_break=tie_break)


def test_a_view_gives_what_its_copy_gives(make_cells):
    adata = make_cells()
    view = adata[5:40, ::2]
    assert view.is_view
    assert by_cell(view) == by_cell(view.copy())


@pytest.mark.filterwarnings("ignore::UserWarning:anndata")
@pytest.mark.parametrize("tie_break", TIES)
@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_files_give_what_memory_gives(make_cells, tmp_path: Path, suffix, layout, tie_break):
    adata = make_cells(45)
    expected = by_cell(adata, tie_break=tie_break)
    stored = adata.copy()
    stored.X = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda x: x.toarray()}[layout](adata.X)
    path = tmp_path / f"cells.{suffix}"
    stored.write_h5ad(path) if suffix == "h5ad" else stored.write_zarr(path)
    for backed in (False, True):
        read = c2s.read_cells(path, backed=backed)
        assert by_cell(read, tie_break=tie_break, chunk_size=7) == expected


@pytest.mark.filterwarnings("ignore::UserWarning:anndata")
def test_anndata_s_own_backed_mode_and_its_views(make_cells, tmp_path: Path):
    adata = make_cells(45)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert by_cell(backed, chunk_size=8) == by_cell(adata)
    assert by_cell(backed[10:30], chunk_size=8) == by_cell(adata[10:30].copy())


def test_counts_normalised_on_the_fly_give_what_scanpy_gives(make_cells, tmp_path: Path):
    rng = np.random.default_rng(0)
    adata = make_cells(45, 120)
    adata.X = sp.csr_matrix(rng.poisson(0.8, adata.shape).astype(np.float32))
    adata.write_h5ad(tmp_path / "counts.h5ad")
    memory = c2s.read_cells(tmp_path / "counts.h5ad")
    backed = c2s.read_cells(tmp_path / "counts.h5ad", backed=True)
    assert by_cell(backed, chunk_size=8) == by_cell(memory)
    models = [c2s.RankExpressionModel.fit(a) for a in (memory, backed)]
    assert models[0].slope == pytest.approx(models[1].slope, rel=1e-5)
    assert models[0].r2_test == pytest.approx(models[1].r2_test, rel=1e-5)


def test_random_ties_change_with_the_seed_and_the_cell_and_nothing_else(make_cells):
    adata = make_cells(20, n_levels=1, density=1.0)  # every gene tied in every cell
    first = by_cell(adata, tie_break="random", seed=1)
    assert first == by_cell(adata, tie_break="random", seed=1)
    assert first != by_cell(adata, tie_break="random", seed=2)
    assert by_cell(adata, tie_break="random") == by_cell(adata, tie_break="random", seed=0)
    assert len(set(first.values())) == adata.n_obs
    assert {frozenset(s.split()) for s in first.values()} == {frozenset(adata.var_names)}
    assert len(set(by_cell(adata, tie_break="gene", seed=1).values())) == 1


def test_random_ties_are_spread_evenly(make_cells):
    adata = make_cells(2000, 5, n_levels=1, density=1.0)
    first_words = [s.split()[0] for s in by_cell(adata, tie_break="random").values()]
    counts = np.unique(first_words, return_counts=True)[1]
    # 2,000 draws of five: 400 each, with a standard deviation of 18.
    assert counts.min() > 310
    assert counts.max() < 490
