"""Who is on which side, which cells are near-duplicates, who is shown with whom: the step that sees all cells.

It reads a few bytes per cell (hashes and codes), never a matrix.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c2s.corpus.draws import Hashes, between, draw, share
from c2s.corpus.gene_set_split import gene_set_units
from c2s.corpus.plan import WORK, CorpusPlan, Unit
from c2s.corpus.prompt_files import CorpusTask
from c2s.corpus.ranks import hash_blocks, read_hashes, save_array
from c2s.corpus.source import Source, column_slices
from c2s.errors import ConfigError, ObsError
from c2s.files import atomic_output
from c2s.splits import PARTS, assign_units, warn_of

#: When copies are on several sides, the first of these keeps them: what is scored must not have been trained on.
_KEEPS = ("test", "validation", "train")
_OUT = -1
#: Positions of cells, in as few bytes as hold them.
Rows = npt.NDArray[Any]


def arrange(plan: CorpusPlan, out: Path) -> CorpusPlan:
    """Return the plan with the units that write the shards; every ``ranks`` unit must be done.

    Parameters
    ----------
    plan
        From `plan_corpus`.
    out
        The corpus's folder; which cells are where is written into its ``.work``.

    Returns
    -------
    CorpusPlan
        Its ``facts`` say how cells were split and what was left out.

    Raises
    ------
    ObsError
        There are fewer studies or donors than parts, or the training part is empty. Another one that is empty is
        warned of.
    """
    work = out / WORK
    done = work / "arranged.json"
    if not done.exists():
        content = _arrange(plan, work)
        with atomic_output(done) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    content = json.loads(done.read_text(encoding="utf-8"))
    import dataclasses

    units = tuple(Unit(**unit) for unit in content["units"])
    return dataclasses.replace(plan, units=units, facts=content["facts"])


def _arrange(plan: CorpusPlan, work: Path) -> dict[str, Any]:
    units: list[Unit] = []
    parts, split = _parts(plan, work)
    unused = _drop_unused(plan, work, parts)
    duplicates = _drop_duplicates(plan, work, parts)
    for source in plan.sources:
        hashes = read_hashes(work, source, "id")
        mine = parts.pop(source.name)
        tasks = [plan.tasks[name] for name in source.tasks]
        for code, part in enumerate(PARTS):
            rows = np.flatnonzero(mine == code).astype(_narrow(source.n_cells))
            if len(rows) == 0:
                continue
            folder = work / "arranged" / source.name / part
            units += _cell_units(plan, source, part, rows, hashes, [t for t in tasks if t.kind == "cell"], folder)
            units += _sample_units(
                plan, source, part, rows, hashes, [t for t in tasks if t.kind == "sample"], folder
            )
    units += gene_set_units(plan, work)
    if not units:
        raise ConfigError(
            f"corpus {plan.spec.name!r}",
            ["no example can be made: no cell is left, or no donor has enough cells of one tissue for a context"],
            fix="lower `cells` or `min_genes`, add datasets, or name tasks of single cells.",
        )
    empty = [part for part in plan.spec.split.fractions if part not in {unit.part for unit in units}]
    if empty:
        split["note"] += f" Nothing is in the {' and the '.join(empty)} part."
        problem = f"No example of the corpus is in the {' and the '.join(empty)} part, split by {split['by']}"
        fix = "name fewer parts (split: {fractions: ...}), another seed, or more datasets."
        if "train" in empty:
            raise ObsError(f"{problem}.", fix=fix)
        warn_of([f"{problem}; {fix}"])
    facts = {"split": split, "duplicates": duplicates, "cells_with_too_few_genes": unused}
    return {"units": [vars(u) for u in units], "facts": facts}


def _parts(plan: CorpusPlan, work: Path) -> tuple[dict[str, npt.NDArray[np.int8]], dict[str, Any]]:
    """Return the part of every cell, by source, and how it was decided."""
    spec = plan.spec
    if spec.split.by == "cell":
        edges = np.cumsum(list(spec.split.fractions.values()))[:-1]
        codes = np.array([PARTS.index(p) for p in spec.split.fractions], np.int8)
        parts = {}
        for source in plan.sources:
            where = share(read_hashes(work, source, "id"), "split", spec.seed)
            parts[source.name] = codes[np.searchsorted(edges, where, side="right")]
        note = "Split by cell: cells of one donor are on all sides; a score says nothing about a new donor."
        note += _shared_abstracts(plan)
        return parts, {"by": "cell", "note": note, "cells": _sizes(parts)}
    owners = _owners(plan)
    labels: dict[str, list[str]] = {}
    sizes: Counter[str] = Counter()
    notes = []
    for source in plan.sources:
        group = owners[source.name]
        donors = source.categories.get("donor_id", ())
        if spec.split.by == "study" or group["whole"] or not donors:
            labels[source.name] = [group["name"]]
            sizes[group["name"]] += source.n_cells
            if spec.split.by == "donor" and not donors:
                notes.append(f"{source.name} names no donor and is kept whole")
            continue
        # A donor nobody knows may be any donor of the study, on any side: such cells are left out.
        names = [*(f"{group['name']}: {d}" for d in donors), f"{group['name']}: donor unknown"]
        counts = np.zeros(len(names), np.int64)
        for a, b in column_slices(source.n_cells):
            counts += np.bincount(source.codes("donor_id", a, b) % len(names), minlength=len(names))
        sizes.update({n: int(c) for n, c in zip(names[:-1], counts[:-1], strict=True) if c})
        if counts[-1]:
            notes.append(f"{counts[-1]:,} cells of {source.name} name no donor and are left out")
        labels[source.name] = names
    if plan.sources and len(sizes) < len(spec.split.fractions):
        raise ObsError(
            f"there are {len(sizes)} {spec.split.by}(s), too few for {len(spec.split.fractions)} parts that share "
            f"none: {', '.join(sorted(sizes))}.",
            fix="add datasets, name fewer parts (split: {fractions: {train: 1.0}}), or split by "
            "cell (split: {by: cell}) and say that scores are not for new donors.",
        )
    assigned = assign_units(sizes, spec.split.fractions, salt=spec.split.by, seed=spec.seed) if sizes else {}
    parts = {}
    for source in plan.sources:
        names = labels[source.name]
        codes_of = np.array([PARTS.index(assigned[n]) if n in assigned else _OUT for n in names], np.int8)
        parts[source.name] = np.full(source.n_cells, codes_of[0])
        if len(names) > 1:
            for a, b in column_slices(source.n_cells):
                # -1, not known, is the last name.
                parts[source.name][a:b] = codes_of[source.codes("donor_id", a, b)]
    stated = [g["why"] for g in {g["name"]: g for g in owners.values()}.values() if g["why"]]
    note = f"Split by {spec.split.by}: none is on two sides ({len(sizes)} in all)."
    units = {part: sorted(n for n, p in assigned.items() if p == part) for part in spec.split.fractions}
    return parts, {
        "by": spec.split.by,
        "note": " ".join([note, *(f"{n}." for n in [*stated, *notes])]) + _shared_abstracts(plan),
        "cells": _sizes(parts),
        "units": {part: names if len(names) <= 200 else len(names) for part, names in units.items()},
    }


def _shared_abstracts(plan: CorpusPlan) -> str:
    """Say so where the answer of a task is the same text in every part."""
    asked = {t for s in plan.sources for t in s.tasks if "abstract_id" in plan.tasks[t].requires}
    if plan.spec.split.by == "study" or not asked:
        return ""
    return f" A study's abstract is shared by its parts: score {', '.join(sorted(asked))} on a split by study."


def _sizes(parts: Mapping[str, npt.NDArray[np.int8]]) -> dict[str, dict[str, int]]:
    return {
        name: {part: int(np.count_nonzero(codes == i)) for i, part in enumerate(PARTS)}
        for name, codes in parts.items()
    }


def _owners(plan: CorpusPlan) -> dict[str, dict[str, Any]]:
    """Gather sources that hold the same study, or are stated to overlap: by source, the group's name and reason.

    Where two files are stated to overlap, their donors cannot be told to be the same, so the group is kept whole.
    """
    head = {s.name: s.name for s in plan.sources}

    def find(name: str) -> str:
        while head[name] != name:
            name = head[name]
        return name

    whole: set[str] = set()
    for one in plan.sources:
        for other in plan.sources:
            stated = other.name in one.overlaps or one.name in other.overlaps
            if one.name < other.name and (stated or one.study == other.study):
                head[find(other.name)] = find(one.name)
                if stated:
                    whole |= {one.name, other.name}
    members: dict[str, list[Source]] = {}
    for source in plan.sources:
        members.setdefault(find(source.name), []).append(source)
    groups = {}
    for sources in members.values():
        kept = any(s.name in whole for s in sources)
        why = (
            f"{' and '.join(s.name for s in sources)} hold some of the same cells and stay together"
            if kept
            else ""
        )
        for source in sources:
            groups[source.name] = {"name": sources[0].study, "whole": kept, "why": why}
    return groups


def _drop_unused(plan: CorpusPlan, work: Path, parts: Mapping[str, npt.NDArray[np.int8]]) -> dict[str, int]:
    """Mark cells that nothing is made of as out, in place; return how many of each source have too few genes.

    This comes before the near-duplicates: a cell that is not used must not take its twin with it.
    """
    unused = {}
    for source in plan.sources:
        too_few = read_hashes(work, source, "n") == 0
        unused[source.name] = int(np.count_nonzero(too_few))
        parts[source.name][too_few if source.tasks else slice(None)] = _OUT
    return unused


def _drop_duplicates(plan: CorpusPlan, work: Path, parts: Mapping[str, npt.NDArray[np.int8]]) -> dict[str, Any]:
    """Mark near-duplicates in another dataset or on another side as out, in place; return how many, and where."""
    facts: dict[str, Any] = {"genes_compared": plan.spec.duplicates, "dropped": {}}
    if not plan.spec.duplicates or not plan.sources:
        return facts
    total = sum(s.n_cells for s in plan.sources)
    # A quarter of a million cells at a time, by their hash: memory does not grow with the corpus.
    buckets = 1 << max(0, (total >> 18).bit_length())
    dropped: Counter[str] = Counter()
    for bucket in range(buckets):
        rows, owner, hashes = _bucket(plan, work, parts, bucket, buckets)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        if not len(hashes):
            continue
        edges = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1], [True]]))
        for begin in np.flatnonzero(np.diff(edges) > 1).tolist():
            same = order[edges[begin] : edges[begin + 1]]
            places = sorted({(int(owner[i]), int(parts[plan.sources[owner[i]].name][rows[i]])) for i in same})
            if len(places) == 1:
                continue
            keep = min(places, key=lambda p: (_KEEPS.index(PARTS[p[1]]), p[0]))
            for i in same:
                name = plan.sources[owner[i]].name
                part = int(parts[name][rows[i]])
                if (int(owner[i]), part) != keep:
                    dropped[f"{name}/{PARTS[part]}"] += 1
                    parts[name][rows[i]] = _OUT
    facts["dropped"] = dict(sorted(dropped.items()))
    return facts


def _bucket(
    plan: CorpusPlan, work: Path, parts: Mapping[str, npt.NDArray[np.int8]], bucket: int, buckets: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int16], Hashes]:
    """Return row, source and hash of the cells in use whose hash falls into a bucket."""
    rows, owner, hashes = [], [], []
    for number, source in enumerate(plan.sources):
        start = 0
        for found in hash_blocks(work, source, "genes"):
            wanted = (found >> np.uint64(1)) % np.uint64(buckets) == bucket
            here = np.flatnonzero(wanted & (parts[source.name][start : start + len(found)] != _OUT))
            rows.append(start + here)
            owner.append(np.full(len(here), number, np.int16))
            hashes.append(found[here])
            start += len(found)
    return np.concatenate(rows), np.concatenate(owner), np.concatenate(hashes)


def _cell_units(
    plan: CorpusPlan,
    source: Source,
    part: str,
    rows: Rows,
    hashes: Hashes,
    tasks: Sequence[CorpusTask],
    folder: Path,
) -> list[Unit]:
    """Shuffle the cells of a part by their ids, write the order, and cut it into units."""
    if not tasks:
        return []
    save_array(folder / "cells.npy", rows[np.argsort(draw(hashes[rows], "order", plan.spec.seed), kind="stable")])
    n = -(-int(len(rows) * sum(plan.spec.tasks[t.name] for t in tasks)) // plan.spec.shard_rows) or 1
    return [Unit(f"{source.name}-cells-{part}-{b:06d}", "cells", source.name, part, b, n) for b in range(n)]


def _sample_units(
    plan: CorpusPlan,
    source: Source,
    part: str,
    rows: Rows,
    hashes: Hashes,
    tasks: Sequence[CorpusTask],
    folder: Path,
) -> list[Unit]:
    """Deal the cells of each donor and tissue into contexts, anew for each task, and cut them into units."""
    total = 0
    for task in tasks:
        weight = plan.spec.tasks[task.name]
        groups = group_codes(source, task, rows)
        for turn in range(int(np.ceil(weight))):
            purpose = (task.name, turn, plan.spec.seed)
            members, starts = deal(groups, hashes[rows], plan.spec.cells, *purpose)
            firsts = hashes[rows[members[starts[:-1]]]] if len(starts) > 1 else hashes[:0]
            # Shuffled, or a unit would hold one donor; the last turn of a broken weight takes a share.
            order = np.argsort(draw(firsts, "order", *purpose), kind="stable")
            order = order[share(firsts, "weight", *purpose)[order] < weight - turn]
            lengths = np.diff(starts)[order]
            kept = np.repeat(starts[:-1][order] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
            kept = rows[members[kept + np.arange(lengths.sum())]] if len(lengths) else rows[:0]
            save_array(folder / f"{task.name}.{turn}.rows.npy", kept)
            save_array(folder / f"{task.name}.{turn}.starts.npy", np.concatenate([[0], np.cumsum(lengths)]))
            total += len(order)
    if not total:
        return []
    n = -(-total // plan.spec.shard_rows)
    return [Unit(f"{source.name}-samples-{part}-{b:06d}", "samples", source.name, part, b, n) for b in range(n)]


def group_codes(source: Source, task: CorpusTask, rows: Rows) -> Rows:
    """Return a number for each cell's donor and tissue; -1 where the cell lacks something that the task needs."""
    n_groups = max(len(source.categories["donor_id"]), 1) * max(len(source.categories["tissue"]), 1)
    found: Rows = np.empty(source.n_cells, np.int16 if n_groups < 2**15 else np.int64)
    n_tissues = max(len(source.categories["tissue"]), 1)
    for start, stop in column_slices(source.n_cells):
        codes = {c: source.codes(c, start, stop).astype(np.int64) for c in task.requires}
        complete = np.logical_and.reduce([c >= 0 for c in codes.values()])
        found[start:stop] = np.where(complete, codes["donor_id"] * n_tissues + codes["tissue"], -1)
    return found[rows]


def deal(
    groups: Rows, hashes: Hashes, n_cells: tuple[int, int], *purpose: object
) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Deal the members of each group into contexts; what `c2s.contexts.draw_contexts` does, for millions of cells.

    Parameters
    ----------
    groups
        Group of each cell, int64 ``[cells]``; cells of a negative group are left out.
    hashes
        Hash of each cell's id, uint64 ``[cells]``.
    n_cells
        Fewest and most cells of a context; left-over cells of a group that are fewer are not used.
    *purpose
        Changes who is dealt with whom.

    Returns
    -------
    members, starts
        Positions of the cells, context after context, and where each context begins, int64
        ``[contexts + 1]``.
    """
    low, high = n_cells
    narrow = _narrow(len(groups))
    # Group after group, so that only one of them is sorted, and copied, at a time.
    by_group = np.argsort(groups, kind="stable").astype(narrow)
    begin = int(np.searchsorted(groups, 0, sorter=by_group))
    members = np.empty(len(groups) - begin, narrow)
    starts = [0]
    while begin < len(by_group):
        end = int(np.searchsorted(groups, groups[by_group[begin]], side="right", sorter=by_group))
        mine = by_group[begin:end]
        order = mine[np.argsort(draw(hashes[mine], "deal", *purpose), kind="stable")]
        sizes = between(hashes[order], low, high, "size", *purpose).tolist()
        place, n = 0, len(order)
        while n - place >= low:
            size = min(sizes[place], n - place)
            members[starts[-1] : starts[-1] + size] = order[place : place + size]
            starts.append(starts[-1] + size)
            place += size
        begin = end
    return members[: starts[-1]], np.array(starts, np.int64)


def _narrow(n: int) -> Any:
    return np.int32 if n < 2**31 else np.int64
