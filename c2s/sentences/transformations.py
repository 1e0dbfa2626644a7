"""What function expression was transformed by, read from the values of some cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from c2s.sentences.matrix import undo

Kind = Literal[
    "empty",
    "counts",
    "fractional",
    "normalised",
    "shares",
    "log1p",
    "log2",
    "log10",
    "log1p twice",
    "log1p of counts",
    "log2 of counts",
    "log10 of counts",
    "scaled",
    "ranks",
    "mixed",
]
Numbers = npt.NDArray[np.float64]
#: The positive values of each cell.
Cells = Sequence[Numbers]
Steps = dict[Kind, Numbers]

#: "normalised" is no function at all.
FUNCTIONS: tuple[Kind, ...] = ("normalised", "log1p", "log2", "log10", "log1p twice")
#: Logarithms of counts that were not normalised, by the logarithm.
_OF_COUNTS: dict[Kind, Kind] = {
    "log1p": "log1p of counts",
    "log2": "log2 of counts",
    "log10": "log10 of counts",
}
#: No logarithm of expression is higher.
HIGHEST_LOG = 30.0
#: Fewer values tell nothing.
FEW_VALUES = 20


#: What is no logarithm may be too large once that is undone.
_any_size = np.errstate(over="ignore", invalid="ignore")


class Found(NamedTuple):
    """What values were found to be, by what, and whether that is a guess."""

    name: Kind
    evidence: str
    guess: bool = False


def transformed_by(cells: Cells, steps: Steps) -> Found:
    """Say what cells with fractions were transformed by; `steps` are their `distances_from_steps`."""
    found = _by_steps(cells, steps)
    total = float(np.median([cell.sum() for cell in cells]))
    alike = total < 101 and _variation_of_totals(cells, "normalised") < 1e-4
    if alike and (found is None or found.name == "normalised"):
        return Found("shares", f"each cell adds up to {total:.4g}")
    if found is not None:
        return found
    by_total = {name: _variation_of_totals(cells, name) for name in FUNCTIONS[:-1]}
    highest = max(float(cell.max()) for cell in cells)
    name = min(by_total, key=lambda n: by_total[n])
    others = min(v for n, v in by_total.items() if n != name)
    if by_total[name] < 0.005 and others > 0.01:  # the totals of identical cells say nothing
        guess = name == "normalised" and highest <= HIGHEST_LOG
        return Found(name, f"undone, the cells have equal totals (variation {by_total[name]:.3f})", guess)
    if highest > HIGHEST_LOG:
        return Found(
            "fractional",
            f"its values reach {highest:.0f}, too high for a logarithm, and are no whole numbers",
            True,
        )
    undone, as_is = by_total["log1p"], by_total["normalised"]
    if math.isfinite(undone) and undone > 1 and undone > 2 * as_is:
        return Found(
            "fractional",
            f"taken for logarithms, the totals of the cells would differ wildly (variation {undone:.1f}, "
            f"as they are {as_is:.1f})",
            True,
        )
    return Found("log1p", f"fractions up to {highest:.1f} without a sign of another transformation", True)


@_any_size
def logarithm_of_counts(cells: Cells) -> Found | None:
    """Say so where undoing a logarithm leaves counts, whose cells were not brought to one total before."""
    every = np.concatenate(cells)
    joined = every[every != np.floor(every)]  # log2(1 + 1) is a whole number already
    for name, of_counts in _OF_COUNTS.items():
        low = undo(joined, name)
        low = low[low < 50]  # where rounding shows least
        whole = np.round(low)
        if len(low) < FEW_VALUES or len(cells) < 5 or whole.min() < 1 or np.abs(low - whole).mean() > 0.03:
            continue
        totals = np.array([undo(cell, name).sum() for cell in cells])
        # Of cells of one depth, normalised to a multiple of it, all are multiples of that number.
        counts = np.concatenate([whole, np.round(undo(every[every < 6], name))]).astype(np.int64)
        if np.gcd.reduce(counts) == 1 and totals.std() > 0.05 * totals.mean():
            return Found(of_counts, "undone, they are whole numbers, and the totals of the cells differ")
    return None


def _by_steps(cells: Cells, steps: Steps) -> Found | None:
    """Find the function whose inverse makes each cell whole multiples of one step, its size factor."""
    decimals = _decimals(cells)
    if decimals == 1:
        return None  # too coarse to tell steps
    sums = {name: found.sum(1) for name, found in steps.items()}
    distances = {name: total / n if n >= FEW_VALUES else math.inf for name, (total, n) in sums.items()}
    if decimals:
        distances["normalised"] = math.inf  # whole multiples they are, of what they were rounded to
    if min(distance for name, distance in distances.items() if name != "log1p twice") < 0.01:
        distances["log1p twice"] = math.inf  # small values look alike with one logarithm more
    name = min(distances, key=lambda n: distances[n])
    if distances[name] >= 0.06:
        return None
    smallest, totals = (np.array([f(cell) for cell in cells]) for f in (np.min, np.sum))
    alike = len(cells) >= 5 and np.ptp(smallest) < 0.02 * smallest.mean()
    if name == "normalised" and alike and totals.std() > 0.05 * totals.mean():
        return Found("fractional", f"all values are whole multiples of {smallest.mean():.3g}", True)
    return Found(name, f"undone, each cell is whole multiples of one step (mean distance {distances[name]:.3f})")


def _decimals(cells: Cells) -> int:
    """Return how many decimals were left by rounding: the smallest value of most cells is the last; 0 for none."""
    values, smallest = np.concatenate(cells), np.array([cell.min() for cell in cells])
    for decimals in (1, 2, 3, 4):
        if np.abs(values - values.round(decimals)).max() < 1e-6 * max(values.max(), 1.0):
            rounded = decimals == 1 or (smallest < 1.5 * 10**-decimals).mean() > 0.5
            return decimals if rounded else 0
    return 0


@_any_size
def distances_from_steps(cells: Cells) -> Steps:
    """Return how far values are from whole multiples of their cell's smallest, by what they were transformed by.

    Returns
    -------
    dict
        The distances of each cell added up, and how many, float64 ``[2, cells]``. Their mean is from 0 to 0.5,
        and 0.25 by chance.
    """
    lengths = [*map(len, cells)]
    values, owner, starts = np.concatenate(cells), np.repeat(np.arange(len(cells)), lengths), np.cumsum(lengths)
    found = {}
    for name in FUNCTIONS:
        steps = undo(values, name)
        steps = steps / np.minimum.reduceat(steps, [0, *starts[:-1]])[owner]
        # The smallest itself says nothing, and high multiples drown in rounding.
        told = (steps > 1.01) & (steps < 12)
        steps, of_cell = steps[told], owner[told]
        sums = [np.bincount(of_cell, weights, len(cells)) for weights in (np.abs(steps - np.round(steps)), None)]
        found[name] = np.array(sums, np.float64)
    return found


def clear_functions(steps: Steps) -> list[Kind | None]:
    """Return what each cell clearly was transformed by, None where that is not clear."""
    sums, counts = np.array([steps[name] for name in FUNCTIONS]).swapaxes(0, 1)
    means = np.where(counts >= FEW_VALUES, sums / np.maximum(counts, 1), np.inf)
    best, order = means.argmin(0), np.sort(means, axis=0)
    clear = (order[0] < 0.03) & (order[1] > 0.1)
    return [FUNCTIONS[k] if is_clear else None for k, is_clear in zip(best, clear, strict=True)]


@_any_size
def _variation_of_totals(cells: Cells, name: str) -> float:
    totals = np.array([undo(cell, name).sum() for cell in cells])
    if len(totals) < 5 or not np.isfinite(totals).all():
        return math.inf
    return float(totals.std() / totals.mean())
