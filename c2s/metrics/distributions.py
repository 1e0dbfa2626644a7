"""How far apart two clouds of cells are: MMD, energy distance and Wasserstein distances (section 4.6.9).

All are symmetric, at least 0 (the unbiased estimates: in expectation), and lower is better. They compare points
``[cells, dimensions]`` in expression or, as the paper does, in an embedding. Distances are computed block by
block, except for the exact Wasserstein distance, which needs them all.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError
from c2s.metrics.arrays import Floats, checked_samples, row_blocks, squared_distances

#: The kernels of `mmd`, as multiples of the median distance; bandwidths an octave apart.
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
_MOST_FOR_MEDIAN = 2000


def median_bandwidth(x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int = 0) -> float:
    """Return the median of the distances between distinct places of both samples together.

    Parameters
    ----------
    x, y
        Points ``[cells, dimensions]``.
    seed
        Draws 2,000 points where there are more.

    Returns
    -------
    float
        Above 0; 0 only if all points are at one place.

    Raises
    ------
    MetricError
        A sample is empty or holds NaN, or the dimensions differ.
    """
    pooled = np.concatenate(checked_samples(x, y))
    if len(pooled) > _MOST_FOR_MEDIAN:
        pooled = pooled[np.random.default_rng(seed).choice(len(pooled), _MOST_FOR_MEDIAN, replace=False)]
    from scipy.spatial.distance import pdist

    distances = pdist(pooled)
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 0.0


def mmd(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    bandwidths: float | Sequence[float] | None = None,
    unbiased: bool = True,
    seed: int = 0,
) -> float:
    """Return the squared maximum mean discrepancy with Gaussian kernels, averaged over bandwidths.

    ``k(a, b)`` is the mean over bandwidths s of ``exp(-|a - b|² / 2s²)``.

    Parameters
    ----------
    x, y
        Points ``[cells, dimensions]``; two or more each for the unbiased estimate, one or more for the biased.
    bandwidths
        In the unit of the points; default `MULTIPLES` of `median_bandwidth`. Values with different bandwidths
        cannot be compared: for several methods against the same real cells, fix them.
    unbiased
        Leave out a point's likeness to itself. The estimate is right on average and may be slightly negative for
        equal distributions; the biased one is in [0, 2], and too high by about 1/n.
    seed
        Of `median_bandwidth`.

    Returns
    -------
    float
        At most 2; lower is better. 0 if all points are at one place.

    Raises
    ------
    MetricError
        A sample is too small or holds NaN, the dimensions differ, or a bandwidth is not positive.
    """
    a, b = checked_samples(x, y, least=2 if unbiased else 1)
    if bandwidths is None:
        middle = median_bandwidth(a, b, seed=seed)
        widths = np.array(MULTIPLES) * middle
        if middle == 0:
            return 0.0
    else:
        widths = np.atleast_1d(np.asarray(bandwidths, dtype=np.float64))
    if widths.ndim != 1 or not len(widths) or not (np.isfinite(widths) & (widths > 0)).all():
        raise MetricError(f"bandwidths {bandwidths!r}.", fix="pass positive numbers, or None for the default.")
    means = [
        _mean_kernel(*pair, widths, without_self=same and unbiased)
        for pair, same in (((a, a), True), ((b, b), True), ((a, b), False))
    ]
    return means[0] + means[1] - 2 * means[2]


def _mean_kernel(x: Floats, y: Floats, widths: Floats, *, without_self: bool) -> float:
    total = 0.0
    for rows in row_blocks(len(x), len(y)):
        squared = squared_distances(x[rows], y)
        total += sum(float(np.exp(squared / (-2 * width**2)).sum()) for width in widths) / len(widths)
    # Every point is exactly as like itself as can be.
    return (total - len(x)) / (len(x) * (len(x) - 1)) if without_self else total / (len(x) * len(y))


def energy_distance(x: npt.ArrayLike, y: npt.ArrayLike, *, unbiased: bool = False) -> float:
    """Return the energy distance ``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` with Euclidean lengths.

    Parameters
    ----------
    x, y
        Points ``[cells, dimensions]``; one or more each, two for the unbiased estimate.
    unbiased
        Leave out the distance of a point from itself; may be slightly negative for equal distributions.

    Returns
    -------
    float
        0 or more, in the unit of the points; lower is better. (In one dimension, `scipy.stats.energy_distance` is
        the root of this.)

    Raises
    ------
    MetricError
        A sample is too small or holds NaN, or the dimensions differ.
    """
    a, b = checked_samples(x, y, least=2 if unbiased else 1)
    within = [
        _sum_of_distances(each, each) / (len(each) * (len(each) - 1) if unbiased else len(each) ** 2)
        for each in (a, b)
    ]
    value = 2 * _sum_of_distances(a, b) / (len(a) * len(b)) - within[0] - within[1]
    return value if unbiased else max(value, 0.0)


def _sum_of_distances(x: Floats, y: Floats) -> float:
    return sum(float(np.sqrt(squared_distances(x[rows], y)).sum()) for rows in row_blocks(len(x), len(y)))


def wasserstein(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    order: Literal[1, 2] = 1,
    regularisation: float | None = None,
    most_cells: int = 5000,
) -> float:
    """Return the Wasserstein distance between two samples, by the library POT.

    Parameters
    ----------
    x, y
        Points ``[cells, dimensions]``, all of equal weight within a sample.
    order
        1, the mean way of a point under the best plan, or 2, the root of its mean square.
    regularisation
        None solves the transport exactly. A positive number adds entropy (Sinkhorn), in units of the mean cost: it
        is faster for many cells and returns the cost of a blurred plan, which is never lower than the exact one.
    most_cells
        Refuse more cells than this in a sample: the exact solution takes memory with their product, and time with
        more than that.

    Returns
    -------
    float
        0 or more, in the unit of the points; lower is better.

    Raises
    ------
    MetricError
        A sample is empty, larger than `most_cells` or holds NaN; the dimensions differ; an option is out of range;
        the solver did not end; or POT is not installed.
    """
    a, b = checked_samples(x, y)
    if order not in (1, 2):
        raise MetricError(f"order={order!r}.", fix="pass 1 or 2.")
    if regularisation is not None and not 0 < regularisation < np.inf:
        raise MetricError(f"regularisation={regularisation!r}.", fix="pass a positive number, e.g. 0.01, or None.")
    if max(len(a), len(b)) > most_cells:
        raise MetricError(
            f"{len(a)} and {len(b)} cells are more than most_cells={most_cells}.",
            fix="draw fewer cells, raise most_cells, or use wasserstein_per_gene or energy_distance.",
        )
    try:
        import ot
    except ImportError as error:
        raise MetricError("the package POT is not installed.", fix="pip install 'c2s[metrics]'") from error
    cost = squared_distances(a, b)
    cost = np.sqrt(cost) if order == 1 else cost
    weights = np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if regularisation is None:
            value = float(ot.emd2(*weights, cost, numItermax=10_000_000))
        else:
            unit = float(cost.mean()) or 1.0
            plan = ot.sinkhorn(
                *weights, cost, regularisation * unit, method="sinkhorn_log", numItermax=10_000, stopThr=1e-9
            )
            value = float((plan * cost).sum())
    if caught:
        raise MetricError(
            f"the transport was not solved: {' '.join(str(caught[0].message).split())}",
            fix="pass a larger regularisation, or fewer cells.",
        )
    return float(max(value, 0.0) ** (1 / order))


def wasserstein_per_gene(x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
    """Return the Wasserstein distance of order 1 along each dimension, from the samples' distribution functions.

    Parameters
    ----------
    x, y
        Values ``[cells, genes]``, one cell or more.

    Returns
    -------
    numpy.ndarray
        float64 ``[genes]``, each 0 or more in the unit of the values; lower is better. Their mean is a distance
        between the samples that ignores how genes go together.

    Raises
    ------
    MetricError
        A sample is empty or holds NaN, or the dimensions differ.
    """
    a, b = checked_samples(x, y)
    n, m = len(a), len(b)
    result = np.empty(a.shape[1])
    for genes in row_blocks(a.shape[1], n + m):
        pooled = np.concatenate((a[:, genes], b[:, genes]))
        order = np.argsort(pooled, axis=0, kind="stable")
        from_a = order < n
        gap = np.cumsum(from_a, axis=0) / n - np.cumsum(~from_a, axis=0) / m
        steps = np.diff(np.take_along_axis(pooled, order, axis=0), axis=0)
        result[genes] = (np.abs(gap[:-1]) * steps).sum(axis=0)
    return result
