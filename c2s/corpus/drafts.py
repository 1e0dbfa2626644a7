"""Which examples a cell, a context or a gene set gives, and what their prompts state beside the genes.

Every choice is a function of the seed, the task and the id of the cell (of a context: of its first cell).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c2s.corpus.draws import Hashes, between, draw, share
from c2s.corpus.examples import Draft
from c2s.corpus.plan import CorpusPlan
from c2s.corpus.prompt_files import CONDITIONS, CorpusTask, metadata_wording
from c2s.corpus.ranks import RankedCells
from c2s.corpus.source import Source
from c2s.corpus.spec import COLUMNS

_COLUMN = {name: COLUMNS.index("abstract_id" if name == "abstract" else name) for name in CONDITIONS}


@dataclass(frozen=True)
class _Choices:
    """What was drawn for some examples of one task: template, form of the metadata, genes, stated conditions."""

    templates: list[int]
    forms: list[int]
    top_k: list[int]
    stated: npt.NDArray[np.bool_]


class Drafter:
    """Makes the drafts of one source of cells."""

    def __init__(self, plan: CorpusPlan, source: Source) -> None:
        self.plan, self.source, self.spec = plan, source, plan.spec
        self.wording = metadata_wording(plan.spec.templates)
        self.values = {c: source.categories.get("abstract_id" if c == "abstract" else c, ()) for c in CONDITIONS}
        if self.values["abstract"]:  # ids so far
            self.values["abstract"] = tuple(plan.abstracts[i] for i in self.values["abstract"])
        self._given_away: dict[tuple[str, int, str, int], bool] = {}

    def of_cells(self, cells: RankedCells, tasks: Sequence[CorpusTask]) -> list[Draft]:
        """Return the examples of single cells, shuffled."""
        drafts: list[Draft] = []
        keys: list[int] = []
        codes = cells.codes.tolist()
        for task in tasks:
            weight = self.spec.tasks[task.name]
            needed = [COLUMNS.index(c) for c in task.requires]
            complete = (cells.codes[:, needed] >= 0).all(axis=1)
            for turn in range(int(np.ceil(weight))):
                purpose = (task.name, turn, self.spec.seed)
                chosen = np.flatnonzero(complete & (share(cells.hashes, "weight", *purpose) < weight - turn))
                if not len(chosen):
                    continue
                hashes = cells.hashes[chosen]
                choices = self._choose(hashes, task, purpose)
                keys += draw(hashes, "place", *purpose).tolist()
                for e, i in enumerate(chosen.tolist()):
                    label = codes[i][_COLUMN["cell_type"]] if task.requires else -1
                    answer = [label] if label >= 0 and not task.genes_in_answer else []
                    values = {"metadata": self._metadata(task, choices, e, codes[i], answer, "cell_type")}
                    if label >= 0:
                        values["cell_type"] = self.values["cell_type"][label]
                    name = cells.ids[i]
                    drafts.append(self._draft(task, choices, e, turn, [name], values, [i]))
        return [drafts[i] for i in np.argsort(np.array(keys, np.uint64), kind="stable").tolist()]

    def of_samples(
        self, cells: RankedCells, contexts: Sequence[tuple[CorpusTask, int, npt.NDArray[np.int64]]]
    ) -> list[Draft]:
        """Return the examples of contexts: a task, a turn and the positions of the cells."""
        drafts: list[Draft] = []
        firsts = np.array([members[0] for _, _, members in contexts], np.int64)
        keyed: dict[tuple[str, int], list[int]] = {}
        for place, (task, turn, _) in enumerate(contexts):
            keyed.setdefault((task.name, turn), []).append(place)
        choice: list[tuple[_Choices, int]] = [None] * len(contexts)  # type: ignore[list-item]
        for (name, turn), places in keyed.items():
            task = self.plan.tasks[name]
            choices = self._choose(cells.hashes[firsts[places]], task, (name, turn, self.spec.seed))
            for e, place in enumerate(places):
                choice[place] = choices, e
        for (task, turn, members), (choices, e) in zip(contexts, choice, strict=True):
            block = cells.codes[members]
            same = np.where((block == block[0]).all(axis=0), block[0], -1).tolist()
            types = block[:, _COLUMN["cell_type"]].tolist()
            answer, column = self._asked(task, same, types)
            values = {"metadata": self._metadata(task, choices, e, same, answer, column)}
            values["n_cells"] = str(len(members))
            if "tissue" in task.requires:
                values["tissue"] = self.values["tissue"][same[_COLUMN["tissue"]]]
            if "cell_type" in task.requires:
                values["cell_types"] = "; ".join([self.values["cell_type"][t] for t in types])
            if "abstract_id" in task.requires:
                values["abstract"] = self.values["abstract"][same[_COLUMN["abstract"]]]
            positions = members.tolist()
            drafts.append(
                self._draft(task, choices, e, turn, [cells.ids[i] for i in positions], values, positions)
            )
        return drafts

    def _asked(self, task: CorpusTask, same: Sequence[int], types: Sequence[int]) -> tuple[Sequence[int], str]:
        """Return the labels that a task asks for, and the column they are of."""
        if task.genes_in_answer or "{abstract}" in task.templates[0].answer:
            return (), ""
        if "{tissue}" in task.templates[0].answer:
            return [same[_COLUMN["tissue"]]], "tissue"
        return sorted(set(types)), "cell_type"

    def _choose(self, hashes: Hashes, task: CorpusTask, purpose: tuple[object, ...]) -> _Choices:
        low, high = self.spec.genes
        stated = [share(hashes, "state", c, *purpose) < self.spec.conditions[c] for c in task.conditions]
        return _Choices(
            (draw(hashes, "template", *purpose) % np.uint64(len(task.templates))).tolist(),
            (draw(hashes, "form", *purpose) % np.uint64(len(self.wording.forms))).tolist(),
            between(hashes, low, high, "genes", *purpose).tolist(),
            np.stack(stated, axis=1) if stated else np.zeros((len(hashes), 0), bool),
        )

    def _metadata(
        self, task: CorpusTask, choices: _Choices, e: int, codes: Sequence[int], answer: Sequence[int], column: str
    ) -> str:
        """Return what is stated of the cells; a value that holds the answer's words is left out."""
        known = {}
        for k in np.flatnonzero(choices.stated[e]).tolist():
            condition = task.conditions[k]
            code = codes[_COLUMN[condition]]
            if code < 0:
                continue
            if any(self._gives_away(condition, code, column, label) for label in answer):
                continue
            known[condition] = self.values[condition][code]
        return self.wording.say(known, choices.forms[e])

    def _gives_away(self, condition: str, code: int, column: str, label: int) -> bool:
        key = condition, code, column, label
        if key not in self._given_away:
            self._given_away[key] = (
                self.values[column][label].casefold() in self.values[condition][code].casefold()
            )
        return self._given_away[key]

    def _draft(
        self,
        task: CorpusTask,
        choices: _Choices,
        e: int,
        turn: int,
        names: list[str],
        values: Mapping[str, str],
        positions: Sequence[int],
    ) -> Draft:
        again = f"/{turn}" if turn else ""
        return Draft(
            f"{task.name}/{self.source.name}/{names[0]}{again}",
            task,
            task.templates[choices.templates[e]],
            self.source.name,
            self.source.study,
            names,
            values,
            positions,
            choices.top_k[e],
        )


def gene_set_drafts(
    plan: CorpusPlan,
    collection: str,
    names: Sequence[str],
    readable: Sequence[str],
    hashes: Hashes,
    sizes: Sequence[int],
) -> Iterator[Draft]:
    """Yield the examples of gene sets; a set is shown whole, if the context holds it."""
    for task in plan.tasks.values():
        if task.kind != "gene-set":
            continue
        weight = plan.spec.tasks[task.name]
        for turn in range(int(np.ceil(weight))):
            purpose = (task.name, turn, plan.spec.seed)
            chosen = np.flatnonzero(share(hashes, "weight", *purpose) < weight - turn)
            templates = (draw(hashes, "template", *purpose) % np.uint64(len(task.templates))).tolist()
            for i in chosen.tolist():
                again = f"/{turn}" if turn else ""
                yield Draft(
                    f"{task.name}/{collection}/{names[i]}{again}",
                    task,
                    task.templates[templates[i]],
                    collection,
                    collection,
                    [],
                    {"gene_set": readable[i]},
                    [i],
                    sizes[i],
                )
