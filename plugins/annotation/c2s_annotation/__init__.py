"""Annotation tasks: the label of a cell, the tissue of a sample, the cell types of a sample."""

__version__ = "0.1.0"
