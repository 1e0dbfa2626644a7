"""From ranked cells to examples: which template, which metadata, how many genes, and the text."""

from __future__ import annotations

import functools
import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from c2s.corpus.budget import Counts, TokenCounter, WordCounter, fit_genes, refuse_too_long
from c2s.corpus.prompt_files import GENES_FIELD, CorpusTask
from c2s.prompts import PromptTemplate
from c2s.sentences.symbols import Words

#: Columns of a shard.
SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("template", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("study", pa.string(), nullable=False),
        pa.field("cell_ids", pa.list_(pa.string()), nullable=False),
        pa.field("n_genes", pa.int32(), nullable=False),
        pa.field("n_genes_given", pa.int32(), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
    ]
)
#: Examples of a unit whose added-up tokens are compared with those of the whole text.
SAMPLE = 16


@dataclass(frozen=True)
class Draft:
    """An example before its genes are counted out.

    Attributes
    ----------
    example_id, task, template, dataset, study, cell_ids
        Columns of the shard.
    values
        Fields of the template other than the genes and their number.
    lists
        Which gene lists it shows, in order.
    top_k
        Genes of each list at most, before the context is looked at.
    """

    example_id: str
    task: CorpusTask
    template: PromptTemplate
    dataset: str
    study: str
    cell_ids: Sequence[str]
    values: Mapping[str, str]
    lists: Sequence[int]
    top_k: int


@dataclass(frozen=True)
class GeneLists:
    """Ranked genes of cells, or of gene sets.

    Attributes
    ----------
    genes
        Places in the sorted symbols, int32, list after list.
    starts
        Where each list begins, int64 ``[lists + 1]``.
    words
        The symbols.
    cost
        Tokens that each symbol adds, in sorted order, int64.
    """

    genes: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    words: Words
    cost: Counts

    def texts(
        self, lists: npt.NDArray[np.int64], most: npt.NDArray[np.int64]
    ) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return some lists as text, each with at most so many genes, and how many each has."""
        from c2s.sentences import kernels

        begins = self.starts[lists]
        n = np.minimum(self.starts[lists + 1] - begins, most)
        first = np.cumsum(n) - n
        order = self.genes[np.repeat(begins - first, n) + np.arange(int(n.sum()))]
        n_bytes = int(self.words.word_bytes[order].sum()) + len(order) + 16
        text, offsets = np.empty(n_bytes, np.uint8), np.empty(len(n) + 1, np.int32)
        starts, letters = self.words.letters
        kernels.write_words(order, n.astype(np.int32), self.words.packed, starts, letters, text, offsets)
        whole = text.tobytes()
        ends = offsets.tolist()
        return [whole[a:b].decode() for a, b in itertools.pairwise(ends)], n


@dataclass
class Additive:
    """Whether tokens may be added up in a unit; once a sample says no, it stays no.

    Attributes
    ----------
    holds
        What is known so far.
    seen
        Examples whose text was tokenised as a whole to find out.
    """

    holds: bool = True
    seen: int = 0


@dataclass
class Rendered:
    """Examples as columns."""

    prompts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    n_genes: list[int] = field(default_factory=list)
    n_given: list[int] = field(default_factory=list)
    n_tokens: list[int] = field(default_factory=list)


def render(
    drafts: Sequence[Draft],
    lists: GeneLists,
    counter: WordCounter | TokenCounter,
    limit: int | None,
    *,
    additive: Additive,
) -> pa.Table:
    """Count the genes out, evenly over the cells of an example, and write the texts.

    Parameters
    ----------
    drafts
        The examples.
    lists
        Their genes.
    counter, limit
        What counts tokens, and the most tokens of an example; None for any number.
    additive
        Whether tokens can be added up in this unit, and how many examples have been looked at.

    Returns
    -------
    pyarrow.Table
        With `SCHEMA`. The number of genes that a prompt states is the most that any of its cells shows.

    Raises
    ------
    ContextError
        An example does not fit even with one gene per cell.
    """
    most = np.array([d.top_k for d in drafts], np.int64)
    cells = np.array([i for d in drafts for i in d.lists], np.int64)
    example_starts = np.concatenate([[0], np.cumsum([len(d.lists) for d in drafts])]).astype(np.int64)
    sizes = lists.starts[cells + 1] - lists.starts[cells]
    most = np.minimum(most, np.maximum.reduceat(sizes, example_starts[:-1])) if len(drafts) else most
    given = np.add.reduceat(np.minimum(sizes, np.repeat(most, np.diff(example_starts))), example_starts[:-1])
    keep = most
    if limit is not None:
        keep = _fitting(drafts, lists, counter, limit, most, cells, example_starts, additive)
    while True:
        done = _write(drafts, lists, keep, cells, example_starts)
        counts = _count(drafts, done, lists, counter, keep, cells, example_starts, additive)
        over = np.flatnonzero(counts > limit) if limit is not None else np.zeros(0, np.int64)
        if not len(over):
            break
        for e in over.tolist():
            if keep[e] <= 1:
                refuse_too_long(drafts[e].example_id, int(counts[e]), int(limit or 0))
            # As many genes fewer as the overshoot is of the whole, and one at least.
            keep[e] = max(1, min(keep[e] - 1, int(keep[e] * (limit or 0) / counts[e])))
    done.n_given = given.tolist()
    done.n_tokens = counts.tolist()
    return _table(drafts, done)


def _fitting(
    drafts: Sequence[Draft],
    lists: GeneLists,
    counter: WordCounter | TokenCounter,
    limit: int,
    most: Counts,
    cells: Counts,
    example_starts: Counts,
    additive: Additive,
) -> Counts:
    """Return the most genes per cell that fit, by adding up tokens."""
    around = _around(drafts, lists, counter, most, cells, example_starts, additive)
    running = np.concatenate([[0], np.cumsum(lists.cost[lists.genes])])
    # The lists in the order of the examples: a list may be shown twice.
    starts = lists.starts[cells]
    lengths = lists.starts[cells + 1] - starts
    ends = np.cumsum(lengths)
    if len(cells) == len(lists.starts) - 1 and np.array_equal(cells, np.arange(len(cells))):
        cost, cell_starts = running, lists.starts
    else:
        place = np.repeat(starts - (ends - lengths), lengths) + np.arange(int(lengths.sum()))
        cost = np.concatenate([[0], np.cumsum(lists.cost[lists.genes[place]])])
        cell_starts = np.concatenate([[0], ends])
    room = np.asarray(limit - around, np.int64)
    keep: Counts = fit_genes(cost, cell_starts, example_starts, most, room)
    for e in np.flatnonzero(keep < 1).tolist():
        one = sum(int(lists.cost[lists.genes[lists.starts[i]]]) for i in drafts[e].lists)
        refuse_too_long(drafts[e].example_id, int(around[e]) + one, limit)
    return keep


def _around(
    drafts: Sequence[Draft],
    lists: GeneLists,
    counter: WordCounter | TokenCounter,
    keep: Counts,
    cells: Counts,
    example_starts: Counts,
    additive: Additive,
) -> Counts:
    """Return the tokens of everything but the genes: of the text with one gene per cell, less those genes."""
    short = _write(drafts, lists, np.ones_like(keep), cells, example_starts, stated=keep)
    texts = [f"{p} {a}" for p, a in zip(short.prompts, short.answers, strict=True)]
    counts = counter.summed(texts) if additive.holds else counter.whole(texts)
    firsts = lists.cost[lists.genes[lists.starts[cells]]]
    return np.asarray(counts - np.add.reduceat(firsts, example_starts[:-1]), np.int64)


def _count(
    drafts: Sequence[Draft],
    done: Rendered,
    lists: GeneLists,
    counter: WordCounter | TokenCounter,
    keep: Counts,
    cells: Counts,
    example_starts: Counts,
    additive: Additive,
) -> Counts:
    """Return the tokens of each example: added up where that is right, tokenised as a whole where it is not."""
    if not len(drafts):
        return np.zeros(0, np.int64)
    if not additive.holds:
        return counter.whole([f"{p} {a}" for p, a in zip(done.prompts, done.answers, strict=True)])
    kept = np.minimum(lists.starts[cells + 1] - lists.starts[cells], np.repeat(keep, np.diff(example_starts)))
    running = np.concatenate([[0], np.cumsum(lists.cost[lists.genes])])
    begins = lists.starts[cells]
    genes = np.add.reduceat(running[begins + kept] - running[begins], example_starts[:-1])
    counts = _around(drafts, lists, counter, keep, cells, example_starts, additive) + genes
    sample = range(0, len(drafts), max(1, len(drafts) // max(1, SAMPLE - additive.seen)))
    if not counter.exact and additive.seen < SAMPLE:
        whole = counter.whole([f"{done.prompts[e]} {done.answers[e]}" for e in sample])
        additive.seen += len(whole)
        if not np.array_equal(whole, counts[:: sample.step]):
            additive.holds = False
            return counter.whole([f"{p} {a}" for p, a in zip(done.prompts, done.answers, strict=True)])
    return counts


def _write(
    drafts: Sequence[Draft],
    lists: GeneLists,
    keep: Counts,
    cells: Counts,
    example_starts: Counts,
    *,
    stated: Counts | None = None,
) -> Rendered:
    """Write the texts with at most `keep` genes per cell; `stated` is what the text says instead of the truth."""
    texts, n = lists.texts(cells, np.repeat(keep, np.diff(example_starts)))
    largest = np.maximum.reduceat(n, example_starts[:-1]) if len(drafts) else n
    said = (largest if stated is None else stated).tolist()
    done = Rendered(n_genes=np.add.reduceat(n, example_starts[:-1]).tolist() if len(drafts) else [])
    edges = example_starts.tolist()
    for e, draft in enumerate(drafts):
        mine = texts[edges[e] : edges[e + 1]]
        values = dict(draft.values)
        values["n_genes"] = str(said[e])
        values[GENES_FIELD[draft.task.kind]] = show_cells(mine) if draft.task.kind == "sample" else mine[0]
        done.prompts.append(_fill(draft.template.text, values))
        done.answers.append(_fill(draft.template.answer, values))
    return done


def show_cells(sentences: Sequence[str]) -> str:
    """Return several cell sentences as a prompt or an answer shows them."""
    return "\n".join(f"Cell {i}: {sentence}" for i, sentence in enumerate(sentences, 1))


def _fill(text: str, values: Mapping[str, str]) -> str:
    return "".join([part if name is None else part + values[name] for part, name in _pieces(text)])


@functools.lru_cache(maxsize=512)
def _pieces(text: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((part, name) for part, name, *_ in string.Formatter().parse(text))


def _table(drafts: Sequence[Draft], done: Rendered) -> pa.Table:
    columns = {
        "example_id": [d.example_id for d in drafts],
        "task": [d.task.name for d in drafts],
        "prompt": done.prompts,
        "answer": done.answers,
        "template": [d.template.name for d in drafts],
        "dataset": [d.dataset for d in drafts],
        "study": [d.study for d in drafts],
        "cell_ids": [list(d.cell_ids) for d in drafts],
        "n_genes": done.n_genes,
        "n_genes_given": done.n_given,
        "n_tokens": done.n_tokens,
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in SCHEMA], schema=SCHEMA)
