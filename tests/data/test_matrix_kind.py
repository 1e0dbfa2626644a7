"""What a matrix is recognised as."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import c2s
from c2s.data import matrix_kind


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


def test_without_any_sign_the_size_of_the_values_decides():
    rng = np.random.default_rng(0)
    values = rng.gamma(0.6, 1.0, (60, 200)) * rng.uniform(0.1, 2, (60, 1))
    assert kind(values) == "log1p"
    assert "assumed" in matrix_kind(ad.AnnData(sp.csr_matrix(values))).evidence
    assert kind(values * 100) == "normalised"


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
