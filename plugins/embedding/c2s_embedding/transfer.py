"""Labels carried from some cells to others by the nearest vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from c2s.errors import ConfigError, MetricError

Distance = Literal["cosine", "euclidean"]


def checked_vectors(vectors: npt.ArrayLike, *, what: str = "vectors") -> npt.NDArray[np.float64]:
    """Return vectors as float64 ``[cells, dimensions]``.

    Raises
    ------
    MetricError
        They are not a table of numbers, there is none, or one is NaN or infinite.
    """
    array = np.asarray(vectors, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise MetricError(f"{what} of shape {array.shape}.", fix="give one vector per cell, [cells, dimensions].")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise MetricError(
            f"{len(bad)} of the {what} hold NaN or infinity, first row {bad[0]}.",
            fix="embed these cells again, or leave them out.",
        )
    return array


def checked_labels(labels: Sequence[object], n: int, *, what: str = "labels") -> npt.NDArray[np.str_]:
    """Return one label per vector, as text.

    Raises
    ------
    MetricError
        Their number is another, or one is missing.
    """
    listed = list(labels)
    if len(listed) != n:
        raise MetricError(f"{len(listed)} {what} for {n} vectors.", fix="give one per vector, in the same order.")
    missing = [i for i, label in enumerate(listed) if label is None or label != label]
    if missing:
        raise MetricError(
            f"{len(missing)} of the {what} are missing, first row {missing[0]}.", fix="leave these cells out."
        )
    return np.array([str(label) for label in listed])


def label_transfer(
    train: npt.ArrayLike,
    labels: Sequence[object],
    test: npt.ArrayLike,
    *,
    k: int = 15,
    metric: Distance = "cosine",
) -> list[str]:
    """Predict the label of each test cell by a vote of its nearest training cells.

    Parameters
    ----------
    train
        Vectors with known labels, ``[cells, dimensions]``.
    labels
        Their labels.
    test
        Vectors to label, ``[cells, dimensions]``.
    k
        Neighbours that vote; all training cells where there are fewer.
    metric
        What near means. With the cosine, a vector of no length is at distance 1 from all others.

    Returns
    -------
    list of str
        One label per test cell; of labels with as many votes the first by name.

    Raises
    ------
    MetricError
        The dimensions differ, a value is NaN or infinite, or the numbers of vectors and labels differ.
    ConfigError
        `k` is not positive.
    """
    from sklearn.neighbors import KNeighborsClassifier

    known, asked = checked_vectors(train, what="training vectors"), checked_vectors(test, what="test vectors")
    if known.shape[1] != asked.shape[1]:
        raise MetricError(
            f"training vectors have {known.shape[1]} dimensions, test vectors {asked.shape[1]}.",
            fix="embed both with the same fitted embedder.",
        )
    names = checked_labels(labels, len(known))
    if k < 1:
        raise ConfigError("label transfer", [f"k={k} is below 1"], fix="15 is usual.")
    # Brute force: exact, and the only way with cosines.
    voters = KNeighborsClassifier(min(k, len(known)), metric=metric, algorithm="brute")
    return [str(label) for label in voters.fit(known, names).predict(asked)]
