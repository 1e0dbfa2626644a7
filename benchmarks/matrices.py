"""Matrices to measure on: simulated, with the shape, density and kinds of values that matter for speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData

Values = Literal["counts", "distinct"]

DESCRIPTION = {
    "counts": "log1p of counts normalised to 10,000 (geometric, 3% of them up to 60 times higher): some "
    "tens of distinct values per cell, most genes tied, as in droplet data",
    "distinct": "gamma-distributed float32: nearly every value of a cell is different",
}


def gene_symbols(n_genes: int, seed: int = 0) -> list[str]:
    """Make distinct names of 3 to 10 letters and digits, about 7 on average, as human gene symbols are."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("ABCDEFGHIKLMNPRSTVXYZ"))
    return [f"{''.join(rng.choice(letters, rng.integers(1, 5)))}{i}" for i in range(n_genes)]


def simulated_cells(
    n_cells: int, n_genes: int = 20_000, density: float = 0.08, *, values: Values = "counts", seed: int = 0
) -> AnnData:
    """Make a CSR float32 matrix with sorted columns, in seconds.

    The columns of a cell are sums of random gaps, so that the density is as stated, up to one part in a hundred.
    """
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    gap = round(2 / density)
    pieces = []
    for start in range(0, n_cells, 2000):
        n = min(2000, n_cells - start)
        columns = np.cumsum(rng.integers(1, gap, (n, int(n_genes * density * 1.15)), dtype=np.int32), axis=1) - 1
        inside = columns < n_genes
        lengths = inside.sum(axis=1)
        nnz = int(lengths.sum())
        if values == "counts":
            counts = rng.geometric(0.55, nnz).astype(np.float32)
            high = rng.random(nnz) < 0.03
            counts[high] *= rng.integers(2, 60, int(high.sum()))
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            scale = (1e4 / np.add.reduceat(counts, starts)).astype(np.float32)
            data = np.log1p(counts * np.repeat(scale, lengths))
        else:
            data = rng.gamma(2.0, 1.0, nnz).astype(np.float32) + np.float32(1e-3)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        pieces.append(sp.csr_matrix((data, columns[inside], indptr), shape=(n, n_genes)))
    return AnnData(
        sp.vstack(pieces, format="csr"),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=gene_symbols(n_genes)),
    )
