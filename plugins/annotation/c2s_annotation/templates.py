"""The templates: what a model is asked, in our own words.

Section 4.2.1 gives the shape: a cell sentence and an instruction such as "predict the cell type of this cell".
All variants of a task end with the same words, so that the answer starts from the same place.
"""

from __future__ import annotations

from c2s import PromptTemplate

CELL = (
    PromptTemplate(
        "annotation/genes-first",
        "The {n_genes} most highly expressed genes of a cell, highest first : {cell_sentence} . "
        "Predict the {label_name} of this cell . {label_name} :",
        "{label}",
    ),
    PromptTemplate(
        "annotation/question-first",
        "Predict the {label_name} of a cell from its {n_genes} most highly expressed genes , "
        "ranked from high to low : {cell_sentence} . {label_name} :",
        "{label}",
    ),
    PromptTemplate(
        "annotation/plain",
        "Cell sentence : {cell_sentence} . {label_name} :",
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
