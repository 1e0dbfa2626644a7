"""What a matrix is recognised as."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import c2s
from c2s.data import matrix_kind
from c2s.errors import C2SWarning, MatrixError


def kind(values: np.ndarray) -> str:
    adata = ad.AnnData(sp.csr_matrix(values))
    return matrix_kind(adata).name


@pytest.fixture
def normal(counts) -> np.ndarray:
    dense = counts.X.toarray().astype(float)
    return dense / dense.sum(1, keepdims=True) * 1e4


@pytest.mark.parametrize("round_to", [None, 3])
@pytest.mark.parametrize("n_genes", [80, 25])  # with 25 of the genes, the totals of the cells differ
@pytest.mark.parametrize("name", ["normalised", "log1p", "log2", "log10"])
def test_transformations_of_counts(normal, name, n_genes, round_to):
    divisor = {"log1p": 1.0, "log2": np.log(2), "log10": np.log(10)}
    values = (normal if name == "normalised" else np.log1p(normal) / divisor[name])[:, :n_genes]
    if round_to is not None:
        values = values.round(round_to)
    assert kind(values) == name


@pytest.mark.parametrize("scale", [1e6, 1e4, 50.0])
def test_the_total_does_not_matter(normal, scale):
    assert kind(np.log1p(normal / 1e4 * scale)) == "log1p"


def test_values_that_are_no_multiples_are_told_by_equal_totals():
    rng = np.random.default_rng(0)
    values = rng.gamma(0.6, 1.0, (60, 200)) * (rng.random((60, 200)) < 0.4)
    values = values / values.sum(1, keepdims=True) * 1e4
    assert kind(values) == "normalised"
    assert kind(np.log1p(values)) == "log1p"
    assert kind(np.log2(1 + values)) == "log2"
    assert kind(np.log10(1 + values)) == "log10"


def test_without_any_sign_the_totals_decide_and_it_is_a_guess():
    rng = np.random.default_rng(0)
    even = rng.gamma(0.6, 1.0, (60, 200)) * rng.uniform(0.8, 1.2, (60, 1))
    deep = rng.gamma(0.6, 1.0, (60, 200)) * rng.uniform(0.1, 4, (60, 1))
    for values, name, says in (
        (np.log1p(even), "log1p", "without a sign"),
        (deep, "fractional", "would differ wildly"),
        (deep * 100, "fractional", "too high for a logarithm"),
    ):
        found = matrix_kind(ad.AnnData(sp.csr_matrix(values)))
        assert (found.name, found.guess) == (name, True)
        assert says in found.evidence


def test_corrected_counts_are_counts_also_where_some_cells_were_left(counts):
    rng = np.random.default_rng(2)
    dense = counts.X.toarray() * rng.uniform(0.3, 0.6, counts.shape)
    found = matrix_kind(ad.AnnData(sp.csr_matrix(dense)))
    assert (found.name, found.guess) == ("fractional", True)
    dense[:20] = counts.X.toarray()[:20]
    assert kind(dense) == "fractional"
    few = counts.X.toarray() + 0.0
    few[3, few[3] > 0] -= [0.25, *[0] * (np.count_nonzero(few[3]) - 1)]
    assert kind(few) == "fractional"


@pytest.mark.parametrize("name", ["log1p", "log2", "log10", "normalised"])
@pytest.mark.parametrize("which", [slice(0, 30), slice(20, 23), slice(None, None, 3)])
def test_cells_of_two_kinds_are_told_and_named(counts, normal, name, which):
    divisor = {"log1p": 1.0, "log2": np.log(2), "log10": np.log(10)}
    values = normal if name == "normalised" else np.log1p(normal) / divisor[name]
    values[which] = counts.X.toarray()[which]
    adata = ad.AnnData(sp.csr_matrix(values), obs=counts.obs[[]].assign(batch="a"))
    adata.obs.loc[adata.obs_names[which], "batch"] = "b"
    found = matrix_kind(adata)
    assert found.name == "mixed"
    named = re.search(r"cells (\d+) \((.*?)(, ...)?\) hold whole numbers", found.evidence)
    # Of other logarithms, a cell of few counts could be one too.
    assert int(named[1]) == len(adata.obs_names[which]) or name in {"log2", "log10"}
    assert set(re.findall(r"'(\w+)'", named[2])) <= set(adata.obs_names[which])
    assert found.evidence.endswith("obs['batch'] tells them apart")


def test_a_cell_of_another_kind_that_no_sample_holds_is_refused_as_it_is_read(counts, normal, write):
    for base, other, says in (
        (np.log1p(normal), counts.X.toarray(), "holds counts, .* while other cells hold log1p"),
        (counts.X.toarray(), np.log1p(normal), "holds fractions, while other cells hold counts"),
        (np.log1p(normal), normal + 0.25, "holds .*too high for a logarithm, while other cells hold log1p"),
    ):
        values = np.vstack([base] * 10)
        values[209] = other[29]
        path = write(ad.AnnData(sp.csr_matrix(values.astype(np.float32)), var=counts.var), f"{len(says)}.h5ad")
        for backed in (False, True):
            with pytest.raises(MatrixError, match=rf"cell '209' .row 209. of X {says}"):
                c2s.to_cell_sentences(c2s.read_cells(path, backed=backed))
        c2s.read_cells(path, normalise="always")  # somebody has looked


def test_what_is_no_gene_does_not_change_the_kind(counts, normal):
    values = np.hstack([np.log1p(normal), np.full((60, 2), 300.0)])
    names = [*counts.var_names, "CD3_TotalSeqB", "CD4_TotalSeqB"]
    adata = ad.AnnData(sp.csr_matrix(values), var=pd.DataFrame(index=names))
    assert matrix_kind(adata).name == "log1p"


def test_counts_scaled_and_empty(counts, normal):
    assert matrix_kind(counts).name == "counts"
    assert kind(normal - normal.mean(0)) == "scaled"
    assert kind(np.zeros((5, 4))) == "empty"


def test_nan_does_not_hide_the_rest(normal):
    values = np.log1p(normal)
    values[0, 0] = np.nan
    assert kind(values) == "log1p"


@pytest.mark.parametrize("n_cells", [1, 2, 7, 60])
def test_few_cells_are_enough(normal, n_cells):
    assert kind(np.log1p(normal[:n_cells])) == "log1p"


def test_a_layer_and_a_backed_matrix(counts, write):
    counts.layers["logged"] = counts.X.copy()
    counts.layers["logged"].data = np.log1p(counts.X.data * 0.3)
    assert matrix_kind(counts, "logged").name == "log1p"
    backed = c2s.read_cells(write(counts), backed=True)
    assert matrix_kind(backed).name == "log1p"  # it will be, as it is read
    assert backed.uns["c2s"]["matrix_kind"] == "counts"


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda counts, logged: np.log1p(logged), "log1p twice"),
        (lambda counts, logged: np.log1p(counts), "log1p of counts"),
        (lambda counts, logged: np.log2(1 + counts), "log2 of counts"),
        (lambda counts, logged: np.log10(1 + counts), "log10 of counts"),
        (lambda counts, logged: counts / 2, "fractional"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*which is a guess")
def test_whatever_was_done_to_counts_reading_gives_log1p_of_normalised_counts(
    counts, normal, write, change, name, backed
):
    values = change(counts.X.toarray().astype(float), np.log1p(normal)).astype(np.float32)
    path = write(ad.AnnData(sp.csr_matrix(values), var=counts.var, obs=counts.obs))
    cells = c2s.read_cells(path, backed=backed)
    assert cells.uns["c2s"]["matrix_kind"] == name
    expected = ad.AnnData(sp.csr_matrix(np.log1p(normal).astype(np.float32)), var=counts.var, obs=counts.obs)
    if not backed:
        np.testing.assert_allclose(cells.X.toarray(), expected.X.toarray(), rtol=1e-5)
    slopes = [c2s.RankExpressionModel.fit(some).slope for some in (cells, expected)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-5)


def test_cells_that_were_only_logarithmised_are_told_from_cells_of_one_depth(counts):
    rng = np.random.default_rng(1)
    rarefied = rng.multinomial(1000, rng.dirichlet(np.full(300, 0.3)), size=60)
    assert kind(np.log1p(rarefied * 10.0)[:, :150]) == "log1p"  # 10,000 a cell, then some of the genes


@pytest.mark.parametrize("decimals", [1, 2])
def test_decimals_that_were_cut_are_no_size_factor(decimals):
    rng = np.random.default_rng(0)
    deep = rng.poisson(rng.gamma(0.5, 2000, (1, 2000)) * rng.uniform(0.3, 2, (60, 1)))
    logged = np.log1p(deep / deep.sum(1, keepdims=True) * 1e4)
    assert kind(logged.round(decimals)) == "log1p"


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("normalised", "log1p", r"\d+ \(.*\) (normalised|log1p) and \d+ \(.*\) (log1p|normalised)"),
        ("log2", "log1p", r"log2"),
        ("twice", "log1p", r"log1p twice"),
        ("corrected", "log1p", r"reach values too high for a logarithm"),
    ],
)
def test_cells_with_fractions_of_two_kinds_are_told_too(one, other, says):
    rng = np.random.default_rng(3)
    counts = rng.poisson(rng.gamma(0.5, 3, (1, 400)) * rng.uniform(0.5, 2, (60, 1))) + 0.0
    normal = counts / counts.sum(1, keepdims=True) * 1e4
    made = {
        "normalised": normal,
        "log1p": np.log1p(normal),
        "log2": np.log2(1 + normal),
        "twice": np.log1p(np.log1p(normal)),
        "corrected": counts * rng.uniform(3, 4, counts.shape),
    }
    batch = np.repeat(["a", "b"], 30)
    values = np.where((batch == "a")[:, None], made[one], made[other])
    found = matrix_kind(
        ad.AnnData(sp.csr_matrix(values), obs=pd.DataFrame({"batch": batch}, index=map(str, range(60))))
    )
    assert found.name == "mixed"
    assert re.search(says, found.evidence)
    assert found.evidence.endswith("obs['batch'] tells them apart")


def test_ranks_are_refused_and_presence_is_warned_of(counts, write):
    dense = counts.X.toarray()
    ranks = np.argsort(np.argsort(dense, axis=1), axis=1).astype(np.float32)
    path = write(ad.AnnData(sp.csr_matrix(ranks), var=counts.var))
    with pytest.raises(MatrixError, match=r"holds ranks .each cell holds every whole number .* order is not that"):
        c2s.read_cells(path)
    with pytest.raises(MatrixError, match="the values are ranks, not expression"):
        c2s.to_cell_sentences(ad.AnnData(sp.csr_matrix(ranks), var=counts.var))
    path = write(ad.AnnData(sp.csr_matrix((dense > 0).astype(np.float32)), var=counts.var), "binary.h5ad")
    with pytest.warns(C2SWarning, match="all values are 0 or 1"):
        c2s.read_cells(path)


def test_negative_values_of_few_cells_do_not_break_what_is_looked_for(counts, normal):
    values = np.log1p(normal)
    values[5] = np.where(values[5] > 0, -0.1, 0)
    assert kind(values) in {"log1p", "scaled"}
