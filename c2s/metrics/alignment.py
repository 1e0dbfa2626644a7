"""How well two views of the same samples find each other: FOSCTTM (section 4.6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError
from c2s.metrics.arrays import Floats, checked_samples, row_blocks
from c2s.metrics.statistics import Interval, bootstrap_groups, bootstrap_mean

#: Similarities that differ by less than this are ties: the same vectors, multiplied in another order.
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class Foscttm:
    """Fraction of samples closer than the true match, see `foscttm`.

    Attributes
    ----------
    value
        Mean of the two directions; in [0, 1], lower is better, 0.5 is chance.
    forward, backward
        Mean when a sample of the first view looks for its match in the second, and the other way round.
    per_pair
        Mean of both directions for each pair, float64 ``[pairs]``.
    groups
        The group of each pair, or None.
    """

    value: float
    forward: float
    backward: float
    per_pair: Floats
    groups: tuple[Any, ...] | None = None

    def interval(self, *, n_bootstrap: int = 1000, level: float = 0.95, seed: int = 0) -> Interval:
        """Return the value with its percentile bootstrap interval.

        Pairs are drawn; where there are groups, whole groups are. What a sample is compared with stays the same.

        Raises
        ------
        MetricError
            `n_bootstrap` or `level` is out of range.
        """
        if self.groups is None:
            return bootstrap_mean(self.per_pair, n_bootstrap=n_bootstrap, level=level, seed=seed)
        return bootstrap_groups(self.per_pair, self.groups, n_bootstrap=n_bootstrap, level=level, seed=seed)


def foscttm(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    metric: Literal["cosine", "euclidean"] = "cosine",
    groups: Sequence[object] | None = None,
) -> Foscttm:
    """Return the fraction of samples closer than the true match, in both directions (section 4.6.4).

    Row i of one view belongs to row i of the other. For each row, the fraction of the other rows of the other view
    that are more alike to it than its match is. 0 is perfect, 0.5 is chance; lower is better. A row exactly as
    alike as the match counts half, so that an embedding that puts everything in one place gets 0.5.

    Parameters
    ----------
    first, second
        The two embeddings, ``[pairs, dimensions]``; memory stays bounded however many pairs there are.
    metric
        ``"cosine"``, as the paper, or ``"euclidean"``.
    groups
        Group of each pair. Rows of the same group are no wrong matches and are left out of the comparison: the ten
        cells of one pseudo-bulk sample, say, which all belong to the same bulk vector.

    Raises
    ------
    MetricError
        There are fewer than two pairs or groups, the shapes differ, a value is NaN or infinite, or, with the
        cosine, a vector has no length.
    """
    if metric not in ("cosine", "euclidean"):
        raise MetricError(f"unknown metric {metric!r}.", fix="choose 'cosine' or 'euclidean'.")
    x, y = checked_samples(first, second, least=2)
    n = len(x)
    if len(y) != n:
        raise MetricError(f"{n} rows in one view, {len(y)} in the other.", fix="give one row per pair in both.")
    codes = _group_codes(groups, n)
    if metric == "cosine":
        x, y = _unit(x, "first"), _unit(y, "second")
    halves = [np.zeros(n), np.zeros(n)]
    own = _likeness_of_pairs(x, y, metric)
    scale = 1.0 if metric == "cosine" else max(1.0, float(np.abs(own).max()))
    for rows in row_blocks(n, n):
        likeness = _likeness(x[rows], y, metric)
        other = codes[rows, None] != codes[None]
        for axis, match in ((1, own[rows, None]), (0, own[None])):
            gap = likeness - match
            counted = ((gap > _TIE * scale) + 0.5 * (np.abs(gap) <= _TIE * scale)) * other
            if axis:
                halves[0][rows] = counted.sum(axis=1)
            else:
                halves[1] += counted.sum(axis=0)
    compared = n - np.bincount(codes)[codes]
    forward, backward = (half / compared for half in halves)
    means = float(forward.mean()), float(backward.mean())
    return Foscttm(
        float(np.mean(means)), *means, (forward + backward) / 2, None if groups is None else tuple(groups)
    )


def _group_codes(groups: Sequence[object] | None, n: int) -> npt.NDArray[np.int64]:
    if groups is None:
        return np.arange(n)
    place: dict[object, int] = {}
    codes = np.array([place.setdefault(group, len(place)) for group in groups], dtype=np.int64)
    if len(codes) != n:
        raise MetricError(f"{len(codes)} groups for {n} pairs.", fix="give one group per pair.")
    if len(place) < 2:
        raise MetricError("all pairs are of one group: nothing is a wrong match.", fix="give two groups or more.")
    return codes


def _unit(points: Floats, which: str) -> Floats:
    length = np.linalg.norm(points, axis=1, keepdims=True)
    if (none := np.flatnonzero(length == 0)).size:
        raise MetricError(
            f"row {none[0]} of the {which} view is a vector of no length, which has no cosine.",
            fix="leave empty cells out, or pass metric='euclidean'.",
        )
    result: Floats = points / length
    return result


def _likeness(x: Floats, y: Floats, metric: str) -> Floats:
    """Return cosines, or distances with a minus sign, ``[rows of x, rows of y]``."""
    from scipy.spatial.distance import cdist

    result: Floats = x @ y.T if metric == "cosine" else -cdist(x, y)
    return result


def _likeness_of_pairs(x: Floats, y: Floats, metric: str) -> Floats:
    result: Floats = (x * y).sum(axis=1) if metric == "cosine" else -np.linalg.norm(x - y, axis=1)
    return result
