"""The twelve pretraining tasks of table 1, read from template files that a biologist can edit.

Each ``templates/<task>.yaml`` says what a task shows, what it wants and in which words;
``templates/metadata.yaml`` says how a prompt names what else is known of a cell. A folder of one's own may
replace some or all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, Field

from c2s.errors import ConfigError, InputFileError, PromptError, RegistryError
from c2s.options import Options, checked, read_yaml
from c2s.prompts import PromptTemplate

Kind = Literal["cell", "sample", "gene-set"]
M = TypeVar("M", bound=BaseModel)

#: The tasks, in the order of table 1.
TASKS = (
    "single-cell-language-modeling",
    "cell-type-annotation",
    "conditional-cell-generation",
    "multi-cell-language-modeling",
    "tissue-annotation",
    "sample-cell-types",
    "conditional-sample-generation-tissue",
    "conditional-sample-generation-cell-types",
    "conditional-sample-generation-abstract",
    "interpretation",
    "gene-set-enumeration",
    "gene-set-naming",
)
#: Columns a corpus can use, under their standard names.
COLUMNS = (
    "cell_type",
    "tissue",
    "donor_id",
    "disease",
    "organism",
    "development_stage",
    "sex",
    "perturbation",
    "abstract_id",
)
#: What a prompt can state beside its cells; ``abstract`` is the text that ``abstract_id`` names.
CONDITIONS = ("organism", "tissue", "cell_type", "disease", "perturbation", "sex", "development_stage", "abstract")
#: The field that holds the genes, by kind of task.
GENES_FIELD: Mapping[Kind, str] = {"cell": "cell_sentence", "sample": "cells", "gene-set": "genes"}
_FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "cell": ("cell_sentence", "n_genes", "metadata", "cell_type"),
    "sample": ("cells", "n_cells", "n_genes", "metadata", "tissue", "cell_types", "abstract"),
    "gene-set": ("genes", "n_genes", "gene_set"),
}
#: The column of the cells that fills a field.
_COLUMN_OF = {"cell_type": "cell_type", "cell_types": "cell_type", "tissue": "tissue", "abstract": "abstract_id"}
SHIPPED = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class CorpusTask:
    """One pretraining task: a row of table 1, with its templates.

    Attributes
    ----------
    name, title, input, target, metric
        What table 1 says of it, and our name.
    kind
        ``"cell"`` (one cell), ``"sample"`` (several cells of one donor and one tissue) or ``"gene-set"``.
    requires
        Standard columns that a cell must have.
    conditions
        What its prompts may state beside; never what they ask for.
    templates
        The phrasings; named ``"<task>/<phrasing>"``.
    """

    name: str
    title: str
    kind: Kind
    input: str
    target: str
    metric: str
    requires: tuple[str, ...]
    conditions: tuple[str, ...]
    templates: tuple[PromptTemplate, ...]

    @property
    def genes_in_answer(self) -> bool:
        """Whether the task writes genes, rather than reads them."""
        return f"{{{GENES_FIELD[self.kind]}}}" in self.templates[0].answer


@dataclass(frozen=True)
class MetadataWording:
    """How a prompt says what else is known: one text per field, what stands between them, whole sentences."""

    fields: Mapping[str, str]
    separator: str
    forms: tuple[str, ...]

    def say(self, known: Mapping[str, str], form: int) -> str:
        """Return the sentence for these values, ending with a space, or nothing where nothing is known."""
        if not known:
            return ""
        said = self.separator.join(self.fields[name].replace("{value}", value) for name, value in known.items())
        return self.forms[form % len(self.forms)].replace("{fields}", said)


class _Phrasing(Options):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    text: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class _TaskFile(Options):
    task: str
    title: str
    kind: Kind
    input: str
    target: str
    metric: str
    requires: list[str]
    conditions: list[str]
    templates: list[_Phrasing] = Field(min_length=1)


class _MetadataFile(Options):
    fields: dict[str, str]
    separator: str
    forms: list[str] = Field(min_length=1)


def corpus_tasks(folder: str | Path | None = None) -> dict[str, CorpusTask]:
    """Return the twelve tasks by name, in the order of table 1.

    Parameters
    ----------
    folder
        Template files of one's own; a task that has none there keeps the shipped ones.

    Raises
    ------
    InputFileError
        The folder is missing, or a file in it is not YAML.
    ConfigError
        A file breaks the format; all its problems are named.
    """
    place = str(folder) if folder is not None else None
    return dict(_tasks(place, _stamps(place)))


@functools.lru_cache(maxsize=8)
def _tasks(folder: str | None, stamps: tuple[object, ...]) -> tuple[tuple[str, CorpusTask], ...]:
    own = _own(folder)
    known = {f"{name}.yaml" for name in TASKS} | {"metadata.yaml"}
    strangers = sorted(set(own) - known)
    if strangers:
        raise ConfigError(
            f"templates in {folder}",
            [f"{name} belongs to no task" for name in strangers],
            fix=f"name a file after its task: {', '.join(TASKS)}.",
        )
    return tuple((name, _read_task(own.get(f"{name}.yaml", SHIPPED / f"{name}.yaml"), name)) for name in TASKS)


def corpus_task(name: str, folder: str | Path | None = None) -> CorpusTask:
    """Return one task.

    Raises
    ------
    RegistryError
        There is no task of this name; the nearest is proposed.
    """
    tasks = corpus_tasks(folder)
    if name not in tasks:
        import difflib

        near = difflib.get_close_matches(name, TASKS, n=1)
        raise RegistryError(
            f"there is no corpus task {name!r}" + (f"; did you mean {near[0]!r}?" if near else "."),
            fix=f"choose one of {', '.join(TASKS)}.",
        )
    return tasks[name]


def metadata_wording(folder: str | None = None) -> MetadataWording:
    """Return how prompts say what else is known; see `corpus_tasks` for the folder."""
    return _metadata_wording(folder, _stamps(folder))


@functools.lru_cache(maxsize=8)
def _metadata_wording(folder: str | None, stamps: tuple[object, ...]) -> MetadataWording:
    path = _own(folder).get("metadata.yaml", SHIPPED / "metadata.yaml")
    content = _validated(_MetadataFile, path)
    problems = [f"fields: {name!r} is missing" for name in CONDITIONS if name not in content.fields]
    problems += [f"fields: {name!r} is unknown" for name in content.fields if name not in CONDITIONS]
    problems += [
        f"fields: {name!r} does not hold {{value}}" for name, t in content.fields.items() if "{value}" not in t
    ]
    problems += [f"form {t!r} does not hold {{fields}}" for t in content.forms if "{fields}" not in t]
    problems += [f"form {t!r} does not end with a space" for t in content.forms if not t.endswith((" ", "\n"))]
    if problems:
        raise ConfigError(str(path), problems, fix="compare it with the metadata.yaml that comes with c2s.")
    return MetadataWording(dict(content.fields), content.separator, tuple(content.forms))


def _own(folder: str | None) -> dict[str, Path]:
    if folder is None:
        return {}
    if not Path(folder).is_dir():
        raise InputFileError(f"there is no folder of templates {folder}.", fix="leave templates out, or name one.")
    return {path.name: path for path in sorted(Path(folder).glob("*.y*ml"))}


def _stamps(folder: str | None) -> tuple[object, ...]:
    """Return what tells one state of a person's template files from another; those that come with c2s stay."""
    stats = [(name, path.stat()) for name, path in _own(folder).items()]
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)


def unusable_conditions(
    rates: Mapping[str, float], tasks: Mapping[str, CorpusTask], chosen: Iterable[str]
) -> list[str]:
    """Return a line for each condition with a share above 0 that no prompt of the chosen tasks can state.

    Parameters
    ----------
    rates
        Share of each condition.
    tasks
        All tasks.
    chosen
        Names of those that are made.
    """
    stated = {c for name in chosen for c in tasks[name].conditions}
    problems = []
    for condition, rate in rates.items():
        if rate <= 0 or condition in stated:
            continue
        could = [name for name, task in tasks.items() if condition in task.conditions]
        who = f"those of {', '.join(could)} can" if could else "nor can those of any other task"
        problems.append(f"no prompt of the chosen tasks states {condition!r} ({who})")
    return problems


def _validated(model: type[M], path: Path) -> M:
    return checked(
        model, read_yaml(path, "template file", see=f"it has the keys {', '.join(model.model_fields)}"), str(path)
    )


def _read_task(path: Path, name: str) -> CorpusTask:
    content = _validated(_TaskFile, path)
    problems = [] if content.task == name else [f"task is {content.task!r}, but the file is named after {name!r}"]
    problems += [f"conditions: {c!r} is unknown" for c in content.conditions if c not in CONDITIONS]
    problems += [f"requires: {c!r} is no standard column" for c in content.requires if c not in COLUMNS]
    if path.parent != SHIPPED and content.kind != _kind(name):
        problems.append(f"kind is {content.kind!r}, and this task's is {_kind(name)!r}")
    if content.kind == "sample":
        # A context is of one donor and one tissue; cells of which that is not known cannot be dealt.
        lacking = [c for c in ("donor_id", "tissue") if c not in content.requires]
        problems += [f"requires: {c!r} is missing, which every task of several cells needs" for c in lacking]
    allowed, slot = _FIELDS[content.kind], GENES_FIELD[content.kind]
    templates = []
    for phrasing in content.templates:
        try:
            template = PromptTemplate(f"{name}/{phrasing.name}", phrasing.text, phrasing.answer)
        except PromptError as error:
            problems.append(error.problem)
            continue
        templates.append(template)
        problems += [f"{phrasing.name}: {p}" for p in _problems(template, allowed, slot, content)]
    twice = sorted({t.name for t in templates if [o.name for o in templates].count(t.name) > 1})
    problems += [f"two templates are named {n!r}" for n in twice]
    # What a task asks for must not depend on the phrasing that is drawn.
    asked = {t.name: set(PromptTemplate("answer", t.answer, "").fields) for t in templates}
    for template in templates[1:]:
        first = templates[0]
        if asked[template.name] != asked[first.name]:
            problems.append(
                f"{template.name.partition('/')[2]} asks for {_listed(asked[template.name])}, and "
                f"{first.name.partition('/')[2]} for {_listed(asked[first.name])}; all must ask for the same"
            )
    if problems:
        raise ConfigError(str(path), problems, fix=f"its texts may hold {{{'}, {'.join(allowed)}}}.")
    return CorpusTask(
        name,
        content.title,
        content.kind,
        content.input,
        content.target,
        content.metric,
        tuple(content.requires),
        tuple(content.conditions),
        tuple(templates),
    )


@functools.cache
def _kind(name: str) -> Kind:
    """Return the kind that the shipped file gives a task."""
    return _validated(_TaskFile, SHIPPED / f"{name}.yaml").kind


def _listed(fields: Iterable[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in sorted(fields)) or "nothing"


def _problems(template: PromptTemplate, allowed: tuple[str, ...], slot: str, content: _TaskFile) -> list[str]:
    """Return what would make examples of this template wrong."""
    asked = PromptTemplate("answer", template.answer, "").fields
    problems = [
        f"{{{f}}} is not a field of this kind of task" for f in (*template.fields, *asked) if f not in allowed
    ]
    if (template.text + template.answer).count(f"{{{slot}}}") != 1:
        problems.append(f"{{{slot}}} must stand exactly once, in the text or in the answer")
    problems += [f"{{{f}}} is asked for and given away" for f in asked if f in template.fields]
    columns = {_COLUMN_OF[f] for f in (*template.fields, *asked) if f in _COLUMN_OF}
    problems += [f"{{{f}}} needs {f!r} in requires" for f in sorted(columns - set(content.requires))]
    answered = {_COLUMN_OF[f].removesuffix("_id") for f in asked if f in _COLUMN_OF}
    problems += [f"conditions hold {c!r}, which is asked for" for c in content.conditions if c in answered]
    if template.text != template.text.rstrip():
        problems.append("the text ends with a space or line end; the answer follows after one space")
    if not template.text.replace("\n", " ").startswith(f"{{{slot}}}") and f"{{{slot}}}" in template.text:
        before = template.text.partition(f"{{{slot}}}")[0]
        if not before.endswith((" ", "\n")):
            problems.append(f"{{{slot}}} must follow a space or a line end")
    return problems
