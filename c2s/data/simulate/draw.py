"""Counts and attributes of simulated cells, drawn so that a cell depends on its number and the seed alone.

However many cells are drawn, and in whatever chunks, cell 17 is the same cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from c2s.data.simulate.nb_kernels import draw_rows
from c2s.prompts import stable_hash

FloatArray = npt.NDArray[np.float64]

_BLOCK = 256  # cells drawn at once: bounds the scratch memory, changes nothing


def stream(*parts: object) -> np.random.Generator:
    """Return a generator of its own for what `parts` name; the same parts give the same numbers."""
    return np.random.default_rng(stable_hash("simulate", *parts))


def cell_uniforms(first: int, n: int, *parts: object) -> FloatArray:
    """Return one number in [0, 1) for each of the cells `first` to ``first + n - 1``, by counting (SplitMix64)."""
    with np.errstate(over="ignore"):
        number = np.arange(first, first + n, dtype=np.uint64)
        value = np.uint64(stable_hash("simulate cells", *parts)) + number * np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(30)
        value *= np.uint64(0xBF58476D1CE4E5B9)
        value ^= value >> np.uint64(27)
        value *= np.uint64(0x94D049BB133111EB)
        value ^= value >> np.uint64(31)
    return (value >> np.uint64(11)).astype(np.float64) * 2.0**-53


def choose(uniforms: FloatArray, shares: FloatArray) -> npt.NDArray[np.int64]:
    """Return, for each uniform number, the category it falls into.

    Parameters
    ----------
    uniforms
        float64 ``[n]`` in [0, 1).
    shares
        float64 ``[categories]``, or ``[n, categories]`` with shares for each; rows need not add up to one.
    """
    bounds = np.cumsum(np.atleast_2d(shares), axis=1, dtype=np.float64)
    bounds /= bounds[:, -1:]
    chosen = (uniforms[:, None] >= bounds).sum(axis=1)
    return np.asarray(np.minimum(chosen, bounds.shape[1] - 1), dtype=np.int64)


def draw_counts(
    profiles: FloatArray,
    state: npt.NDArray[np.int64],
    sizes: FloatArray,
    dispersions: FloatArray,
    *,
    seed: int,
    name: str,
    factors: FloatArray | None = None,
    sample: npt.NDArray[np.int64] | None = None,
    first: int = 0,
) -> sp.csr_matrix:
    """Draw negative-binomial counts.

    Parameters
    ----------
    profiles
        float64 ``[states, genes]``: expected share of each gene.
    state
        int64 ``[cells]``: row of `profiles` that each cell follows.
    sizes
        float64 ``[cells]``: what the shares are multiplied by, the expected total where they add up to 1.
    dispersions
        float64 ``[genes]``: variance is ``mean + dispersion * mean**2``.
    seed
        Of the draw.
    name
        Of the simulator, so that two of them with one seed share nothing.
    factors
        float64 ``[samples, genes]``: multiplies the shares; default one row of ones.
    sample
        int64 ``[cells]``: row of `factors` that each cell follows; default the first.
    first
        Number of the first cell.

    Returns
    -------
    scipy.sparse.csr_matrix
        float32 whole numbers, ``[cells, genes]``, sorted columns.
    """
    n, n_genes = len(state), profiles.shape[1]
    key = np.uint64(stable_hash("simulate counts", name, seed))
    profiles = np.ascontiguousarray(profiles, dtype=np.float64)
    sizes = np.ascontiguousarray(sizes, dtype=np.float64)
    dispersions = np.ascontiguousarray(dispersions, dtype=np.float64)
    factors = np.ones((1, n_genes)) if factors is None else np.ascontiguousarray(factors, dtype=np.float64)
    rows = np.zeros(n, dtype=np.int64) if sample is None else sample
    scratch = min(_BLOCK, max(n, 1)) * n_genes
    indices, data = np.empty(scratch, dtype=np.int32), np.empty(scratch, dtype=np.float32)
    kept: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]] = []
    indptr = np.zeros(n + 1, dtype=np.int64)
    for begin in range(0, n, _BLOCK):
        end = min(begin + _BLOCK, n)
        ends = np.zeros(end - begin, dtype=np.int64)
        number = np.uint64(first + begin)
        of = slice(begin, end)
        draw_rows(profiles, state[of], factors, rows[of], sizes[of], dispersions, key, number, indices, data, ends)
        kept.append((indices[: ends[-1]].copy(), data[: ends[-1]].copy()))
        indptr[begin + 1 : end + 1] = indptr[begin] + ends
    parts: tuple[Any, Any] = (
        np.concatenate([d for _, d in kept] or [data[:0]]),
        np.concatenate([i for i, _ in kept] or [indices[:0]]),
    )
    return sp.csr_matrix((*parts, indptr), shape=(n, n_genes))
