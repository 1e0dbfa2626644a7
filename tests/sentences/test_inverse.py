"""The rank-expression model: fit, save, load, invert, score."""

from __future__ import annotations

import dataclasses
import json
import math

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import c2s
from c2s import RankExpressionModel
from c2s.errors import ConfigError, InputFileError, MatrixError, OutputError, SentenceError


@pytest.fixture
def model() -> RankExpressionModel:
    return RankExpressionModel(-1.5, 4.0, 0.9, 0.8, 80, 20, 8000, 2000, top_k=200, seed=3)


def on_a_line(n_cells: int = 200, n_genes: int = 50, slope: float = -1.0, intercept: float = 3.0) -> ad.AnnData:
    """Make cells whose expression is exactly a line in log10 of the 1-based rank."""
    rng = np.random.default_rng(0)
    values = intercept + slope * np.log10(np.arange(1, n_genes + 1))
    dense = np.stack([values[rng.permutation(n_genes)] for _ in range(n_cells)])
    return ad.AnnData(
        sp.csr_matrix(dense),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=[f"G{i}" for i in range(n_genes)]),
    )


def test_rank_one_is_the_highest_gene_and_the_line_is_found():
    fitted = RankExpressionModel.fit(on_a_line())
    assert fitted.slope == pytest.approx(-1.0)
    assert fitted.intercept == pytest.approx(3.0)
    assert fitted.predict([1, 10]).tolist() == pytest.approx([3.0, 2.0])
    assert fitted.r2_fit == pytest.approx(1.0)
    assert fitted.r2_test == pytest.approx(1.0)


def test_the_fit_is_least_squares(make_cells):
    adata = make_cells(200, n_levels=None)
    fitted = RankExpressionModel.fit(adata, top_k=10, test_fraction=0.25)
    held_out = c2s.sentences.inverse._held_out(adata, 0.25, 0)
    x: dict[bool, list[float]] = {True: [], False: []}
    y: dict[bool, list[float]] = {True: [], False: []}
    for row, test in zip(adata.X.toarray(), held_out.tolist(), strict=True):
        ordered = np.sort(row[row > 0])[::-1][:10]
        x[test].extend(np.log10(np.arange(1, len(ordered) + 1)))
        y[test].extend(ordered)
    slope, intercept = np.polyfit(x[False], y[False], 1)
    assert fitted.slope == pytest.approx(slope)
    assert fitted.intercept == pytest.approx(intercept)
    for test, r2 in ((False, fitted.r2_fit), (True, fitted.r2_test)):
        residual = np.array(y[test]) - intercept - slope * np.array(x[test])
        assert r2 == pytest.approx(1 - (residual**2).sum() / np.var(y[test]) / len(y[test]))
    assert (fitted.n_pairs_fit, fitted.n_pairs_test) == (len(x[False]), len(x[True]))


def test_the_held_out_cells_do_not_depend_on_their_order(make_cells):
    adata = make_cells(100, n_levels=None)
    shuffled = adata[np.random.default_rng(0).permutation(100)].copy()
    one, other = RankExpressionModel.fit(adata), RankExpressionModel.fit(shuffled)
    assert other.slope == pytest.approx(one.slope)
    assert other.r2_test == pytest.approx(one.r2_test)
    assert RankExpressionModel.fit(adata, seed=1).n_pairs_test != one.n_pairs_test


def test_chunks_change_the_fit_by_rounding_only(make_cells):
    adata = make_cells(100, n_levels=None)
    one, other = RankExpressionModel.fit(adata), RankExpressionModel.fit(adata, chunk_size=3)
    assert other.slope == pytest.approx(one.slope, rel=1e-12)
    assert other.n_pairs_fit == one.n_pairs_fit


def test_a_layer_can_be_fitted(make_cells):
    adata = make_cells(100, n_levels=None)
    adata.layers["x"] = adata.X * 2
    assert RankExpressionModel.fit(adata, layer="x").slope == pytest.approx(
        2 * RankExpressionModel.fit(adata).slope, rel=1e-5
    )
    assert RankExpressionModel.fit(adata).score(adata, layer="x")["r2"] < 0.5


def test_unsorted_matrices_fit_the_same(make_cells):
    adata = make_cells(100, n_levels=None)
    expected = RankExpressionModel.fit(adata)
    indices, data = adata.X.indices.copy(), adata.X.data.copy()
    for a, b in zip(adata.X.indptr, adata.X.indptr[1:], strict=False):
        indices[a:b], data[a:b] = indices[a:b][::-1], data[a:b][::-1]
    adata.X = sp.csr_matrix((data, indices, adata.X.indptr), shape=adata.shape)
    assert RankExpressionModel.fit(adata) == expected


def test_counts_are_fitted_only_where_that_is_meant(make_cells):
    adata = make_cells(100, n_levels=None)
    adata.X.data = np.ceil(adata.X.data)
    fitted = RankExpressionModel.fit(adata, expects="any")
    assert fitted.expression == "counts"
    with pytest.raises(TypeError, match="positional argument"):
        RankExpressionModel.fit(adata, 10)


def test_scores_go_as_deep_as_the_fit_unless_told_otherwise(make_cells):
    adata = make_cells(100, n_levels=None, density=1.0)
    fitted = RankExpressionModel.fit(adata, top_k=5)
    assert fitted.score(adata)["n_pairs"] == 500
    assert fitted.score(adata, top_k=3)["n_pairs"] == 300
    assert RankExpressionModel.fit(adata).score(adata)["n_pairs"] == 4000


def test_two_pairs_are_enough_to_score(model):
    score = model.score(on_a_line(1, 2))
    assert score["n_pairs"] == 2
    assert score["pearson"] == pytest.approx(1.0)
    # One held-out cell with two genes is enough for the fit, with one it is not.
    cells = on_a_line(2, 3)
    held_out = c2s.sentences.inverse._held_out(cells, 0.2, 0)
    for kept in (2, 1):
        cells.X = sp.csr_matrix(np.where(held_out[:, None], np.arange(3) < kept, True) * cells.X.toarray())
        if kept == 2:
            assert RankExpressionModel.fit(cells).n_pairs_test == 2
    with pytest.raises(MatrixError, match="too few to score"):
        RankExpressionModel.fit(cells)


def test_the_vocabulary_of_an_inverse_can_be_another(make_cells, model):
    sentences = c2s.to_cell_sentences(make_cells(5, 10))
    genes = ["NEW", *sentences.genes[::-1]]
    back = model.invert(sentences, genes)
    assert back.var_names.tolist() == genes
    assert back.uns["c2s"]["inverse"]["n_unknown"] == 0
    same = model.invert(sentences)
    np.testing.assert_array_equal(back.X.toarray()[:, :0:-1], same.X.toarray())
    assert back.X.toarray()[:, 0].tolist() == [0] * 5


def test_a_model_does_not_change_after_the_fit(model):
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.slope = 0.0


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_a_test_fraction_out_of_range(make_cells, fraction):
    with pytest.raises(ConfigError, match="test_fraction"):
        RankExpressionModel.fit(make_cells(), test_fraction=fraction)


def test_top_k_out_of_range(make_cells):
    with pytest.raises(ConfigError, match="top_k"):
        RankExpressionModel.fit(make_cells(), top_k=0)


def test_too_little_to_fit_or_to_score():
    one_gene = on_a_line(50, 1, intercept=2.5)
    with pytest.raises(MatrixError, match="no line to fit"):
        RankExpressionModel.fit(one_gene)
    with pytest.raises(MatrixError, match="no cell of the fit expresses two genes"):
        RankExpressionModel.fit(on_a_line(1, 20))
    half_empty = on_a_line(2, 20)
    empty = int(np.flatnonzero(c2s.sentences.inverse._held_out(half_empty, 0.2, 0))[0])
    half_empty.X = sp.csr_matrix(half_empty.X.toarray() * (np.arange(2) != empty)[:, None])
    with pytest.raises(MatrixError, match="only 1 of 2 cells are held out, too few to score"):
        RankExpressionModel.fit(half_empty)


@pytest.mark.parametrize(("n_cells", "fraction", "n_test"), [(2, 0.01, 1), (10, 0.2, 2), (200, 0.3, 60)])
def test_the_stated_share_of_cells_is_held_out(n_cells, fraction, n_test):
    fitted = RankExpressionModel.fit(on_a_line(n_cells), test_fraction=fraction)
    assert (fitted.n_cells_fit, fitted.n_cells_test) == (n_cells - n_test, n_test)


def test_round_trip_of_sentences(make_cells):
    adata = make_cells(60, n_levels=None)
    adata.obs["cell_type"] = "T"
    sentences = c2s.to_cell_sentences(adata, top_k=8)
    fitted = RankExpressionModel.fit(adata, top_k=8)
    back = fitted.invert(sentences)
    assert sp.isspmatrix_csr(back.X)
    assert back.X.dtype == np.float32
    assert back.X.has_sorted_indices
    assert back.obs_names.tolist() == adata.obs_names.tolist()
    assert back.var_names.tolist() == adata.var_names.tolist()
    assert back.obs["cell_type"].tolist() == ["T"] * 60
    assert np.diff(back.X.indptr).tolist() == sentences.table["n_genes"].to_pylist()
    # The inverse keeps the order, so that its sentences are the same again.
    assert c2s.to_cell_sentences(back).table["cell_sentence"].equals(sentences.table["cell_sentence"])
    kept = back.X.nonzero()
    assert np.corrcoef(back.X[kept], adata.X[kept])[0, 1] > 0.8


def test_values_are_those_of_the_ranks(model):
    back = model.invert(["B A", "", "C"], ["A", "B", "C"])
    expected = [[4 - 1.5 * math.log10(2), 4, 0], [0, 0, 0], [0, 0, 4]]
    np.testing.assert_allclose(back.X.toarray(), np.array(expected), rtol=1e-6)
    assert back.obs_names.tolist() == ["0", "1", "2"]
    assert back.uns["c2s"]["inverse"]["n_empty_sentences"] == 1


def test_an_inverse_can_be_written_and_read(model, tmp_path):
    back = model.invert(["B A X"], ["A", "B", "C"])
    back.write_h5ad(tmp_path / "back.h5ad")
    read = ad.read_h5ad(tmp_path / "back.h5ad")
    assert read.uns["c2s"]["inverse"]["n_unknown"] == 1
    assert RankExpressionModel.from_json(read.uns["c2s"]["inverse"]["model"]) == model


def test_texts_need_a_vocabulary(model):
    with pytest.raises(SentenceError, match="which genes") as caught:
        model.invert(["A B"])
    assert "genes=" in caught.value.fix


def test_no_sentences(model):
    assert model.invert([], ["A", "B"]).shape == (0, 2)


def test_constant_values_have_no_correlation(model):
    adata = on_a_line(20, 1, intercept=2.5)
    score = model.score(adata)
    assert math.isnan(score["r2"])
    assert math.isnan(score["pearson"])
    assert math.isnan(score["spearman"])
    assert score["n_pairs"] == 20
    with pytest.raises(MatrixError, match="fewer than two"):
        model.score(on_a_line(1, 1, intercept=2.5))


def test_r2_of_constant_values_is_zero(make_cells):
    adata = make_cells(60, n_levels=1)
    fitted = RankExpressionModel.fit(adata)
    assert fitted.slope == pytest.approx(0, abs=1e-9)
    assert (fitted.r2_fit, fitted.r2_test) == (0.0, 0.0)


def test_save_and_load(model, tmp_path):
    path = model.save(tmp_path / "deep" / "model.json")
    assert RankExpressionModel.load(path) == model
    assert json.loads(path.read_text())["schema_version"] == 1
    with pytest.raises(OutputError, match="exists already"):
        model.save(path)
    model.save(path, overwrite=True)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "other"}, "kind"),
        ({"schema_version": 99}, "schema_version is 99, this version reads 1"),
        ({"slope": "steep"}, "slope is 'steep'"),
        ({"slope": float("nan")}, "slope is not finite"),
        ({"n_cells_fit": 1.5}, "n_cells_fit is 1.5"),
        ({"seed": True}, "seed is True"),
        ({"intercept": None, "r2_fit": None}, "intercept is None; r2_fit is None"),
    ],
)
def test_a_model_that_is_none_is_refused(model, change, problem):
    text = json.dumps({**json.loads(model.to_json()), **change})
    with pytest.raises(SentenceError, match=problem):
        RankExpressionModel.from_json(text)


def test_missing_fields_and_broken_files(model, tmp_path):
    stored = json.loads(model.to_json())
    del stored["slope"], stored["seed"]
    with pytest.raises(SentenceError, match="slope is missing; seed is missing"):
        RankExpressionModel.from_json(json.dumps(stored))
    for text in ("{", "[]", '"x"'):
        with pytest.raises(SentenceError, match="not a rank-expression model"):
            RankExpressionModel.from_json(text)
    with pytest.raises(InputFileError, match="No such file"):
        RankExpressionModel.load(tmp_path / "gone.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputFileError, match="not text"):
        RankExpressionModel.load(tmp_path / "binary")
    with pytest.raises(InputFileError):
        RankExpressionModel.load(tmp_path)


def test_repr_states_both_scores_and_the_depth(model):
    assert "ranks 1 to 200" in repr(model)
    assert "0.9000 on the 80 cells of the fit" in repr(model)
    assert "0.8000 on 20 held-out cells" in repr(model)
