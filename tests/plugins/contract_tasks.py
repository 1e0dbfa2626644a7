"""A sound task, and one broken variant for each clause of the contract."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from c2s import Baseline, Metric, PromptTemplate, Reward, Split, Task, choose_template, example_table, split_cells
from c2s.contexts import draw_contexts
from c2s.errors import ObsError, PluginError

TEMPLATES = (
    PromptTemplate("sound/a", "The {n_genes} genes of a cell : {cell_sentence} . label :", "{label}"),
    PromptTemplate("sound/b", "{cell_sentence} . label :", "{label}"),
)

MIXED_TEMPLATES = (PromptTemplate("mixed/a", "{n_cells} cells . {cells} mixed or pure :", "{label}"),)


@dataclass(frozen=True)
class Sound(Task):
    """Everything as it should be."""

    name: ClassVar[str] = "sound"
    title: ClassVar[str] = "Sound"
    prompts: ClassVar[str] = "sound"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    label: str = "cell_type"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.label,)

    @property
    def optional_columns(self) -> tuple[str, ...]:
        return ("donor_id",)

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        return split_cells(obs, unit="donor_id" if "donor_id" in obs else None, seed=seed)

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        if answers and self.label not in sentences.table.column_names:
            raise ObsError(f"no column {self.label!r}.")
        records = [self.record(row, templates, seed, answers) for row in sentences.table.to_pylist()]
        return example_table(records)

    def record(self, row: dict[str, Any], templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        template = choose_template(templates, row["cell_id"], seed)
        record = {
            "example_id": row["cell_id"],
            "template": template.name,
            "cell_ids": [row["cell_id"]],
            "cell_sentence": row["cell_sentence"],
            "label": row[self.label] if answers else None,
        }
        record["prompt"] = template.render(record)
        record["answer"] = record["label"]
        return record

    def candidates(self, examples: Any) -> list[str] | None:
        return sorted(set(examples["answer"].to_pylist()))


# -- splits


class SplitByCell(Sound):
    """Donors leak."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        return split_cells(obs, seed=seed)


class LyingUnit(Sound):
    """Says that tissues are kept whole, and splits by cell."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        return replace(split_cells(obs, seed=seed), unit="tissue")


class UnknownUnit(Sound):
    """Names a unit that no column holds."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        return replace(super().split(obs, seed=seed), unit="village")


class IncompleteSplit(Sound):
    """Forgets a cell."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        whole = super().split(obs, seed=seed)
        return replace(whole, assignment=whole.assignment.iloc[1:])


class NoTestCells(Sound):
    """Trains on everything."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        whole = super().split(obs, seed=seed)
        return replace(whole, assignment=whole.assignment.map(lambda part: "train"))


class NoValidationCells(Sound):
    """Keeps the last weights, since no cell says which were the best."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        whole = super().split(obs, seed=seed)
        return replace(whole, assignment=whole.assignment.replace("validation", "train"))


@dataclass(frozen=True)
class DonorsAnswer(Sound):
    """All cells of a donor have one answer, and one donor is in the test part."""

    label: str = "disease"


class NothingToLearn(Sound):
    """Trains on one answer."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        whole = super().split(obs, seed=seed)
        others = whole.assignment.where(obs["cell_type"] == "B cell", "test")
        return replace(whole, assignment=others, unit="cell")


class MixedOrPure(Sound):
    """Asks whether the cells of a sample are of several types, and draws samples that hardly ever are of one."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        if answers and self.label not in sentences.table.column_names:
            raise ObsError(f"no column {self.label!r}.")
        rows = {row["cell_id"]: row for row in sentences.table.to_pylist()}
        within = ["donor_id"] if "donor_id" in sentences.table.column_names else []
        records = []
        for context in draw_contexts(sentences.obs, within=within, n_cells=(3, 5), seed=seed):
            cells = [rows[cell_id] for cell_id in context.cell_ids]
            label = None
            if answers:
                label = "pure" if len({cell[self.label] for cell in cells}) == 1 else "mixed"
            record = {
                "example_id": context.context_id,
                "template": "mixed/a",
                "cell_ids": list(context.cell_ids),
                "cell_sentences": [cell["cell_sentence"] for cell in cells],
                "label": label,
            }
            template = MIXED_TEMPLATES[0]
            records.append({**record, "prompt": template.render(record), "answer": label})
        return example_table(records)


class NoExampleInTest(Sound):
    """Needs more cells at once than the validation and test parts have."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        if len(sentences) < 30:
            raise ObsError(f"{len(sentences)} cells are too few for a sample.", fix="lower min_cells.")
        return super().examples(sentences, templates, seed=seed, answers=answers)


class OddPart(Sound):
    """Has a part that nothing knows."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        whole = super().split(obs, seed=seed)
        return replace(whole, assignment=whole.assignment.replace("validation", "dev"))


class NoNote(Sound):
    """Does not say how it splits."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        return replace(super().split(obs, seed=seed), note=" ")


class SplitByRow(Sound):
    """The part of a cell is its row."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        whole = super().split(obs, seed=seed)
        parts = ["train", "test"] * len(whole.assignment)
        whole.assignment.iloc[:] = parts[: len(whole.assignment)]
        return whole


_calls = itertools.count()


class UnseededSplit(Sound):
    """Differs from call to call, as one that draws from a global generator would."""

    def split(self, obs: Any, *, seed: int = 0) -> Split:
        whole = super().split(obs, seed=seed)
        swapped = {"train": "test", "test": "train"} if next(_calls) % 2 else {}
        return replace(whole, assignment=whole.assignment.replace(swapped))


# -- examples


class Unseeded(Sound):
    """Draws templates from the global generator."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        return super().record(row, templates, random.randrange(10**9), answers)


class PythonHash(Sound):
    """Chooses with hash(), which differs between processes."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        return super().record(row, templates, hash(row["cell_id"]), answers)


class ByRow(Sound):
    """Chooses templates by row number."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        rows = enumerate(sentences.table.to_pylist())
        return example_table([self.record(row, [templates[i % 2]], seed, answers) for i, row in rows])


class RowIds(Sound):
    """Names examples by row number."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        rows = sentences.table.to_pylist()[::2]
        return example_table([self.record(row, templates, seed, answers) for row in rows])


class CountsWrongly(Sound):
    """States 200 genes whatever the cell has."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        wrong = [PromptTemplate(t.name, t.text.replace("{n_genes}", "200"), t.answer) for t in templates]
        return super().record(row, wrong, seed, answers)


class EditedPrompt(Sound):
    """Changes the prompt after rendering it."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        record = super().record(row, templates, seed, answers)
        return record | {"prompt": record["prompt"].replace("MALAT1", "")}


class TrailingSpace(Sound):
    """Ends its prompt in a space, which changes how the answer is tokenised."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        record = super().record(row, templates, seed, answers)
        return record | {"prompt": record["prompt"] + " "}


class ForeignTemplate(Sound):
    """Names a template that is not registered."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        return super().record(row, templates, seed, answers) | {"template": "sound/z"}


class ForgetsTheSentence(Sound):
    """Drops a column that rendering again needs."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        record = super().record(row, templates, seed, answers)
        return {k: v for k, v in record.items() if k != "cell_sentence"}


class NoAnswers(Sound):
    """Has an empty answer."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        return super().record(row, templates, seed, answers) | {"answer": ""}


class PaddedAnswers(Sound):
    """Has white space before its answers."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        record = super().record(row, templates, seed, answers)
        return record | {"answer": f" {record['answer']}"}


class UnknownCells(Sound):
    """Shows cells that are not there."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        return super().record(row, templates, seed, answers) | {"cell_ids": ["somebody"]}


_seen: list[str] = []


class BorrowsCells(Sound):
    """Shows, beside the cell, one that was seen in an earlier call: of another part."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        _seen.append(row["cell_id"])
        record = super().record(row, templates, seed, answers)
        return record | {"cell_ids": [row["cell_id"], _seen[0]]}


class NotATable(Sound):
    """Lacks the columns every table of examples has."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        return super().examples(sentences, templates, seed=seed, answers=answers).drop_columns(["cell_ids"])


class Peeks(Sound):
    """Its prompt depends on whether the answer is known."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        return super().record(row, templates[: 1 if answers else 2], seed, answers)


class TellsAnyway(Sound):
    """Gives answers when told not to."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        return super().examples(sentences, templates, seed=seed)


# -- columns


class StatesTooMuch(Sound):
    """States a column that it does not need."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.label, "tissue")


class StatesAbsent(Sound):
    """States a column that the cells do not have."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.label, "horoscope")


class HidesAColumn(Sound):
    """Uses the tissue without stating it."""

    def record(self, row: Any, templates: Any, seed: int, answers: bool) -> dict[str, Any]:
        return super().record(row, templates, seed + len(row["tissue"]), answers)


class UsesOthersWhenThere(Sound):
    """Makes fewer examples when a column that it does not state is there."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        men = [row["cell_id"] for row in sentences.table.to_pylist() if row.get("sex") == "male"]
        others = [i for i in sentences.table["cell_id"].to_pylist() if i not in men]
        return super().examples(sentences.select(others), templates, seed=seed, answers=answers)


class RawKeyError(Sound):
    """Lets a KeyError out."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        rows = sentences.table.to_pylist()
        return example_table([self.record(row, templates, seed, answers) for row in rows])


class UnhelpfulError(Sound):
    """Its error does not name the column."""

    def examples(self, sentences: Any, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        if answers and self.label not in sentences.table.column_names:
            raise PluginError("something is missing.")
        return super().examples(sentences, templates, seed=seed, answers=answers)


# -- answers


class ShoutsBack(Sound):
    """Parses an answer to something else."""

    def parse(self, answer: str) -> str | None:
        return answer.strip().upper() or None


class KeepsSpace(Sound):
    """Does not remove the white space around an answer."""

    def parse(self, answer: str) -> str | None:
        return answer or None


class Fragile(Sound):
    """Falls over an unexpected answer."""

    def parse(self, answer: str) -> str | None:
        return answer.strip() if answer.split()[0] else None


class ReadsNumbers(Sound):
    """Returns something that is no string."""

    def parse(self, answer: str) -> Any:
        return len(answer) if answer.strip() == "-1" else super().parse(answer)


class AnswersForNothing(Sound):
    """Reads an answer out of an empty one."""

    def parse(self, answer: str) -> str | None:
        return super().parse(answer) or "T cell"


class UnsortedCandidates(Sound):
    """Its candidates come in no order."""

    def candidates(self, examples: Any) -> list[str]:
        return sorted(set(examples["answer"].to_pylist()), reverse=True)


class MissingCandidates(Sound):
    """Does not allow a true answer."""

    def candidates(self, examples: Any) -> list[str]:
        return ["B cell"]


# -- options and profiles


@dataclass(frozen=True)
class SetOption(Sound):
    """Has an option that is not JSON."""

    label: str = "cell_type"
    wanted: Any = frozenset({"T cell"})


@dataclass(frozen=True)
class ListOption(Sound):
    """Comes back from JSON unequal."""

    label: str = "cell_type"
    shape: Any = ((1, 2), (3, 4))


class TakesAnything(Sound):
    """Accepts unknown options."""

    @classmethod
    def from_options(cls, options: Any) -> Task:
        return cls(label=options.get("label", "cell_type"))


class NoPaperProfile(Sound):
    """Lacks a profile."""

    profiles: ClassVar[Any] = {"smoke": {}, "laptop": {}}


class MisspeltProfile(Sound):
    """Sets something that training does not know."""

    profiles: ClassVar[Any] = {"smoke": {"epoch": 1}, "laptop": {"top_k": 100, "epochs": 2.0}, "paper": {}}


class ImpossibleProfile(Sound):
    """Sets values that training refuses."""

    profiles: ClassVar[Any] = {"smoke": {"epochs": -1}, "laptop": {}, "paper": {}}


class OddShapedProfile(Sound):
    """Sets a tiny model that cannot be built."""

    profiles: ClassVar[Any] = {"smoke": {"hidden_size": 30, "heads": 4}, "laptop": {}, "paper": {}}


# -- metrics


def share(predictions: Sequence[str | None], references: Sequence[str], **columns: Any) -> dict[str, float]:
    right = sum(p == r for p, r in zip(predictions, references, strict=True))
    return {"accuracy": right / len(references)}


def metric(function: Any, **changes: Any) -> Metric:
    return Metric("accuracy", function, **changes)


def crash(predictions: Any, references: Any, **columns: Any) -> dict[str, float]:
    return {"accuracy": sum(len(p) >= 0 and p == r for p, r in zip(predictions, references)) / len(references)}


METRICS = {
    "constant": (metric(lambda p, r, **c: {"accuracy": 1.0}), "no worse than 1.0 for perfect predictions"),
    "upside down": (metric(share, higher_is_better=False), "is 1.0 for perfect predictions; its range says 0.0"),
    "per cent": (metric(lambda p, r, **c: {"accuracy": 100 * share(p, r)["accuracy"]}), "range says 1.0 is best"),
    "below range": (
        metric(lambda p, r, **c: {"accuracy": 2 * share(p, r)["accuracy"] - 1}),
        "outside its range (0.0, 1.0)",
    ),
    "other key": (metric(lambda p, r, **c: {"acc": 1.0}), "not a dict with the key 'accuracy'"),
    "crash": (metric(crash), "raised TypeError for"),
    "not a dict": (metric(lambda p, r, **c: 1.0), "not a dict"),
}


def first_donor(predictions: Sequence[str | None], references: Sequence[str], **columns: Any) -> dict[str, float]:
    """Look at the cells of the first donor alone, who is in the training part."""
    kept = [i for i, cell in enumerate(columns["example_id"]) if int(cell.removeprefix("cell")) % 24 < 4]
    return share([predictions[i] for i in kept], [references[i] for i in kept]) if kept else {"accuracy": 1.0}


# -- rewards


def right(prompts: Any, answers: Any, *, answer: Any, **columns: Any) -> list[float | None]:
    return [float(given.strip() == truth) for given, truth in zip(answers, answer, strict=True)]


def reward(function: Any, **changes: Any) -> Reward:
    return Reward("right", function, **changes)


def _normalised(prompts: Any, answers: Any, *, answer: Any, **columns: Any) -> list[float | None]:
    values = right(prompts, answers, answer=answer)
    mean = sum(values) / len(values)
    return [0.5 + (v - mean) / 2 for v in values]


def _random(prompts: Any, answers: Any, *, answer: Any, **columns: Any) -> list[float | None]:
    return [random.random() * v for v in right(prompts, answers, answer=answer)]


def _fragile(prompts: Any, answers: Any, *, answer: Any, **columns: Any) -> list[float | None]:
    return [float(given.split()[0] == truth) for given, truth in zip(answers, answer, strict=True)]


def _flattered(prompts: Any, answers: Any, *, answer: Any, **columns: Any) -> list[float | None]:
    return [min(1.0, len(given) / 5) for given in answers]


def _generous(prompts: Any, answers: Any, *, answer: Any, **columns: Any) -> list[float | None]:
    return [float(truth in given) for given, truth in zip(answers, answer, strict=True)]


REWARDS = {
    "wrong length": (reward(lambda p, a, **c: [1.0]), "returned 1 values for"),
    "array": (reward(lambda p, a, **c: tuple(right(p, a, answer=c["answer"]))), "a tuple, not a list"),
    "nan": (reward(lambda p, a, **c: [float("nan")] * len(a)), "not a finite number or None"),
    "text": (reward(lambda p, a, **c: ["good"] * len(a)), "not a finite number or None"),
    "out of range": (reward(lambda p, a, **c: [2.0] * len(a)), "outside its range"),
    "depends on its batch": (reward(_normalised), "depends on the other answers of a batch"),
    "random": (reward(_random), "other values when called again"),
    "fragile": (reward(_fragile), "raised IndexError for hostile answers"),
}
UNFAIR_REWARDS = {
    "never": (reward(lambda p, a, **c: [None] * len(a)), "never applies to this task"),
    "grudging": (reward(lambda p, a, **c: [v and 0.9 for v in right(p, a, answer=c["answer"])]), "promises 1.0"),
    "flattered": (reward(_flattered), "to the truth"),
    "generous": (reward(_generous), "gives 1.0 to 'B cell T cell monocyte natural"),
}


def _copy(train: Any, answers: Any, test: Any, *, seed: int) -> list[str]:
    return [answers[0]] * test.n_obs


def _short(train: Any, answers: Any, test: Any, *, seed: int) -> list[str]:
    return [answers[0]]


def _guess(train: Any, answers: Any, test: Any, *, seed: int) -> list[str]:
    return [random.choice(answers) for _ in range(test.n_obs)]


BASELINE = Baseline("copy", _copy)
ABSENT_BASELINE = Baseline("absent", _short, requires=("no_such_package_here",))
BASELINES = {
    "short": (Baseline("short", _short), "one string per test cell"),
    "random": (Baseline("random", _guess), "differs between two calls"),
}
