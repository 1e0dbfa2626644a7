"""Marker genes of conditions: whether generated cells of a type stand out by the genes that real ones do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp
    from anndata import AnnData

#: Conditions with fewer cells have no markers.
LEAST_CELLS = 5


def marker_genes(adata: AnnData, conditions: Sequence[str], n: int = 10) -> dict[str, tuple[str, ...]]:
    """Return the n genes that are most raised in each condition against all others (Wilcoxon's rank-sum test).

    Parameters
    ----------
    adata
        Expression, logarithmic.
    conditions
        Condition of each cell.
    n
        Genes per condition.

    Returns
    -------
    dict
        By condition, strongest first; conditions with fewer than five cells are left out, and without two
        conditions there is none. Genes that are not raised are no markers, so there may be fewer than n.
    """
    import pandas as pd
    import scanpy as sc

    groups = pd.Series(list(conditions))
    counts = groups.value_counts()
    large = sorted(counts.index[counts >= LEAST_CELLS])
    if not large or len(counts) < 2:
        return {}
    cells = type(adata)(adata.X, var=adata.var[[]])
    cells.obs["condition"] = pd.Categorical(groups.to_numpy())
    with warnings.catch_warnings():
        # Identical cells have no variance, and scanpy divides by it; such genes score nothing below.
        warnings.simplefilter("ignore")
        sc.tl.rank_genes_groups(cells, "condition", groups=large, method="wilcoxon", n_genes=cells.n_vars)
    found = cells.uns["rank_genes_groups"]
    markers = {}
    for name in large:
        scores = np.nan_to_num(np.asarray(found["scores"][name], dtype=np.float64))
        genes = np.asarray(found["names"][name]).astype(str)
        order = np.lexsort((genes, -scores))
        markers[name] = tuple(genes[i] for i in order[:n] if scores[i] > 0)
    return {name: genes for name, genes in markers.items() if genes}


def recovery(adata: AnnData, conditions: Sequence[str], markers: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return the share of each condition's markers that are among as many markers of these cells.

    Parameters
    ----------
    adata, conditions
        Cells to look at, as for `marker_genes`.
    markers
        Of the training cells.

    Returns
    -------
    dict
        Shares in [0, 1] by condition, for those that both have.
    """
    ours = marker_genes(adata, conditions, max(map(len, markers.values()), default=1))
    shares = {}
    for name in sorted(set(markers) & set(conditions)):
        if name in ours:
            wanted = set(markers[name])
            shares[name] = len(wanted & set(ours[name][: len(wanted)])) / len(wanted)
    return shares


def presence(
    has: sp.csr_matrix, genes: Sequence[str], conditions: Sequence[str], markers: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Return how many of its condition's markers a cell names on average, as a share, by condition.

    Parameters
    ----------
    has
        Which genes each cell names, ``[cells, genes]``.
    genes
        The columns of `has`.
    conditions
        Condition of each cell.
    markers
        Of the training cells.
    """
    place = {gene: i for i, gene in enumerate(genes)}
    listed = np.array(conditions)
    shares = {}
    for name in sorted(set(markers) & set(conditions)):
        columns = [place[gene] for gene in markers[name]]
        shares[name] = float(has[np.flatnonzero(listed == name)][:, columns].mean())
    return shares
