"""How far a probability can be believed: temperature scaling, reliability, abstention."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import InputFileError, MetricError
from c2s.files import atomic_output
from c2s.metrics.classification import checked_probabilities, confidence_bins, ece

Floats = npt.NDArray[np.float64]

#: Temperatures are looked for between these.
TEMPERATURE_BOUNDS = (0.01, 100.0)


def tempered(log_probs: npt.ArrayLike, temperature: float) -> Floats:
    """Turn log-probabilities of labels into probabilities that add up to one.

    Parameters
    ----------
    log_probs
        ``[examples, labels]``, natural logarithm, up to a constant per row.
    temperature
        Divides them; above 1 flattens, below 1 sharpens. The most probable label stays the same.

    Returns
    -------
    numpy.ndarray
        float64 ``[examples, labels]``.

    Raises
    ------
    MetricError
        The temperature is not a positive number.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise MetricError(f"the temperature is {temperature}.", fix="pass a positive number, e.g. 1.0.")
    scaled = np.asarray(log_probs, dtype=np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Floats = scaled / scaled.sum(axis=1, keepdims=True)
    return result


def entropy(probabilities: npt.ArrayLike) -> Floats:
    """Return the entropy of each row in nats: 0 when certain, log(labels) when uniform; float64 ``[examples]``."""
    p = checked_probabilities(probabilities)
    # p * log(p) is 0 at p = 0; log(1) there avoids 0 * -inf.
    result: Floats = np.abs((p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1))
    return result


@dataclass(frozen=True)
class Calibration:
    """Temperature scaling fitted on validation examples.

    Attributes
    ----------
    temperature
        What log-probabilities are divided by, chosen to minimise the negative log-likelihood.
    ece_before, ece_after
        Expected calibration error (15 bins of equal width) on the same examples at temperature 1 and at
        `temperature`.
    n
        Number of examples.
    """

    temperature: float
    ece_before: float
    ece_after: float
    n: int

    @classmethod
    def fit(cls, log_probs: npt.ArrayLike, label_indices: npt.ArrayLike) -> Calibration:
        """Fit the temperature on examples that the model was not trained on.

        Parameters
        ----------
        log_probs
            `Scores.log_probs` of the validation examples, ``[examples, labels]``.
        label_indices
            Column of each example's true label, ``[examples]``.

        Raises
        ------
        MetricError
            There is no example, a value is not finite, or an index is not a column.
        """
        from scipy.optimize import minimize_scalar

        scores = np.asarray(log_probs, dtype=np.float64)
        labels = np.asarray(label_indices)
        if scores.ndim != 2 or not scores.shape[0] or scores.shape[1] < 2:
            raise MetricError(
                f"log-probabilities of shape {scores.shape} cannot be calibrated.",
                fix="pass [examples, labels] with at least one example and two labels.",
            )
        if not np.isfinite(scores).all():
            place = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise MetricError(f"the log-probabilities of example {place} are not finite.", fix="leave it out.")
        before = ece(tempered(scores, 1.0), labels)  # also checks the labels
        rows = np.arange(len(scores))

        def loss(log_temperature: float) -> float:
            scaled = scores / np.exp(log_temperature)
            top = scaled.max(axis=1)
            normaliser = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
            return float((normaliser - scaled[rows, labels]).mean())

        low, high = (math.log(bound) for bound in TEMPERATURE_BOUNDS)
        found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
        temperature = float(np.exp(found.x))
        return cls(temperature, before, ece(tempered(scores, temperature), labels), len(scores))

    def probabilities(self, log_probs: npt.ArrayLike) -> Floats:
        """Return calibrated probabilities, float64 ``[examples, labels]``."""
        return tempered(log_probs, self.temperature)

    @staticmethod
    def abstain(probabilities: npt.ArrayLike, threshold: float) -> npt.NDArray[np.bool_]:
        """Return where to give no answer: the largest probability is below `threshold`; bool ``[examples]``.

        Raises
        ------
        MetricError
            The threshold is not in [0, 1], or `probabilities` are none.
        """
        if not 0 <= threshold <= 1:
            raise MetricError(
                f"the abstention threshold is {threshold}.", fix="pass a probability between 0 and 1."
            )
        unsure: npt.NDArray[np.bool_] = checked_probabilities(probabilities).max(axis=1) < threshold
        return unsure

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the calibration as JSON.

        Raises
        ------
        OutputError
            The file exists and `overwrite` is false, or cannot be written.
        """
        with atomic_output(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read a calibration written by `save`.

        Raises
        ------
        InputFileError
            The file is missing or does not hold a calibration.
        """
        fix = "fit it again: Calibration.fit(scores.log_probs, label_indices).save(path)."
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
            loaded = cls(
                float(fields["temperature"]),
                float(fields["ece_before"]),
                float(fields["ece_after"]),
                int(fields["n"]),
            )
        except FileNotFoundError:
            raise InputFileError(f"there is no calibration at {path}.", fix=fix) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputFileError(f"{path} does not hold a calibration ({error!r}).", fix=fix) from error
        if not (loaded.temperature > 0 and math.isfinite(loaded.temperature)):
            raise InputFileError(f"{path} has the temperature {loaded.temperature}.", fix=fix)
        return loaded


def reliability_curve(
    probabilities: npt.ArrayLike, label_indices: npt.ArrayLike, *, n_bins: int = 15
) -> pd.DataFrame:
    """Compare confidence with accuracy, bin by bin; what a reliability diagram draws.

    Parameters
    ----------
    probabilities
        ``[examples, labels]``.
    label_indices
        Column of each example's true label, ``[examples]``.
    n_bins
        Bins of equal width over [0, 1], each including its upper edge.

    Returns
    -------
    pandas.DataFrame
        One row per bin: ``low``, ``high``, ``n``, ``confidence`` and ``accuracy`` (means, NaN where ``n`` is 0).

    Raises
    ------
    MetricError
        As `c2s.metrics.ece`.
    """
    confidence, correct, bins = confidence_bins(probabilities, label_indices, n_bins)
    n = np.bincount(bins, minlength=n_bins)
    edges = np.linspace(0, 1, n_bins + 1)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "n": n,
                "confidence": np.bincount(bins, confidence, n_bins) / n,
                "accuracy": np.bincount(bins, correct, n_bins) / n,
            }
        )


def risk_coverage(probabilities: npt.ArrayLike, label_indices: npt.ArrayLike) -> pd.DataFrame:
    """Trade answers for errors: what abstaining at each threshold would cost and save.

    Parameters
    ----------
    probabilities
        ``[examples, labels]``.
    label_indices
        Column of each example's true label, ``[examples]``.

    Returns
    -------
    pandas.DataFrame
        One row per distinct largest probability, highest first: ``threshold`` (answers are given at or above it),
        ``coverage`` (share answered) and ``risk`` (share of the answers that are wrong).

    Raises
    ------
    MetricError
        As `c2s.metrics.ece`.
    """
    confidence, correct, _ = confidence_bins(probabilities, label_indices, 1)
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    wrong = np.cumsum(~correct[order])
    # Equal confidences are answered together: keep the last of each run.
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    return pd.DataFrame(
        {
            "threshold": confidence[order][last],
            "coverage": answered[last] / len(order),
            "risk": wrong[last] / answered[last],
        }
    )
