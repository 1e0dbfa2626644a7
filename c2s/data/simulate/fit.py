"""Fit a `CountModel` to raw counts.

The likelihood of each gene's counts, given the totals of the cells, is computed on a grid of dispersions. Those of
all genes scatter log-normally around a trend over the mean, ``a0 + a1 / mean``: the form of Anders and Huber
(*Genome Biol* 11:R106, 2010; doi 10.1186/gb-2010-11-10-r106) and of Love, Huber and Anders (*Genome Biol* 15:550,
2014; doi 10.1186/s13059-014-0550-8). The latter's shrinkage of a gene's own estimate toward the trend is taken as
well: the fewer counts a gene has, the less they weigh. Moments would be simpler, but a handful of odd cells moves
them, and the zeros then come out wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from scipy.special import gammaln, logsumexp

from c2s.data.simulate.count_model import CountModel
from c2s.errors import GeneError, MatrixError
from c2s.sentences.matrix import matrix_of
from c2s.sentences.matrix_kind import matrix_kind
from c2s.splits import complete_column

if TYPE_CHECKING:
    from anndata import AnnData

FloatArray = npt.NDArray[np.float64]

#: Dispersions at which likelihoods are computed.
GRID = np.geomspace(1e-3, 50, 48)
_FEWEST_CELLS, _FEWEST_GENES = 20, 20
_SIZE_BINS = 40


def fit_counts(
    adata: AnnData,
    *,
    layer: str | None = None,
    group: str | None = None,
    top_genes: int | None = None,
    also: Iterable[str] = (),
    n_quantiles: int = 101,
    source: Mapping[str, Any] | None = None,
) -> CountModel:
    """Fit gene means, dispersions and library sizes to raw counts.

    Parameters
    ----------
    adata
        Cells with raw counts.
    layer
        Layer with the counts, instead of ``X``.
    group
        Column of ``obs``, e.g. the cell type: dispersions are then those within groups, which is what a simulator
        needs that adds cell types itself. Without it, differences between cell types count as dispersion.
    top_genes
        Keep this many genes with the highest means, and `also`; library sizes are then totals over these.
    also
        Symbols to keep whatever their mean, as far as they are there.
    n_quantiles
        Number of quantiles that describe the library sizes.
    source
        What to state about the data: ``name``, ``citation``, ``licence``.

    Raises
    ------
    MatrixError
        The matrix holds no raw counts, or too few cells or genes.
    GeneError
        Gene symbols are duplicated.
    ObsError
        The column `group` is missing or incomplete.
    """
    counts, genes = _counts_of(adata, layer)
    labels = complete_column(adata.obs, group).to_numpy() if group else np.full(adata.n_obs, "")
    kept = _kept(counts, genes, top_genes, set(also))
    counts, genes = counts[:, kept], genes[kept]
    sizes: FloatArray = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    full = sizes > 0
    counts, sizes, labels = counts[full], sizes[full], labels[full]
    if len(sizes) < _FEWEST_CELLS or len(genes) < _FEWEST_GENES:
        raise MatrixError(
            f"{len(sizes)} cells with counts of {len(genes)} expressed genes are too few to fit a count model.",
            fix=f"give at least {_FEWEST_CELLS} cells and {_FEWEST_GENES} genes.",
        )
    means = np.asarray(counts.mean(axis=0)).ravel()
    values = _Likelihoods(counts, sizes, labels).values
    trend, scatter = _population(values, means)
    posterior = values + _prior(means, *trend, scatter)
    posterior = np.exp(posterior - logsumexp(posterior, axis=1, keepdims=True))
    stated = {
        "n_cells": len(sizes),
        "n_genes": int(adata.n_vars),
        "group": group or "none",
        "groups": len(np.unique(labels)),
        **(source or {}),
    }
    return CountModel(
        genes=tuple(genes),
        fractions=means / means.sum(),
        dispersions=np.exp(posterior @ np.log(GRID)),
        trend=trend,
        trend_scatter=scatter,
        library_quantiles=np.quantile(sizes, np.linspace(0, 1, n_quantiles)),
        source=stated,
    )


def _counts_of(adata: AnnData, layer: str | None) -> tuple[sp.csr_matrix, npt.NDArray[np.object_]]:
    """Return the counts as float64 CSR, and the symbols; refuse what cannot be fitted."""
    kind = matrix_kind(adata, layer)
    if kind.name != "counts":
        raise MatrixError(
            f"a count model is fitted to raw counts, and these are {kind.name} ({kind.evidence}).",
            fix="read the file with c2s.read_cells(path, normalise='never'), or name the layer with the counts.",
        )
    names = pd.Index(adata.var_names.astype(str))
    if names.has_duplicates:
        raise GeneError(
            f"gene {names[names.duplicated()][0]!r} is there more than once.", fix="adata.var_names_make_unique()"
        )
    matrix: Any = matrix_of(adata, layer)
    counts = sp.csr_matrix(matrix[:], dtype=np.float64)
    counts.sum_duplicates()
    if not (np.isfinite(counts.data) & (counts.data >= 0) & (counts.data == np.floor(counts.data))).all():
        raise MatrixError(
            "some values are not whole numbers of at least 0.", fix="name the layer with the counts."
        )
    return counts, names.to_numpy(dtype=object)


def _kept(
    counts: sp.csr_matrix, genes: npt.NDArray[np.object_], top: int | None, also: set[str]
) -> npt.NDArray[np.int64]:
    """Return the columns to keep, in their order: expressed, and among the highest or named."""
    totals = np.asarray(counts.sum(axis=0)).ravel()
    wanted = totals > 0
    if top is not None:
        highest = np.zeros(len(totals), dtype=bool)
        highest[np.argsort(-totals, kind="stable")[:top]] = True
        wanted &= highest | np.isin(genes, list(also))
    return np.flatnonzero(wanted)


class _Likelihoods:
    """Log-likelihood of each gene's counts at each dispersion of `GRID`, given the means of its groups.

    The zeros, which are most of the counts, enter by the totals of the cells alone, similar ones together.
    """

    def __init__(self, counts: sp.csr_matrix, sizes: FloatArray, labels: npt.NDArray[Any]) -> None:
        self.values = np.zeros((counts.shape[1], len(GRID)))
        for label in np.unique(labels):
            inside = labels == label
            self._add(counts[inside], sizes[inside])

    def _add(self, counts: sp.csr_matrix, sizes: FloatArray) -> None:
        fractions = np.asarray(counts.sum(axis=0)).ravel() / sizes.sum()
        bins = np.array_split(np.sort(sizes), min(_SIZE_BINS, len(sizes)))
        typical, weight = np.array([b.mean() for b in bins]), np.array([len(b) for b in bins])
        means = fractions[:, None] * typical
        entries = counts.tocoo()
        at = fractions[entries.col] * sizes[entries.row]
        x, which = np.unique(entries.data, return_inverse=True)
        for k, phi in enumerate(GRID):
            size = 1 / phi
            none = -size * (np.log1p(phi * means) @ weight)
            some = (gammaln(x + size) - gammaln(size))[which] + entries.data * np.log(phi * at / (1 + phi * at))
            self.values[:, k] += none + np.bincount(entries.col, some, minlength=len(fractions))


def _population(values: FloatArray, means: FloatArray) -> tuple[tuple[float, float], float]:
    """Find the trend and the scatter under which the genes' counts are most likely (empirical Bayes)."""
    from scipy.optimize import minimize

    # Genes with a handful of counts say nothing about dispersion; leaving them out only saves time.
    telling = np.ptp(values, axis=1) > 0.5
    if telling.sum() < _FEWEST_GENES:
        telling[:] = True
    relative, means = values[telling] - values[telling].max(axis=1, keepdims=True), means[telling]

    def surprise(parameters: FloatArray) -> float:
        prior = _prior(means, *np.exp(parameters))
        return -float(logsumexp(relative + prior, axis=1).sum())

    start = np.log([0.1, 0.02, 0.7])
    bounds = [(np.log(1e-4), np.log(20.0)), (np.log(1e-6), np.log(5.0)), (np.log(0.05), np.log(3.0))]
    fit = minimize(surprise, start, method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-4, "fatol": 1e-3})
    a0, a1, scatter = (float(v) for v in np.exp(fit.x))
    return (a0, a1), scatter


def _prior(means: FloatArray, a0: float, a1: float, scatter: float) -> FloatArray:
    """Return the log-probability of each dispersion of `GRID` for genes with these means (log-normal)."""
    distance = (np.log(GRID)[None, :] - np.log(a0 + a1 / means)[:, None]) / scatter
    logarithm = -0.5 * distance**2
    result: FloatArray = logarithm - logsumexp(logarithm, axis=1, keepdims=True)
    return result
