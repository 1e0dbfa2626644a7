"""Bootstrap resamples, and metrics that know a fast way through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Resamples:
    """Draws of `n` examples with replacement; the same every time for the same numbers.

    Attributes
    ----------
    n
        Number of examples, also of each draw.
    repeats
        Number of draws.
    seed
        Seed of the draws. Two sets with the same numbers hold the same examples, which is what makes a
        comparison paired.
    """

    n: int
    repeats: int
    seed: int

    def indices(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the examples of each draw, int64 ``[n]``."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.repeats):
            yield rng.integers(self.n, size=self.n)

    def counts(self, codes: npt.NDArray[np.int64], n_codes: int) -> npt.NDArray[np.int64]:
        """Count each code in each draw.

        Parameters
        ----------
        codes
            Code of each example, int64 ``[n]``, from 0 to ``n_codes - 1``.
        n_codes
            Number of codes.

        Returns
        -------
        numpy.ndarray
            int64 ``[repeats, n_codes]``.
        """
        counts = np.empty((self.repeats, n_codes), dtype=np.int64)
        for row, chosen in enumerate(self.indices()):
            counts[row] = np.bincount(codes[chosen], minlength=n_codes)
        return counts


@dataclass(frozen=True)
class Resamplable:
    """A metric function with a fast way to its values on resamples.

    Attributes
    ----------
    function
        ``(predictions, references, **columns) -> dict[str, float]``, what a call runs.
    resampled
        ``(predictions, references, resamples, **columns) -> dict[str, values]``, float64 ``[repeats]`` per key;
        equal to `function` on each resample.
    """

    function: Callable[..., dict[str, float]]
    resampled: Callable[..., dict[str, npt.NDArray[np.float64]]]

    def __call__(
        self, predictions: Sequence[str | None], references: Sequence[str], **columns: Any
    ) -> dict[str, float]:
        """Compute the metric."""
        return self.function(predictions, references, **columns)


def means_of_resamples(
    values: dict[str, npt.NDArray[np.float64]], resamples: Resamples
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the mean of one number per example on each resample, float64 ``[repeats]`` per key."""
    means = {key: np.empty(resamples.repeats) for key in values}
    for row, chosen in enumerate(resamples.indices()):
        for key, each in values.items():
            means[key][row] = each[chosen].mean()
    return means


def mean_of_examples(scores: Callable[..., dict[str, npt.NDArray[np.float64]]]) -> Resamplable:
    """Make a metric of a score per example: its mean, for which each example is scored once only.

    Parameters
    ----------
    scores
        ``(predictions, references, **columns) -> dict[str, values]``, float64 ``[examples]`` per key.
    """

    def mean(predictions: Sequence[str | None], references: Sequence[str], **columns: Any) -> dict[str, float]:
        return {key: float(each.mean()) for key, each in scores(predictions, references, **columns).items()}

    def resampled(
        predictions: Sequence[str | None], references: Sequence[str], resamples: Resamples, **columns: Any
    ) -> dict[str, npt.NDArray[np.float64]]:
        return means_of_resamples(scores(predictions, references, **columns), resamples)

    return Resamplable(mean, resampled)
