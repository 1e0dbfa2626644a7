"""The cells of a block, ranked once and kept in a compact file, so that any of them can be had again at once.

A file of cells is read from front to back, because that is the only quick way to read one. What is made from it
needs its cells in another order (shuffled, or one donor's together), several times over. Between the two stand
these blocks: per cell its id, the codes of its metadata and the genes in the order of their ranks, two or four
bytes each, to be read cell by cell from the operating system's own cache.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c2s.corpus.draws import Hashes, id_hashes
from c2s.corpus.source import CellReader, Source
from c2s.corpus.spec import COLUMNS
from c2s.errors import InputFileError, ObsError
from c2s.files import atomic_output
from c2s.prompts import stable_hash

#: Cells of a block, and cells that are ranked at a time.
BLOCK, _CHUNK = 8192, 1024
_HASHES = np.dtype([("id", "<u8"), ("genes", "<u8"), ("n", "<i4")])
_HEADER = 8 + 4 * len(COLUMNS)


@dataclass(frozen=True)
class RankedCells:
    """Some cells with the first of their ranked genes.

    Attributes
    ----------
    ids
        Their ids, and `hashes` of them, uint64 ``[cells]``.
    codes
        Positions in the source's categories, int32 ``[cells, columns]`` in the order of `c2s.corpus.spec.COLUMNS`.
    genes
        Genes as places in the sorted symbols, int32, cell after cell.
    starts
        Where each cell's genes begin, int64 ``[cells + 1]``.
    """

    ids: list[str]
    hashes: Hashes
    codes: npt.NDArray[np.int32]
    genes: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]


def n_blocks(n_cells: int) -> int:
    """Return how many blocks a source of so many cells has."""
    return -(-n_cells // BLOCK)


def block_path(work: Path, source: str, block: int) -> Path:
    """Return where a block's cells are; beside it lie ``.places.npy`` and, written last, ``.hashes.npy``."""
    return work / "ranks" / source / f"{block:06d}.cells"


def write_block(work: Path, source: Source, block: int, *, top_k: int, compare: int, min_genes: int) -> None:
    """Rank the cells of a block and write them.

    Parameters
    ----------
    work
        Folder of the files that only the build needs.
    source, block
        Which cells.
    top_k
        Most genes to keep of a cell.
    compare
        First genes that make up the hash by which near-duplicates are found.
    min_genes
        Cells with fewer are marked with 0 genes, and never used.

    Raises
    ------
    MatrixError
        A cell has a value that is negative, infinite or NaN; it is named.
    ObsError
        Cell ids are missing.
    """
    path = block_path(work, source.name, block)
    if path.with_suffix(".hashes.npy").exists():
        return
    reader = source.reader()
    reader.kind  # noqa: B018 (refuses scaled values)
    first, last = block * BLOCK, min((block + 1) * BLOCK, source.n_cells)
    hashes = np.zeros(last - first, _HASHES)
    places = np.zeros((last - first + 1, 2), np.int64)
    wide = source.n_genes > 0xFFFF
    gene_hashes = _gene_hashes(reader) if compare else np.zeros(0, np.uint64)
    with atomic_output(path, overwrite=True) as temporary, temporary.open("wb") as file:
        written = 0
        for start in range(first, last, _CHUNK):
            stop = min(start + _CHUNK, last)
            ids = reader.ids(start, stop)
            if "" in ids:
                raise ObsError(f"a cell of {source.path} has no id.", fix="give every cell a name in obs_names.")
            order, n_kept = rank_rows(reader, start, stop, top_k)
            codes = np.stack([source.codes(c, start, stop) for c in COLUMNS], axis=1).astype("<i4")
            ends = np.cumsum(n_kept, dtype=np.int64)
            here = hashes[start - first : stop - first]
            here["id"], here["n"] = id_hashes(ids), np.where(n_kept >= min_genes, n_kept, 0)
            if compare:
                here["genes"] = first_genes_hash(order, ends, n_kept, gene_hashes, compare)
            genes = memoryview(order.astype("<u4" if wide else "<u2").tobytes())
            size = 4 if wide else 2
            pieces: list[Any] = []
            for i, name in enumerate(ids):
                text = name.encode()
                begin = int(ends[i] - n_kept[i])
                pieces += [
                    here["id"][i].tobytes(),
                    codes[i].tobytes(),
                    text,
                    genes[size * begin : size * int(ends[i])],
                ]
                places[start - first + i] = written, written + _HEADER + len(text)
                written += _HEADER + len(text) + size * int(n_kept[i])
            file.write(b"".join(pieces))
        places[-1] = written
    save_array(path.with_suffix(".places.npy"), places)
    save_array(path.with_suffix(".hashes.npy"), hashes)


def read_hashes(work: Path, source: Source, field: str) -> npt.NDArray[Any]:
    """Return ``"id"`` or ``"genes"`` hashes (uint64) or numbers of genes ``"n"`` (int32) of all cells."""
    found = np.empty(source.n_cells, _HASHES[field])
    start = 0
    for values in hash_blocks(work, source, field):
        found[start : start + len(values)] = values
        start += len(values)
    return found


def hash_blocks(work: Path, source: Source, field: str) -> Iterator[npt.NDArray[Any]]:
    """Yield the same, block by block."""
    for block in range(n_blocks(source.n_cells)):
        yield np.load(block_path(work, source.name, block).with_suffix(".hashes.npy"))[field]


def read_cells_ranked(
    work: Path, source: Source, rows: npt.NDArray[np.int64], most: npt.NDArray[np.int64]
) -> RankedCells:
    """Return cells by their rows, in any order, each with at most `most` genes, int64 ``[cells]``."""
    size, kind = (4, "<u4") if source.n_genes > 0xFFFF else (2, "<u2")
    records: list[bytes] = [b""] * len(rows)
    texts = np.zeros(len(rows), np.int64)
    order = np.argsort(rows, kind="stable")
    blocks = rows[order] // BLOCK
    edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(rows)]
    for begin, end in itertools.pairwise(edges):
        if begin == end:
            continue
        path = block_path(work, source.name, int(blocks[begin]))
        here = order[begin:end]
        places = np.load(path.with_suffix(".places.npy"))
        local = rows[here] % BLOCK
        starts, genes = places[local, 0], places[local, 1]
        stops = np.minimum(genes + size * most[here], places[local + 1, 0])
        texts[here] = genes - starts
        lengths = (stops - starts).tolist()
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for i, length, offset in zip(here.tolist(), lengths, starts.tolist(), strict=True):
                records[i] = os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)
    return _unpack(records, texts.tolist(), size, kind)


def _unpack(records: Sequence[bytes], texts: Sequence[int], size: int, kind: str) -> RankedCells:
    heads = np.frombuffer(b"".join([r[:_HEADER] for r in records]), np.uint8).reshape(-1, _HEADER)
    ids = [r[_HEADER:end].decode() for r, end in zip(records, texts, strict=True)]
    genes = np.frombuffer(b"".join([r[end:] for r, end in zip(records, texts, strict=True)]), kind)
    counts = np.array([len(r) - end for r, end in zip(records, texts, strict=True)], np.int64) // size
    return RankedCells(
        ids,
        np.ascontiguousarray(heads[:, :8]).view("<u8").ravel().astype(np.uint64),
        np.ascontiguousarray(heads[:, 8:]).view("<i4").reshape(-1, len(COLUMNS)).astype(np.int32),
        genes.astype(np.int32),
        np.concatenate([[0], np.cumsum(counts)]),
    )


def rank_rows(
    reader: CellReader, start: int, stop: int, top_k: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the genes of some rows in the order of their expression, and how many each row keeps.

    The order of a cell's genes is the same for counts and for any logarithm of normalised counts, so nothing is
    normalised here; ties go by symbol, as in `c2s.to_cell_sentences`.

    Raises
    ------
    MatrixError
        A value is negative, infinite or NaN; the cell is named.
    InputFileError
        The file is damaged.
    """
    from c2s.sentences import kernels

    given, words = reader.rows(start, stop), reader.words
    for rows in (given, None):
        rows = rows or given.canonical(len(words))
        wide = rows.data.dtype == np.float64
        unsigned: Any = np.uint64 if wide else np.uint32
        infinity, sign = (0x7FF0 << 48, 1 << 63) if wide else (0x7F80 << 16, 1 << 31)
        limit = min(top_k, len(words))
        order = np.empty(int(np.minimum(np.diff(rows.indptr), limit).sum()), np.int32)
        n_kept = np.empty(len(rows), np.int32)
        none = np.zeros(0, np.uint64)
        status, row, n, _ = kernels.rank_rows(
            rows.indptr,
            rows.indices,
            rows.data.view(unsigned),
            unsigned(infinity),
            unsigned(sign),
            words.rank,
            words.word_bytes,
            none,
            none,
            limit,
            order,
            n_kept,
            np.zeros(len(words), np.int32),
        )
        if status != kernels.NOT_CANONICAL:
            break
    if status != kernels.FINE:
        cell, place = reader.ids(start + int(row), start + int(row) + 1)[0], start + int(row)
        raise InputFileError(
            f"cell {cell!r} (row {place}) has an index that is out of range in X of {reader.path.name}.",
            fix="download or write it again, and compare its checksum.",
        )
    return order[:n], n_kept


def first_genes_hash(
    order: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int64],
    n_kept: npt.NDArray[np.int32],
    gene_hashes: Hashes,
    compare: int,
) -> Hashes:
    """Return a hash of the first `compare` symbols of each cell, in their order, uint64 ``[cells]``; never 0."""
    begins = ends - n_kept
    found = np.full(len(ends), np.uint64(0x9E3779B97F4A7C15))
    with np.errstate(over="ignore"):
        for place in range(min(compare, int(n_kept.max(initial=0)))):
            has = np.flatnonzero(n_kept > place)
            value = (found[has] ^ gene_hashes[order[begins[has] + place]]) * np.uint64(0xBF58476D1CE4E5B9)
            found[has] = value ^ (value >> np.uint64(29))
    return found | np.uint64(1)


def _gene_hashes(reader: CellReader) -> Hashes:
    """Return a hash of each symbol, in sorted order; kept with the reader."""
    if not hasattr(reader, "_gene_hashes"):
        names = reader.words.names.to_pylist()
        hashes = np.array([stable_hash("gene", names[i]) for i in reader.words.by_rank.tolist()], np.uint64)
        reader._gene_hashes = hashes  # type: ignore[attr-defined]
    return reader._gene_hashes  # type: ignore[attr-defined,no-any-return]


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as ``.npy``, whole or not at all."""
    with atomic_output(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.save(file, array)
