"""Cells as sentences, and sentences as cells (section 4.2)."""

from c2s.sentences.inverse import RankExpressionModel
from c2s.sentences.parse import ParsedSentences, parse_sentences
from c2s.sentences.table import CellSentences
from c2s.sentences.transform import SentenceStream, to_cell_sentences

__all__ = [
    "CellSentences",
    "ParsedSentences",
    "RankExpressionModel",
    "SentenceStream",
    "parse_sentences",
    "to_cell_sentences",
]
