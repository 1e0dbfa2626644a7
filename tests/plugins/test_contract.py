"""The contract of a task: a sound task passes every clause, and each clause catches what it is there for."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import contract_tasks as tasks
import numpy as np
import pytest
from contract_tasks import TEMPLATES, Sound

from c2s import CellSentences, PromptTemplate, Task, builtin, example_table, split_cells, to_cell_sentences
from c2s.errors import ContextError
from c2s.hookspecs import hookimpl
from c2s.plugins import PluginHost
from c2s.testing import Case, TaskContract, checks, digest, running, scoring, simulated_cells
from c2s.testing.checking import check

CELLS = simulated_cells()
SENTENCES = to_cell_sentences(CELLS, top_k=16)


def case_of(task: Task, *, metric: Any = None, reward: Any = None, baselines: Sequence[Any] = ()) -> Case:
    return Case(
        task=task,
        templates=TEMPLATES,
        metrics=[metric or tasks.metric(tasks.share)],
        rewards=[reward or tasks.reward(tasks.right)],
        baselines=list(baselines),
        adata=CELLS,
        sentences=SENTENCES,
    )


class Plugin:
    """The sound task as a plugin in memory."""

    @hookimpl
    def c2s_register_prompts(self, register: Any) -> None:
        register("sound", TEMPLATES)

    @hookimpl
    def c2s_register_rewards(self, register: Any) -> None:
        register("right", tasks.reward(tasks.right))

    @hookimpl
    def c2s_register_tasks(self, register: Any) -> None:
        register("sound", Sound)


class TestSoundTask(TaskContract):
    """A sound task passes all of it, trained model included."""

    task = "sound"

    def host(self) -> PluginHost:
        return host_of(("sound", Plugin()))


@pytest.mark.parametrize("clause", [*checks.CHECKS, *scoring.CHECKS], ids=lambda c: c.__name__)
def test_each_clause_says_what_it_holds(clause: Any) -> None:
    assert clause.__doc__.splitlines()[0].endswith(".")


BROKEN = [
    (tasks.SplitByCell, checks.split_does_not_leak, "values of donor_id are on two sides"),
    (tasks.LyingUnit, checks.split_does_not_leak, "claims to keep tissue whole"),
    (tasks.UnknownUnit, checks.split_does_not_leak, "unit 'village' is no column"),
    (tasks.IncompleteSplit, checks.split_is_complete, "each cell of obs exactly once"),
    (tasks.NoTestCells, checks.split_is_complete, "left validation and test empty"),
    (tasks.NoValidationCells, checks.split_is_complete, "left validation empty"),
    (
        tasks.DonorsAnswer,
        scoring.scores_can_fail,
        "only answer of the test part is 'influenza', 20 time.*many donors",
    ),
    (tasks.NothingToLearn, scoring.scores_can_fail, "only answer of the training part is 'B cell'"),
    (tasks.MixedOrPure, scoring.scores_can_fail, "only answer of the test part is 'mixed', 5 time"),
    (
        tasks.NoExampleInTest,
        scoring.scores_can_fail,
        "no example can be made of the validation part: 20 cells are",
    ),
    (tasks.OddPart, checks.split_is_complete, r"parts called \['dev'\]"),
    (tasks.NoNote, checks.split_is_complete, "has no note"),
    (tasks.SplitByRow, checks.row_order_does_not_matter, "shuffling the cells changes the split"),
    (tasks.UnseededSplit, checks.same_seed_same_examples, r"two calls of split\(\)"),
    (tasks.Unseeded, checks.same_seed_same_examples, r"two calls of examples\(\)"),
    (tasks.PythonHash, checks.same_examples_in_another_process, "another process makes other examples"),
    (tasks.ByRow, checks.row_order_does_not_matter, "shuffling the cells changes .* examples, first"),
    (tasks.RowIds, checks.row_order_does_not_matter, "changes which examples are made"),
    (tasks.CountsWrongly, checks.stated_gene_counts_are_true, "says 200 genes and shows"),
    (tasks.CountsWrongly, checks.examples_have_their_columns, "reads differently"),
    (tasks.EditedPrompt, checks.examples_have_their_columns, "reads differently"),
    (tasks.TrailingSpace, checks.examples_have_their_columns, "ends in white space"),
    (tasks.ForeignTemplate, checks.examples_have_their_columns, "names the template 'sound/z'"),
    (
        tasks.ForgetsTheSentence,
        checks.examples_have_their_columns,
        "cannot be rendered again .* needs .*cell",
    ),
    (tasks.NoAnswers, checks.examples_have_their_columns, "has no answer"),
    (tasks.PaddedAnswers, checks.examples_have_their_columns, "answer of .* has white space"),
    (tasks.UnknownCells, checks.examples_have_their_columns, "unknown cells"),
    (tasks.NotATable, checks.examples_have_their_columns, "the examples lack cell_ids"),
    (tasks.BorrowsCells, checks.examples_stay_in_their_part, "cells of other parts"),
    (tasks.Peeks, checks.prompts_do_not_need_answers, "prompts change"),
    (tasks.TellsAnyway, checks.prompts_do_not_need_answers, "examples have an answer"),
    (tasks.StatesTooMuch, checks.stated_columns_are_needed, "'tissue' but makes examples without it"),
    (tasks.StatesAbsent, checks.stated_columns_are_needed, "column horoscope, which the cells do not have"),
    (tasks.HidesAColumn, checks.stated_columns_are_needed, "with only its stated columns .* fails"),
    (tasks.UsesOthersWhenThere, checks.stated_columns_are_needed, "not stated change the examples"),
    (tasks.RawKeyError, checks.stated_columns_are_needed, "raised KeyError, not a C2SError"),
    (tasks.UnhelpfulError, checks.stated_columns_are_needed, "does not name it"),
    (tasks.ShoutsBack, checks.answers_parse_to_themselves, "is 'B CELL', not 'B cell'"),
    (tasks.KeepsSpace, checks.answers_parse_to_themselves, "is ' B cell'"),
    (tasks.Fragile, scoring.hostile_answers_are_read, "raised IndexError"),
    (tasks.ReadsNumbers, scoring.hostile_answers_are_read, "neither a string nor None"),
    (tasks.AnswersForNothing, scoring.hostile_answers_are_read, "must be None"),
    (tasks.UnsortedCandidates, checks.candidates_cover_the_answers, "not sorted"),
    (tasks.MissingCandidates, checks.candidates_cover_the_answers, "lacks true answers"),
    (tasks.SetOption, checks.options_survive_json, "not plain JSON"),
    (tasks.ListOption, checks.options_survive_json, "round trip"),
    (tasks.TakesAnything, checks.options_survive_json, "unknown option was accepted"),
    (tasks.NoPaperProfile, checks.profiles_are_known, "no profile paper"),
    (tasks.MisspeltProfile, checks.profiles_are_known, "profile 'smoke' sets epoch, which"),
    (tasks.ImpossibleProfile, checks.profiles_are_known, "profile 'smoke' is refused: .*epochs"),
    (tasks.OddShapedProfile, checks.profiles_are_known, "profile 'smoke' is refused: .*heads"),
]


@pytest.mark.parametrize("broken, clause, message", BROKEN, ids=lambda v: getattr(v, "__name__", None) or "")
def test_broken_task_is_caught(broken: type[Task], clause: Any, message: str) -> None:
    clause(case_of(Sound()))
    tasks._seen.clear()
    with pytest.raises(AssertionError, match=message):
        clause(case_of(broken()))


@pytest.mark.parametrize(
    ("task", "templates"), [(tasks.DonorsAnswer(), TEMPLATES), (tasks.MixedOrPure(), tasks.MIXED_TEMPLATES)]
)
def test_a_task_with_one_true_answer_breaks_no_other_clause(task: Task, templates: Any) -> None:
    """Its accuracy is 1.000 for a model that has learned nothing, and nothing else is wrong with it."""
    case = dataclasses.replace(case_of(task), templates=templates)
    failed = []
    for clause in (*checks.CHECKS, *scoring.CHECKS):
        try:
            clause(case)
        except AssertionError:
            failed.append(clause)
    assert failed == [scoring.scores_can_fail]


def test_a_metric_that_says_nothing_of_the_test_part_is_caught() -> None:
    case = case_of(Sound(), metric=tasks.metric(tasks.first_donor))
    scoring.perfect_predictions_score_best(case)
    with pytest.raises(
        AssertionError, match=r"metric 'accuracy' is 1.0 for answers that are right, .*wrong.* alike"
    ):
        scoring.scores_can_fail(case)


def test_digest_is_the_same_when_made_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    SENTENCES.write_parquet(tmp_path / "cells.parquet")
    order = {
        "module": "contract_tasks",
        "class": "Sound",
        "options": {"label": "tissue"},
        "templates": [[t.name, t.text, t.answer] for t in TEMPLATES],
        "cells": str(tmp_path / "cells.parquet"),
        "path": [],
    }
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(order)))
    digest.main()
    printed = capsys.readouterr().out.strip()
    assert printed == checks.examples_digest(Sound(label="tissue"), SENTENCES, TEMPLATES)
    assert printed != checks.examples_digest(Sound(), SENTENCES, TEMPLATES)


def test_every_clause_has_a_task_that_breaks_it() -> None:
    broken = {clause for _, clause, _ in BROKEN}
    tried_below = {
        scoring.perfect_predictions_score_best,
        scoring.rewards_are_batched_and_finite,
        scoring.perfect_answers_are_rewarded_most,
    }
    assert broken | tried_below == {*checks.CHECKS, *scoring.CHECKS, checks.same_examples_in_another_process}


@pytest.mark.parametrize("metric, message", tasks.METRICS.values(), ids=tasks.METRICS)
def test_broken_metric_is_caught(metric: Any, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        scoring.perfect_predictions_score_best(case_of(Sound(), metric=metric))
    assert message in str(caught.value)


def test_a_task_needs_a_metric() -> None:
    case = dataclasses.replace(case_of(Sound()), metrics=[])
    with pytest.raises(AssertionError, match="names no metric"):
        scoring.perfect_predictions_score_best(case)


def test_metric_without_a_bound_passes() -> None:
    seen: list[float] = []

    def counting(right: bool) -> Any:
        def count(predictions: Any, references: Any, **columns: Any) -> dict[str, float]:
            seen.append(float(sum((a == b) is right for a, b in zip(predictions, references))))
            return {"accuracy": seen[-1]}

        return count

    n_examples = len(case_of(Sound()).examples())
    loss = tasks.metric(counting(right=False), higher_is_better=False, range=(0.0, float("inf")))
    scoring.perfect_predictions_score_best(case_of(Sound(), metric=loss))
    assert {0, n_examples} <= set(seen), "it was asked about true answers and about wrong ones"
    seen.clear()
    open_ended = tasks.metric(counting(right=True), range=(0.0, float("inf")))
    scoring.perfect_predictions_score_best(case_of(Sound(), metric=open_ended))
    assert {0, n_examples} <= set(seen)
    # No bound is no licence: a score that is undefined for true answers is still refused.
    undefined = tasks.metric(lambda p, r, **c: {"accuracy": float("nan")}, range=(0.0, float("inf")))
    with pytest.raises(AssertionError, match="is nan for perfect predictions"):
        scoring.perfect_predictions_score_best(case_of(Sound(), metric=undefined))


@pytest.mark.parametrize("reward, message", tasks.REWARDS.values(), ids=tasks.REWARDS)
def test_broken_reward_is_caught(reward: Any, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        scoring.rewards_are_batched_and_finite(case_of(Sound(), reward=reward))
    assert message in str(caught.value)


@pytest.mark.parametrize("reward, message", tasks.UNFAIR_REWARDS.values(), ids=tasks.UNFAIR_REWARDS)
def test_unfair_reward_is_caught(reward: Any, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        scoring.perfect_answers_are_rewarded_most(case_of(Sound(), reward=reward))
    assert message in str(caught.value)


def test_reward_that_applies_to_some_passes() -> None:
    given: list[float | None] = []

    def some(prompts: Any, answers: Any, *, answer: Any, **columns: Any) -> list[float | None]:
        values = tasks.right(prompts, answers, answer=answer)
        found = [value if truth == "B cell" else None for value, truth in zip(values, answer, strict=True)]
        given.extend(found)
        return found

    case = case_of(Sound(), reward=tasks.reward(some))
    for clause in (scoring.rewards_are_batched_and_finite, scoring.perfect_answers_are_rewarded_most):
        given.clear()
        clause(case)
        assert {None, 0.0, 1.0} <= set(given), "it was asked where it applies and where it does not"
    # Where it applies, it is held to its range.
    halved = tasks.reward(lambda p, a, **c: [value and 0.5 * value for value in some(p, a, **c)])
    with pytest.raises(AssertionError, match=r"gives a true answer .*its range promises"):
        scoring.perfect_answers_are_rewarded_most(case_of(Sound(), reward=halved))


def test_baselines_are_run_if_their_packages_are_there() -> None:
    called: list[str] = []

    def noted(baseline: Any) -> Any:
        def function(train: Any, answers: Any, test: Any, *, seed: int) -> list[str]:
            called.append(baseline.name)
            return list(baseline.function(train, answers, test, seed=seed))

        return dataclasses.replace(baseline, function=function)

    # The one whose package is absent would fail if it were run: it gives a single answer.
    baselines = [noted(tasks.BASELINE), noted(tasks.ABSENT_BASELINE)]
    running.baselines_answer(case_of(Sound(), baselines=baselines))
    assert called == ["copy", "copy"], "twice, to compare the two, and nothing else"


@pytest.mark.parametrize("baseline, message", tasks.BASELINES.values(), ids=tasks.BASELINES)
def test_broken_baseline_is_caught(baseline: Any, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        running.baselines_answer(case_of(Sound(), baselines=[baseline]))
    assert message in str(caught.value)


def test_gene_counts_of_several_cells_and_prose() -> None:
    """A number beside cells is no gene count; with several cells each may state its own."""

    def stated(text: str) -> None:
        template = PromptTemplate("x/a", text, "{label}")
        genes = ["MALAT1", "GAPDH", "ACTB"]
        record = {
            "example_id": "e",
            "template": "x/a",
            "cell_ids": ["c"],
            "prompt": template.render({"one": " ".join(genes), "two": "LYZ CD14"}),
            "answer": "a",
        }
        case = case_of(Sound())
        case._examples[0] = example_table([record])
        checks.stated_gene_counts_are_true(case)

    stated("7 cells given by their genes : {one} ; {two}")
    stated("In 2026 , 3 genes : {one} , and the 2 most highly expressed genes : {two}")
    stated("all 5 genes : {one} and {two}")
    for wrong in (
        "4 genes : {one} ; {two}",
        "the 9 most highly expressed genes : {one}",
        "top 7-most genes {one}",
    ):
        with pytest.raises(AssertionError, match=r"write \{n_genes\}, which is counted"):
            stated(wrong)


def test_a_count_that_is_stored_is_caught_when_genes_are_left_out() -> None:
    """A number that was right when the example was made is wrong once genes are dropped in training."""
    text = "The {n_listed} genes of a cell : {cell_sentence} . label :"
    case = dataclasses.replace(case_of(Sound()), templates=[PromptTemplate("sound/a", text, "{label}")])
    rows = [
        {**row, "template": "sound/a", "n_listed": len(row["cell_sentence"].split())}
        for row in case_of(Sound()).examples().to_pylist()
    ]
    case._examples[0] = example_table([{**row, "prompt": case.templates[0].render(row)} for row in rows])
    checks.examples_have_their_columns(case)
    with pytest.raises(AssertionError, match=r"says \d+ genes and shows \d+; write {n_genes}, which is counted"):
        checks.stated_gene_counts_are_true(case)


def test_prompts_that_do_not_fit_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(Sound())
    model = running.tiny_model(case)
    model.context_length = 12
    monkeypatch.setattr(running, "tiny_model", lambda case: model)
    with pytest.raises(ContextError, match="do not fit the context"):
        running.prompts_fit_the_context(case)


class ForgetsCandidates(Sound):
    """Lists candidates that it does not read: shows only after training."""

    def parse(self, answer: str) -> str | None:
        return None


def test_unreadable_candidates_are_caught_after_training(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="does not read one of the task's own candidates"):
        running.trains_and_predicts(case_of(ForgetsCandidates()), tmp_path)


class Free(Sound):
    """Has no list of answers: they are generated."""

    def candidates(self, examples: Any) -> None:
        return None


def test_task_without_candidates_generates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import c2s.inference

    written: list[str] = []
    generate = c2s.inference.generate

    def noted(*arguments: Any, **options: Any) -> list[str]:
        written.extend(answers := generate(*arguments, **options))
        return answers

    def no_score(*_: Any, **__: Any) -> Any:
        raise AssertionError("there are no candidates to score")

    monkeypatch.setattr(c2s.inference, "generate", noted)
    monkeypatch.setattr(c2s.inference, "score", no_score)
    case = case_of(Free())
    running.trains_and_predicts(case, tmp_path)
    assert len(written) == len(case.part("test")) > 0
    assert (tmp_path / "model").is_dir()


@dataclass(frozen=True)
class Pairs(Task):
    """Asks about two cells at a time: there is nothing for baselines to do."""

    name: ClassVar[str] = "pairs"
    title: ClassVar[str] = "Pairs"
    prompts: ClassVar[str] = "pairs"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    columns = ("cell_type",)

    def split(self, obs: Any, *, seed: int = 0) -> Any:
        return split_cells(obs, unit="donor_id", seed=seed)

    def examples(self, sentences: CellSentences, templates: Any, *, seed: int = 0, answers: bool = True) -> Any:
        rows = sorted(sentences.table.to_pylist(), key=lambda row: row["cell_id"])
        return example_table(
            [
                {
                    "example_id": a["cell_id"],
                    "template": "pairs/a",
                    "cell_ids": [a["cell_id"], b["cell_id"]],
                    "prompt": f"{a['cell_sentence']} ; {b['cell_sentence']} :",
                    "answer": a["cell_type"],
                }
                for a, b in zip(rows[::2], rows[1::2], strict=False)
            ]
        )


def test_baselines_are_left_out_where_a_task_asks_about_several_cells() -> None:
    def never(*_: Any, **__: Any) -> list[str]:
        raise AssertionError("the baseline was run")

    short = dataclasses.replace(tasks.BASELINES["short"][0], function=never)
    running.baselines_answer(case_of(Pairs(), baselines=[short]))
    with pytest.raises(AssertionError, match="the baseline was run"):
        running.baselines_answer(case_of(Sound(), baselines=[short]))


# -- c2s plugins check


def host_of(*plugins: tuple[str, object]) -> PluginHost:
    host = PluginHost([])
    host.register(builtin, "core")
    for name, plugin in plugins:
        host.register(plugin, name)
    return host


def test_check_runs_the_clauses_that_train_nothing() -> None:
    results = check(host_of(("sound", Plugin())), "sound")
    assert all(result.passed for result in results), [r for r in results if not r.passed]
    text = "\n".join(result.what for result in results)
    assert len(results) == 4 + 2 + len(checks.CHECKS) + len(scoring.CHECKS)
    assert "task sound: its prompts 'sound' exist" in text
    assert "Shuffled cells give the same examples and the same split" in text


@pytest.mark.parametrize(
    "broken, what, why",
    [
        (tasks.SplitByCell, "No value of the split's unit", "donor_id are on two sides"),
        (tasks.MisspeltProfile, "profiles smoke, laptop and paper", "sets epoch"),
        (
            tasks.DonorsAnswer,
            "training and test part two answers",
            "The only answer of the test part is 'influenza'",
        ),
    ],
)
def test_check_reports_a_broken_task(broken: type, what: str, why: str) -> None:
    class Broken(Plugin):
        @hookimpl
        def c2s_register_tasks(self, register: Any) -> None:
            register("sound", broken)

    failed = [r for r in check(host_of(("broken", Broken())), "broken") if not r.passed]
    assert len(failed) == 1
    assert what in failed[0].what
    assert why in failed[0].why


def test_check_reports_names_that_nobody_registers() -> None:
    class Lost(Sound):
        name: ClassVar[str] = "lost"
        prompts: ClassVar[str] = "lost"
        rewards: ClassVar[tuple[str, ...]] = ("righteous",)

    class Incomplete:
        @hookimpl
        def c2s_register_tasks(self, register: Any) -> None:
            register("lost", Lost)

    results = check(host_of(("incomplete", Incomplete())), "incomplete")
    assert [r.what for r in results if not r.passed] == [
        "task lost: its prompts 'lost' exist",
        "task lost: its reward 'righteous' exists",
    ]
    assert len(results) == 5, "and runs no clause that needs them"


def test_check_says_what_it_could_not_check() -> None:
    class Spatial(Sound):
        @property
        def columns(self) -> tuple[str, ...]:
            return (self.label, "niche")

    @dataclass(frozen=True)
    class NoDefault(Task):
        name: ClassVar[str] = "nodefault"
        title: ClassVar[str] = "No default"
        prompts: ClassVar[str] = "sound"
        metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
        label: str
        columns = ()
        split = Sound.split
        examples = Sound.examples

    class Both(Plugin):
        @hookimpl
        def c2s_register_tasks(self, register: Any) -> None:
            register("sound", Spatial)
            register("nodefault", NoDefault)

    skipped = [r for r in check(host_of(("both", Both())), "both") if r.passed is None]
    assert [r.what for r in skipped] == ["task sound: contract", "task nodefault: contract"]
    assert "its example cells have no niche; let its example_cells() return" in skipped[0].why
    assert "options without a default" in skipped[1].why


def test_check_of_plugins_that_are_not_loaded() -> None:
    class Broken:
        @hookimpl
        def c2s_register_tasks(self, register: Any) -> None:
            raise ValueError("no")

    results = check(host_of(("broken", Broken())), "broken")
    assert [r.passed for r in results] == [False]
    assert "ValueError: no" in results[0].why


# -- fixtures


def test_simulated_cells_are_what_they_say() -> None:
    again = simulated_cells()
    assert (again.X != CELLS.X).nnz == 0
    assert (simulated_cells(seed=1).X != CELLS.X).nnz > 0
    assert CELLS.uns["c2s"]["simulated"] is True
    assert CELLS.shape == (120, 46)
    np.testing.assert_allclose(np.expm1(CELLS.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)
    pairs = CELLS.obs.groupby(["donor_id", "cell_type"], observed=True).size()
    assert len(pairs) == 24
    assert CELLS.obs["tissue"].nunique() == 2
    assert SENTENCES.table["n_genes"].to_numpy().min() < 12, "some cells have fewer genes than are asked for"
    top = dict(zip(CELLS.obs["cell_type"], SENTENCES.table["cell_sentence"].to_pylist(), strict=True))
    assert "MS4A1" in top["B cell"]
    assert "MS4A1" not in top["monocyte"].split()[:6]


def test_fixtures_of_the_pytest_plugin(c2s_cells: Any, c2s_sentences: CellSentences, c2s_tiny_model: Any) -> None:
    assert c2s_cells.n_obs == len(c2s_sentences) == 120
    words = c2s_tiny_model.tokenizer.tokenize("MALAT1 natural killer cell")
    assert "MALAT1" in "".join(words)
    assert c2s_tiny_model.model.config.hidden_size == 32
