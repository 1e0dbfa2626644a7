"""Vectors of cells, of samples of several cells, of texts, and of prompts that mix them (section 4.6.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s import PromptTemplate, embed, to_cell_sentences
from c2s.contexts import draw_contexts
from c2s.errors import ConfigError, ContextError, MatrixError, PromptError
from c2s.splits import complete_column
from c2s_embedding.templates import CELL, SAMPLE, as_template, columns_of

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s import LanguageModel

#: Genes of a cell's sentence unless told otherwise.
TOP_K = 200


def embed_prompts(
    model: LanguageModel,
    template: PromptTemplate | str,
    records: Sequence[Mapping[str, object]],
    *,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> npt.NDArray[np.float32]:
    """Embed prompts of any kind: a text alone, a cell with its tissue, an abstract with the cells it is about.

    Parameters
    ----------
    model
        A causal language model and its tokenizer.
    template
        Text with ``{fields}``.
    records
        The fields' values, one mapping per prompt.
    tokens_per_batch, show_progress
        As for `c2s.embed`.

    Returns
    -------
    numpy.ndarray
        float32 ``[records, hidden]``: the mean of the last hidden state over the tokens of each prompt.

    Raises
    ------
    PromptError
        There is no record, a record lacks a field, or a prompt is empty.
    ContextError
        A prompt does not fit the model's context.
    """
    filled = as_template(template, CELL)
    if not records:
        raise PromptError("there is nothing to embed.", fix="give at least one record.")
    prompts = [filled.render(record) for record in records]
    try:
        return embed(model, prompts, tokens_per_batch=tokens_per_batch, show_progress=show_progress)
    except ContextError as error:
        raise ContextError(
            error.problem, fix="show fewer genes (--genes) or fewer cells, or take another model."
        ) from error


def cell_prompts(
    adata: AnnData, *, template: PromptTemplate | str | None = None, top_k: int = TOP_K
) -> list[dict[str, object]]:
    """Return the fields of each cell's prompt, in the order of the cells.

    Raises
    ------
    ConfigError
        `top_k` is not positive.
    ObsError
        A column that the template names is missing or incomplete.
    MatrixError
        A cell expresses no gene, so that there is nothing to read.
    C2SError
        As `c2s.to_cell_sentences` raises for matrices that are none.
    """
    filled = as_template(template, CELL)
    if top_k < 1:
        raise ConfigError("embedding", [f"top_k={top_k} is below 1"], fix="200 is usual.")
    if "cell_sentence" not in filled.fields and not columns_of(filled):
        raise PromptError(
            f"the template {filled.text!r} reads nothing of a cell.",
            fix="write {cell_sentence} or a column into it.",
        )
    columns = {name: complete_column(adata.obs, name).tolist() for name in columns_of(filled)}
    sentences = to_cell_sentences(adata, top_k=min(top_k, adata.n_vars), obs_columns=[], expects="any")
    texts = sentences.table["cell_sentence"].to_pylist()
    if "cell_sentence" in filled.fields and (empty := [i for i, text in enumerate(texts) if not text]):
        raise MatrixError(
            f"{len(empty)} cell(s) express no gene, first {adata.obs_names[empty[0]]!r}.",
            fix="leave empty cells out (read_cells(min_genes=1)).",
        )
    return [
        {"cell_sentence": text, **{name: values[i] for name, values in columns.items()}}
        for i, text in enumerate(texts)
    ]


def embed_cells(
    model: LanguageModel,
    adata: AnnData,
    *,
    template: PromptTemplate | str | None = None,
    top_k: int = TOP_K,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> npt.NDArray[np.float32]:
    """Embed each cell: its sentence in a prompt, the last hidden state averaged (section 4.6.3).

    Parameters
    ----------
    model
        A causal language model and its tokenizer.
    adata
        Cells x genes, counts or log1p values.
    template
        Prompt with ``{cell_sentence}`` and, for mixed prompts, columns of ``obs`` such as ``{tissue}``; default
        that of predicting a cell type.
    top_k
        Most genes of a sentence.
    tokens_per_batch, show_progress
        As for `c2s.embed`; neither changes a vector beyond rounding.

    Returns
    -------
    numpy.ndarray
        float32 ``[cells, hidden]``.

    Raises
    ------
    C2SError
        As `cell_prompts` and `embed_prompts`.
    """
    records = cell_prompts(adata, template=template, top_k=top_k)
    return embed_prompts(
        model,
        as_template(template, CELL),
        records,
        tokens_per_batch=tokens_per_batch,
        show_progress=show_progress,
    )


def embed_samples(
    model: LanguageModel,
    adata: AnnData,
    *,
    within: Sequence[str] = ("donor_id", "tissue"),
    n_cells: tuple[int, int] = (5, 20),
    template: PromptTemplate | str | None = None,
    top_k: int = 50,
    seed: int = 0,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> AnnData:
    """Embed samples: several cells that share a donor and a tissue, say, in one prompt (section 4.6.3).

    Parameters
    ----------
    model, adata, tokens_per_batch, show_progress
        As for `embed_cells`.
    within
        Columns of ``obs`` whose values all cells of a sample share.
    n_cells
        Fewest and most cells of a sample.
    template
        Prompt with ``{cells}`` and, for mixed prompts, ``{n_cells}`` and columns of `within`.
    top_k
        Most genes of each cell.
    seed
        Of who is dealt with whom.

    Returns
    -------
    AnnData
        ``X``: float32 ``[samples, hidden]``; ``obs``: the columns of `within`, ``n_cells`` and ``cell_ids``
        (joined by spaces).

    Raises
    ------
    ObsError
        A column is missing, or no group has enough cells.
    PromptError
        The template has no ``{cells}``, or names a column that is not in `within`.
    ContextError
        The cells of a sample do not fit the model's context.
    C2SError
        As `cell_prompts`.
    """
    from anndata import AnnData

    filled = as_template(template, SAMPLE)
    if "cells" not in filled.fields:
        raise PromptError(f"the template {filled.text!r} has no field {{cells}}.", fix="write {cells} into it.")
    contexts = draw_contexts(adata.obs, within=within, n_cells=n_cells, seed=seed)
    sentence = dict(
        zip(
            adata.obs_names.astype(str),
            (str(record["cell_sentence"]) for record in cell_prompts(adata, top_k=top_k)),
            strict=True,
        )
    )
    records: list[dict[str, Any]] = [
        {**context.group, "cell_sentences": [sentence[cell] for cell in context.cell_ids]} for context in contexts
    ]
    vectors = embed_prompts(model, filled, records, tokens_per_batch=tokens_per_batch, show_progress=show_progress)
    obs = pd.DataFrame(
        [{**c.group, "n_cells": len(c.cell_ids), "cell_ids": " ".join(c.cell_ids)} for c in contexts],
        index=[c.context_id for c in contexts],
    )
    return AnnData(vectors, obs=obs)
