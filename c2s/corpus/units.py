"""`build_unit`: one piece of work, a pure function of the plan and the unit; a killed one is simply done again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.corpus.budget import TokenCounter, WordCounter, counter_of
from c2s.corpus.drafts import Drafter, gene_set_drafts
from c2s.corpus.draws import id_hashes
from c2s.corpus.examples import SCHEMA, Additive, Draft, GeneLists, render
from c2s.corpus.plan import WORK, CorpusPlan, Unit, read_gene_sets
from c2s.corpus.prompt_files import CorpusTask
from c2s.corpus.ranks import read_cells_ranked, write_block
from c2s.files import atomic_output
from c2s.provenance import checksum
from c2s.sentences.symbols import Words, check_words

#: Cells that are in memory at a time, and bytes of text after which a row group is written.
_CELLS_AT_ONCE, _ROW_GROUP_BYTES = 1024, 8 << 20


@dataclass(frozen=True)
class UnitResult:
    """What a unit left behind.

    Attributes
    ----------
    unit
        Its id.
    path
        Its shard in the corpus's folder; empty where the unit writes none.
    sha256, bytes
        Of the shard (or of the source, for a ``checksum`` unit).
    rows, tokens, genes
        Of all its examples.
    tasks
        By task: ``rows``, ``tokens``, ``genes``, ``genes_given``, ``cells`` and the examples that were
        ``shortened`` to fit the context.
    lengths
        By task: examples by the next power of two of their tokens.
    row_groups
        Rows of each row group.
    """

    unit: str
    path: str = ""
    sha256: str = ""
    bytes: int = 0
    rows: int = 0
    tokens: int = 0
    genes: int = 0
    tasks: dict[str, dict[str, int]] = field(default_factory=dict)
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    row_groups: list[int] = field(default_factory=list)


def build_unit(plan: CorpusPlan, unit: Unit, out: str | Path) -> UnitResult:
    """Do one unit's work, or find that it is done.

    Parameters
    ----------
    plan
        From `plan_corpus` (units that read) or `c2s.corpus.arrangement.arrange` (units that write).
    unit
        One of its units; in any order, in any process, on any machine that sees the same files.
    out
        The corpus's folder.

    Returns
    -------
    UnitResult
        Kept beside the work as JSON; a unit whose file and sum agree with it is not done again.

    Raises
    ------
    C2SError
        The source is damaged, an example cannot fit the context, or the disk is full; nothing half-written stays.
    """
    out = Path(out)
    known = finished(unit, out)
    if known is not None:
        return known
    if unit.kind == "checksum":
        path = dict(plan.gene_sets).get(unit.source) or plan.source(unit.source).path
        result = UnitResult(unit.id, sha256=checksum(path))
    elif unit.kind == "ranks":
        write_block(
            out / WORK,
            plan.source(unit.source),
            unit.block,
            top_k=plan.top_k,
            compare=plan.spec.duplicates,
            min_genes=plan.spec.min_genes,
        )
        result = UnitResult(unit.id)
    else:
        result = _write_shard(plan, unit, out)
    with atomic_output(_note(unit, out), overwrite=True) as temporary:
        temporary.write_text(json.dumps(asdict(result), sort_keys=True) + "\n", encoding="utf-8")
    return result


def finished(unit: Unit, out: Path) -> UnitResult | None:
    """Return the result of a unit that is done already, its shard whole; else None."""
    try:
        result = UnitResult(**json.loads(_note(unit, out).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if not result.path:
        return result
    shard = out / result.path
    whole = shard.is_file() and shard.stat().st_size == result.bytes and checksum(shard) == result.sha256
    return result if whole else None


def _note(unit: Unit, out: Path) -> Path:
    return out / WORK / "done" / f"{unit.id}.json"


def _write_shard(plan: CorpusPlan, unit: Unit, out: Path) -> UnitResult:
    """Write the examples of a unit, a row group at a time."""
    batches = {"cells": _cell_batches, "samples": _sample_batches, "gene-sets": _gene_set_batches}[unit.kind]
    tally = _Tally()
    shard = out / unit.path
    groups: list[int] = []
    with (
        atomic_output(shard, overwrite=True) as temporary,
        pq.ParquetWriter(
            temporary,
            SCHEMA,
            compression="zstd",
            use_dictionary=["task", "template", "dataset", "study"],
            write_statistics=["task", "dataset", "n_tokens"],
        ) as writer,
    ):
        waiting: list[pa.Table] = []
        for table in batches(plan, unit, out):
            tally.add(table)
            waiting.append(table)
            if sum(t.nbytes for t in waiting) >= _ROW_GROUP_BYTES:
                groups.append(_flush(writer, waiting))
        if waiting or not groups:
            groups.append(_flush(writer, waiting))
    return UnitResult(
        unit.id,
        unit.path,
        checksum(shard),
        shard.stat().st_size,
        sum(t["rows"] for t in tally.tasks.values()),
        sum(t["tokens"] for t in tally.tasks.values()),
        sum(t["genes"] for t in tally.tasks.values()),
        {name: dict(tally.tasks[name]) for name in sorted(tally.tasks)},
        {
            name: {k: tally.lengths[name][k] for k in sorted(tally.lengths[name], key=int)}
            for name in sorted(tally.lengths)
        },
        groups,
    )


def _flush(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> int:
    table = pa.concat_tables(waiting).combine_chunks() if waiting else SCHEMA.empty_table()
    writer.write_table(table, row_group_size=max(len(table), 1))
    waiting.clear()
    rows = len(table)
    del table
    pa.default_memory_pool().release_unused()  # or it keeps what the largest row group so far took
    return rows


class _Tally:
    """Counts of a shard, by task."""

    def __init__(self) -> None:
        self.tasks: dict[str, Counter[str]] = {}
        self.lengths: dict[str, Counter[str]] = {}

    def add(self, table: pa.Table) -> None:
        names = np.array(table["task"].to_pylist())
        tokens, genes, given = (table[c].to_numpy() for c in ("n_tokens", "n_genes", "n_genes_given"))
        cells = np.diff(table["cell_ids"].combine_chunks().offsets.to_numpy()) if len(table) else tokens
        bins = 1 << np.ceil(np.log2(np.maximum(tokens, 1))).astype(np.int64)
        for name in sorted(set(names.tolist())):
            at = names == name
            values = {"rows": at.sum(), "tokens": tokens[at].sum(), "genes": genes[at].sum()}
            values |= {
                "genes_given": given[at].sum(),
                "cells": cells[at].sum(),
                "shortened": (genes < given)[at].sum(),
            }
            self.tasks.setdefault(name, Counter()).update({k: int(v) for k, v in values.items()})
            found, counts = np.unique(bins[at], return_counts=True)
            self.lengths.setdefault(name, Counter()).update(
                {str(b): int(c) for b, c in zip(found.tolist(), counts.tolist(), strict=True)}
            )


def _slice(n: int, unit: Unit) -> tuple[int, int]:
    """Return the share of a unit in `n` things that its part has."""
    return n * unit.block // unit.n_blocks, n * (unit.block + 1) // unit.n_blocks


def _cell_batches(plan: CorpusPlan, unit: Unit, out: Path) -> Iterator[pa.Table]:
    source = plan.source(unit.source)
    order = np.load(out / WORK / "arranged" / source.name / unit.part / "cells.npy", mmap_mode="r")
    start, stop = _slice(len(order), unit)
    tasks = [plan.tasks[name] for name in source.tasks if plan.tasks[name].kind == "cell"]
    drafter, counter, additive = Drafter(plan, source), counter_of(plan, out), Additive()
    words = source.reader().words
    cost = _cost(words, counter)
    for begin in range(start, stop, _CELLS_AT_ONCE):
        rows = np.array(order[begin : min(begin + _CELLS_AT_ONCE, stop)], np.int64)
        cells = read_cells_ranked(out / WORK, source, rows, np.full(len(rows), plan.spec.genes[1], np.int64))
        lists = GeneLists(cells.genes, cells.starts, words, cost)
        drafts = drafter.of_cells(cells, tasks)
        if drafts:
            yield render(drafts, lists, counter, plan.spec.context.tokens, additive=additive)


def _sample_batches(plan: CorpusPlan, unit: Unit, out: Path) -> Iterator[pa.Table]:
    source = plan.source(unit.source)
    drafter, counter, additive = Drafter(plan, source), counter_of(plan, out), Additive()
    words = source.reader().words
    cost = _cost(words, counter)
    batch: list[tuple[CorpusTask, int, npt.NDArray[np.int64]]] = []
    held = 0
    for task, turn, rows in _contexts(plan, source.name, unit, out):
        batch.append((task, turn, rows))
        held += len(rows)
        if held >= _CELLS_AT_ONCE:
            yield _samples(plan, source.name, batch, out, drafter, counter, additive, words, cost)
            batch, held = [], 0
    if batch:
        yield _samples(plan, source.name, batch, out, drafter, counter, additive, words, cost)


def _contexts(
    plan: CorpusPlan, name: str, unit: Unit, out: Path
) -> Iterator[tuple[CorpusTask, int, npt.NDArray[np.int64]]]:
    """Yield this unit's contexts, the tasks taking turns, so that neighbours in a shard differ."""
    folder = out / WORK / "arranged" / name / unit.part
    found: list[tuple[float, int, CorpusTask, int, Any, int, int]] = []
    for number, task in enumerate(t for t in plan.tasks.values() if t.kind == "sample"):
        for path in sorted(folder.glob(f"{task.name}.*.starts.npy")):
            turn = int(path.name.split(".")[1])
            starts = np.load(path)
            rows = np.load(folder / f"{task.name}.{turn}.rows.npy", mmap_mode="r")
            first, last = _slice(len(starts) - 1, unit)
            found += [
                ((i - first + 0.5) / (last - first), number, task, turn, rows, int(starts[i]), int(starts[i + 1]))
                for i in range(first, last)
            ]
    for _, _, task, turn, rows, begin, end in sorted(found, key=lambda f: (f[0], f[1], f[3])):
        yield task, turn, np.array(rows[begin:end], np.int64)


def _samples(
    plan: CorpusPlan,
    name: str,
    batch: Sequence[tuple[CorpusTask, int, npt.NDArray[np.int64]]],
    out: Path,
    drafter: Drafter,
    counter: WordCounter | TokenCounter,
    additive: Additive,
    words: Words,
    cost: npt.NDArray[np.int64],
) -> pa.Table:
    rows = np.concatenate([members for _, _, members in batch])
    most = plan.spec.genes[1]
    cells = read_cells_ranked(out / WORK, plan.source(name), rows, np.full(len(rows), most, np.int64))
    edges = np.concatenate([[0], np.cumsum([len(members) for _, _, members in batch])])
    contexts = [
        (task, turn, np.arange(edges[i], edges[i + 1], dtype=np.int64)) for i, (task, turn, _) in enumerate(batch)
    ]
    drafts = drafter.of_samples(cells, contexts)
    lists = GeneLists(cells.genes, cells.starts, words, cost)
    return render(drafts, lists, counter, plan.spec.context.tokens, additive=additive)


def _gene_set_batches(plan: CorpusPlan, unit: Unit, out: Path) -> Iterator[pa.Table]:
    from c2s.corpus.draws import draw

    sets = read_gene_sets(dict(plan.gene_sets)[unit.source])
    order = np.load(out / WORK / "arranged" / unit.source / unit.part / "sets.npy")
    start, stop = _slice(len(order), unit)
    chosen = order[start:stop].tolist()
    if not chosen:
        return
    names = [sets.names[i] for i in chosen]
    words = check_words(sorted({g for i in chosen for g in sets.genes[i]}), where=f"gene sets of {unit.source}")
    place = {gene: i for i, gene in enumerate(words.names.to_pylist())}
    hashes = id_hashes(names)
    listed = []
    for i, salt in zip(chosen, hashes, strict=True):
        genes = np.array([words.rank[place[g]] for g in sets.genes[i]], np.int32)
        # In an order of its own: a set has none, and cut short it must not always lose the same genes.
        keys = draw(id_hashes(list(sets.genes[i])), "gene order", int(salt), plan.spec.seed)
        listed.append(genes[np.argsort(keys, kind="stable")])
    starts = np.concatenate([[0], np.cumsum([len(g) for g in listed])]).astype(np.int64)
    counter = counter_of(plan, out)
    symbols = words.names.take(pa.array(words.by_rank)).to_pylist()
    lists = GeneLists(np.concatenate(listed), starts, words, counter.genes(symbols))
    drafts: list[Draft] = list(
        gene_set_drafts(
            plan, unit.source, names, [sets.human_name(n) for n in names], hashes, [len(g) for g in listed]
        )
    )
    drafts.sort(key=lambda d: int(id_hashes([d.example_id])[0]))
    if drafts:
        yield render(drafts, lists, counter, plan.spec.context.tokens, additive=Additive())


_costs: list[tuple[Words, WordCounter | TokenCounter, npt.NDArray[np.int64]]] = []


def _cost(words: Words, counter: WordCounter | TokenCounter) -> npt.NDArray[np.int64]:
    """Return the tokens of each symbol in sorted order; the last few are kept for the next unit."""
    for known, by, cost in _costs:
        if known is words and by is counter:
            return cost
    cost = counter.genes(words.names.take(pa.array(words.by_rank)).to_pylist())
    _costs[:] = [*_costs[-3:], (words, counter, cost)]
    return cost
