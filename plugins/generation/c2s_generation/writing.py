"""Cells on request: prompts of conditions, answers of a trained model, and expression again (section 4.6.2)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c2s import RankExpressionModel, choose_template, generate, parse_sentences
from c2s.errors import C2SWarning, ConfigError, ModelError, PromptError
from c2s.inference import Genes, generate_to
from c2s.inference.to_file import read_answers
from c2s_generation.answers import cells_of, label
from c2s_generation.cells import CellTask, GenerationTask
from c2s_generation.conditions import described, split_values
from c2s_generation.samples import SampleTask

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.tasks import Task
    from c2s.training import TaskModel


@dataclass(frozen=True)
class Wanted:
    """Cells, or samples of cells, of the same conditions.

    Attributes
    ----------
    conditions
        Value of each condition of the task. A task that names the type of each cell of a sample takes a list,
        ``{"cell_type": ["B cell", "CD4-positive, alpha-beta T cell"]}``, or a text that is split at each comma.
    n
        How many cells, or samples for a task of samples.
    n_cells
        Cells per sample; a task that is told a value per cell counts them itself.
    """

    conditions: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    n: int = 1
    n_cells: int = 5


@dataclass(frozen=True)
class _Request:
    """One answer that is wanted: its id, its prompt, and the conditions of each of its cells."""

    request_id: str
    prompt: str
    per_cell: tuple[Mapping[str, str], ...]


def generate_cells(
    trained: TaskModel,
    task: Task,
    wanted: Sequence[Wanted],
    *,
    inverse: RankExpressionModel,
    genes: Sequence[str] | None = None,
    n_genes: int | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    constrained: bool = True,
    partial: Path | None = None,
    show_progress: bool = False,
) -> AnnData:
    """Write cells of given conditions with a trained model.

    The i-th cell of a condition depends on the model, the settings, the condition and i alone: asking for more, or
    for other conditions beside it, does not change it.

    Parameters
    ----------
    trained
        From `c2s.training.TaskModel.load`.
    task
        The task of generation it was trained on.
    wanted
        What to write.
    inverse
        Makes expression of the ranks; fitted on the model's training cells.
    genes
        The genes of the result; default those of the model's training cells.
    n_genes
        Genes per cell; default as the model was trained.
    temperature, top_p, seed
        Of the draws, see `c2s.generate`. At temperature 0 all cells of a condition are the same.
    constrained
        Write genes of the training cells only, none twice, and exactly `n_genes`; else whatever the model says.
    partial
        A ``.jsonl`` file for the answers so far, to go on with after an interruption; a sample's cells are written
        one after the other, into one such file each.
    show_progress
        Show a progress bar.

    Returns
    -------
    AnnData
        ``X``: CSR float32 ``[cells, genes]``, in the unit that `inverse` was fitted on. ``obs``: the conditions,
        ``cell_sentence``, ``n_words``, ``n_unknown`` (words that are none of the genes) and ``n_repeated``; for
        samples also ``sample`` and ``cell_in_sample``. ``uns["c2s"]["generated"]`` is true, and says how.

    Raises
    ------
    ConfigError
        The task does not write cells, conditions are missing, unknown or empty, or a number is out of range; all
        problems are named.
    ModelError
        The genes of the training cells were not kept with the model.
    C2SError
        Whatever `c2s.generate` raises.
    """
    if not isinstance(task, CellTask | SampleTask):
        raise ConfigError(
            f"task {task.name!r}", ["it does not write cells"], fix="train a model on conditional-cell-generation."
        )
    n_genes = trained.top_k if n_genes is None else n_genes
    _check(task, wanted, n_genes, temperature)
    assert n_genes is not None
    if trained.genes is None and (constrained or genes is None):
        raise ModelError(
            f"the model {trained.path} does not know the genes of its training cells.",
            fix="train it again, or pass genes= and constrained=False (--free).",
        )
    if temperature == 0 and any(each.n > 1 for each in wanted):
        warnings.warn("at temperature 0 all cells of a condition are the same.", C2SWarning, stacklevel=2)
    settings: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "seed": seed}
    constraint = Genes(trained.genes, n=n_genes) if constrained and trained.genes is not None else None
    if constraint is None:
        settings["max_new_tokens"] = task.longest_answer
    requests = [r for each in wanted for r in _requests(trained, task, each, n_genes, seed)]
    prompts = {request.request_id: request.prompt for request in requests}

    def answer(asked: Mapping[str, str], place: int | None) -> dict[str, str]:
        if partial is None:
            texts = generate(
                trained.model,
                list(asked.values()),
                request_ids=list(asked),
                constraint=constraint,
                show_progress=show_progress,
                **settings,
            )
            return dict(zip(asked, texts, strict=True))
        path = partial if place is None else partial.with_suffix(f".cell{place}.jsonl")
        generate_to(path, trained.model, asked, constraint=constraint, show_progress=show_progress, **settings)
        return read_answers(path)

    if isinstance(task, SampleTask) and constraint is not None:
        written = _cell_by_cell(requests, prompts, answer)
    else:
        texts = answer(prompts, None)
        several = isinstance(task, SampleTask)
        written = {i: [" ".join(c) for c in cells_of(text)] if several else [text] for i, text in texts.items()}
    adata = _as_cells(
        requests, written, inverse, genes or trained.genes or (), sample=isinstance(task, SampleTask)
    )
    adata.uns["c2s"] |= {
        "generated": True,
        "model": str(trained.path),
        "task": task.name,
        "options": json.dumps(task.options()),
        "trained_on": str(trained.data.get("name", "")),
        "settings": json.dumps({**settings, "n_genes": n_genes, "constrained": constraint is not None}),
    }
    return adata


def _check(task: GenerationTask, wanted: Sequence[Wanted], n_genes: int | None, temperature: float) -> None:
    problems = []
    per_cell = isinstance(task, SampleTask) and task.told_per_cell
    if n_genes is None:
        problems.append("the model was trained on whole cells, so the number of genes must be given")
    elif n_genes < 1:
        problems.append(f"n_genes is {n_genes}, not at least 1")
    if not wanted:
        problems.append("nothing is wanted")
    if len({json.dumps(_texts(each.conditions), sort_keys=True) for each in wanted}) < len(wanted):
        problems.append("the same conditions are wanted twice")
    for each in wanted:
        texts = _texts(each.conditions)
        missing = [c for c in task.conditions if not texts.get(c, "").strip(" ,")]
        lists = {c: v for c, v in each.conditions.items() if c in task.conditions and isinstance(v, list | tuple)}
        unknown = [c for c in each.conditions if c not in task.conditions]
        problems += [f"the condition {c!r} is missing or empty" for c in missing]
        problems += [f"{c!r} is no condition of this model" for c in unknown]
        problems += [f"{c!r} is a list, but this model takes one value of it" for c in lists if not per_cell]
        problems += [f"{c!r} has an empty value" for c, v in lists.items() if not all(x.strip() for x in v)]
        if each.n < 1:
            problems.append(f"n is {each.n}, not at least 1")
        if each.n_cells < 1:
            problems.append(f"n_cells is {each.n_cells}, not at least 1")
    if temperature < 0:
        problems.append(f"the temperature is {temperature}, below 0")
    if problems:
        takes = ", ".join(task.conditions) or "none: it writes cells of any kind"
        raise ConfigError(
            "generation of cells",
            list(dict.fromkeys(problems)),
            fix=f"the conditions of this model are {takes}; cells and genes are 1 or more, the temperature 0 or "
            "more (--condition NAME=VALUE --n 100 --genes 200).",
        )


def _texts(conditions: Mapping[str, str | Sequence[str]]) -> dict[str, str]:
    """Return conditions as texts with single spaces; the values of a list are separated by commas."""
    joined = {c: ", ".join(v) if isinstance(v, list | tuple) else v for c, v in conditions.items()}
    return {c: " ".join(str(value).split()) for c, value in joined.items()}


def _requests(
    trained: TaskModel, task: CellTask | SampleTask, wanted: Wanted, n_genes: int, seed: int
) -> list[_Request]:
    """Write the prompts of what is wanted."""
    texts = _texts(wanted.conditions)
    values = {c: texts[c] for c in task.conditions}
    per_cell: list[Mapping[str, str]] = [values]
    if isinstance(task, SampleTask):
        given = {c: wanted.conditions[c] for c in task.conditions}
        per_cell = _per_cell(given) if task.told_per_cell else [values] * wanted.n_cells
    requests = []
    for i in range(wanted.n):
        request_id = f"{described(values) or 'any'} #{i}"
        template = choose_template(trained.templates, request_id, seed)
        asked = task.asked(values, n_genes) if isinstance(task, CellTask) else task.asked(per_cell, n_genes)
        requests.append(_Request(request_id, template.render(asked), tuple(per_cell)))
    return requests


def _per_cell(values: Mapping[str, str | Sequence[str]]) -> list[Mapping[str, str]]:
    """Return the conditions of each cell of a sample; a list is taken as it is, a text is split at its commas."""
    listed = {
        c: [" ".join(part.split()) for part in value]
        if isinstance(value, list | tuple)
        else split_values(str(value))
        for c, value in values.items()
    }
    lengths = {len(parts) for parts in listed.values()}
    if len(lengths) != 1:
        counts = ", ".join(f"{len(parts)} of {c}" for c, parts in listed.items())
        raise PromptError(
            f"the conditions name different numbers of cells ({counts}).", fix="name one value per cell in each."
        )
    return [dict(zip(listed, cell, strict=True)) for cell in zip(*listed.values(), strict=True)]


def _cell_by_cell(requests: Sequence[_Request], prompts: Mapping[str, str], answer: Any) -> dict[str, list[str]]:
    """Write the cells of samples one after the other: what stands between cells is given, genes are drawn."""
    written: dict[str, list[str]] = {request.request_id: [] for request in requests}
    for place in range(1, max(len(request.per_cell) for request in requests) + 1):
        asked = {}
        for request in requests:
            if len(request.per_cell) >= place:
                before = [f"{label(i)} {cell} ." for i, cell in enumerate(written[request.request_id], 1)]
                asked[request.request_id] = " ".join([prompts[request.request_id], *before, label(place)])
        for request_id, text in answer(asked, place).items():
            written[request_id].append(text)
    return written


def _as_cells(
    requests: Sequence[_Request],
    written: Mapping[str, list[str]],
    inverse: RankExpressionModel,
    genes: Sequence[str],
    *,
    sample: bool,
) -> AnnData:
    """Make expression of answers: as many cells as were asked for, empty where the model wrote fewer."""
    import pandas as pd

    rows: list[dict[str, object]] = []
    left_over = 0
    for request in requests:
        cells = written[request.request_id]
        left_over += max(0, len(cells) - len(request.per_cell))
        for place, conditions in enumerate(request.per_cell, 1):
            sentence = cells[place - 1] if place <= len(cells) else ""
            row: dict[str, object] = {**conditions, "cell_sentence": " ".join(sentence.split())}
            if sample:
                row |= {"sample": request.request_id, "cell_in_sample": place}
            rows.append({"id": f"{request.request_id}{f' cell {place}' if sample else ''}", **row})
    obs = pd.DataFrame(rows).set_index("id").rename_axis(None)
    sentences = obs["cell_sentence"].tolist()
    adata = inverse.invert(sentences, genes)
    parsed = parse_sentences(sentences, genes)
    for column in obs.columns.difference(["cell_sentence", "cell_in_sample"]):
        obs[column] = pd.Categorical(obs[column])
    obs["n_words"] = parsed.n_words
    obs["n_unknown"] = parsed.n_unknown + parsed.n_malformed
    obs["n_repeated"] = parsed.n_duplicate
    adata.obs = obs
    empty = int(np.count_nonzero(np.diff(parsed.indptr) == 0))
    adata.uns["c2s"] |= {"cells_without_a_gene": empty, "cells_beyond_those_asked_for": left_over}
    return adata
