"""The templates: what a model is asked, in our own words; names and content are those of table 1.

A prompt says how many genes to list (section 4.6.2), which decides how long an answer is, and ends alike in all
variants of a task: a small model starts without any language.
"""

from __future__ import annotations

from c2s import PromptTemplate

_LISTED = "Genes to list : {n_listed} . Ranked genes :"
_CELLS = "Cells to list : {n_cells} . Genes to list : {n_listed} . Cells :"


def _cell(task: str, *variants: tuple[str, str]) -> tuple[PromptTemplate, ...]:
    return tuple(PromptTemplate(f"{task}/{name}", f"{text} {_LISTED}", "{genes}") for name, text in variants)


def _sample(task: str, *variants: tuple[str, str]) -> tuple[PromptTemplate, ...]:
    return tuple(PromptTemplate(f"{task}/{name}", f"{text} {_CELLS}", "{cells}") for name, text in variants)


CELL = _cell(
    "conditional-cell-generation",
    ("plain", "{condition} ."),
    ("request", "Write a cell by its genes , highest expression first . {condition} ."),
    ("question", "Which genes does this cell express most ? {condition} ."),
)
UNCONDITIONAL_CELL = _cell(
    "single-cell-language-modeling",
    ("plain", "One cell ."),
    ("request", "Write any cell by its genes , highest expression first ."),
)
SAMPLE = _sample(
    "multi-cell-language-modeling",
    ("plain", "One sample ."),
    ("request", "Write cells of one donor and one tissue , the genes of each from high to low ."),
)
TISSUE_SAMPLE = _sample(
    "conditional-sample-generation-tissue",
    ("plain", "{condition} ."),
    ("request", "Write cells of one donor that come from this tissue . {condition} ."),
)
CELL_TYPES_SAMPLE = _sample(
    "conditional-sample-generation-cell-types",
    ("plain", "{condition} ."),
    ("request", "Write one cell of each of these types , in this order . {condition} ."),
)
ABSTRACT_SAMPLE = _sample(
    "conditional-sample-generation-abstract",
    ("plain", "{condition} ."),
    ("request", "Write cells that this study may hold . {condition} ."),
)
