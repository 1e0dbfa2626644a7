"""The sorts that the transform is made of, by insertion and by heap, in place.

numba's cache of a kernel that calls these does not notice a change here: save ``kernels.py`` too after one.
"""

from __future__ import annotations

import numpy as np

from c2s.sentences.jit import kernel

SMALL = 24  # buckets up to this size are sorted by insertion


@kernel
def sort_pairs(keys, ties, begin, stop):  # type: ignore[no-untyped-def]
    """Sort ``keys[begin:stop]`` and, within equal keys, `ties`: a heap sort, n log n at worst, in place."""
    n = stop - begin
    for place in range(n // 2 - 1, -1, -1):
        _sift(keys, ties, begin, place, n)
    for size in range(n - 1, 0, -1):
        keys[begin], keys[begin + size] = keys[begin + size], keys[begin]
        ties[begin], ties[begin + size] = ties[begin + size], ties[begin]
        _sift(keys, ties, begin, 0, size)


@kernel
def _sift(keys, ties, begin, place, n):  # type: ignore[no-untyped-def]
    key, tie = keys[begin + place], ties[begin + place]
    while True:
        child = 2 * place + 1
        if child >= n:
            break
        c = begin + child
        if child + 1 < n and (keys[c] < keys[c + 1] or (keys[c] == keys[c + 1] and ties[c] < ties[c + 1])):
            child += 1
            c += 1
        if key > keys[c] or (key == keys[c] and tie >= ties[c]):
            break
        keys[begin + place], ties[begin + place] = keys[c], ties[c]
        place = child
    keys[begin + place], ties[begin + place] = key, tie


@kernel
def bit_position(power):  # type: ignore[no-untyped-def]
    """Return log2 of a power of two (LLVM turns this population count into one instruction)."""
    value = power - np.uint64(1)
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (value * np.uint64(0x0101010101010101)) >> np.uint64(56)


@kernel
def insert_sort(entries, begin, stop):  # type: ignore[no-untyped-def]
    """Sort ``entries[begin:stop]``, which is nearly sorted or short, by insertion."""
    for j in range(begin + 1, stop):
        entry = entries[j]
        place = j
        while place > begin and entries[place - 1] > entry:
            entries[place] = entries[place - 1]
            place -= 1
        entries[place] = entry


@kernel
def insert_sort_pairs(keys, ties, begin, stop):  # type: ignore[no-untyped-def]
    """Sort ``keys[begin:stop]`` and, within equal keys, `ties`, by insertion."""
    for j in range(begin + 1, stop):
        key, tie = keys[j], ties[j]
        place = j
        while place > begin and (keys[place - 1] > key or (keys[place - 1] == key and ties[place - 1] > tie)):
            keys[place] = keys[place - 1]
            ties[place] = ties[place - 1]
            place -= 1
        keys[place] = key
        ties[place] = tie


@kernel
def is_sorted(entries, begin, stop):  # type: ignore[no-untyped-def]
    """Return whether ``entries[begin:stop]`` never falls."""
    for j in range(begin + 1, stop):  # noqa: SIM110 (numba compiles no all())
        if entries[j] < entries[j - 1]:
            return False
    return True
