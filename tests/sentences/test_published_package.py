"""What the paper's published package gets wrong in the transform and its inverse, where no other file asks it.

(Collisions, ignored seeds, sentences that depend on the row, negative and raw values: `test_bad_matrices`,
`test_invariance`; repeated words: `test_parse`.)
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr
from sklearn.metrics import r2_score

import c2s
from c2s.errors import C2SWarning


def cells(values: list[list[float]], genes: list[str]) -> ad.AnnData:
    return ad.AnnData(
        sp.csr_matrix(np.array(values, np.float32)),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(len(values))]),
        var=pd.DataFrame(index=genes),
    )


def words(adata: ad.AnnData, **options: object) -> list[str]:
    return c2s.to_cell_sentences(adata, **options).table["cell_sentence"].to_pylist()


def test_symbols_keep_their_case_unless_asked():
    adata = cells([[0.5, 1.5]], ["Cd3d", "Lyz2"])
    assert words(adata) == ["Lyz2 Cd3d"]
    upper = c2s.to_cell_sentences(adata, uppercase=True)
    assert upper.table["cell_sentence"].to_pylist() == ["LYZ2 CD3D"]
    assert upper.genes == ["CD3D", "LYZ2"]


def test_the_global_random_state_is_neither_used_nor_touched():
    adata = cells([[1.5] * 30], [f"G{i}" for i in range(30)])
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = words(adata, tie_break="random")
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert words(adata, tie_break="random") == first


def test_explicit_zeros_are_not_expressed():
    adata = cells([[1.5, 0.5, 2.5]], ["A", "B", "C"])
    adata.X.data[1] = 0.0
    assert adata.X.nnz == 3
    sentences = c2s.to_cell_sentences(adata)
    assert sentences.table["cell_sentence"].to_pylist() == ["C A"]
    assert sentences.vocabulary["n_cells"].to_pylist() == [1, 0, 1]
    adata.X.data[1] = -0.0
    assert words(adata) == ["C A"]


@pytest.mark.parametrize(("name", "base"), [("log2", 2.0), ("log10", 10.0), ("normalised", None)])
def test_log2_log10_and_unlogged_input_are_noticed(name, base):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (30, 60)) * 1.0
    normal = counts / counts.sum(1, keepdims=True) * 1e4
    values = normal if base is None else np.log1p(normal) / np.log(base)
    adata = cells(values.tolist(), [f"G{i}" for i in range(60)])
    with pytest.warns(C2SWarning, match=f"values are {name}, not log1p"):
        sentences = c2s.to_cell_sentences(adata)
    assert sentences.provenance["matrix_kind"] == name
    # The order, and so the sentence, is that of log1p.
    adata.X = sp.csr_matrix(np.log1p(normal).astype(np.float32))
    assert sentences.table.equals(c2s.to_cell_sentences(adata).table)


@pytest.fixture
def model() -> c2s.RankExpressionModel:
    return c2s.RankExpressionModel(-2.0, 3.0, 0.9, 0.8, 80, 20, 8000, 2000)


def test_the_inverse_says_which_logarithm_it_predicts(make_cells):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (60, 60)) * 1.0
    normal = counts / counts.sum(1, keepdims=True) * 1e4
    models = {}
    for name, divisor in (("log1p", 1.0), ("log2", np.log(2)), ("log10", np.log(10))):
        adata = cells((np.log1p(normal) / divisor).tolist(), [f"G{i}" for i in range(60)])
        models[name] = c2s.RankExpressionModel.fit(adata)
        assert models[name].expression == name
        assert name in repr(models[name])
    assert models["log2"].slope == pytest.approx(models["log1p"].slope / np.log(2), rel=1e-5)


def test_the_inverse_has_no_negative_expression(model):
    genes = [f"G{i}" for i in range(100)]
    assert model.intercept + model.slope * np.log10(100) < 0
    expression = model.invert([" ".join(genes)], genes).X
    assert expression.min() >= 0
    assert (expression.data > 0).all()
    assert expression.nnz == int(np.ceil(10**1.5)) - 1  # the ranks below 10 ** (3 / 2)


def test_unknown_words_do_not_consume_ranks(model):
    genes = ["A", "B", "C"]
    clean = model.invert(["A B C"], genes)
    dirty = model.invert(["A NOGENE B ,,, C"], genes)
    assert (clean.X != dirty.X).nnz == 0
    report = dirty.uns["c2s"]["inverse"]
    assert (report["n_unknown"], report["n_malformed"]) == (1, 1)


def test_the_inverse_is_scored_on_cells_it_was_not_fitted_on(make_cells):
    adata = make_cells(200, n_levels=None)
    fitted = c2s.RankExpressionModel.fit(adata, test_fraction=0.3, seed=5)
    assert fitted.n_cells_fit + fitted.n_cells_test == 200
    assert fitted.n_cells_test == 60
    assert f"{fitted.r2_fit:.4f}" in repr(fitted)
    assert f"{fitted.r2_test:.4f}" in repr(fitted)
    # Changing the held-out cells changes their score, and nothing of the fit.
    held_out = c2s.sentences.inverse._held_out(adata, 0.3, 5)
    scale = np.where(held_out, 3.0, 1.0).astype(np.float32)
    adata.X = sp.csr_matrix(adata.X.multiply(scale[:, None]))
    other = c2s.RankExpressionModel.fit(adata, test_fraction=0.3, seed=5)
    assert (other.slope, other.intercept, other.r2_fit) == (fitted.slope, fitted.intercept, fitted.r2_fit)
    assert other.r2_test < fitted.r2_test


def test_r2_is_not_spearman(make_cells):
    adata = make_cells(100, n_levels=None)
    fitted = c2s.RankExpressionModel.fit(adata)
    score = fitted.score(adata)
    values, predicted = [], []
    for row in adata.X.toarray():
        ordered = np.sort(row[row > 0])[::-1]
        values.extend(ordered)
        predicted.extend(fitted.predict(np.arange(1, len(ordered) + 1)))
    assert score["r2"] == pytest.approx(r2_score(values, predicted), abs=1e-5)
    assert score["spearman"] == pytest.approx(spearmanr(values, predicted)[0], abs=1e-5)
    assert score["pearson"] == pytest.approx(np.corrcoef(values, predicted)[0, 1], abs=1e-5)
    assert score["r2"] != pytest.approx(score["spearman"], abs=0.01)
