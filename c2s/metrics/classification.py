"""Metrics of answers that are labels.

Comparison is exact unless said otherwise. An answer that is missing (None, or NaN as pandas writes it) is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import MetricError
from c2s.metrics.multi_reference import with_alternatives
from c2s.metrics.resampling import Resamplable, Resamples, mean_of_examples

Floats = npt.NDArray[np.float64]
Label = str | None


def checked_answers(predictions: Sequence[Label], references: Sequence[str]) -> tuple[list[Label], list[str]]:
    """Return predictions (None where missing) and references as lists of the same length.

    Raises
    ------
    MetricError
        There is no example, the lengths differ, or a reference is missing or not a string.
    """
    predicted = [None if _is_missing(prediction) else prediction for prediction in predictions]
    for place, prediction in enumerate(predicted):
        if not isinstance(prediction, str | None):
            raise MetricError(
                f"prediction {place} is {prediction!r}, not a string or None.", fix="pass labels as strings."
            )
    truth = list(references)
    if len(predicted) != len(truth):
        raise MetricError(
            f"{len(predicted)} predictions but {len(truth)} references.", fix="give one prediction per reference."
        )
    if not truth:
        raise MetricError("a metric of no examples is not defined.", fix="give at least one example.")
    for place, reference in enumerate(truth):
        if not isinstance(reference, str):
            raise MetricError(
                f"reference {place} is {reference!r}, not a string.", fix="leave out examples without an answer."
            )
    return predicted, truth


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _same(predictions: Sequence[Label], references: Sequence[str]) -> npt.NDArray[np.bool_]:
    predicted, truth = checked_answers(predictions, references)
    return np.array([p == t for p, t in zip(predicted, truth, strict=True)], dtype=np.bool_)


def _same_words(predictions: Sequence[Label], references: Sequence[str]) -> npt.NDArray[np.bool_]:
    predicted, truth = checked_answers(predictions, references)
    return np.array(
        [p is not None and p.split() == t.split() for p, t in zip(predicted, truth, strict=True)], dtype=np.bool_
    )


def _accuracy(predictions: Sequence[Label], references: Sequence[str], **columns: object) -> dict[str, Floats]:
    return {"accuracy": _same(predictions, references).astype(np.float64)}


def _exact_match(predictions: Sequence[Label], references: Sequence[str], **columns: object) -> dict[str, Floats]:
    return {"exact_match": _same_words(predictions, references).astype(np.float64)}


def _macro_f1(predictions: Sequence[Label], references: Sequence[str], **columns: object) -> dict[str, float]:
    """Return the mean F1 over all labels that occur among references or predictions.

    A label that is never the reference but is predicted has F1 = 0, as in scikit-learn. A missing prediction is no
    label: it lowers the recall of its reference only.
    """
    tables = _PairTables(predictions, references)
    return {"macro_f1": float(tables.macro_f1(tables.counts)[0])}


class _PairTables:
    """The distinct (reference, prediction) pairs, so that resamples are tables of counts."""

    def __init__(self, predictions: Sequence[Label], references: Sequence[str]) -> None:
        predicted, truth = checked_answers(predictions, references)
        labels = {label: i for i, label in enumerate(sorted({*truth, *(p for p in predicted if p is not None)}))}
        pairs = sorted(set(zip(truth, predicted, strict=True)), key=lambda pair: (pair[0], pair[1] or ""))
        place = {pair: i for i, pair in enumerate(pairs)}
        self.codes = np.array([place[pair] for pair in zip(truth, predicted, strict=True)], dtype=np.int64)
        self.counts = np.bincount(self.codes, minlength=len(pairs))[None]
        shape = (len(pairs), len(labels))
        self.is_reference = np.zeros(shape)
        self.is_prediction = np.zeros(shape)
        for i, (reference, prediction) in enumerate(pairs):
            self.is_reference[i, labels[reference]] = 1
            if prediction is not None:
                self.is_prediction[i, labels[prediction]] = 1

    def macro_f1(self, counts: npt.NDArray[np.int64]) -> Floats:
        """Return macro-F1 of each row of pair counts; labels that do not occur in a row do not count in it."""
        hits = counts @ (self.is_reference * self.is_prediction)
        occurs = counts @ (self.is_reference + self.is_prediction)
        f1 = 2 * hits / np.maximum(occurs, 1)
        result: Floats = f1.sum(axis=1) / (occurs > 0).sum(axis=1)
        return result


def _macro_f1_resampled(
    predictions: Sequence[Label], references: Sequence[str], resamples: Resamples, **columns: object
) -> dict[str, Floats]:
    tables = _PairTables(predictions, references)
    return {"macro_f1": tables.macro_f1(resamples.counts(tables.codes, tables.counts.shape[1]))}


#: The share of predictions equal to their reference (section 4.6.1), or to one of its ``alternatives``.
accuracy = mean_of_examples(with_alternatives(_accuracy))
#: The share of texts with the words of their reference in the same order; white space does not count, case does.
exact_match = mean_of_examples(with_alternatives(_exact_match))
macro_f1 = Resamplable(_macro_f1, _macro_f1_resampled)


def confusion_matrix(
    predictions: Sequence[Label],
    references: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    missing: str = "(no answer)",
) -> pd.DataFrame:
    """Count how often each reference got each prediction (fig 5B).

    Parameters
    ----------
    predictions, references
        Labels; a prediction may be None.
    labels
        Order of the rows, and of the first columns; by default every reference and prediction, sorted.
    missing
        Name of the last column, for missing predictions; there only when one is missing.

    Returns
    -------
    pandas.DataFrame
        int64; one row per label (the reference), one column per label (the prediction).

    Raises
    ------
    MetricError
        As `checked_answers`, or a label is not among `labels`.
    """
    predicted, truth = checked_answers(predictions, references)
    found = {*truth, *(p for p in predicted if p is not None)}
    order = sorted(found) if labels is None else list(labels)
    unknown = sorted(found - set(order))
    if unknown:
        raise MetricError(f"{unknown[0]!r} is not among the labels given.", fix="add it, or leave labels out.")
    columns = order + [missing] * (None in predicted)
    row = {label: i for i, label in enumerate(order)}
    counts = np.zeros((len(order), len(columns)), dtype=np.int64)
    np.add.at(counts, ([row[t] for t in truth], [len(order) if p is None else row[p] for p in predicted]), 1)
    return pd.DataFrame(
        counts, index=pd.Index(order, name="reference"), columns=pd.Index(columns, name="prediction")
    )


def checked_probabilities(probabilities: npt.ArrayLike) -> Floats:
    """Return probabilities as float64 ``[examples, labels]``.

    Raises
    ------
    MetricError
        There is no example or no label, a value is NaN or outside [0, 1], or a row does not add up to one.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or 0 in p.shape:
        raise MetricError(
            f"probabilities of shape {p.shape}.", fix="pass [examples, labels], one or more of each."
        )
    bad = ~((p >= 0) & (p <= 1 + 1e-6)).all(axis=1) | ~(np.abs(p.sum(axis=1) - 1) < 1e-3)
    if bad.any():
        raise MetricError(
            f"row {int(np.flatnonzero(bad)[0])} does not hold probabilities that add up to one.",
            fix="pass Scores.probabilities(), not log-probabilities.",
        )
    return p


def confidence_bins(
    probabilities: npt.ArrayLike, label_indices: npt.ArrayLike, n_bins: int
) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return each example's largest probability, whether its label is right, and its bin.

    Bins have equal width over [0, 1] and include their upper edge. Of equal probabilities the first label counts.

    Raises
    ------
    MetricError
        As `checked_probabilities`; an index is not a column; the lengths differ; or there is no bin.
    """
    p = checked_probabilities(probabilities)
    labels = np.asarray(label_indices)
    if labels.shape != (len(p),) or labels.dtype.kind not in "iu":
        raise MetricError(
            f"{len(p)} rows of probabilities but label indices of shape {labels.shape} and type {labels.dtype}.",
            fix="give one integer per example: the column of its true label.",
        )
    outside = np.flatnonzero((labels < 0) | (labels >= p.shape[1]))
    if len(outside):
        raise MetricError(
            f"the label index of example {int(outside[0])} is {labels[outside[0]]} of {p.shape[1]} labels.",
            fix="leave out examples whose true label is not among the candidates.",
        )
    if n_bins < 1:
        raise MetricError(f"n_bins is {n_bins}.", fix="pass at least 1; 15 is usual.")
    confidence = p.max(axis=1)
    return confidence, p.argmax(axis=1) == labels, _bins(confidence, n_bins)


def ece(probabilities: npt.ArrayLike, label_indices: npt.ArrayLike, *, n_bins: int = 15) -> float:
    """Return the expected calibration error: the mean over examples of each bin's |accuracy - confidence|.

    Parameters
    ----------
    probabilities
        ``[examples, labels]``, rows adding up to one.
    label_indices
        Column of each example's true label, integers ``[examples]``.
    n_bins
        Bins of equal width over [0, 1], each including its upper edge.

    Returns
    -------
    float
        In [0, 1]; 0 is perfectly calibrated.

    Raises
    ------
    MetricError
        Probabilities or labels are not what they should be; the first bad row is named.
    """
    confidence, correct, _ = confidence_bins(probabilities, label_indices, n_bins)
    return ece_of_confidence(confidence, correct, n_bins=n_bins)


def ece_of_confidence(confidence: npt.ArrayLike, correct: npt.ArrayLike, *, n_bins: int = 15) -> float:
    """Return the expected calibration error from each example's highest probability alone; see `ece`.

    Parameters
    ----------
    confidence
        Probability of the prediction, ``[examples]``, in [0, 1].
    correct
        Whether the prediction is right, bool ``[examples]``.
    n_bins
        Bins of equal width over [0, 1], each including its upper edge.

    Raises
    ------
    MetricError
        There is no example, or a confidence is not in [0, 1].
    """
    p, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.bool_)
    if p.ndim != 1 or not len(p) or p.shape != right.shape or not ((p >= 0) & (p <= 1 + 1e-6)).all():
        raise MetricError(
            f"{p.shape} confidences, {right.shape} outcomes: not one probability and one outcome per example.",
            fix="give at least one of each, the probabilities in [0, 1].",
        )
    bins = _bins(p, n_bins)
    gaps = np.bincount(bins, right - p, n_bins)
    return float(np.abs(gaps).sum() / len(p))


def _bins(confidence: Floats, n_bins: int) -> npt.NDArray[np.int64]:
    return np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
