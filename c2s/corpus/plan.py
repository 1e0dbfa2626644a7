"""From a specification to a plan: what is made from which source, in units that do not depend on each other."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from c2s.corpus.prompt_files import CorpusTask, corpus_tasks, metadata_wording, unusable_conditions
from c2s.corpus.ranks import n_blocks
from c2s.corpus.source import Source, column_slices, open_cells
from c2s.corpus.spec import COLUMNS, CorpusSpec, DatasetSpec
from c2s.errors import ConfigError, DatasetError, ObsError

if TYPE_CHECKING:
    from c2s.data.gene_sets import GeneSets
    from c2s.data.manifest import Manifest

#: Files that only the build needs; the folder goes when the corpus is complete.
WORK = ".work"


@dataclass(frozen=True)
class Unit:
    """A piece of work: a pure function of the plan and of this.

    Attributes
    ----------
    id
        Distinct; names the files it makes.
    kind
        ``"checksum"`` and ``"ranks"`` prepare; ``"cells"``, ``"samples"`` and ``"gene-sets"`` write one shard.
    source
        Name of the dataset, or of the gene set collection.
    part
        ``train``, ``validation`` or ``test``, for a shard.
    block, n_blocks
        Which of how many equal pieces of the source (or of its part).
    """

    id: str
    kind: Literal["checksum", "ranks", "cells", "samples", "gene-sets"]
    source: str
    part: str = ""
    block: int = 0
    n_blocks: int = 1

    @property
    def path(self) -> str:
        """Where its shard lies in the corpus's folder."""
        return f"{self.part}/part-{self.id}.parquet"


@dataclass(frozen=True)
class CorpusPlan:
    """What is to be done. Plain values: it can be sent to another process or machine.

    Attributes
    ----------
    spec
        The specification.
    sources
        The datasets.
    gene_sets
        Name and file of each gene set collection.
    abstracts
        Text of each abstract that a dataset names, by id.
    notes
        What is left out, and why; for the manifest.
    facts
        How cells were split and what was dropped; of the second stage.
    set_facts
        Citation, licence and the like of the gene set collections.
    units
        The work of this stage, in order. `plan_corpus` gives the first stage, which reads the sources;
        `c2s.corpus.arrangement.arrange` gives the second, which writes the shards.
    """

    spec: CorpusSpec
    sources: tuple[Source, ...]
    gene_sets: tuple[tuple[str, str], ...]
    abstracts: Mapping[str, str]
    notes: tuple[Mapping[str, Any], ...]
    units: tuple[Unit, ...]
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    set_facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def source(self, name: str) -> Source:
        """Return a dataset by name."""
        return next(s for s in self.sources if s.name == name)

    def with_units(self, units: Sequence[Unit]) -> CorpusPlan:
        """Return the same plan with other units."""
        return dataclasses.replace(self, units=tuple(units))

    @property
    def tasks(self) -> dict[str, CorpusTask]:
        """The tasks of the corpus, by name."""
        known = corpus_tasks(self.spec.templates)
        return {name: known[name] for name in self.spec.tasks}

    @property
    def top_k(self) -> int:
        """Most genes of a cell that anything needs."""
        return max(self.spec.genes[1], self.spec.min_genes, self.spec.duplicates)


def plan_corpus(spec: CorpusSpec) -> CorpusPlan:
    """Find every source, check that it has what the tasks need, and plan the reading.

    No matrix is read here, only columns of ``obs`` and the names of genes.

    Raises
    ------
    DatasetError, RegistryError, InputFileError
        A source is unknown, not available here or damaged.
    ObsError
        A task needs a column that a dataset lacks, or that is empty for some of its cells, and ``missing`` is not
        ``"skip"``; every such column of every dataset is named.
    ConfigError
        No example could be made.
    """
    from c2s.data import find_manifest

    known = corpus_tasks(spec.templates)
    tasks = {name: task for name, task in known.items() if name in spec.tasks}
    metadata_wording(spec.templates)
    if unusable := unusable_conditions(spec.named_conditions(), known, tasks):
        raise ConfigError(
            "conditions",
            unusable,
            fix=f"leave it out, or add it to `conditions` of a task's file in {spec.templates}.",
        )
    notes: list[dict[str, Any]] = []
    problems: list[str] = []
    sources = []
    for dataset in spec.datasets:
        source = _locate(dataset, spec)
        wanted = [t for t in tasks.values() if t.kind != "gene-set" and t.name in (dataset.tasks or tasks)]
        kept = []
        for task in wanted:
            lacking = [c for c in task.requires if not source.categories.get(c)]
            if lacking:
                why = f"it has no {', '.join(lacking)}"
                problems.append(f"dataset {source.name!r} cannot make {task.name}: {why}")
                notes.append({"dataset": source.name, "task": task.name, "why": why})
            else:
                kept.append(task)
        for column in sorted({c for task in kept for c in task.requires}):
            n, first = _missing(source, column)
            if n:
                place = source.columns[column][0]
                problems.append(
                    f"dataset {source.name!r}: the column {place!r} ({column}) says nothing for {n} of "
                    f"{source.n_cells} cells, first {first!r}"
                )
                notes.append({"dataset": source.name, "column": column, "cells_without": n})
        sources.append(dataclasses.replace(source, tasks=tuple(t.name for t in kept)))
    if problems and spec.missing == "error":
        raise ObsError(
            "; ".join(problems) + ".",
            fix="map the column (columns: {donor_id: NAME}), give its one value (columns: {tissue: {value: "
            "blood}}), name fewer tasks for it, or write missing: skip to leave such tasks and cells out.",
        )
    abstracts = _abstracts(spec, sources, notes)
    if not abstracts:
        sources = [_without_abstracts(source, tasks) for source in sources]
    gene_sets = (
        tuple(_locate_gene_sets(g) for g in spec.gene_sets)
        if any(t.kind == "gene-set" for t in tasks.values())
        else ()
    )
    if not gene_sets and not any(source.tasks for source in sources):
        raise ConfigError(
            "corpus",
            problems or [str(note["why"]) for note in notes if "why" in note],
            fix="map the column, columns: {donor_id: NAME} (--column donor_id=NAME), or "
            "give its one value, columns: {tissue: {value: blood}} (--constant tissue=blood).",
        )
    units = [Unit(f"sum-{s.name}", "checksum", s.name) for s in sources]
    units += [Unit(f"sum-{name}", "checksum", name) for name, _ in gene_sets]
    for s in sources:
        n = n_blocks(s.n_cells)
        units += [Unit(f"ranks-{s.name}-{b:06d}", "ranks", s.name, block=b, n_blocks=n) for b in range(n)]
    names = [name for name, _ in gene_sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            "gene_sets",
            [f"two collections are called {name!r}" for name in twice],
            fix="rename one of the files: a collection is called what its file is called.",
        )
    shared = sorted({s.name for s in sources} & set(names))
    if shared:
        raise ConfigError(
            "corpus",
            [f"{name!r} is a dataset and a gene set collection" for name in shared],
            fix="rename the dataset.",
        )
    set_facts = {name: _facts_of(find_manifest(name)) for name, _ in gene_sets if name in spec.gene_sets}
    return CorpusPlan(spec, tuple(sources), gene_sets, abstracts, tuple(notes), tuple(units), set_facts=set_facts)


def read_gene_sets(path: str) -> GeneSets:
    """Read a gene set collection; this process keeps the last few, as long as the files stay as they are."""
    place = Path(path)
    stat = place.stat() if place.exists() else None
    return _read_gene_sets(path, stat and (stat.st_size, stat.st_mtime_ns, stat.st_ino))


@functools.lru_cache(maxsize=8)
def _read_gene_sets(path: str, stamp: tuple[int, ...] | None) -> GeneSets:
    from c2s.data.gene_sets import read_gmt

    return read_gmt(path)


def _locate(dataset: DatasetSpec, spec: CorpusSpec) -> Source:
    """Find the file of a dataset and look at its columns and genes."""
    from c2s.data import locate_cells

    found = locate_cells(dataset.path or dataset.name, strict=True)
    mapped: dict[str, Any] = dict(found.columns)
    reader = open_cells(
        str(found.path), dataset.layer or found.layer, dataset.symbols or found.symbols, tuple(dataset.strip)
    )
    if found.manifest is None:
        mapped = {c: c for c in COLUMNS if c in reader.column_names}
    mapped = {c: v for c, v in mapped.items() if c in COLUMNS} | dict(dataset.columns)
    columns: dict[str, tuple[str | None, str | None]] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name, value in mapped.items():
        if isinstance(value, str):
            columns[name] = (value, None)
            categories[name] = reader.column(value).categories()
        else:
            constant = str(value["value"] if isinstance(value, dict) else value.value)
            columns[name] = (None, constant)
            categories[name] = (constant,)
    manifest = found.manifest
    declared = manifest.with_role("cells") if manifest is not None else None
    # A mirror may call its file anything.
    facts: dict[str, Any] = {"file": declared.name if declared else found.path.name, "matrix": reader.kind}
    overlaps: tuple[str, ...] = ()
    if manifest is not None:
        facts |= _facts_of(manifest)
        overlaps = tuple(manifest.overlaps)
    return Source(
        name=dataset.name,
        study=dataset.study or (found.study if manifest is not None else dataset.name),
        path=str(found.path),
        columns=columns,
        categories=categories,
        symbols=dataset.symbols or found.symbols,
        layer=dataset.layer or found.layer,
        strip=tuple(dataset.strip),
        n_cells=reader.n_cells,
        n_genes=reader.n_genes,
        facts=facts,
        overlaps=overlaps,
    )


def _facts_of(manifest: Manifest) -> dict[str, Any]:
    keys = ("title", "citation", "doi", "licence", "species", "simulated")
    return {key: getattr(manifest, key) for key in keys}


def _missing(source: Source, column: str) -> tuple[int, str]:
    """Return how many cells have no value, and the first of them."""
    n, first = 0, ""
    for start, stop in column_slices(source.n_cells):
        empty = np.flatnonzero(source.codes(column, start, stop) < 0)
        if len(empty) and not n:
            place = start + int(empty[0])
            first = source.reader().ids(place, place + 1)[0]
        n += len(empty)
    return n, first


def _without_abstracts(source: Source, tasks: Mapping[str, CorpusTask]) -> Source:
    kept = tuple(name for name in source.tasks if "abstract_id" not in tasks[name].requires)
    columns = {c: v for c, v in source.columns.items() if c != "abstract_id"}
    categories = {c: v for c, v in source.categories.items() if c != "abstract_id"}
    return dataclasses.replace(source, tasks=kept, columns=columns, categories=categories)


def _abstracts(spec: CorpusSpec, sources: Sequence[Source], notes: list[dict[str, Any]]) -> dict[str, str]:
    """Return the abstracts that any source names, without their line ends; none where they are not here."""
    wanted = sorted({i for s in sources for i in s.categories.get("abstract_id", ())})
    if not wanted:
        return {}
    from c2s.data.collections import read_abstracts

    needed = any("abstract" in task or task == "interpretation" for s in sources for task in s.tasks)
    try:
        table = read_abstracts(spec.abstracts)
    except DatasetError as error:
        if spec.abstracts is not None or (needed and spec.missing == "error"):
            raise
        why = f"the abstracts are not here: {error.problem}"
        notes.extend(
            {"dataset": s.name, "task": "abstracts", "why": why} for s in sources if "abstract_id" in s.columns
        )
        return {}
    unknown = [i for i in wanted if i not in table.index]
    if unknown and spec.abstracts is None and not needed:
        # No task asks for them: prompts do without that condition.
        why = f"{len(unknown)} abstract id(s) are in no collection, first {unknown[0]!r}"
        notes.extend(
            {"dataset": s.name, "task": "abstracts", "why": why} for s in sources if "abstract_id" in s.columns
        )
        return {}
    if unknown:
        raise DatasetError(
            f"{len(unknown)} abstract id(s) are in no collection, first {unknown[0]!r}.",
            fix="correct abstract_id, or name the table that has them: abstracts: FILE.parquet.",
        )
    return {i: " ".join(str(table.loc[i, "abstract"]).split()) for i in wanted}


def _locate_gene_sets(name: str) -> tuple[str, str]:
    """Return a collection's name and its file, read once so that a broken one is refused now."""
    if "/" in name or name.endswith((".gmt", ".gmt.gz")):
        path = Path(name)
        read_gene_sets(str(path))
        return path.name.removesuffix(".gz").removesuffix(".gmt"), str(path)
    from c2s.data import find_manifest
    from c2s.data.store import store

    manifest = find_manifest(name)
    if manifest.loader != "gmt":
        raise DatasetError(
            f"dataset {name!r} holds no gene sets (its loader is {manifest.loader}).", fix="name a GMT collection."
        )
    found = store().path(name)
    read_gene_sets(str(found))
    return name, str(found)
