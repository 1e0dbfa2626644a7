"""Read cell sentences, also generated ones with words that are no genes, into gene indices."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from c2s.errors import SentenceError
from c2s.sentences.symbols import Words, check_words, string_buffers

_BLOCK = 4096
_SHOWN = 20


@dataclass(frozen=True)
class ParsedSentences:
    """Sentences as gene indices, in the layout of a CSR matrix.

    A word counts where it first occurs. Words that are not in the vocabulary and repeated words are left out and
    counted, and do not take a rank: the known genes of a sentence have the ranks 1, 2, 3, ….

    Attributes
    ----------
    indices
        int32 ``[nnz]``: position of each gene in the vocabulary, in the order of the sentence.
    indptr
        int64 ``[sentences + 1]``: where each sentence's genes begin and end.
    n_words
        int32 ``[sentences]``: all words of each sentence.
    n_unknown
        int32 ``[sentences]``: words that could be a gene symbol but are not in the vocabulary.
    n_duplicate
        int32 ``[sentences]``: repetitions of a gene.
    n_malformed
        int32 ``[sentences]``: words that are not in the vocabulary and cannot be a symbol either: without a letter
        or digit, or with characters other than letters, digits and ``-._:/@+()*'#``.
    strays
        The first unknown or malformed words met, at most 20, without repetition.
    """

    indices: npt.NDArray[np.int32]
    indptr: npt.NDArray[np.int64]
    n_words: npt.NDArray[np.int32]
    n_unknown: npt.NDArray[np.int32]
    n_duplicate: npt.NDArray[np.int32]
    n_malformed: npt.NDArray[np.int32]
    strays: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.n_words)

    @property
    def ranks(self) -> npt.NDArray[np.int32]:
        """Rank of each gene in its sentence, from 1, int32 ``[nnz]``."""
        starts = np.repeat(self.indptr[:-1], np.diff(self.indptr))
        return (np.arange(len(self.indices)) - starts + 1).astype(np.int32)

    def report(self) -> dict[str, Any]:
        """Return the totals as plain JSON values."""
        return {
            "n_sentences": len(self),
            "n_words": int(self.n_words.sum()),
            "n_unknown": int(self.n_unknown.sum()),
            "n_duplicate": int(self.n_duplicate.sum()),
            "n_malformed": int(self.n_malformed.sum()),
            "n_empty_sentences": int(np.count_nonzero(self.n_words == 0)),
            "strays": list(self.strays),
        }


def parse_sentences(
    sentences: Sequence[str | None] | pa.Array | pa.ChunkedArray, genes: Sequence[str]
) -> ParsedSentences:
    """Read sentences into indices of `genes`.

    Parameters
    ----------
    sentences
        Space-joined gene symbols, one text per cell; None is an empty sentence.
    genes
        The vocabulary, e.g. `CellSentences.genes`; words must match it exactly, also in case.

    Raises
    ------
    GeneError
        The vocabulary has duplicated, empty or spaced symbols.
    SentenceError
        The sentences are not text.
    """
    from c2s.sentences.jit import in_threads

    reader = _Reader(check_words(genes, where="the vocabulary"))
    blocks = list(in_threads(reader, _blocks(_as_chunks(sentences))))
    indptr = np.zeros(1 + sum(len(b) for b in blocks), np.int64)
    if blocks:
        np.cumsum(np.concatenate([np.diff(b.indptr) for b in blocks]), out=indptr[1:])
    strays = tuple(dict.fromkeys(word for b in blocks for word in b.strays))[:_SHOWN]

    def joined(name: str) -> npt.NDArray[np.int32]:
        return np.concatenate([np.zeros(0, np.int32), *(getattr(b, name) for b in blocks)])

    return ParsedSentences(
        joined("indices"),
        indptr,
        joined("n_words"),
        joined("n_unknown"),
        joined("n_duplicate"),
        joined("n_malformed"),
        strays,
    )


def _as_chunks(sentences: Any) -> list[pa.Array]:
    try:
        if not isinstance(sentences, pa.Array | pa.ChunkedArray):
            sentences = pa.chunked_array(
                [pa.array(sentences[i : i + _BLOCK], pa.string()) for i in _starts(sentences)]
            )
        if isinstance(sentences, pa.Array):
            sentences = pa.chunked_array([sentences])
        if sentences.type != pa.string():
            sentences = sentences.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
        raise SentenceError(
            f"the sentences are not text ({str(error).splitlines()[0]}).",
            fix="pass strings of space-joined symbols.",
        ) from None
    return list(sentences.chunks)


def _starts(sentences: Any) -> range:
    # An empty list still needs one chunk to have a type.
    return range(0, max(1, len(sentences)), _BLOCK)


def _blocks(chunks: list[pa.Array]) -> list[pa.Array]:
    return [chunk[i : i + _BLOCK] for chunk in chunks for i in range(0, len(chunk), _BLOCK)]


def _plain_spaces(block: pa.StringArray) -> pa.StringArray:
    """Make one space of what `str.split` takes for white space: the kernel knows that of ASCII alone."""
    odd = np.asarray(pc.match_substring_regex(block, r"[^\x00-\x7f]|[\x1c-\x1f]"))
    if not odd.any():
        return block
    texts = block.to_pylist()
    for row in np.flatnonzero(odd):
        texts[row] = " ".join(texts[row].split())
    return pa.array(texts, pa.string())


class _Reader:
    """Read blocks of sentences against one vocabulary; called from several threads."""

    def __init__(self, words: Words) -> None:
        from c2s.sentences import parse_kernels

        self.kernels = parse_kernels
        self.starts, self.letters = string_buffers(words.names)
        self.table = np.full(1 << (2 * len(words)).bit_length(), -1, np.int32)
        parse_kernels.fill_table(self.starts, self.letters, self.table)
        self.plausible = np.zeros(256, np.uint8)
        for kind, characters in (
            (1, "-._:/@+()*'#"),
            (2, string.whitespace),
            (3, string.ascii_letters + string.digits),
        ):
            self.plausible[list(characters.encode())] = kind

    def __call__(self, block: pa.Array) -> ParsedSentences:
        block = _plain_spaces(block.fill_null(""))
        offsets, text = string_buffers(block)
        rows = len(block)
        # A word and the space after it take at least two bytes.
        most = (int(offsets[-1]) - int(offsets[0])) // 2 + rows
        indices, indptr = np.empty(most, np.int32), np.empty(rows + 1, np.int64)
        counts = tuple(np.empty(rows, np.int32) for _ in range(4))
        strays = np.empty((_SHOWN, 2), np.int64)
        args = (self.table, self.starts, self.letters, self.plausible, indices, indptr, *counts, strays)
        n_strays = self.kernels.read_sentences(text, offsets, *args)
        found = tuple(bytes(text[a:b]).decode(errors="replace") for a, b in strays[:n_strays])
        words, unknown, duplicate, malformed = counts
        return ParsedSentences(indices[: indptr[-1]].copy(), indptr, words, unknown, duplicate, malformed, found)
