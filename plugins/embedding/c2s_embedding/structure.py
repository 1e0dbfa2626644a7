"""How well vectors keep types apart and donors together: silhouettes, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError
from c2s.metrics import Interval, bootstrap_groups, bootstrap_mean
from c2s_embedding.transfer import Distance, checked_labels, checked_vectors


@dataclass(frozen=True, eq=False)
class Separation:
    """Silhouettes of each cell, rescaled to [0, 1] as in scIB (Luecken et al. 2022); NaN where not defined.

    Attributes
    ----------
    label
        ``(s + 1) / 2`` of the silhouette over the types, float64 ``[cells]``; high: a cell is nearest to its own
        type.
    batch
        ``1 - |s|`` of the silhouette over the donors within a type, float64 ``[cells]``; high: donors are mixed.
        NaN in a type of one donor, or where every cell has a donor of its own. None without donors.
    types
        The label of each cell.
    """

    label: npt.NDArray[np.float64]
    batch: npt.NDArray[np.float64] | None
    types: npt.NDArray[np.str_]

    @property
    def label_score(self) -> float:
        """Mean over cells."""
        return float(self.label.mean())

    @property
    def batch_score(self) -> float:
        """Mean over types of the mean over their cells, as scIB; NaN if no type has two donors."""
        if self.batch is None:
            return float("nan")
        means = [self.batch[self.types == kind] for kind in np.unique(self.types)]
        known = [values[~np.isnan(values)].mean() for values in means if not np.isnan(values).all()]
        return float(np.mean(known)) if known else float("nan")

    def label_interval(
        self, groups: Sequence[object] | None = None, *, n_bootstrap: int = 1000, seed: int = 0
    ) -> Interval:
        """Return the label score with its bootstrap interval, over cells or over whole groups (donors)."""
        if groups is None:
            return bootstrap_mean(self.label, n_bootstrap=n_bootstrap, seed=seed)
        return bootstrap_groups(self.label, groups, n_bootstrap=n_bootstrap, seed=seed)


def separation(
    vectors: npt.ArrayLike,
    labels: Sequence[object],
    batches: Sequence[object] | None = None,
    *,
    metric: Distance = "euclidean",
) -> Separation:
    """Return the silhouettes over types and, within each type, over donors or batches.

    Parameters
    ----------
    vectors
        ``[cells, dimensions]``.
    labels
        Type of each cell.
    batches
        Donor or batch of each cell.
    metric
        What distance is; scIB takes the Euclidean one.

    Raises
    ------
    MetricError
        Fewer than two types, every cell has a type of its own, or the vectors or labels are not sound.
    """
    points = checked_vectors(vectors)
    types = checked_labels(labels, len(points))
    n_types = len(np.unique(types))
    if not 2 <= n_types < len(points):
        raise MetricError(
            f"{n_types} type(s) of {len(points)} cells have no silhouette.",
            fix="give at least two types, and more cells than types.",
        )
    label = (_silhouettes(points, types, metric) + 1) / 2
    if batches is None:
        return Separation(label, None, types)
    donors = checked_labels(batches, len(points), what="batches")
    batch = np.full(len(points), np.nan)
    for kind in np.unique(types):
        rows = np.flatnonzero(types == kind)
        if 2 <= len(np.unique(donors[rows])) < len(rows):
            batch[rows] = 1 - np.abs(_silhouettes(points[rows], donors[rows], metric))
    return Separation(label, batch, types)


def _silhouettes(
    points: npt.NDArray[np.float64], groups: npt.NDArray[np.str_], metric: Distance
) -> npt.NDArray[np.float64]:
    from sklearn.metrics import silhouette_samples

    values: npt.NDArray[np.float64] = silhouette_samples(points, groups, metric=metric)
    return values
