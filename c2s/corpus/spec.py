"""``SPEC.yaml``: what a corpus is made of."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from c2s.corpus.prompt_files import (
    COLUMNS as COLUMNS,
    CONDITIONS,
    TASKS,
    corpus_tasks,
    unusable_conditions,
)
from c2s.options import Options, checked, read_yaml
from c2s.splits import PARTS

Constant = dict[Literal["value"], str]
#: How often a prompt states a piece of metadata that is known; abstracts are long.
_RATES = dict.fromkeys(CONDITIONS, 0.3) | {"abstract": 0.05}


class DatasetSpec(Options):
    """One source of cells.

    Attributes
    ----------
    name
        Name of a dataset (see ``c2s data list``), or what the corpus calls the file at `path`.
    path
        A file of cells, of any format that `c2s.read_cells` takes; relative to the specification.
    study
        Study it belongs to; default the manifest's, or `name`.
    columns
        Standard name to a column of ``obs``, or to ``{value: constant}``; added to what the manifest maps.
    symbols, layer, strip
        As for `c2s.read_cells`, where the file needs them. The order of genes, and so the sentences, are the same
        in every unit, which is why there is no ``normalise``.
    tasks
        Only these of the corpus's tasks; default all.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    path: str | None = None
    study: str | None = None
    columns: dict[str, str | Constant] = Field(default_factory=dict)
    symbols: str | None = None
    layer: str | None = None
    strip: list[Literal["genome", "version", "ensembl"]] = Field(default_factory=list)
    tasks: list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """Accept a name or a path where nothing else needs saying."""
        if not isinstance(value, str):
            return value
        if Path(value).suffix or "/" in value:
            return {"name": Path(value).stem, "path": value}
        return {"name": value}

    @field_validator("columns")
    @classmethod
    def _standard(cls, value: dict[str, str | Constant]) -> dict[str, str | Constant]:
        unknown = sorted(set(value) - set(COLUMNS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is no standard column; there are {', '.join(COLUMNS)}")
        return value


class ContextSpec(Options):
    """The context that every example must fit.

    Attributes
    ----------
    tokenizer
        ``"tiny"`` (learned from the corpus's own words), a folder, or the id of a downloaded model; None counts
        words.
    tokens
        Tokens (or words) of prompt and answer together; None sets no limit.
    """

    tokenizer: str | None = None
    tokens: int | None = Field(default=None, ge=32)


class SplitSpec(Options):
    """Who is on which side: whole studies, whole donors, or single cells, and the share of each part."""

    by: Literal["study", "donor", "cell"] = "donor"
    fractions: dict[str, float] = Field(default_factory=lambda: {"train": 0.8, "validation": 0.1, "test": 0.1})

    @field_validator("fractions")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        problems = [f"unknown part {part!r}" for part in value if part not in PARTS]
        problems += [f"the share of {p!r} is {f:g}, not in (0, 1]" for p, f in value.items() if not 0 < f <= 1]
        if not math.isclose(sum(value.values()), 1, abs_tol=1e-9):
            problems.append(f"the shares add up to {sum(value.values()):g}, not 1")
        if problems:
            raise ValueError("; ".join(problems))
        return {part: value[part] for part in PARTS if part in value}


class CorpusSpec(Options):
    """What a corpus is made of; see the chapter *Corpus and prompts*.

    Attributes
    ----------
    name
        What the corpus is called.
    datasets
        Sources of cells.
    gene_sets
        Names of gene set collections, or GMT files.
    tasks
        Weight of each task: examples per cell, per multi-cell context or per gene set. 0.1 takes a tenth of
        them, 2 takes each twice, with other draws. A list gives each 1.
    genes
        Fewest and most genes of a cell's sentence, the paper's K of 100 to 2,048; drawn for each example. A cell
        that expresses fewer shows those it has.
    cells
        Fewest and most cells of a multi-cell context; the paper uses 5 to 20 (section 4.6.6).
    context
        What every example must fit.
    conditions
        How often a prompt states a piece of metadata that is known: one share for all that the prompts of the
        tasks can state, or one for each. One that no prompt of these tasks can state is refused.
    split
        Who is on which side.
    duplicates
        Cells of another dataset or side with the same first genes in the same order are near-duplicates; this is
        how many genes are compared. 0 looks for none.
    min_genes
        Leave out cells that express fewer genes.
    missing
        ``"error"`` where a task lacks a column of a dataset; ``"skip"`` leaves that task, or those cells, out and
        says so in the manifest.
    templates
        Folder of template files of one's own, relative to the specification.
    abstracts
        Parquet of CELLxGENE collections; default the dataset ``cellxgene_collections``.
    shard_rows
        Examples of a shard, about.
    seed
        Changes every draw.
    """

    subject: ClassVar[str] = "corpus specification"

    name: str = "corpus"
    datasets: list[DatasetSpec] = Field(default_factory=list)
    gene_sets: list[str] = Field(default_factory=list)
    tasks: dict[str, float]
    genes: tuple[int, int] = (100, 2048)
    cells: tuple[int, int] = (5, 20)
    context: ContextSpec = ContextSpec()
    conditions: dict[str, float] = Field(default={}, validate_default=True)
    split: SplitSpec = SplitSpec()
    duplicates: int = Field(default=50, ge=0)
    min_genes: int = Field(default=1, ge=1)
    missing: Literal["error", "skip"] = "error"
    templates: str | None = None
    abstracts: str | None = None
    shard_rows: int = Field(default=8192, ge=16)
    seed: int = Field(default=0, ge=0)

    @field_validator("tasks", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        if value == "all":
            return dict.fromkeys(TASKS, 1.0)
        return dict.fromkeys(value, 1.0) if isinstance(value, list) else value

    @field_validator("tasks")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        problems = [f"unknown task {task!r}{_near(task)}" for task in value if task not in TASKS]
        problems += [
            f"the weight of {task!r} is {weight:g}; leave the task out, or give it more than 0"
            for task, weight in value.items()
            if not 0 < weight <= 1000
        ]
        if not value:
            problems.append("no task is named")
        if problems:
            raise ValueError("; ".join(problems))
        return {task: value[task] for task in TASKS if task in value}

    @field_validator("conditions", mode="before")
    @classmethod
    def _rates(cls, value: Any, info: ValidationInfo) -> Any:
        return (
            dict.fromkeys(_stated(info.data.get("tasks", TASKS)), value)
            if isinstance(value, int | float)
            else value
        )

    @field_validator("conditions")
    @classmethod
    def _shares(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        problems = [f"unknown condition {name!r}" for name in value if name not in CONDITIONS]
        problems += [f"the share of {n!r} is {r:g}, not from 0 to 1" for n, r in value.items() if not 0 <= r <= 1]
        if problems:
            raise ValueError("; ".join(problems))
        rates = {name: _RATES[name] for name in _stated(info.data.get("tasks", TASKS))} | value
        return {name: rates.get(name, 0.0) for name in CONDITIONS}

    @field_validator("genes", "cells")
    @classmethod
    def _range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= value[0] <= value[1]:
            raise ValueError(f"{value[0]} to {value[1]} is no range of whole numbers from 1")
        return value

    @model_validator(mode="after")
    def _together(self) -> CorpusSpec:
        problems = []
        names = [d.name for d in self.datasets]
        problems += [f"two datasets are named {n!r}" for n in sorted({n for n in names if names.count(n) > 1})]
        problems += [
            f"two gene set collections are {n!r}"
            for n in sorted(set(self.gene_sets))
            if self.gene_sets.count(n) > 1
        ]
        of_sets = [task for task in self.tasks if task.startswith("gene-set-")]
        if of_sets and not self.gene_sets:
            problems.append(f"{', '.join(of_sets)} need gene sets, and none is named")
        if len(of_sets) < len(self.tasks) and not self.datasets:
            problems.append(
                "the other tasks need cells, and no dataset is named" if of_sets else "no dataset is named"
            )
        for dataset in self.datasets:
            extra = sorted(set(dataset.tasks or ()) - set(self.tasks))
            if extra:
                problems.append(
                    f"dataset {dataset.name!r} names {', '.join(extra)}, which the corpus does not have"
                )
        if self.templates is None:  # others are read when the corpus is planned
            problems += unusable_conditions(self.conditions, corpus_tasks(), self.tasks)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def named_conditions(self) -> dict[str, float]:
        """Return the shares of conditions without those that are what they are by default."""
        usual = {name: _RATES[name] for name in _stated(self.tasks)}
        return {name: rate for name, rate in self.conditions.items() if rate != usual.get(name)}

    def digest(self) -> str:
        """Return a checksum of the specification that does not change with its layout."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self) -> str:
        """Return the specification with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _near(task: str) -> str:
    near = difflib.get_close_matches(task, TASKS, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _stated(chosen: Iterable[str]) -> list[str]:
    """Return the conditions that the prompts of these tasks can state, as far as the shipped ones tell."""
    tasks = corpus_tasks()
    known = [name for name in chosen if name in tasks]
    return [c for c in CONDITIONS if any(c in tasks[name].conditions for name in known)]


def make_spec(**options: Any) -> CorpusSpec:
    """Build a specification; all problems are reported at once.

    Raises
    ------
    ConfigError
        An option is unknown or has a bad value.
    """
    return CorpusSpec.of(options)


def load_spec(path: str | os.PathLike[str]) -> CorpusSpec:
    """Read ``SPEC.yaml``; paths in it are relative to its folder.

    Raises
    ------
    InputFileError
        The file is missing or is not YAML.
    ConfigError
        It breaks the format; all its problems are named.
    """
    source = Path(path)
    content = read_yaml(source, "specification", see="corpora/ has examples, with keys such as datasets")
    spec = checked(CorpusSpec, content, f"specification {source}")
    return absolute(spec, source.parent)


def absolute(spec: CorpusSpec, folder: Path) -> CorpusSpec:
    """Return the specification with paths that no longer depend on where it lies."""

    def place(text: str) -> str:
        return str((folder / text).resolve())

    datasets = [d.model_copy(update={"path": place(d.path)}) if d.path else d for d in spec.datasets]
    changes: dict[str, Any] = {
        "datasets": datasets,
        "gene_sets": [place(g) if "/" in g or g.endswith((".gmt", ".gmt.gz")) else g for g in spec.gene_sets],
    }
    for key in ("templates", "abstracts"):
        if getattr(spec, key) is not None:
            changes[key] = place(getattr(spec, key))
    tokenizer = spec.context.tokenizer
    if tokenizer and tokenizer.startswith((".", "/")):
        changes["context"] = spec.context.model_copy(update={"tokenizer": place(tokenizer)})
    return spec.model_copy(update=changes)
