"""Cells as sentences, and sentences as cells (section 4.2)."""

from c2s.sentences.table import CellSentences
from c2s.sentences.transform import SentenceStream, to_cell_sentences

__all__ = ["CellSentences", "SentenceStream", "to_cell_sentences"]
