"""The templates: what a model is asked, in our own words.

Section 4.2.1 gives the shape: a cell sentence and an instruction such as "predict the cell type of this cell".
What follows the cells is the same in all variants of a task: a small model starts without any language, and would
spend its few steps on learning that the phrasings mean the same.
"""

from __future__ import annotations

from c2s import PromptTemplate

CELL = (
    PromptTemplate("annotation/plain", "Cell sentence : {cell_sentence} . {label_name} :", "{label}"),
    PromptTemplate(
        "annotation/counted",
        "The {n_genes} most highly expressed genes of a cell , highest first : {cell_sentence} . {label_name} :",
        "{label}",
    ),
    PromptTemplate(
        "annotation/question",
        "Predict the {label_name} of a cell from its genes , ranked from high to low : {cell_sentence} . "
        "{label_name} :",
        "{label}",
    ),
)

TISSUE = (
    PromptTemplate(
        "tissue/cells-first",
        "{n_cells} cells of one donor , each given by its most highly expressed genes . {cells} "
        "Predict the {label_name} these cells come from . {label_name} :",
        "{label}",
    ),
    PromptTemplate(
        "tissue/question-first",
        "Predict the {label_name} that {n_cells} cells of one donor were taken from . {cells} {label_name} :",
        "{label}",
    ),
)

CELL_TYPES = (
    PromptTemplate(
        "sample-cell-types/cells-first",
        "{n_cells} cells of one donor and one tissue , each given by its most highly expressed genes . {cells} "
        "Name the {label_name} of each cell in order . {label_name} :",
        "{label}",
    ),
    PromptTemplate(
        "sample-cell-types/question-first",
        "Name the {label_name} of each of these {n_cells} cells in order . {cells} {label_name} :",
        "{label}",
    ),
)
