"""Examples of one task from one source, without building a corpus: one for each of its templates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from c2s.corpus.arrangement import deal, group_codes
from c2s.corpus.budget import WordCounter
from c2s.corpus.drafts import Drafter, gene_set_drafts
from c2s.corpus.draws import draw, id_hashes
from c2s.corpus.examples import Additive, Draft, GeneLists, render
from c2s.corpus.plan import CorpusPlan, plan_corpus, read_gene_sets
from c2s.corpus.prompt_files import CorpusTask, corpus_task
from c2s.corpus.ranks import RankedCells, rank_rows
from c2s.corpus.source import Source, close_cells
from c2s.corpus.spec import COLUMNS, make_spec
from c2s.data.datasets import is_file
from c2s.errors import ObsError
from c2s.sentences.symbols import Words, check_words

_MOST_LOOKED_AT = 4096


@dataclass(frozen=True)
class Preview:
    """One filled template.

    Attributes
    ----------
    template
        Its name.
    prompt, answer
        What a model would read and write.
    values
        What was filled in, by field; the genes among them.
    cell_ids
        Cells it was made from.
    """

    template: str
    prompt: str
    answer: str
    values: Mapping[str, str]
    cell_ids: tuple[str, ...]


def preview(
    task: str,
    data: str,
    *,
    columns: Mapping[str, str | dict[str, str]] | None = None,
    symbols: str | None = None,
    layer: str | None = None,
    strip: Sequence[str] = (),
    genes: int = 20,
    cells: tuple[int, int] = (3, 3),
    seed: int = 0,
    templates: str | None = None,
    conditions: float = 0.5,
) -> list[Preview]:
    """Fill each template of a task once.

    Parameters
    ----------
    task
        One of the twelve.
    data
        Name of a dataset or of a gene set collection, or a path.
    columns
        Standard columns that the dataset does not map itself, see `c2s.corpus.spec.DatasetSpec`.
    symbols, layer, strip
        As for `c2s.read_cells`.
    genes
        Genes of a cell at most.
    cells
        Fewest and most cells of a multi-cell example.
    seed
        Changes which cells are shown.
    templates
        Folder of template files of one's own.
    conditions
        How often a known piece of metadata is stated.

    Raises
    ------
    RegistryError
        There is no such task, or no such dataset.
    ObsError
        The data lack a column that the task needs, or no donor has enough cells in a tissue.
    """
    try:
        reading = {"columns": dict(columns or {}), "symbols": symbols, "layer": layer, "strip": list(strip)}
        return _preview(task, data, reading, genes, cells, seed, templates, conditions)
    finally:
        close_cells()


def _preview(
    task: str,
    data: str,
    reading: dict[str, Any],
    genes: int,
    cells: tuple[int, int],
    seed: int,
    templates: str | None,
    conditions: float,
) -> list[Preview]:
    chosen = corpus_task(task, templates)
    common: dict[str, Any] = {"tasks": [task], "genes": (genes, genes), "cells": cells, "seed": seed}
    common |= {"templates": templates, "conditions": conditions, "duplicates": 0}
    if chosen.kind == "gene-set":
        plan = plan_corpus(make_spec(gene_sets=[data], **common))
        return _of_gene_sets(plan, chosen, genes)
    dataset: dict[str, Any] = {"name": "data", "path": data} if is_file(Path(data)) else {"name": data}
    plan = plan_corpus(make_spec(datasets=[{**dataset, **reading}], **common, missing="skip"))
    source = plan.sources[0]
    if chosen.kind == "cell":
        return _of_cells(plan, source, chosen)
    return _of_samples(plan, source, chosen)


def _of_cells(plan: CorpusPlan, source: Source, task: CorpusTask) -> list[Preview]:
    n = min(source.n_cells, _MOST_LOOKED_AT)
    codes = np.stack([source.codes(c, 0, n) for c in COLUMNS], axis=1)
    complete = (codes[:, [COLUMNS.index(c) for c in task.requires]] >= 0).all(axis=1)
    rows = np.flatnonzero(complete)
    if not len(rows):
        raise ObsError(
            f"none of the first {n} cells of {source.name!r} has {', '.join(task.requires)}.",
            fix="name other data.",
        )
    hashes = id_hashes([source.reader().ids(int(i), int(i) + 1)[0] for i in rows[:256].tolist()])
    picked = rows[:256][np.argsort(draw(hashes, "preview", plan.spec.seed), kind="stable")]
    shown = np.resize(picked, len(task.templates))
    ranked = _ranked(source, shown, plan.top_k)
    drafts = []
    for i, template in enumerate(task.templates):
        one = RankedCells(
            [ranked.ids[i]], ranked.hashes[i : i + 1], ranked.codes[i : i + 1], *_cut(ranked, i, i + 1)
        )
        made = Drafter(plan, source).of_cells(one, [task])[0]
        drafts.append(dataclasses.replace(made, template=template, lists=[i]))
    return _previews(drafts, ranked, source.reader().words)


def _of_samples(plan: CorpusPlan, source: Source, task: CorpusTask) -> list[Preview]:
    rows = np.arange(source.n_cells)
    ids = [
        name for a in range(0, source.n_cells, 65536) for name in source.reader().ids(a, min(a + 65536, len(rows)))
    ]
    groups = group_codes(source, task, rows)
    members, starts = deal(groups, id_hashes(ids), plan.spec.cells, "preview", plan.spec.seed)
    if len(starts) < 2:
        raise ObsError(
            f"no donor of {source.name!r} has {plan.spec.cells[0]} cells of one tissue with "
            f"{', '.join(task.requires)}.",
            fix="ask for fewer cells, or name other data.",
        )
    order = np.argsort(draw(id_hashes([ids[i] for i in members[starts[:-1]]]), "preview", plan.spec.seed))
    shown = np.resize(order, len(task.templates)).tolist()
    contexts = [members[starts[i] : starts[i + 1]] for i in shown]
    ranked = _ranked(source, np.concatenate(contexts), plan.top_k)
    edges = np.concatenate([[0], np.cumsum([len(c) for c in contexts])])
    positions = [(task, 0, np.arange(edges[i], edges[i + 1])) for i in range(len(contexts))]
    drafts = [
        dataclasses.replace(draft, template=template)
        for draft, template in zip(
            Drafter(plan, source).of_samples(ranked, positions), task.templates, strict=True
        )
    ]
    return _previews(drafts, ranked, source.reader().words)


def _of_gene_sets(plan: CorpusPlan, task: CorpusTask, genes: int) -> list[Preview]:
    name, path = plan.gene_sets[0]
    sets = read_gene_sets(path)
    order = np.argsort(draw(id_hashes(list(sets.names)), "preview", plan.spec.seed))
    names = [sets.names[i] for i in np.resize(order, len(task.templates)).tolist()]
    words = check_words(sorted({g for n in names for g in sets[n]}), where=f"gene sets of {name}")
    place = {gene: i for i, gene in enumerate(words.names.to_pylist())}
    listed = [np.array([words.rank[place[g]] for g in sets[n]], np.int32) for n in names]
    starts = np.concatenate([[0], np.cumsum([len(g) for g in listed])]).astype(np.int64)
    made = gene_set_drafts(
        plan, name, names, [sets.human_name(n) for n in names], id_hashes(names), [genes] * len(names)
    )
    drafts = [dataclasses.replace(d, template=t) for d, t in zip(made, task.templates, strict=True)]
    empty = np.zeros((len(names), len(COLUMNS)), np.int32)
    return _previews(drafts, RankedCells(names, id_hashes(names), empty, np.concatenate(listed), starts), words)


def _ranked(source: Source, rows: npt.NDArray[np.int64], top_k: int) -> RankedCells:
    """Rank a few cells straight from the file."""
    reader = source.reader()
    ids, codes, genes = [], [], []
    for row in rows.tolist():
        ids += reader.ids(row, row + 1)
        codes.append(np.concatenate([source.codes(c, row, row + 1) for c in COLUMNS]))
        genes.append(rank_rows(reader, row, row + 1, top_k)[0])
    starts = np.concatenate([[0], np.cumsum([len(g) for g in genes])]).astype(np.int64)
    return RankedCells(ids, id_hashes(ids), np.stack(codes), np.concatenate(genes), starts)


def _cut(ranked: RankedCells, first: int, last: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    begin, end = int(ranked.starts[first]), int(ranked.starts[last])
    return ranked.genes[begin:end], ranked.starts[first : last + 1] - begin


def _previews(drafts: Sequence[Draft], ranked: RankedCells, words: Words) -> list[Preview]:
    cost = WordCounter().genes(words.names.take(pa.array(words.by_rank)).to_pylist())
    lists = GeneLists(ranked.genes, ranked.starts, words, cost)
    table = render(drafts, lists, WordCounter(), None, additive=Additive()).to_pylist()
    found = []
    for draft, row in zip(drafts, table, strict=True):
        texts, _ = lists.texts(np.array(draft.lists, np.int64), np.full(len(draft.lists), draft.top_k, np.int64))
        values = {**draft.values, **{f"genes {i}": text for i, text in enumerate(texts)}}
        found.append(Preview(draft.template.name, row["prompt"], row["answer"], values, tuple(draft.cell_ids)))
    return found
