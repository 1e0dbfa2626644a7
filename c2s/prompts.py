"""Prompt templates: data with named fields, chosen by a seeded per-example rule."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c2s.errors import PromptError

#: Columns of a record that hold the sentences of cells, and the field of a template that shows them.
_SHOWN_AS = {"cell_sentence": "cell_sentence", "cell_sentences": "cells"}


@dataclass(frozen=True)
class PromptTemplate:
    """One way of asking a task's question.

    A field is filled from the example's record. What it says of the cells' sentences is made from these, so that
    it is true, and stays so when `GeneDropout` leaves genes out:

    ==========================  ================================================================================
    the record holds            the template may write
    ==========================  ================================================================================
    ``cell_sentence``, a text   ``{cell_sentence}``, and ``{n_genes}``, how many genes it has
    ``cell_sentences``, a list  ``{cells}``, which reads ``Cell 1 : A B . Cell 2 : C .``; ``{n_cells}``, how many
                                they are; ``{n_genes}``, how many genes they have together
    ==========================  ================================================================================

    Attributes
    ----------
    name
        Unique name, ``"<task>/<variant>"``.
    text
        The prompt with ``{fields}``; it ends where the answer begins.
    answer
        The answer with ``{fields}``.
    """

    name: str
    text: str
    answer: str

    def __post_init__(self) -> None:
        try:
            named = [*_fields(self.text), *_fields(self.answer)]
        except ValueError as error:
            raise PromptError(
                f"template {self.name!r} is malformed: {error}.", fix="double literal braces: {{ }}."
            ) from None
        if "" in named or any(not f.isidentifier() for f in named):
            raise PromptError(
                f"template {self.name!r} has a field without a plain name.",
                fix="write fields as {cell_sentence}.",
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields the prompt needs, in order of first appearance (the answer's are not among them)."""
        return tuple(dict.fromkeys(_fields(self.text)))

    def render(self, record: Mapping[str, object]) -> str:
        """Fill the prompt from `record`; what it says of its cells is always made from their sentences.

        Raises
        ------
        PromptError
            `record` lacks a field; the message names it.
        """
        values = {key: value for key, value in record.items() if value is not None}
        shown = _sentences(values)
        if shown:
            # The number a prompt states is the number present, also after genes were dropped.
            values["n_genes"] = sum(len(sentence.split()) for sentence in shown)
        if "cell_sentences" in values:
            values["cells"], values["n_cells"] = _numbered(shown), len(shown)
        return self._fill(self.text, values)

    def render_answer(self, record: Mapping[str, object]) -> str:
        """Fill the answer from `record`."""
        return self._fill(self.answer, {k: v for k, v in record.items() if v is not None})

    def _fill(self, text: str, values: Mapping[str, object]) -> str:
        missing = [f for f in dict.fromkeys(_fields(text)) if f not in values]
        if missing:
            raise PromptError(
                f"template {self.name!r} needs {', '.join(missing)}, which this example does not have.",
                fix="give the column, or choose a template that does not name it.",
            )
        return text.format_map(values)


def _sentences(values: Mapping[str, Any]) -> list[str]:
    if "cell_sentences" in values:
        return [str(sentence) for sentence in values["cell_sentences"]]
    return [str(values["cell_sentence"])] if "cell_sentence" in values else []


def _numbered(sentences: Sequence[str]) -> str:
    return " ".join(f"Cell {i} : {sentence} ." for i, sentence in enumerate(sentences, 1))


def _fields(text: str) -> list[str]:
    return [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]


def stable_hash(*parts: object) -> int:
    """Return a 64-bit hash of `parts` that is the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def choose_template(templates: Sequence[PromptTemplate], example_id: str, seed: int) -> PromptTemplate:
    """Choose the template of one example: a function of the example's id and the seed alone.

    Raises
    ------
    PromptError
        There is no template to choose from.
    """
    if not templates:
        raise PromptError("a task without templates cannot ask anything.", fix="register at least one template.")
    return templates[stable_hash("template", example_id, seed) % len(templates)]


class GeneDropout:
    """Training-time augmentation: leave out a random share of the genes of each cell, keeping their order.

    An instance is a function ``(record, rng) -> record`` for `c2s.training.train_sft`. The genes are those of the
    record's ``cell_sentence``, or of each of its ``cell_sentences`` (see `PromptTemplate`). The prompt is rendered
    again from the thinned sentences, so that stated numbers of genes and cells stay true.

    Parameters
    ----------
    rate
        Probability of leaving a gene out, in [0, 1). At least one gene of a cell is kept.
    templates
        The templates of the examples, to render the prompt again.
    """

    def __init__(self, rate: float, templates: Sequence[PromptTemplate]) -> None:
        if not 0 <= rate < 1:
            raise PromptError(f"gene dropout must be in [0, 1), got {rate}.", fix="pass gene_dropout=0.3, say.")
        self.rate = rate
        self.templates = {template.name: template for template in templates}

    def reaches(self, columns: Collection[str]) -> bool:
        """Whether the prompts of examples with these columns show sentences that genes can be left out of."""
        shown = {field for template in self.templates.values() for field in template.fields}
        return any(c in columns and f in shown for c, f in _SHOWN_AS.items())

    def __call__(self, record: Mapping[str, Any], rng: np.random.Generator) -> dict[str, object]:
        """Return a copy of `record` with fewer genes and its prompt rendered again.

        Raises
        ------
        PromptError
            The record holds no sentence.
        """
        thinned = dict(record)
        if all(record.get(column) is None for column in _SHOWN_AS):
            raise PromptError(
                f"gene dropout finds no sentence in an example of template {record['template']!r}.",
                fix=f"let it hold {' or '.join(_SHOWN_AS)}, or train without gene dropout.",
            )
        for column in _SHOWN_AS:
            if isinstance(given := record.get(column), str):
                thinned[column] = self._thin(given, rng)
            elif given is not None:
                thinned[column] = [self._thin(sentence, rng) for sentence in given]
        thinned["prompt"] = self.templates[str(record["template"])].render(thinned)
        return thinned

    def _thin(self, sentence: str, rng: np.random.Generator) -> str:
        genes = sentence.split()
        keep = rng.random(len(genes)) >= self.rate
        if genes and not keep.any():
            keep[rng.integers(len(genes))] = True
        return " ".join(gene for gene, kept in zip(genes, keep, strict=True) if kept)
