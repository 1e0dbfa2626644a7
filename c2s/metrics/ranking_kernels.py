"""Concordant pairs of two rankings, in n log n: sort by one, count what merging moves in the other (Knight)."""

from __future__ import annotations

import numpy as np

from c2s.sentences.jit import kernel


@kernel
def merge_sorted(values: np.ndarray, spare: np.ndarray) -> int:
    """Sort `values` in place and return how many pairs stood in descending order."""
    n = len(values)
    moved = 0
    width = 1
    while width < n:
        start = 0
        while start < n:
            middle = min(start + width, n)
            end = min(start + 2 * width, n)
            left, right = start, middle
            for place in range(start, end):
                if left < middle and (right >= end or values[left] <= values[right]):
                    spare[place] = values[left]
                    left += 1
                else:
                    spare[place] = values[right]
                    right += 1
                    moved += middle - left
            start += 2 * width
        for place in range(n):
            values[place] = spare[place]
        width *= 2
    return moved


@kernel
def pairs_in_runs(values: np.ndarray) -> int:
    """Return the pairs of equal neighbours' runs in a sorted array."""
    pairs = 0
    run = 1
    for place in range(1, len(values) + 1):
        if place < len(values) and values[place] == values[place - 1]:
            run += 1
        else:
            pairs += run * (run - 1) // 2
            run = 1
    return pairs


@kernel
def pair_counts(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    """Count pairs in each row.

    Parameters
    ----------
    x, y
        int64 ``[rows, items]``: dense codes of the values, from 0 to items - 1, equal values having equal codes.
    out
        int64 ``[rows, 3]``: concordant minus discordant pairs, pairs tied in x, pairs tied in y.
    """
    n = x.shape[1]
    keys = np.empty(n, np.int64)
    spare = np.empty(n, np.int64)
    total = n * (n - 1) // 2
    for row in range(x.shape[0]):
        for i in range(n):
            keys[i] = x[row, i] * n + y[row, i]
        keys.sort()
        tied_both = pairs_in_runs(keys)
        for i in range(n):
            spare[i] = keys[i] // n
        tied_x = pairs_in_runs(spare)
        for i in range(n):
            keys[i] = keys[i] % n
        discordant = merge_sorted(keys, spare)
        tied_y = pairs_in_runs(keys)
        out[row, 0] = total - tied_x - tied_y + tied_both - 2 * discordant
        out[row, 1] = tied_x
        out[row, 2] = tied_y
