"""scFID: the Fréchet distance between real and generated cells in an embedding (section 4.7)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import C2SWarning, MetricError
from c2s.metrics.arrays import Floats, checked_samples
from c2s.metrics.statistics import Interval, percentile_interval

if TYPE_CHECKING:
    from anndata import AnnData


def scfid(
    real: Any, generated: Any, *, embedder: Callable[[AnnData], npt.ArrayLike] | None = None, warn: bool = True
) -> float:
    """Return scFID: the squared Fréchet distance between two sets of cells (section 4.7).

    Each set is summed up by the mean and the covariance (divided by n - 1) of its embeddings, and these two
    Gaussian distributions are compared. 0 or more; lower is better; 0 for equal means and covariances.

    Parameters
    ----------
    real, generated
        Embeddings ``[cells, dimensions]``, two cells or more; or AnnData, with an `embedder`.
    embedder
        ``AnnData -> [cells, dimensions]``: the `transform` of a fitted `c2s.Embedder`, say. The paper takes scGPT;
        values from different embedders cannot be compared.
    warn
        Whether to warn of too few cells.

    Raises
    ------
    MetricError
        A set has fewer than two cells, holds NaN, or the dimensions differ.

    Warns
    -----
    C2SWarning
        A set has no more cells than dimensions: its covariance has not full rank, and the value is too high by an
        amount that depends on the number of cells. See `frechet_extrapolation`.
    """
    if embedder is not None:
        real, generated = embedder(real), embedder(generated)
    return frechet_distance(real, generated, warn=warn)


def frechet_distance(x: npt.ArrayLike, y: npt.ArrayLike, *, warn: bool = True) -> float:
    """Return the squared Fréchet distance between the Gaussian distributions of two samples; see `scfid`.

    With ``S = A'A`` and ``T = B'B``, the trace of ``(ST)^½`` is the sum of the square roots of the eigenvalues of
    the symmetric matrix ``S^½ T S^½``, and these are the singular values of ``AB'``. They are real by
    construction, keep full precision where a covariance is singular, and the matrix has no more rows than there
    are cells or dimensions, whichever are fewer.

    Raises
    ------
    MetricError
        As `scfid`.
    """
    first, second = checked_samples(x, y, least=2)
    if warn:
        _warn_of_few(first, second)
    return _distance(first, second)


def _warn_of_few(first: Floats, second: Floats) -> None:
    few = [f"{len(points)} cells" for points in (first, second) if len(points) <= first.shape[1]]
    if few:
        warnings.warn(
            f"{' and '.join(few)} for {first.shape[1]} dimensions: the covariance has not full rank, and the "
            "Fréchet distance is too high. Give more cells or fewer dimensions, or use frechet_extrapolation.",
            C2SWarning,
            stacklevel=4,
        )


def _distance(x: Floats, y: Floats) -> float:
    mean_x, factor_x = _moments(x)
    mean_y, factor_y = _moments(y)
    shared = np.linalg.svd(factor_x @ factor_y.T, compute_uv=False).sum()
    spread = (factor_x**2).sum() + (factor_y**2).sum() - 2 * shared
    return float(((mean_x - mean_y) ** 2).sum() + max(spread, 0.0))


def _moments(points: Floats) -> tuple[Floats, Floats]:
    """Return the mean, and a matrix A of at most as many rows as dimensions with A'A the covariance."""
    mean = points.mean(axis=0)
    factor = (points - mean) / np.sqrt(len(points) - 1)
    if len(points) > points.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    return mean, factor


def frechet_of_moments(
    mean_x: npt.ArrayLike, covariance_x: npt.ArrayLike, mean_y: npt.ArrayLike, covariance_y: npt.ArrayLike
) -> float:
    """Return the squared Fréchet distance between two Gaussian distributions given by mean and covariance.

    Parameters
    ----------
    mean_x, mean_y
        ``[dimensions]``.
    covariance_x, covariance_y
        Symmetric, positive semi-definite, ``[dimensions, dimensions]``.

    Returns
    -------
    float
        0 or more; lower is better.

    Raises
    ------
    MetricError
        The shapes do not fit each other, a value is not finite, or a matrix is no covariance.
    """
    means = [np.asarray(mean, dtype=np.float64) for mean in (mean_x, mean_y)]
    d = len(means[0]) if means[0].ndim == 1 else 0
    covariances = [np.asarray(each, dtype=np.float64) for each in (covariance_x, covariance_y)]
    if not d or any(mean.shape != (d,) for mean in means) or any(c.shape != (d, d) for c in covariances):
        shapes = ", ".join(str(each.shape) for each in (*means, *covariances))
        raise MetricError(f"means and covariances of shapes {shapes}.", fix="pass [d], [d, d], [d], [d, d].")
    if not all(np.isfinite(each).all() for each in (*means, *covariances)):
        raise MetricError("a mean or covariance holds NaN or infinity.", fix="compute it from finite values.")
    roots = [_root(covariance, which) for covariance, which in zip(covariances, ("first", "second"), strict=True)]
    inner = roots[0] @ covariances[1] @ roots[0]
    eigenvalues = np.linalg.eigvalsh((inner + inner.T) / 2)
    shared = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    spread = np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * shared
    return float(((means[0] - means[1]) ** 2).sum() + max(spread, 0.0))


def _root(covariance: Floats, which: str) -> Floats:
    scale = np.abs(covariance).max()
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if np.abs(covariance - covariance.T).max() > 1e-8 * scale or values.min() < -1e-8 * scale:
        raise MetricError(
            f"the {which} covariance is not symmetric and positive semi-definite.",
            fix="compute it with numpy.cov(points, rowvar=False).",
        )
    result: Floats = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return result


@dataclass(frozen=True, eq=False)
class FrechetExtrapolation:
    """What more cells would make of a Fréchet distance, see `frechet_extrapolation`.

    Attributes
    ----------
    table
        One row per number of cells: ``n``, ``value`` (mean over the subsamples), ``sd`` and ``bias`` (above the
        extrapolated value).
    infinite
        The distance extrapolated to infinitely many cells, with an interval from resampling the subsamples. It may
        be below 0 where the distributions are the same.
    observed
        The distance of all cells.
    """

    table: pd.DataFrame
    infinite: Interval
    observed: float


def frechet_extrapolation(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    sizes: Sequence[int] | None = None,
    repeats: int = 10,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> FrechetExtrapolation:
    """Show how the Fréchet distance depends on the number of cells, and extrapolate it to infinitely many.

    An estimated covariance makes the distance too high, by about a constant over the number of cells. Subsamples
    of several sizes show it; a line through the values over 1/n gives its value at 0. Compare methods by this
    value, or at equal numbers of cells, never by raw values of samples of different sizes.

    Parameters
    ----------
    x, y
        Embeddings ``[cells, dimensions]``.
    sizes
        Numbers of cells per subsample (of both samples); default eight between a quarter of the smaller sample and
        all of it, evenly spaced in 1/n.
    repeats
        Subsamples per size.
    n_bootstrap, level, seed
        Of the interval of the extrapolated value; the seed also draws the subsamples.

    Raises
    ------
    MetricError
        Samples are too small (eight cells at least), a size is out of range, fewer than two sizes, or a count is
        not positive.

    Warns
    -----
    C2SWarning
        The smallest size has no more cells than dimensions: there the bias is not a line.
    """
    first, second = checked_samples(x, y, least=8)
    n = min(len(first), len(second))
    chosen = _sizes(n) if sizes is None else sorted({int(size) for size in sizes})
    if len(chosen) < 2 or chosen[0] < 2 or chosen[-1] > n:
        raise MetricError(f"sizes {chosen} for samples of {n} cells.", fix=f"give two or more from 2 to {n}.")
    if repeats < 1 or n_bootstrap < 1:
        raise MetricError(f"repeats={repeats}, n_bootstrap={n_bootstrap}.", fix="pass at least 1 of each.")
    percentile_interval([], level)
    if chosen[0] <= first.shape[1]:
        warnings.warn(
            f"subsamples of {chosen[0]} cells in {first.shape[1]} dimensions: the bias is not a line in 1/n "
            "there, and the extrapolated value is a rough one. Pass larger sizes, or fewer dimensions.",
            C2SWarning,
            stacklevel=2,
        )
    rng = np.random.default_rng(seed)
    values = np.empty((len(chosen), repeats))
    for row, size in enumerate(chosen):
        for column in range(repeats):
            a = first[rng.choice(len(first), size, replace=False)]
            b = second[rng.choice(len(second), size, replace=False)]
            values[row, column] = _distance(a, b)
    inverse = 1 / np.array(chosen)
    at_zero = float(_at_zero(inverse, values.mean(axis=1)[None])[0])
    picks = rng.integers(repeats, size=(n_bootstrap, len(chosen), repeats))
    means = np.take_along_axis(np.broadcast_to(values, picks.shape), picks, axis=2).mean(axis=2)
    mean = values.mean(axis=1)
    table = pd.DataFrame({"n": chosen, "value": mean, "sd": values.std(axis=1), "bias": mean - at_zero})
    low, high = percentile_interval(_at_zero(inverse, means), level)
    return FrechetExtrapolation(table, Interval(at_zero, low, high), _distance(first, second))


def _sizes(n: int) -> list[int]:
    return sorted({round(1 / inverse) for inverse in np.linspace(1 / n, 4 / n, 8)})


def _at_zero(inverse: Floats, values: Floats) -> Floats:
    """Return the intercepts of least-squares lines through `values` ``[lines, points]``."""
    centred = inverse - inverse.mean()
    slope = values @ centred / (centred @ centred)
    result: Floats = values.mean(axis=1) - slope * inverse.mean()
    return result
