"""Prompt templates: data with named fields, chosen by a seeded per-example rule."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from c2s.errors import PromptError


@dataclass(frozen=True)
class PromptTemplate:
    """One way of asking a task's question.

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
        """Fill the prompt from `record`; ``n_genes`` is always counted from the ``cell_sentence`` given.

        Raises
        ------
        PromptError
            `record` lacks a field; the message names it.
        """
        values = {key: value for key, value in record.items() if value is not None}
        if "cell_sentence" in values:
            # The number a prompt states is the number present, also after genes were dropped.
            values["n_genes"] = len(str(values["cell_sentence"]).split())
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

    An instance is a function ``(record, rng) -> record`` for `c2s.training.train_sft`. The prompt is rendered
    again from the thinned sentence, so that a stated number of genes stays true.

    Parameters
    ----------
    rate
        Probability of leaving a gene out, in [0, 1). At least one gene is kept.
    templates
        The templates of the examples, to render the prompt again.
    field
        Column that holds the cell sentence.
    """

    def __init__(self, rate: float, templates: Sequence[PromptTemplate], field: str = "cell_sentence") -> None:
        if not 0 <= rate < 1:
            raise PromptError(f"gene dropout must be in [0, 1), got {rate}.", fix="pass gene_dropout=0.3, say.")
        self.rate, self.field = rate, field
        self.templates = {template.name: template for template in templates}

    def __call__(self, record: Mapping[str, object], rng: np.random.Generator) -> dict[str, object]:
        """Return a copy of `record` with fewer genes and its prompt rendered again."""
        thinned = dict(record)
        genes = str(record[self.field]).split()
        keep = rng.random(len(genes)) >= self.rate
        if genes and not keep.any():
            keep[rng.integers(len(genes))] = True
        thinned[self.field] = " ".join(gene for gene, kept in zip(genes, keep, strict=True) if kept)
        thinned["prompt"] = self.templates[str(record["template"])].render(thinned)
        return thinned
