"""The inner loops of the transform: order the genes of each cell, write their symbols as Arrow text.

Values are compared as unsigned integers: the bit patterns of positive floating-point numbers sort as the numbers
do. A cell's values are spread over buckets of equal width in that pattern (which is roughly logarithmic in the
value), highest first, and what cannot reach the K-th place is never touched again. Continuous values leave each
bucket with one or two genes, which insertion sorts; counts leave a few large ones, whose genes all have one value
and are brought into the order of their symbols by a bitmap. So the work is linear in the number of expressed genes
for either.
"""

from __future__ import annotations

import numpy as np

from c2s.sentences.jit import kernel
from c2s.sentences.sort_kernels import (
    SMALL,
    bit_position,
    insert_sort,
    insert_sort_pairs,
    is_sorted,
    sort_pairs,
)

#: What `rank_rows` found; anything but `FINE` comes with the row, and nothing of the output is valid.
FINE, NOT_CANONICAL, OUT_OF_RANGE, NOT_A_NUMBER, INFINITE, NEGATIVE = range(6)

_RANK_BITS = 24
_RANK_MASK = np.uint64((1 << _RANK_BITS) - 1)


@kernel
def mix(value):  # type: ignore[no-untyped-def]
    """Scramble 64 bits (the finaliser of splitmix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def take_row(  # type: ignore[no-untyped-def]
    indices, bits, infinity, sign, begin, stop, values, columns, n_cells
):
    """Copy the positive entries of one row, check all of them, and count them in `n_cells`.

    Returns
    -------
    tuple of int
        Status, how many are positive, and the lowest and highest bit pattern among them.
    """
    n_genes = n_cells.size
    n = 0
    lowest, highest = infinity, bits.dtype.type(0)
    previous = np.int32(-1)
    for j in range(begin, stop):
        column, value = indices[j], bits[j]
        if column <= previous or column >= n_genes:
            return (NOT_CANONICAL if 0 <= column < n_genes else OUT_OF_RANGE), n, lowest, highest
        previous = column
        if value == 0 or value == sign:
            continue
        if value >= infinity:
            magnitude = value & (sign - bits.dtype.type(1))
            if magnitude > infinity:
                return NOT_A_NUMBER, n, lowest, highest
            return (INFINITE if magnitude == infinity else NEGATIVE), n, lowest, highest
        values[n] = value
        columns[n] = column
        n += 1
        n_cells[column] += 1
        lowest = min(lowest, value)
        highest = max(highest, value)
    return FINE, n, lowest, highest


@kernel
def spread(values, n, lowest, highest, keep, starts, odd):  # type: ignore[no-untyped-def]
    """Plan buckets of equal width in the bit pattern, highest values first.

    Parameters
    ----------
    values, n, lowest, highest
        What `take_row` found.
    keep
        How many of the highest values are wanted.
    starts
        Output: where each bucket begins, up to the one that holds the last value wanted.
    odd
        Scratch of the same size: odd places are counted apart, so that of two ties neither waits for the other.

    Returns
    -------
    tuple of int
        Shift that makes a bucket of a distance from `highest`; last bucket wanted; size of the largest so far.
    """
    n_buckets = 64
    while n_buckets < n and n_buckets < starts.size:
        n_buckets *= 2
    shift = 0
    while np.int64((highest - lowest) >> shift) >= n_buckets:
        shift += 1
    for k in range(n_buckets):
        starts[k] = 0
        odd[k] = 0
    for j in range(0, n - 1, 2):
        starts[(highest - values[j]) >> shift] += 1
        odd[(highest - values[j + 1]) >> shift] += 1
    if n % 2:
        starts[(highest - values[n - 1]) >> shift] += 1
    filled, last, largest = 0, 0, 0
    for k in range(n_buckets):
        size = starts[k] + odd[k]
        starts[k] = filled
        filled += size
        largest = max(largest, size)
        if filled >= keep:
            last = k
            break
    return shift, last, largest


@kernel
def order_packed(values, columns, n, highest, plan, ends, rank, entries):  # type: ignore[no-untyped-def]
    """Fill `entries` with one sorted row: distance from the highest value above, rank of the symbol below.

    For 32-bit values with ties by symbol: a value and a rank fit one integer, which is then all that is sorted.
    """
    shift, last, _ = plan
    for j in range(n):
        key = np.uint64(highest - values[j])
        bucket = np.int64(key >> np.uint64(shift))
        if bucket <= last:
            place = ends[bucket]
            ends[bucket] = place + 1
            entries[place] = (key << np.uint64(32)) | np.uint64(rank[columns[j]])
    insert_sort(entries, 0, ends[last])  # all buckets at once: none is far from its place


@kernel
def order_tied(  # type: ignore[no-untyped-def]
    values, columns, n, highest, plan, ends, rank, entries, unused, bitmap, key_of_rank
):
    """Do what `order_packed` does for a row with many ties, as counts have.

    The genes wanted go through a bitmap over ranks first, from which they come in the order of their symbols; so
    every bucket fills in that order, and one that holds a single value is sorted when it is full.
    """
    shift, last, _ = plan
    for j in range(n):
        key = highest - values[j]
        if np.int64(key >> shift) <= last:
            r = np.uint64(rank[columns[j]])
            key_of_rank[r] = key
            bitmap[r >> np.uint64(6)] |= np.uint64(1) << (r & np.uint64(63))
    for word in range(bitmap.size):
        bits = bitmap[word]
        base = np.uint64(word) << np.uint64(6)
        while bits:
            lowest = bits & (~bits + np.uint64(1))
            bits ^= lowest
            r = base | bit_position(lowest)
            key = np.uint64(key_of_rank[r])
            bucket = np.int64(key >> np.uint64(shift))
            place = ends[bucket]
            ends[bucket] = place + 1
            entries[place] = (key << np.uint64(32)) | r
        bitmap[word] = 0
    begin = 0
    for k in range(last + 1):
        stop = ends[k]
        if stop - begin > 1 and not is_sorted(entries, begin, stop):
            if stop - begin <= SMALL:
                insert_sort(entries, begin, stop)
            else:
                sort_pairs(entries, unused, begin, stop)
        begin = stop


@kernel
def order_pairs(  # type: ignore[no-untyped-def]
    values, columns, n, highest, plan, ends, rank, gene_hash, cell_hash, keys, ties
):
    """Fill `keys` and `ties` with one sorted row: distance from the highest value; random order and rank.

    For 64-bit values, and for random ties; the rank is in the low 24 bits of a tie.
    """
    shift, last, _ = plan
    for j in range(n):
        key = highest - values[j]
        bucket = np.int64(key >> shift)
        if bucket <= last:
            place = ends[bucket]
            ends[bucket] = place + 1
            keys[place] = key
            tie = np.uint64(rank[columns[j]])
            if gene_hash.size:
                tie |= mix(gene_hash[columns[j]] ^ cell_hash) & ~_RANK_MASK
            ties[place] = tie
    begin = 0
    for k in range(last + 1):
        stop = ends[k]
        if stop - begin > SMALL:
            sort_pairs(keys, ties, begin, stop)
        elif stop - begin > 1:
            insert_sort_pairs(keys, ties, begin, stop)
        begin = stop


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
    by_rank = gene_hash.size == 0
    packed = by_rank and bits.itemsize == 4
    width = np.int64(0)
    for i in range(n_kept.size):
        width = max(width, indptr[i + 1] - indptr[i])
    values = np.empty(width, bits.dtype)
    columns = np.empty(width, np.int32)
    keys, ties = np.empty(width, np.uint64), np.empty(width, np.uint64)
    bitmap = np.zeros(rank.size // 64 + 1, np.uint64)
    key_of_rank = np.empty(rank.size, bits.dtype)
    starts, odd = np.empty(4096, np.int32), np.empty(4096, np.int32)
    out, n_bytes = np.int64(0), np.int64(0)
    for i in range(n_kept.size):
        status, n, lowest, highest = take_row(
            indices, bits, infinity, sign, indptr[i], indptr[i + 1], values, columns, n_cells
        )
        if status != FINE:
            return status, i, out, n_bytes
        keep = min(n, top_k)
        n_kept[i] = keep
        if keep == 0:
            continue
        plan = spread(values, n, lowest, highest, keep, starts, odd)
        if not packed:
            salt = np.uint64(0) if by_rank else cell_hash[i]
            order_pairs(values, columns, n, highest, plan, starts, rank, gene_hash, salt, keys, ties)
        elif plan[2] <= SMALL:
            order_packed(values, columns, n, highest, plan, starts, rank, keys)
        else:
            order_tied(values, columns, n, highest, plan, starts, rank, keys, ties, bitmap, key_of_rank)
        entries = keys if packed else ties
        for j in range(keep):
            r = np.int32(entries[j] & _RANK_MASK)
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
def all_within(values, highest):  # type: ignore[no-untyped-def]
    """Return whether all values are from 0 to `highest`, which NaN is not."""
    n = 0
    for i in range(values.size):  # without a branch, so that it is done on several values at once
        n += (values[i] >= 0) & (values[i] <= highest)
    return n == values.size


@kernel
def other_kind(indptr, values, counts, lenient):  # type: ignore[no-untyped-def]
    """Return the first row that is of another kind than the matrix, or -1.

    Parameters
    ----------
    indptr, values
        The rows as CSR arrays.
    counts
        Whether the matrix holds counts, whose rows have few fractions; else it holds logarithms, whose rows of
        three values or more have some.
    lenient
        Of logarithms to another base than e, which are whole numbers now and then: only rows that reach 5 count.
    """
    for i in range(indptr.size - 1):
        n, fractions, highest = 0, 0, 0.0
        for j in range(indptr[i], indptr[i + 1]):
            value = values[j]
            if value == 0:
                continue
            n += 1
            # Whole but for rounding, as counts are that were normalised and brought back.
            if abs(value - np.floor(value + 0.5)) > min(max(2e-5 * value, 1e-4), 1e-2):
                fractions += 1
                if not counts:
                    break
            highest = max(highest, value)
        if counts:
            if fractions >= 3 and 2 * fractions >= n:
                return i
        elif not fractions and n >= 3 and (not lenient or highest >= 5):
            return i
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
