"""Cells to write sentences of: small, with many ties, with known words."""

from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

MakeCells = Callable[..., ad.AnnData]


@pytest.fixture(scope="session")
def make_cells() -> MakeCells:
    """Build cells with `n_levels` distinct values (None: all distinct), so that ties are as frequent as wanted."""

    def build(
        n_cells: int = 60,
        n_genes: int = 40,
        *,
        density: float = 0.4,
        n_levels: int | None = 3,
        seed: int = 0,
        dtype: type = np.float32,
    ) -> ad.AnnData:
        rng = np.random.default_rng(seed)
        values = rng.gamma(2.0, 1.0, (n_cells, n_genes)) + 0.01
        if n_levels is not None:
            values = np.log1p(rng.integers(1, n_levels + 1, (n_cells, n_genes)) * 0.37)
        values[rng.random((n_cells, n_genes)) >= density] = 0
        values[:, 0] = np.maximum(values[:, 0], np.log1p(0.37))  # no empty cell
        adata = ad.AnnData(sp.csr_matrix(values.astype(dtype)))
        # Symbols whose order is neither that of the columns nor of their lengths.
        symbols = [f"{'XABZ'[i % 4]}{rng.integers(10)}-{i}" for i in range(n_genes)]
        if n_genes > 3:
            symbols[2], symbols[3] = "A-GENE-OF-MORE-THAN-SIXTEEN-LETTERS", "HLA-Ω1"
        adata.var_names = symbols
        adata.obs_names = [f"cell-{seed}-{i}" for i in range(n_cells)]
        return adata

    return build


def reference_sentences(adata: ad.AnnData, top_k: int | None = None) -> list[str]:
    """Write the sentences the slow and obvious way: sort by value, then by the symbol's bytes."""
    dense = np.asarray(adata.X.todense() if sp.issparse(adata.X) else adata.X)
    rank = np.argsort(np.argsort(np.array([name.encode() for name in adata.var_names])))
    sentences = []
    for row in dense:
        order = np.lexsort((rank, -row))
        expressed = [adata.var_names[j] for j in order if row[j] > 0]
        sentences.append(" ".join(expressed[:top_k]))
    return sentences


@pytest.fixture(scope="session")
def reference() -> Callable[[ad.AnnData, int | None], list[str]]:
    return reference_sentences
