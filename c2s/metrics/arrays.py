"""Points and weights as the metrics of distributions need them: checked, dense and in double precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError

Floats = npt.NDArray[np.float64]

#: Numbers of one block of distances; 32 MiB.
_BLOCK = 4_194_304


def checked_points(values: Any, what: str, *, least: int = 1) -> Floats:
    """Return points as float64 ``[points, dimensions]``.

    Parameters
    ----------
    values
        An array or a SciPy sparse matrix; ``[points]`` is read as one dimension.
    what
        What the points are, for messages.
    least
        Fewest points that make sense.

    Raises
    ------
    MetricError
        It is no matrix of numbers, holds NaN or infinity (the first row is named), has no dimension, or has fewer
        than `least` points.
    """
    try:
        points = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(
            f"{what} is not a matrix of numbers ({error}).", fix="pass an array of shape [cells, dimensions]."
        ) from error
    if points.ndim == 1:
        points = points[:, None]
    if points.ndim != 2 or not points.shape[1]:
        raise MetricError(f"{what} has the shape {points.shape}.", fix="pass [cells, dimensions].")
    if len(points) < least:
        raise MetricError(
            f"{what} has {len(points)} row(s), too few: {least} needed.", fix="give more cells, or leave it out."
        )
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise MetricError(
            f"{what} holds NaN or infinity in {len(bad)} row(s), first row {bad[0]}.",
            fix="leave these cells out, or find out what made them.",
        )
    return points


def checked_samples(x: Any, y: Any, *, least: int = 1) -> tuple[Floats, Floats]:
    """Return two sets of points with as many dimensions as each other; see `checked_points`.

    Raises
    ------
    MetricError
        As `checked_points`, or the dimensions differ.
    """
    first = checked_points(x, "the first sample", least=least)
    second = checked_points(y, "the second sample", least=least)
    if first.shape[1] != second.shape[1]:
        raise MetricError(
            f"the first sample has {first.shape[1]} dimensions, the second {second.shape[1]}.",
            fix="use the same embedder, or the same genes in the same order, for both.",
        )
    return first, second


def row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of rows, so that a block of ``[rows, n_columns]`` float64 stays within 32 MiB."""
    step = max(1, _BLOCK // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def squared_distances(x: Floats, y: Floats) -> Floats:
    """Return squared Euclidean distances, float64 ``[points of x, points of y]``.

    Differences are squared, not expanded into a product: the distance of a point from its copy is exactly 0.
    """
    from scipy.spatial.distance import cdist

    result: Floats = cdist(x, y, "sqeuclidean")
    return result
