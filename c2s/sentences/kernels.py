"""The inner loops of the transform: order the genes of each cell, write their symbols as Arrow text.

Values are compared as unsigned integers: the bit patterns of positive floating-point numbers sort as the numbers
do. A cell's values are spread over buckets of equal width in that pattern (which is roughly logarithmic in the
value), highest first; buckets that cannot reach the K-th place are never touched again, small buckets are sorted
by insertion, and a large bucket of one value, as counts make them, is ordered by a bitmap over symbol ranks.
So the work is linear in the number of expressed genes for continuous and for count-like values alike.
"""

from __future__ import annotations

import numpy as np

from c2s.sentences.jit import kernel

#: What `rank_rows` found; anything but `FINE` comes with the row, and nothing of the output is valid.
FINE, NOT_CANONICAL, OUT_OF_RANGE, NOT_A_NUMBER, INFINITE, NEGATIVE = range(6)

_SMALL = 24  # buckets up to this size are sorted by insertion
_RANK_BITS = 24
_RANK_MASK = np.uint64((1 << _RANK_BITS) - 1)


@kernel
def mix(value):  # type: ignore[no-untyped-def]
    """Scramble 64 bits (the finaliser of splitmix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


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
def sort_by_bitmap(ranks, begin, stop, bitmap):  # type: ignore[no-untyped-def]
    """Sort the distinct small integers ``ranks[begin:stop]`` by setting and reading bits; `bitmap` ends zeroed."""
    low, high = np.int64(bitmap.size), np.int64(0)
    for j in range(begin, stop):
        word = np.int64(ranks[j] >> np.uint64(6))
        bitmap[word] |= np.uint64(1) << (ranks[j] & np.uint64(63))
        low = min(low, word)
        high = max(high, word)
    place = begin
    for filled in range(low, high + 1):
        bits = bitmap[filled]
        base = np.uint64(filled) << np.uint64(6)
        while bits:
            lowest = bits & (~bits + np.uint64(1))
            ranks[place] = base + count_below(lowest)
            place += 1
            bits ^= lowest
        bitmap[filled] = 0


@kernel
def count_below(power):  # type: ignore[no-untyped-def]
    """Return log2 of a power of two (LLVM turns this population count into one instruction)."""
    value = power - np.uint64(1)
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (value * np.uint64(0x0101010101010101)) >> np.uint64(56)


@kernel
def sort_bucket(keys, ties, begin, stop, bitmap, by_rank):  # type: ignore[no-untyped-def]
    """Sort one bucket by key, then tie."""
    if stop - begin <= _SMALL:
        for j in range(begin + 1, stop):
            key, tie = keys[j], ties[j]
            place = j
            while place > begin and (keys[place - 1] > key or (keys[place - 1] == key and ties[place - 1] > tie)):
                keys[place] = keys[place - 1]
                ties[place] = ties[place - 1]
                place -= 1
            keys[place] = key
            ties[place] = tie
        return
    one_value = by_rank
    for j in range(begin + 1, stop):
        if keys[j] != keys[begin]:
            one_value = False
            break
    if one_value:
        sort_by_bitmap(ties, begin, stop, bitmap)
    else:
        sort_pairs(keys, ties, begin, stop)


@kernel
def rank_rows(  # type: ignore[no-untyped-def]
    indptr, indices, bits, infinity, sign, rank, word_bytes, gene_hash, cell_hash, top_k, order, n_kept, n_cells
):
    """Order the expressed genes of each row by value, highest first, and keep `top_k`.

    Parameters
    ----------
    indptr, indices
        CSR structure of the rows: int64 ``[rows + 1]`` and int32 ``[nnz]``.
    bits
        The values' bit patterns, uint32 or uint64 ``[nnz]``.
    infinity, sign
        Bit patterns of infinity and of negative zero, of the type of `bits`.
    rank
        Rank of each column's symbol, int32 ``[genes]``.
    word_bytes
        Length of the symbol of each rank, uint16 ``[genes]``.
    gene_hash, cell_hash
        uint64 hashes of columns and rows; ties are ordered by their mixture. Empty: by rank.
    top_k
        Most genes to keep of a row.
    order
        Output, int32: ranks of the kept genes, row after row.
    n_kept
        Output, int32 ``[rows]``: kept genes of each row.
    n_cells
        Output, int32 ``[genes]``, by column: incremented for every row that expresses the gene.

    Returns
    -------
    tuple of int
        Status, row of the status, number of genes kept, bytes of all their symbols.
    """
    n_genes = rank.size
    by_rank = gene_hash.size == 0
    width = np.int64(0)
    for i in range(n_kept.size):
        width = max(width, indptr[i + 1] - indptr[i])
    values = np.empty(width, bits.dtype)
    columns = np.empty(width, np.int32)
    keys = np.empty(width, bits.dtype)
    ties = np.empty(width, np.uint64)
    bitmap = np.zeros(n_genes // 64 + 1, np.uint64)
    histogram = np.empty(4096, np.int32)
    out = np.int64(0)
    n_bytes = np.int64(0)
    for i in range(n_kept.size):
        n = 0
        lowest, highest = infinity, bits.dtype.type(0)
        previous = np.int32(-1)
        for j in range(indptr[i], indptr[i + 1]):
            column, value = indices[j], bits[j]
            if column <= previous:
                status = NOT_CANONICAL if 0 <= column < n_genes else OUT_OF_RANGE
                return status, i, out, n_bytes
            previous = column
            if value == 0 or value == sign:
                continue
            if value >= infinity:
                magnitude = value & (sign - bits.dtype.type(1))
                if magnitude > infinity:
                    return NOT_A_NUMBER, i, out, n_bytes
                return (INFINITE if magnitude == infinity else NEGATIVE), i, out, n_bytes
            values[n] = value
            columns[n] = column
            n += 1
            lowest = min(lowest, value)
            highest = max(highest, value)
        if previous >= n_genes:
            return OUT_OF_RANGE, i, out, n_bytes
        for j in range(n):
            n_cells[columns[j]] += 1
        keep = min(n, top_k)
        n_kept[i] = keep
        if keep == 0:
            continue
        # Spread over buckets, the highest values first.
        n_buckets = 64
        while n_buckets < n // 2 and n_buckets < 4096:
            n_buckets *= 2
        shift = 0
        while np.int64((highest - lowest) >> shift) >= n_buckets:
            shift += 1
        for k in range(n_buckets):
            histogram[k] = 0
        for j in range(n):
            histogram[(highest - values[j]) >> shift] += 1
        filled, last = 0, 0
        for k in range(n_buckets):
            size = histogram[k]
            histogram[k] = filled
            filled += size
            if filled >= keep:
                last = k
                break
        for j in range(n):
            key = highest - values[j]
            bucket = np.int64(key >> shift)
            if bucket <= last:
                place = histogram[bucket]
                histogram[bucket] = place + 1
                keys[place] = key
                tie = np.uint64(rank[columns[j]])
                if not by_rank:
                    tie |= mix(gene_hash[columns[j]] ^ cell_hash[i]) & ~_RANK_MASK
                ties[place] = tie
        begin = 0
        for k in range(last + 1):
            stop = histogram[k]
            if stop - begin > 1:
                sort_bucket(keys, ties, begin, stop, bitmap, by_rank)
            begin = stop
        for j in range(keep):
            r = np.int32(ties[j] & _RANK_MASK)
            order[out] = r
            out += 1
            n_bytes += word_bytes[r]
    return FINE, 0, out, n_bytes


@kernel
def write_words(order, n_kept, packed, starts, letters, text, offsets):  # type: ignore[no-untyped-def]
    """Write each row's symbols, space-joined, as the bytes and offsets of an Arrow string array.

    Parameters
    ----------
    order, n_kept
        As `rank_rows` leaves them.
    packed
        uint64 ``[2 * genes]``: a symbol, its space and, in the top byte, their length, in 16 bytes; the length
        is 0 for a symbol of more than 14 bytes, which is then taken from `letters`.
    starts, letters
        All symbols as an Arrow string array's offsets (int32) and bytes (uint8).
    text
        Output, uint8: 16 bytes longer than the text, because 16 are stored at a time.
    offsets
        Output, int32 ``[rows + 1]``.
    """
    place = np.uint64(0)
    one = np.uint64(1)
    byte = np.uint64(255)
    entry = 0
    for i in range(n_kept.size):
        offsets[i] = place
        for _ in range(n_kept[i]):
            r = np.uint64(order[entry])
            entry += 1
            low = packed[r + r]
            high = packed[r + r + one]
            length = high >> np.uint64(56)
            if length:
                # Sixteen single stores, which the compiler merges into two of eight bytes.
                for b in range(8):
                    text[place + np.uint64(b)] = np.uint8((low >> np.uint64(8 * b)) & byte)
                for b in range(8):
                    text[place + np.uint64(8 + b)] = np.uint8((high >> np.uint64(8 * b)) & byte)
                place += length
            else:
                for j in range(starts[r], starts[r + one]):
                    text[place] = letters[j]
                    place += one
                text[place] = np.uint8(32)
                place += one
        if n_kept[i]:
            place -= one  # the last word has no space after it
    offsets[n_kept.size] = place
    return place


@kernel
def first_fraction(values):  # type: ignore[no-untyped-def]
    """Return the position of the first value that is not a whole number, or -1; quick unless there is none."""
    for j in range(values.size):
        if values[j] != np.floor(values[j]):
            return j
    return -1


@kernel
def sort_values(indptr, indices, data, top_k, values, ranks, n_kept):  # type: ignore[no-untyped-def]
    """Write the positive values of each row, highest first, with their ranks from 1.

    Parameters
    ----------
    indptr, indices, data
        The rows as CSR arrays.
    top_k
        Most values to keep of a row.
    values, ranks, n_kept
        Output: float64 and int32, row after row, and int32 ``[rows]``.

    Returns
    -------
    tuple of int
        Status, row of the status, number of values kept.
    """
    out = 0
    for i in range(n_kept.size):
        begin = out
        previous = -1
        for j in range(indptr[i], indptr[i + 1]):
            if indices[j] <= previous:
                return NOT_CANONICAL, i, out
            previous = indices[j]
            value = data[j]
            if np.isnan(value):
                return NOT_A_NUMBER, i, out
            if value < 0:
                return NEGATIVE, i, out
            if np.isinf(value):
                return INFINITE, i, out
            if value > 0:
                values[out] = -value
                out += 1
        values[begin:out].sort()
        out = min(out, begin + top_k)
        n_kept[i] = out - begin
        for j in range(begin, out):
            values[j] = -values[j]
            ranks[j] = j - begin + 1
    return FINE, 0, out
