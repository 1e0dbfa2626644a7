"""The examples of each part of a split, what a score on them could not tell, and how those of training vary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from c2s.errors import ConfigError, ObsError, PluginError
from c2s.prompts import GeneDropout, PromptTemplate
from c2s.splits import PARTS, Split, split_problems, warn_of

if TYPE_CHECKING:
    from c2s.sentences import CellSentences
    from c2s.tasks import Task


def examples_of_parts(
    task: Task, sentences: CellSentences, split: Split, templates: Sequence[PromptTemplate], *, seed: int
) -> dict[str, pa.Table]:
    """Make the examples of the training and validation cells, and count the answers of all parts.

    Returns
    -------
    dict
        The tables of ``"train"`` and of ``"validation"``, if the split has cells of it with an expressed gene.

    Warns
    -----
    C2SWarning
        As `c2s.splits.split_problems`; or no example can be made of the test cells.

    Raises
    ------
    ObsError
        No example can be made of the training cells, or of validation cells that are there; or the training cells
        have one answer.
    """
    if not isinstance(split, Split):
        raise PluginError(
            f"task {task.name!r} made no split, but {type(split).__name__}.",
            fix="let `split` return c2s.split_cells(...); c2s plugins check tries a task.",
        )
    made: dict[str, pa.Table] = {}
    answers: dict[str, list[str]] = {}
    for part in PARTS:
        cells = sentences.select(split.ids(part))
        if not len(cells):
            continue
        if not any(cells.table["n_genes"].to_pylist()):
            answers[part] = []
            continue
        try:
            made[part] = task.examples(cells, templates, seed=seed)
            if not isinstance(made[part], pa.Table):
                raise PluginError(
                    f"task {task.name!r} made no table of examples, but {type(made[part]).__name__}.",
                    fix="let `examples` return c2s.example_table(...); c2s plugins check tries a task.",
                )
            answers[part] = made[part]["answer"].to_pylist()
        except ObsError as error:
            problem = f"No example can be made of the {part} part ({len(cells)} cells, split by {split.unit})"
            problem = f"{problem}: {error.problem.rstrip('.')}"
            if part != "test":
                raise ObsError(f"{problem}.", fix=error.fix) from error
            warn_of([f"{problem}; {error.fix}"])  # the model is of use for other data
    if "train" not in made:
        raise ObsError("the split leaves no cell to train on.", fix="give more cells, or another split.")
    learned = Counter(answers["train"])
    if len(learned) == 1 < learned.total():
        raise ObsError(
            f"all {learned.total()} answers of the training part are {answers['train'][0]!r}, split by "
            f"{split.unit}: there is nothing to learn.",
            fix="split with another seed (--seed), or give cells, or donors, with other answers.",
        )
    warn_of(p for p in split_problems(answers, unit=split.unit) if p not in split.problems)
    made.pop("test", None)
    return made


def gene_dropout(rate: float, task: Task, templates: Sequence[PromptTemplate], examples: pa.Table) -> GeneDropout:
    """Return the augmentation that leaves out a share of the genes of each cell.

    Raises
    ------
    ConfigError
        The prompts of the examples show no genes.
    """
    dropout = GeneDropout(rate, templates)
    if not dropout.reaches(examples.column_names):
        raise ConfigError(
            f"task {task.name!r}",
            [f"gene dropout is {rate:g}, and its prompts show no genes that could be left out"],
            fix="train without, gene_dropout=0 (--gene-dropout 0), or let its examples hold cell_sentence, or "
            "cell_sentences for several cells, as c2s.PromptTemplate says.",
        )
    return dropout
