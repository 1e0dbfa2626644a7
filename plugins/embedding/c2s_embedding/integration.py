"""Scores of integration as the field reports them, by scib-metrics (extra ``scib``; Luecken et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import ConfigError, MetricError, PluginError
from c2s_embedding.transfer import checked_labels, checked_vectors

#: Whether a score is about keeping labels or about mixing batches.
SCORES = {
    "isolated_labels": "label conservation",
    "nmi_kmeans": "label conservation",
    "ari_kmeans": "label conservation",
    "silhouette_label": "label conservation",
    "clisi": "label conservation",
    "silhouette_batch": "batch mixing",
    "ilisi": "batch mixing",
    "kbet": "batch mixing",
    "graph_connectivity": "batch mixing",
}
#: Weight of label conservation in the total, as in the benchmark.
_LABELS = 0.6


def integration_scores(
    vectors: npt.ArrayLike, labels: Sequence[object], batches: Sequence[object], *, n_neighbors: int = 90
) -> pd.DataFrame:
    """Return scib-metrics' scores of label conservation and batch mixing, and their totals.

    Neighbours are exact and Euclidean. A batch may be a donor: then mixing says that donors are not told apart,
    which is not always what one wants.

    Parameters
    ----------
    vectors
        ``[cells, dimensions]``.
    labels, batches
        Type and batch of each cell.
    n_neighbors
        Neighbours of each cell, itself included; kBET takes the first 50 and graph connectivity the first 15.

    Returns
    -------
    pandas.DataFrame
        Columns ``score``, ``kind`` and ``value`` in [0, 1], higher is better; the last three rows are the mean of
        each kind and the total, ``0.6 x label conservation + 0.4 x batch mixing``. NaN where a score is not
        defined (kBET where no type has enough cells of two batches, say); means leave it out.

    Raises
    ------
    PluginError
        scib-metrics is not installed.
    MetricError
        There are fewer than two types or batches, or the vectors or labels are not sound.
    ConfigError
        There are not more cells than `n_neighbors`, or that is below 3.
    """
    points = checked_vectors(vectors)
    types = checked_labels(labels, len(points))
    sources = checked_labels(batches, len(points), what="batches")
    for what, given in (("type", types), ("batch", sources)):
        if len(np.unique(given)) < 2:
            raise MetricError(f"all cells are of one {what}.", fix=f"give cells of at least two ({what}).")
    if not 3 <= n_neighbors < len(points):
        raise ConfigError(
            "integration scores",
            [f"{n_neighbors} neighbours of {len(points)} cells"],
            fix="pass n_neighbors between 3 and the number of cells less one; 90 is usual.",
        )
    sm, neighbours = _library(), _neighbours(points, n_neighbors)
    coordinates = points.astype(np.float32)
    clusters = sm.nmi_ari_cluster_labels_kmeans(coordinates, types)
    values: dict[str, Any] = {
        "isolated_labels": sm.isolated_labels(coordinates, types, sources),
        "nmi_kmeans": clusters["nmi"],
        "ari_kmeans": clusters["ari"],
        "silhouette_label": sm.silhouette_label(coordinates, types),
        "clisi": sm.clisi_knn(neighbours, types),
        "silhouette_batch": sm.silhouette_batch(coordinates, types, sources),
        "ilisi": sm.ilisi_knn(neighbours, sources),
        "kbet": sm.kbet_per_label(neighbours.subset_neighbors(min(50, n_neighbors)), sources, types),
        "graph_connectivity": sm.graph_connectivity(neighbours.subset_neighbors(min(15, n_neighbors)), types),
    }
    rows: list[dict[str, Any]] = [{"score": s, "kind": SCORES[s], "value": float(v)} for s, v in values.items()]
    table = pd.DataFrame(rows)
    kept, mixed = (table.loc[table["kind"] == kind, "value"].mean() for kind in dict.fromkeys(SCORES.values()))
    means = [
        {"score": "label conservation", "kind": "mean", "value": kept},
        {"score": "batch mixing", "kind": "mean", "value": mixed},
        {"score": "total", "kind": "mean", "value": _LABELS * kept + (1 - _LABELS) * mixed},
    ]
    return pd.concat([table, pd.DataFrame(means)], ignore_index=True)


def _library() -> Any:
    try:
        import scib_metrics
    except ImportError:
        raise PluginError(
            "these scores need the package scib-metrics, which is not installed.",
            fix="python -m pip install 'c2s-embedding[scib]'.",
        ) from None
    return scib_metrics


def _neighbours(points: npt.NDArray[np.float64], n: int) -> Any:
    """Return the nearest cells of each cell, itself first, as scib-metrics takes them."""
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=n).fit(points).kneighbors(points)
    return NeighborsResults(indices=indices, distances=distances)
