"""Negative-binomial draws, and the random numbers they are made of: functions of seed, cell and gene alone.

numba's cache of a kernel that calls these does not notice a change here: save ``draw.py`` too after one.
"""

from __future__ import annotations

import math

import numpy as np

from c2s.sentences.jit import kernel

#: Means above this are drawn as the sum of several draws, so that no probability underflows.
_LARGEST_MEAN = 100.0


@kernel
def mixed(value):  # type: ignore[no-untyped-def]
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea & Flood 2014)."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def uniform(state):  # type: ignore[no-untyped-def]
    """Return a float64 in [0, 1) from 64 random bits."""
    return float(mixed(state) >> np.uint64(11)) * 1.1102230246251565e-16


@kernel
def negative_binomial(mean, dispersion, state):  # type: ignore[no-untyped-def]
    """Draw one count with variance ``mean + dispersion * mean**2``, by inversion of the distribution function.

    The work is proportional to the count drawn, which is zero for most genes of most cells.
    """
    parts = 1 if mean <= _LARGEST_MEAN else math.ceil(mean / _LARGEST_MEAN)
    # A negative binomial is the sum of independent ones with the same mean per unit of size.
    mean /= parts
    dispersion *= parts
    total = 0
    for _ in range(parts):
        u = uniform(state)
        state += np.uint64(0x9E3779B97F4A7C15)
        # A count is above zero with a probability of at most its mean: most zeros need no more than this.
        if u < 1.0 - mean:
            continue
        if dispersion > 1e-8:
            size = 1.0 / dispersion
            odds = mean * dispersion / (1.0 + mean * dispersion)
            probability = math.exp(-size * math.log1p(mean * dispersion))
        else:
            size, odds, probability = 0.0, mean, math.exp(-mean)
        count = 0
        # The bound ends the search where rounding keeps the sum of probabilities just below u.
        while u >= probability and count < 100_000:
            u -= probability
            probability *= odds * (size + count) / (count + 1) if size > 0.0 else odds / (count + 1)
            count += 1
            if probability < 1e-300:
                break
        total += count
    return total


@kernel
def draw_rows(profiles, state, factors, sample, sizes, dispersions, key, first, indices, data, ends):  # type: ignore[no-untyped-def]
    """Draw the counts of consecutive cells and write those above zero.

    Parameters
    ----------
    profiles
        float64 ``[states, genes]``, expected share of each gene in a cell's counts.
    state
        int64 ``[cells]``, row of `profiles` of each cell.
    factors
        float64 ``[samples, genes]``, what multiplies the shares.
    sample
        int64 ``[cells]``, row of `factors` of each cell.
    sizes
        float64 ``[cells]``, what the shares are multiplied by.
    dispersions
        float64 ``[genes]``.
    key
        uint64, from the seed.
    first
        uint64, number of the first cell.
    indices, data
        int32 and float32 ``[cells * genes]``, written from the front.
    ends
        int64 ``[cells]``: where each cell's entries end.
    """
    n_genes = profiles.shape[1]
    place = 0
    for i in range(len(state)):
        cell = mixed(key + (first + np.uint64(i)) * np.uint64(0x9E3779B97F4A7C15))
        for g in range(n_genes):
            mean = sizes[i] * profiles[state[i], g] * factors[sample[i], g]
            if mean <= 0.0:
                continue
            count = negative_binomial(mean, dispersions[g], cell + np.uint64(g) * np.uint64(0xD1B54A32D192ED03))
            if count > 0:
                indices[place] = g
                data[place] = count
                place += 1
        ends[i] = place
