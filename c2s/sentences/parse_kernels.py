"""The inner loop of reading sentences: words to gene indices through a hash table over UTF-8 bytes."""

from __future__ import annotations

import numpy as np

from c2s.sentences.jit import kernel

_OFFSET = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)


@kernel
def hash_bytes(letters, begin, end):  # type: ignore[no-untyped-def]
    """Return the 64-bit FNV-1a hash of ``letters[begin:end]``, its high bits folded in."""
    value = np.uint64(0xCBF29CE484222325)
    for j in range(begin, end):
        value = (value ^ np.uint64(letters[j])) * np.uint64(0x100000001B3)
    return value ^ (value >> np.uint64(32))


@kernel
def fill_table(starts, letters, table):  # type: ignore[no-untyped-def]
    """Enter every symbol into `table`, int32 of a power-of-two size, -1 where empty (open addressing)."""
    mask = np.uint64(table.size - 1)
    for gene in range(starts.size - 1):
        slot = hash_bytes(letters, starts[gene], starts[gene + 1]) & mask
        while table[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = gene


@kernel
def find(text, begin, end, table, starts, letters):  # type: ignore[no-untyped-def]
    """Return the gene that ``text[begin:end]`` names, or -1."""
    mask = np.uint64(table.size - 1)
    slot = hash_bytes(text, begin, end) & mask
    while True:
        gene = table[slot]
        if gene < 0:
            return np.int32(-1)
        start = starts[gene]
        if starts[gene + 1] - start == end - begin:
            same = True
            for j in range(end - begin):
                if letters[start + j] != text[begin + j]:
                    same = False
                    break
            if same:
                return gene
        slot = (slot + np.uint64(1)) & mask


@kernel
def read_sentences(  # type: ignore[no-untyped-def]
    text,
    offsets,
    table,
    starts,
    letters,
    plausible,
    genes,
    indptr,
    n_words,
    n_unknown,
    n_duplicate,
    n_malformed,
    strays,
):
    """Read sentences into gene indices.

    Parameters
    ----------
    text, offsets
        The sentences as an Arrow string array's bytes (uint8) and offsets (int32 ``[rows + 1]``).
    table, starts, letters
        The vocabulary: its hash table, and its symbols as an Arrow string array's offsets and bytes.
    plausible
        uint8 ``[256]``: 0 for a byte that no gene symbol holds, 1 for one that it may, 2 for white space, 3 for
        letters and digits, of which a symbol holds at least one.
    genes
        Output, int32: the gene of each known word at its first occurrence, row after row.
    indptr
        Output, int64 ``[rows + 1]``.
    n_words, n_unknown, n_duplicate, n_malformed
        Output, int32 ``[rows]``: all words, and those left out, by reason.
    strays
        Output, int64 ``[n, 2]``: where the first words that are not in the vocabulary begin and end.

    Returns
    -------
    int
        How many rows of `strays` were filled.
    """
    seen = np.zeros(starts.size - 1, np.int32)
    out = 0
    n_strays = 0
    indptr[0] = 0
    for i in range(n_words.size):
        words, unknown, duplicate, malformed = 0, 0, 0, 0
        place, end = offsets[i], offsets[i + 1]
        while True:
            while place < end and plausible[text[place]] == 2:
                place += 1
            if place >= end:
                break
            begin = place
            while place < end and plausible[text[place]] != 2:
                place += 1
            words += 1
            gene = find(text, begin, place, table, starts, letters)
            if gene >= 0:
                if seen[gene] == i + 1:
                    duplicate += 1
                else:
                    seen[gene] = i + 1
                    genes[out] = gene
                    out += 1
                continue
            well_formed = False
            for j in range(begin, place):
                kind = plausible[text[j]]
                if kind == 0:
                    well_formed = False
                    break
                if kind == 3:
                    well_formed = True
            if well_formed:
                unknown += 1
            else:
                malformed += 1
            if n_strays < strays.shape[0]:
                strays[n_strays, 0] = begin
                strays[n_strays, 1] = place
                n_strays += 1
        n_words[i], n_unknown[i], n_duplicate[i], n_malformed[i] = words, unknown, duplicate, malformed
        indptr[i + 1] = out
    return n_strays
