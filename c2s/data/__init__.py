"""Cells from files and by name: read, recognise, normalise."""

from c2s.data.datasets import load_dataset
from c2s.data.read import read_cells
from c2s.sentences.matrix_kind import MatrixKind, matrix_kind

__all__ = ["MatrixKind", "load_dataset", "matrix_kind", "read_cells"]
