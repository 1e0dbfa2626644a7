"""Whether two methods that answered the same questions differ: McNemar's test (section 4.6.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError
from c2s.metrics.classification import checked_answers


@dataclass(frozen=True)
class McNemar:
    """Result of McNemar's test.

    Attributes
    ----------
    statistic
        ``max(|b - c| - 1, 0)² / (b + c)`` with the continuity correction; the smaller of b and c for the
        exact test.
    p_value
        Two-sided, in [0, 1].
    only_first, only_second
        b and c: questions that one of the methods alone got right.
    n
        Questions in all.
    """

    statistic: float
    p_value: float
    only_first: int
    only_second: int
    n: int


def mcnemar(
    first_correct: npt.ArrayLike,
    second_correct: npt.ArrayLike,
    *,
    continuity: bool = True,
    exact: bool = False,
) -> McNemar:
    """Test whether two methods are right equally often on the same questions (section 4.6.7).

    Only questions on which they disagree count. Without any, nothing speaks for a difference: p is 1 and the
    statistic 0. So it is where each is right alone equally often: the correction moves a difference towards 0 and
    never past it.

    Parameters
    ----------
    first_correct, second_correct
        Whether each method was right, bool ``[questions]``.
    continuity
        Edwards' correction, as in the paper.
    exact
        Use the binomial distribution instead of χ²; better when they disagree on fewer than 25 questions.

    Raises
    ------
    MetricError
        There is no question, the lengths differ, or a value is neither true nor false.
    """
    one, two = _outcomes(first_correct, "first"), _outcomes(second_correct, "second")
    if len(one) != len(two):
        raise MetricError(f"{len(one)} outcomes and {len(two)}.", fix="give one per question for both methods.")
    b, c = int((one & ~two).sum()), int((two & ~one).sum())
    if b + c == 0:
        return McNemar(0.0, 1.0, 0, 0, len(one))
    from scipy import stats

    if exact:
        p = float(stats.binomtest(b, b + c).pvalue)
        return McNemar(float(min(b, c)), p, b, c, len(one))
    statistic = max(abs(b - c) - float(continuity), 0.0) ** 2 / (b + c)
    return McNemar(statistic, float(stats.chi2.sf(statistic, 1)), b, c, len(one))


def mcnemar_of_predictions(
    first: Sequence[str | None],
    second: Sequence[str | None],
    references: Sequence[str],
    *,
    continuity: bool = True,
    exact: bool = False,
) -> McNemar:
    """Compare two sets of predictions by `mcnemar`; right is what equals the reference, missing is wrong.

    Raises
    ------
    MetricError
        As `c2s.metrics.accuracy`.
    """
    one, truth = checked_answers(first, references)
    two, _ = checked_answers(second, references)
    right = [[p == t for p, t in zip(each, truth, strict=True)] for each in (one, two)]
    return mcnemar(right[0], right[1], continuity=continuity, exact=exact)


def _outcomes(values: npt.ArrayLike, which: str) -> npt.NDArray[np.bool_]:
    outcomes = np.asarray(values)
    if outcomes.ndim != 1 or not len(outcomes):
        raise MetricError(f"outcomes of shape {outcomes.shape}.", fix="give one per question, at least one.")
    if outcomes.dtype != np.bool_ and not (outcomes.dtype.kind in "iuf" and np.isin(outcomes, (0, 1)).all()):
        raise MetricError(
            f"the outcomes of the {which} method are not all true or false.",
            fix="pass prediction == reference for each question.",
        )
    result: npt.NDArray[np.bool_] = outcomes.astype(np.bool_)
    return result
