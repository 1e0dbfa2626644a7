"""Gene set tasks: the genes of a named set, and the name of a set of genes."""

__version__ = "0.1.0"
