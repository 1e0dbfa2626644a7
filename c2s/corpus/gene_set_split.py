"""Which gene set is in which part: near-copies stay together, whatever collections they are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from c2s.corpus.plan import CorpusPlan, Unit, read_gene_sets
from c2s.corpus.ranks import save_array
from c2s.errors import ObsError
from c2s.prompts import stable_hash
from c2s.splits import assign_units


def gene_set_units(plan: CorpusPlan, work: Path) -> list[Unit]:
    """Write which sets each part has, in a shuffled order, and return the units that write their shards.

    Raises
    ------
    ObsError
        There are fewer groups of near-copies than parts.
    """
    if not plan.gene_sets:
        return []
    from c2s.data.gene_sets import GeneSets

    read = {name: read_gene_sets(path) for name, path in plan.gene_sets}
    keys = [(name, place) for name, sets in read.items() for place in range(len(sets))]
    joined = GeneSets(
        tuple(f"{read[n].names[i]}\x1f{k}" for k, (n, i) in enumerate(keys)),
        tuple("" for _ in keys),
        tuple(read[n].genes[i] for n, i in keys),
    )
    names = [read[n].human_name(read[n].names[i]).casefold() for n, i in keys]
    groups = _joined_by_name(joined.overlap_groups(), names)
    sizes = Counter(groups)
    fractions = plan.spec.split.fractions
    if len(sizes) < len(fractions):
        raise ObsError(
            f"there are {len(sizes)} gene sets that are not near-copies, too few for {len(fractions)} parts.",
            fix="name another collection in gene_sets.",
        )
    assigned = assign_units(sizes, fractions, salt="gene set", seed=plan.spec.seed)
    weight = sum(w for t, w in plan.spec.tasks.items() if plan.tasks[t].kind == "gene-set")
    units = []
    for name, sets in read.items():
        mine = [assigned[g] for g, (n, _) in zip(groups, keys, strict=True) if n == name]
        for part in fractions:
            rows = np.array([i for i, p in enumerate(mine) if p == part], np.int64)
            if not len(rows):
                continue
            salts = np.array([stable_hash("set", sets.names[i], plan.spec.seed) for i in rows], np.uint64)
            save_array(work / "arranged" / name / part / "sets.npy", rows[np.argsort(salts, kind="stable")])
            n = -(-int(len(rows) * weight) // plan.spec.shard_rows) or 1
            units += [Unit(f"{name}-gene-sets-{part}-{b:06d}", "gene-sets", name, part, b, n) for b in range(n)]
    return units


def _joined_by_name(groups: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return groups of which none shares a readable name with another."""
    head = {group: group for group in groups}

    def find(group: str) -> str:
        while head[group] != group:
            group = head[group]
        return group

    first: dict[str, str] = {}
    for group, name in zip(groups, names, strict=True):
        head[find(group)] = find(first.setdefault(name, group))
    return [find(group) for group in groups]
