"""Answers that hold cells: one by its genes alone, several as ``Cell 1 : … . Cell 2 : … .``."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LABEL = re.compile(r"(?:^|(?<=\s))Cell\s+\d+\s*:(?=\s|$)")


def cells_of(answer: str | None) -> list[list[str]]:
    """Read an answer into the genes of each cell, as they stand there: unknown and repeated words included.

    Parameters
    ----------
    answer
        Text of a model; None holds no cell.

    Returns
    -------
    list of list of str
        A text without ``Cell n :`` is one cell; words before the first such label are a cell of their own.
    """
    chunks = _LABEL.split(answer or "")
    first, *labelled = [chunk.split() for chunk in chunks]
    cells = [[word for word in words if word != "."] for words in labelled]
    return [first, *cells] if first else cells


def numbered(sentences: Sequence[str]) -> str:
    """Write several cell sentences as one answer, which `cells_of` reads."""
    return " ".join(f"{label(i)} {sentence} ." for i, sentence in enumerate(sentences, 1))


def label(place: int) -> str:
    """Return what stands before the genes of a sample's cell; places count from 1."""
    return f"Cell {place} :"
