"""Draws that depend on an id and a seed alone, for many ids at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from c2s.prompts import stable_hash

Hashes = npt.NDArray[np.uint64]
_SLICE = 1 << 16


def id_hashes(texts: Sequence[str]) -> Hashes:
    """Return a 64-bit hash of each text, uint64 ``[texts]``; the same on every machine."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def draw(hashes: Hashes, *purpose: object) -> Hashes:
    """Return one 64-bit draw per hash, independent for each purpose (a task, a seed, a word)."""
    salt = np.uint64(stable_hash(*purpose))
    drawn = np.empty(len(hashes), np.uint64)
    for start in range(0, len(hashes), _SLICE):  # so that millions need no more than their own place
        value = hashes[start : start + _SLICE] ^ salt
        with np.errstate(over="ignore"):  # the finaliser of splitmix64, modulo 2 to the 64
            value = value + np.uint64(0x9E3779B97F4A7C15)
            value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        drawn[start : start + _SLICE] = value ^ (value >> np.uint64(31))
    return drawn


def share(hashes: Hashes, *purpose: object) -> npt.NDArray[np.float64]:
    """Return one number in [0, 1) per hash."""
    return (draw(hashes, *purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def between(hashes: Hashes, low: int, high: int, *purpose: object) -> npt.NDArray[np.int64]:
    """Return one whole number from `low` to `high`, both included, per hash."""
    return low + (draw(hashes, *purpose) % np.uint64(high - low + 1)).astype(np.int64)
