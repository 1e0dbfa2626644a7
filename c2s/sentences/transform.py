"""From an expression matrix to cell sentences (section 4.2 of the paper)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from c2s import __version__
from c2s.errors import C2SWarning, ConfigError, InputFileError, MatrixError
from c2s.progress import progress
from c2s.prompts import stable_hash
from c2s.sentences.matrix import Rows, file_of, on_read, reading_notes
from c2s.sentences.matrix_kind import map_chunks, matrix_kind, refuse_mixed
from c2s.sentences.symbols import Words, matrix_words
from c2s.sentences.table import CellSentences, obs_table, vocabulary_table

if TYPE_CHECKING:
    from anndata import AnnData

TieBreak = Literal["gene", "random"]
Expects = Literal["normalised", "counts", "any"]

_CHUNK = 1024


def to_cell_sentences(
    adata: AnnData,
    *,
    top_k: int | None = None,
    layer: str | None = None,
    tie_break: TieBreak = "gene",
    seed: int = 0,
    uppercase: bool = False,
    symbols: str | None = None,
    obs_columns: Sequence[str] | None = None,
    expects: Expects = "normalised",
    chunk_size: int | None = None,
    show_progress: bool = False,
) -> CellSentences:
    """Write each cell as its genes, highest expression first (section 4.2).

    Only genes with a value above 0 become words; columns that ``var`` or their names show to be no genes
    (antibodies, hashtags, guides, spike-ins, peaks) become none. A cell's sentence is a function of that cell, and
    of the options, alone: not of its row, its neighbours, the order of the columns or the chunks it is read in.

    Parameters
    ----------
    adata
        Cells x genes; CSR, CSC or dense, in memory or backed by h5ad or zarr.
    top_k
        Genes to keep, the K of the paper; None keeps all. A cell that expresses fewer keeps those it has.
    layer
        Layer to read instead of ``X``.
    tie_break
        Order of genes with the same value: ``"gene"`` by symbol (its UTF-8 bytes), ``"random"`` by a hash of
        `seed`, cell id and symbol.
    seed
        Changes the ``"random"`` order.
    uppercase
        Upper-case the symbols; refused if two become the same.
    symbols
        Column of ``var`` with gene symbols; default ``var_names``.
    obs_columns
        Columns of ``obs`` to carry along; default all. Columns named as one of the table's own are carried as
        ``obs_<name>``.
    expects
        What the values must be. The sentences of counts and of normalised values are the same, but a model that
        maps ranks back to expression is not, so that a mistake is refused here: ``"normalised"`` refuses a matrix
        of whole numbers, or whose cells are of two kinds, ``"counts"`` one with fractions; ``"any"`` takes all.
    chunk_size
        Cells per chunk; changes memory and speed, never the result.
    show_progress
        Show a progress bar.

    Returns
    -------
    CellSentences
        One row per cell, in the matrix's order; empty cells have an empty sentence.

    Raises
    ------
    MatrixError
        NaN, infinite or negative values (the cell is named), no cells, the wrong kind of values, or two kinds.
    GeneError
        Names that are no symbols (ids, row numbers, barcodes), duplicated, colliding, empty or spaced symbols.
    ObsError
        A column is missing or has a reserved name, or cell ids are not unique.
    ConfigError
        An option is out of range.

    Warns
    -----
    C2SWarning
        Some cells are empty, or some columns no genes (counted), `top_k` exceeds the number of genes, or the
        values are not log1p but another logarithm or none.
    """
    stream = SentenceStream(
        adata,
        top_k=top_k,
        layer=layer,
        tie_break=tie_break,
        seed=seed,
        uppercase=uppercase,
        symbols=symbols,
        obs_columns=obs_columns,
        expects=expects,
        chunk_size=chunk_size,
    )
    batches = list(stream.batches(show_progress=show_progress))
    return CellSentences(pa.Table.from_batches(batches, stream.schema), stream.vocabulary(), stream.provenance())


class SentenceStream:
    """The sentences of a matrix, batch by batch; the parameters are those of `to_cell_sentences`.

    Iterate over `batches`, then ask for `vocabulary` and `provenance`, which are known only at the end.
    """

    def __init__(
        self,
        adata: AnnData,
        *,
        top_k: int | None = None,
        layer: str | None = None,
        tie_break: TieBreak = "gene",
        seed: int = 0,
        uppercase: bool = False,
        symbols: str | None = None,
        obs_columns: Sequence[str] | None = None,
        expects: Expects = "normalised",
        chunk_size: int | None = None,
    ) -> None:
        _check_options(top_k, tie_break, expects, chunk_size)
        self._adata, self._layer, self._top_k = adata, layer, top_k
        self._tie_break, self._seed, self._expects = tie_break, seed, expects
        self._words = matrix_words(adata, symbols=symbols, uppercase=uppercase)
        if top_k is not None and top_k > len(self._words):
            warnings.warn(
                f"top_k={top_k} exceeds the {len(self._words)} genes of the matrix; all expressed genes are kept.",
                C2SWarning,
                stacklevel=3,
            )
        self._kind = matrix_kind(adata, layer, features=self._words.features)
        if expects == "normalised":
            refuse_mixed(self._kind, "X" if layer is None else f"layer {layer!r}")
        self._warn()
        self._obs, self._renamed = obs_table(adata.obs, obs_columns)
        # A chunk's text must fit the 32-bit offsets of an Arrow string array.
        longest = int(self._words.word_bytes.max()) + 1
        self._chunk = max(1, min(chunk_size or _CHUNK, (2**31 - 64) // (len(self._words) * longest)))
        self._options = {"top_k": top_k, "layer": layer, "tie_break": tie_break, "seed": seed}
        self._options |= {"uppercase": uppercase, "symbols": symbols, "expects": expects}
        self._n_cells = np.zeros(len(self._words), np.int64)
        self._n_empty = 0
        if expects == "normalised" and self._kind.name == "ranks":
            raise MatrixError(
                f"the values are ranks, not expression: {self._kind.evidence}.",
                fix="give the values from before they were ranked.",
            )
        if expects == "normalised" and self._kind.name == "counts":
            raise MatrixError(
                "every value is a whole number: these are raw counts, where normalised expression is expected.",
                fix="read the file with c2s.read_cells, or use sc.pp.normalize_total and sc.pp.log1p; "
                "expects='any' takes them as they are.",
            )

    def _warn(self) -> None:
        """Say what is left out, and what the values are where that was not said when the cells were read."""
        notes = reading_notes(self._adata)
        if "done" in notes and notes.get("unit") != "gene set":
            return
        told = []
        if self._words.features.others:
            told.append(f"features that are no genes make no words: {self._words.features}.")
        if self._expects == "normalised" and self._kind.name not in {
            "log1p",
            "counts",
            "ranks",
            "scaled",
            "empty",
        }:
            told.append(
                f"the values are {self._kind.words}, not log1p ({self._kind.evidence}); the sentences "
                "are the same, but a rank-expression model has this unit. c2s.read_cells brings them to log1p."
            )
        for text in told:
            warnings.warn(text, C2SWarning, stacklevel=4)

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the batches."""
        fields = [pa.field("cell_id", pa.string()), pa.field("cell_sentence", pa.string())]
        fields += [pa.field("n_genes", pa.int32()), *list(self._obs.schema)[1:]]
        return pa.schema(fields)

    @property
    def n_cells(self) -> int:
        """Number of cells to come."""
        return int(self._obs.num_rows)

    def batches(self, *, show_progress: bool = False) -> Iterator[pa.RecordBatch]:
        """Yield the sentences in the matrix's order, with O(chunk) memory when the matrix is backed."""
        rank = _Ranker(self._words, self._top_k)
        if self._tie_break == "random":
            rank.shuffle_ties(self._obs["cell_id"].to_pylist(), self._seed)
        kind = self._kind.name if self._expects == "normalised" else None
        genes = self._words.features.genes
        with progress("sentences", self.n_cells, enabled=show_progress) as advance:
            for rows, piece in map_chunks(
                lambda rows: (rows, rank(rows)), self._adata, self._layer, self._chunk, kind=kind, genes=genes
            ):
                if piece.sentences is None:
                    self._refuse(rows.start + piece.row)
                if self._expects == "counts":
                    self._refuse_fraction(rows)
                self._n_cells += piece.n_cells
                self._n_empty += int(np.count_nonzero(piece.n_genes == 0))
                advance(len(rows))
                yield self._batch(rows, piece)
        if self._n_empty:
            warnings.warn(
                f"{self._n_empty} of {self.n_cells} cells express no gene; their sentences are empty.",
                C2SWarning,
                stacklevel=3,
            )

    def vocabulary(self) -> pa.Table:
        """Return all genes with the number of cells that express each; call it after `batches`."""
        return vocabulary_table(self._words.names, self._n_cells)

    def provenance(self) -> dict[str, Any]:
        """Return how the sentences were made, as plain JSON values; call it after `batches`."""
        read = reading_notes(self._adata)
        return {
            "c2s_version": __version__,
            **self._options,
            "n_cells": self.n_cells,
            "n_genes": len(self._words),
            "n_empty_cells": self._n_empty,
            "normalised_on_read": on_read(self._adata) or None,
            "source": _plain(read.get("source")),
            "source_kind": _plain(read.get("matrix_kind")),
            "matrix_kind": self._kind.name,
            "renamed_obs_columns": self._renamed,
        }

    def _batch(self, rows: Rows, piece: _Piece) -> pa.RecordBatch:
        obs = self._obs.slice(rows.start, len(rows)).combine_chunks()
        arrays = [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in obs.columns]
        arrays[1:1] = [piece.sentences, pa.array(piece.n_genes, pa.int32())]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _cell(self, row: int) -> str:
        return str(self._obs["cell_id"][row].as_py())

    def _refuse(self, row: int) -> None:
        where = "X" if self._layer is None else f"layer {self._layer!r}"
        told = f"cell {self._cell(row)!r} (row {row}) has an index that is out of range in {where}"
        if "source" in reading_notes(self._adata):
            raise InputFileError(
                f"{told} of {file_of(self._adata)}.",
                fix="download or write it again, and compare its checksum.",
            )
        raise MatrixError(f"{told}.", fix="build the matrix again; its column indices exceed the number of genes.")

    def _refuse_fraction(self, rows: Rows) -> None:
        from c2s.sentences import kernels

        first = int(kernels.first_fraction(rows.data[: rows.indptr[-1]]))
        if first >= 0:
            row = rows.start + int(np.searchsorted(rows.indptr, first, side="right")) - 1
            raise MatrixError(
                f"cell {self._cell(row)!r} has a value that is not a whole number, where raw counts are expected.",
                fix="name the layer that holds counts, or pass expects='normalised'.",
            )


@dataclass
class _Piece:
    """Sentences of one chunk; without them, the row that has no sentence."""

    row: int = 0
    sentences: pa.StringArray | None = None
    n_genes: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    n_cells: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))


class _Ranker:
    """Turn rows into sentences; called from several threads, so it changes nothing of itself."""

    def __init__(self, words: Words, top_k: int | None) -> None:
        self.words = words
        self.top_k = len(words) if top_k is None else min(top_k, len(words))
        self.gene_hash = self.cell_hash = np.zeros(0, np.uint64)
        # Made here, not by the first thread that needs them.
        _ = words.rank, words.packed, words.word_bytes

    def shuffle_ties(self, cell_ids: Sequence[str], seed: int) -> None:
        """Order ties by a hash of cell, symbol and seed instead of by symbol."""
        self.gene_hash = np.array([stable_hash("gene", g) for g in self.words.names.to_pylist()], np.uint64)
        self.cell_hash = np.array([stable_hash("cell", c, seed) for c in cell_ids], np.uint64)

    def __call__(self, rows: Rows) -> _Piece:
        from c2s.sentences import kernels

        piece = self._rank(rows, kernels)
        if piece is None:
            piece = self._rank(rows.canonical(len(self.words)), kernels)
        return piece or _Piece()

    def _rank(self, rows: Rows, kernels: Any) -> _Piece | None:
        words = self.words
        wide = rows.data.dtype == np.float64
        unsigned: Any = np.uint64 if wide else np.uint32
        infinity, sign = (0x7FF0 << 48, 1 << 63) if wide else (0x7F80 << 16, 1 << 31)
        lengths = np.diff(rows.indptr)
        order = np.empty(int(np.minimum(lengths, self.top_k).sum()), np.int32)
        n_genes = np.empty(len(rows), np.int32)
        n_cells = np.zeros(len(words), np.int32)
        status, row, n_order, n_bytes = kernels.rank_rows(
            rows.indptr,
            rows.indices,
            rows.data.view(unsigned),
            unsigned(infinity),
            unsigned(sign),
            words.rank,
            words.word_bytes,
            self.gene_hash,
            self.cell_hash[rows.start : rows.start + len(rows)],
            self.top_k,
            order,
            n_genes,
            n_cells,
        )
        if status == kernels.NOT_CANONICAL:
            return None
        if status != kernels.FINE:
            return _Piece(int(row))
        text = np.empty(int(n_bytes) + int(n_order) + 16, np.uint8)
        offsets = np.empty(len(rows) + 1, np.int32)
        starts, letters = words.letters
        end = int(kernels.write_words(order[:n_order], n_genes, words.packed, starts, letters, text, offsets))
        sentences = pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(text[:end]))
        return _Piece(sentences=sentences, n_genes=n_genes, n_cells=n_cells)


def _check_options(top_k: int | None, tie_break: str, expects: str, chunk_size: int | None) -> None:
    problems = []
    if top_k is not None and (isinstance(top_k, bool) or int(top_k) != top_k or top_k < 1):
        problems.append(f"top_k must be a whole number of at least 1, or None for all genes; got {top_k!r}")
    if tie_break not in get_args(TieBreak):
        problems.append(f"tie_break must be 'gene' or 'random', got {tie_break!r}")
    if expects not in get_args(Expects):
        problems.append(f"expects must be 'normalised', 'counts' or 'any', got {expects!r}")
    if chunk_size is not None and chunk_size < 1:
        problems.append(f"chunk_size must be at least 1, got {chunk_size!r}")
    if problems:
        raise ConfigError("to_cell_sentences", problems, fix="correct these arguments.")


def _plain(value: Any) -> Any:
    """Return a value of ``uns`` as JSON can hold it (reading a file turns strings into numpy's)."""
    return None if value is None else str(value)
