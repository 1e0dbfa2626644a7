"""How alike two rankings of the same genes are: Kendall, Spearman and Pearson (section 4.6.9), a row per cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError
from c2s.metrics.arrays import Floats, row_blocks

Variant = Literal["paper", "b"]


def sentence_ranks(sentences: Sequence[str | None], genes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the rank of each gene in each cell sentence, as section 4.6.9 defines it.

    The first gene has rank 1. Genes that are not in a sentence share the rank after its last (951 if 950 of the
    genes are there). Words that are none of `genes`, and a gene's second and later mention, take no rank.

    Parameters
    ----------
    sentences
        Genes in descending expression, separated by white space; None and an empty text hold no gene, and all
        genes share rank 1.
    genes
        The genes that are compared, distinct, one or more; the 978 of L1000, say.

    Returns
    -------
    numpy.ndarray
        int64 ``[sentences, genes]``.

    Raises
    ------
    MetricError
        There is no gene, or one is listed twice.
    """
    place = {gene: i for i, gene in enumerate(genes)}
    if not place:
        raise MetricError("no genes to rank.", fix="pass the genes that are compared.")
    if len(place) < len(genes):
        twice = next(gene for i, gene in enumerate(genes) if place[gene] != i)
        raise MetricError(f"the gene {twice!r} is listed twice.", fix="list each gene once.")
    ranks = np.empty((len(sentences), len(place)), dtype=np.int64)
    for row, sentence in enumerate(sentences):
        # A dictionary keeps the first mention of each.
        found = [place[word] for word in dict.fromkeys((sentence or "").split()) if word in place]
        ranks[row] = len(found) + 1
        ranks[row, found] = np.arange(1, len(found) + 1)
    return ranks


def kendall_tau(x: Any, y: Any, *, variant: Variant = "paper") -> Floats:
    """Return Kendall's τ between the rows of two matrices.

    A pair of columns is concordant if both rows order it alike, discordant if they order it oppositely, and tied
    if either row has equal values there.

    Parameters
    ----------
    x, y
        Ranks or values ``[rows, genes]``, both of the same kind; one row may be ``[genes]``. Two genes or more.
    variant
        ``"paper"``: concordant minus discordant over all n(n - 1)/2 pairs (section 4.6.9, τ-a): tied pairs count
        in the denominator alone, so that rankings with ties do not reach 1. ``"b"``: over the root of the pairs
        not tied in x times those not tied in y (τ-b, as `scipy.stats.kendalltau`).

    Returns
    -------
    numpy.ndarray
        float64 ``[rows]`` in [-1, 1]; higher is better. For a row of equal values: 0 (``"paper"``), NaN (``"b"``).

    Raises
    ------
    MetricError
        The shapes differ, there are fewer than two genes, or a value is NaN.
    """
    if variant not in ("paper", "b"):
        raise MetricError(f"unknown variant {variant!r}.", fix="choose 'paper' or 'b'.")
    a, b = _checked_rows(x, y)
    from c2s.metrics.ranking_kernels import pair_counts

    n_pairs = a.shape[1] * (a.shape[1] - 1) // 2
    counts = np.empty((len(a), 3), dtype=np.int64)
    for rows in row_blocks(*a.shape):
        pair_counts(_dense_codes(a[rows]), _dense_codes(b[rows]), counts[rows])
    if variant == "paper":
        return np.asarray(counts[:, 0] / n_pairs)
    free = (n_pairs - counts[:, 1:]).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = counts[:, 0] / np.sqrt(free[:, 0]) / np.sqrt(free[:, 1])
    return np.asarray(np.clip(tau, -1, 1))


def pearson(x: Any, y: Any) -> Floats:
    """Return Pearson's r between the rows of two matrices.

    Parameters
    ----------
    x, y
        Values ``[rows, genes]``; one row may be ``[genes]``. Two genes or more.

    Returns
    -------
    numpy.ndarray
        float64 ``[rows]`` in [-1, 1]; higher is better. NaN where a row is constant.

    Raises
    ------
    MetricError
        The shapes differ, there are fewer than two genes, or a value is NaN.
    """
    a, b = (_centred(each) for each in _checked_rows(x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        r = ((a / lengths[0][:, None]) * (b / lengths[1][:, None])).sum(axis=1)
    return np.asarray(np.clip(r, -1, 1))


def spearman(x: Any, y: Any) -> Floats:
    """Return Spearman's ρ between the rows of two matrices: `pearson` of their ranks, ties at their mean rank.

    Parameters, range, direction and errors are those of `pearson`.
    """
    from scipy.stats import rankdata

    a, b = _checked_rows(x, y)
    return pearson(rankdata(a, axis=1), rankdata(b, axis=1))


def _checked_rows(x: Any, y: Any) -> tuple[Floats, Floats]:
    try:
        a, b = (
            np.atleast_2d(np.asarray(each.toarray() if hasattr(each, "toarray") else each, dtype=np.float64))
            for each in (x, y)
        )
    except (TypeError, ValueError) as error:
        raise MetricError(f"not a matrix of numbers ({error}).", fix="pass arrays [rows, genes].") from error
    if a.shape != b.shape or a.ndim != 2 or not len(a):
        raise MetricError(
            f"shapes {a.shape} and {b.shape}.", fix="pass two matrices of the same rows and genes, [rows, genes]."
        )
    if a.shape[1] < 2:
        raise MetricError(f"{a.shape[1]} gene(s) have no order.", fix="compare two genes or more.")
    for which, each in (("first", a), ("second", b)):
        bad = np.flatnonzero(~np.isfinite(each).all(axis=1))
        if len(bad):
            raise MetricError(
                f"the {which} matrix holds NaN or infinity in {len(bad)} row(s), first row {bad[0]}.",
                fix="leave these rows or genes out.",
            )
    return a, b


def _centred(values: Floats) -> Floats:
    centred: Floats = values - values.mean(axis=1, keepdims=True)
    # A mean is rounded: a constant row must not become noise around 0.
    centred[(values == values[:, :1]).all(axis=1)] = 0
    return centred


def _dense_codes(values: Floats) -> npt.NDArray[np.int64]:
    """Return each row's values as codes from 0, in the same order; equal values get equal codes."""
    order = np.argsort(values, axis=1, kind="stable")
    by_value = np.take_along_axis(values, order, axis=1)
    steps = np.zeros(values.shape, dtype=np.int64)
    steps[:, 1:] = by_value[:, 1:] != by_value[:, :-1]
    codes = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(codes, order, np.cumsum(steps, axis=1), axis=1)
    return codes
