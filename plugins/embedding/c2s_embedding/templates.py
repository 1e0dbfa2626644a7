"""What a model reads of a cell or a sample when a vector is wanted: the prompt of a prediction, without an answer.

Section 4.6.3 formats cells as for predicting their type and averages the last hidden state, so the templates end
where the answer would begin.
"""

from __future__ import annotations

from c2s import PromptTemplate

CELL = PromptTemplate("embedding/cell", "Cell sentence : {cell_sentence} . cell type :", "{cell_type}")
SAMPLE = PromptTemplate("embedding/sample", "{n_cells} cells of one sample . {cells} cell types :", "{cell_types}")

#: Fields that are made from the cells themselves; any other names a column of ``obs``.
OWN_FIELDS = frozenset({"cell_sentence", "n_genes", "cells", "n_cells"})


def as_template(given: PromptTemplate | str | None, default: PromptTemplate) -> PromptTemplate:
    """Return a template; a text becomes one, None the default.

    Raises
    ------
    PromptError
        The text has a malformed field.
    """
    if given is None:
        return default
    return given if isinstance(given, PromptTemplate) else PromptTemplate("embedding/given", given, "")


def columns_of(template: PromptTemplate) -> list[str]:
    """Return the columns of ``obs`` that a template reads."""
    return [name for name in template.fields if name not in OWN_FIELDS]
