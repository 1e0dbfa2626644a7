"""What a task's metrics and rewards must hold, with perfect, wrong, empty and hostile answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from c2s.errors import C2SError
from c2s.prompts import stable_hash
from c2s.splits import PARTS, constant_parts
from c2s.testing.case import Case
from c2s.testing.checks import require

#: Answers that a language model may well give, and some that it should not.
HOSTILE = (
    *("", " ", "\n\n", "\x00", "�", "🧬 細胞", "a" * 10_000, "the " * 2_000),
    *("{cell_sentence}", "{", "%s %d", "</s><|endoftext|>", "'; DROP TABLE cells; --", "[1, 2", "null"),
    *("nan", "inf", "-1", "1e999", "None", "True", "MALAT1 MALAT1 MALAT1"),
)


def hostile_answers_are_read(case: Case) -> None:
    """``parse`` takes any text and gives a string or None; an empty answer holds nothing."""
    for text in HOSTILE:
        try:
            read = case.task.parse(text)
        except Exception as error:
            raise AssertionError(f"parse({text[:30]!r}) raised {type(error).__name__}: {error}") from error
        require(isinstance(read, str | None), f"parse({text[:30]!r}) is {read!r}, neither a string nor None")
    for text in ("", " ", "\n\n"):
        require(case.task.parse(text) is None, f"parse({text!r}) is {case.task.parse(text)!r}, and must be None")


def perfect_predictions_score_best(case: Case) -> None:
    """Each metric is at its best for the true answers, worse for wrong ones, and defined for none at all."""
    examples = case.examples()
    truth = examples["answer"].to_pylist()
    columns = {k: v for k, v in case.columns(examples).items() if k != "answer"}
    require(bool(case.metrics), "the task names no metric")
    for metric in case.metrics:
        best = metric.range[1] if metric.higher_is_better else metric.range[0]
        sign = 1 if metric.higher_is_better else -1

        def value(predictions: Sequence[str | None], metric: Any = metric) -> float:
            try:
                result = metric.function(predictions, truth, **columns)
            except Exception as error:
                shown = [str(p)[:20] for p in predictions[:2]]
                raise AssertionError(
                    f"metric {metric.name!r} raised {type(error).__name__} for {shown}...: {error}"
                ) from error
            require(
                isinstance(result, dict) and metric.name in result,
                f"metric {metric.name!r} returned {result!r}, not a dict with the key {metric.name!r}",
            )
            return float(result[metric.name])

        perfect = value([case.task.parse(answer) for answer in truth])
        require(
            math.isclose(perfect, best, rel_tol=1e-9, abs_tol=1e-9)
            if math.isfinite(best)
            else not math.isnan(perfect),
            f"metric {metric.name!r} is {perfect} for perfect predictions; its range says {best} is best",
        )
        others: dict[str, list[str | None]] = {"nothing": [None] * len(truth)}
        others |= {f"{text[:20]!r}": [case.task.parse(text)] * len(truth) for text in HOSTILE}
        if len(set(truth)) > 1:
            others["wrong answers"] = list(_another(truth))
        for what, predictions in others.items():
            worse = value(predictions)
            require(
                math.isnan(worse) or metric.range[0] - 1e-9 <= worse <= metric.range[1] + 1e-9,
                f"metric {metric.name!r} is {worse} for {what}, outside its range {metric.range}",
            )
            require(
                math.isnan(worse) or sign * worse < sign * perfect,
                f"metric {metric.name!r} is {worse} for {what}, no worse than {perfect} for perfect predictions",
            )


def scores_can_fail(case: Case) -> None:
    """Each part has examples, training and test part two answers, and the first metric tells right from wrong."""
    made = {}
    for part in PARTS:
        try:
            made[part] = case.part(part)
        except C2SError as error:
            raise AssertionError(f"no example can be made of the {part} part: {error}") from error
    answers = {part: examples["answer"].to_pylist() for part, examples in made.items()}
    fixed = constant_parts({part: answers[part] for part in ("train", "test")}, unit=case.split().unit)
    require(
        not fixed,
        f"{' '.join(fixed)} If these example cells are too few, let example_cells() give others; if all cells of "
        "a donor have one answer, a split by donor needs many donors",
    )
    truth = answers["test"]
    given = {
        "right": truth,
        "shuffled": sorted(truth, key=lambda answer: stable_hash("shuffled", answer)),
        "wrong": _another(truth),
        "the most frequent": case.task.majority(Counter(answers["train"]), made["test"]) or truth,
    }
    columns = {k: v for k, v in case.columns(made["test"]).items() if k != "answer"}
    for metric in case.metrics[:1]:
        values = {
            str(metric.function([case.task.parse(text) for text in texts], truth, **columns)[metric.name])
            for texts in given.values()
        }
        require(
            len(values) > 1,
            f"on the test part, metric {metric.name!r} is {min(values)} for answers that are {', '.join(given)} "
            "alike: no model can be told from another by it",
        )


def rewards_are_batched_and_finite(case: Case) -> None:
    """Each reward gives one finite number or None per answer, whatever the answer, alone or in a batch."""
    examples = case.examples().slice(0, 24)
    prompts, truth = examples["prompt"].to_pylist(), examples["answer"].to_pylist()
    columns = case.columns(examples)
    for reward in case.rewards:
        for what, answers in _batches(truth).items():
            values = reward_values(reward, prompts, answers, columns, what)
            again = reward_values(reward, prompts, answers, columns, what)
            require(values == again, f"reward {reward.name!r} gives other values when called again with {what}")
            for i in range(0, len(prompts), 7):
                one = {name: column[i : i + 1] for name, column in columns.items()}
                alone = reward_values(reward, prompts[i : i + 1], answers[i : i + 1], one, what)[0]
                require(
                    _same(alone, values[i]),
                    f"reward {reward.name!r} depends on the other answers of a batch ({alone} alone, {values[i]} "
                    f"among others, for {what})",
                )


def perfect_answers_are_rewarded_most(case: Case) -> None:
    """The true answer gets the most that a reward gives, and more than a wrong one."""
    examples = case.examples()
    prompts, truth = examples["prompt"].to_pylist(), examples["answer"].to_pylist()
    columns = case.columns(examples)
    for reward in case.rewards:
        perfect = reward_values(reward, prompts, truth, columns, "true answers")
        require(
            any(v is not None for v in perfect),
            f"reward {reward.name!r} is None for every true answer: it never applies to this task",
        )
        best = reward.range[1]
        low = [
            v for v in perfect if v is not None and math.isfinite(best) and not math.isclose(v, best, rel_tol=1e-6)
        ]
        require(not low, f"reward {reward.name!r} gives a true answer {low[:1]}, its range promises {best}")
        for what, answers in _batches(truth).items():
            for given, right, answer, true in zip(
                reward_values(reward, prompts, answers, columns, what), perfect, answers, truth, strict=True
            ):
                if given is not None and right is not None:
                    require(
                        given < right or case.task.parse(answer) == true,
                        f"reward {reward.name!r} gives {given} to {answer[:30]!r}, {right} to the truth {true!r}",
                    )


def reward_values(
    reward: Any, prompts: Sequence[str], answers: Sequence[str], columns: dict[str, list[Any]], what: str
) -> list[float | None]:
    """Call a reward and check the shape and range of what it returns."""
    try:
        values = reward.function(list(prompts), list(answers), **columns)
    except Exception as error:
        raise AssertionError(
            f"reward {reward.name!r} raised {type(error).__name__} for {what}: {error}"
        ) from error
    require(isinstance(values, list), f"reward {reward.name!r} returned a {type(values).__name__}, not a list")
    require(
        len(values) == len(answers),
        f"reward {reward.name!r} returned {len(values)} values for {len(answers)} answers ({what})",
    )
    low, high = reward.range
    for value in values:
        if value is None:
            continue
        require(
            isinstance(value, float | int) and math.isfinite(value),
            f"reward {reward.name!r} returned {value!r} for {what}, not a finite number or None",
        )
        require(
            low - 1e-9 <= value <= high + 1e-9,
            f"reward {reward.name!r} returned {value} for {what}, outside its range {reward.range}",
        )
    return list(values)


CHECKS = (
    hostile_answers_are_read,
    perfect_predictions_score_best,
    scores_can_fail,
    rewards_are_batched_and_finite,
    perfect_answers_are_rewarded_most,
)


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _batches(truth: list[str]) -> dict[str, list[str]]:
    """Answers of each kind, one per example."""
    batches = {"true answers": list(truth)}
    if len(set(truth)) > 1:
        batches["wrong answers"] = _another(truth)
        batches["all answers at once"] = [" ".join(sorted(set(truth)))] * len(truth)
    # Different neighbours in one batch, so that a reward that normalises by its batch is caught.
    batches["hostile answers"] = [HOSTILE[i % len(HOSTILE)] for i in range(len(truth))]
    batches["every other answer true"] = [t if i % 2 else HOSTILE[i % len(HOSTILE)] for i, t in enumerate(truth)]
    return batches


def _another(truth: list[str]) -> list[str]:
    """Return a true answer of some other example, different from each example's own."""
    distinct = sorted(set(truth))
    return [distinct[(distinct.index(answer) + 1) % len(distinct)] for answer in truth]
