"""Training and prediction with a task, end to end, with the tiny model: the checks that take seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from c2s.testing.case import Case
from c2s.testing.checks import require

if TYPE_CHECKING:
    from c2s.models import LanguageModel


def tiny_model(case: Case) -> LanguageModel:
    """Build the smallest model that knows the words of the task's examples."""
    from c2s.models import TinyConfig, load_model

    examples = case.examples()
    corpus = [
        f"{p} {a}" for p, a in zip(examples["prompt"].to_pylist(), examples["answer"].to_pylist(), strict=True)
    ]
    config = TinyConfig(layers=1, hidden_size=32, heads=2)
    return load_model("tiny", corpus=corpus, config=config, device="cpu", dtype="float32")


def prompts_fit_the_context(case: Case) -> None:
    """Every prompt with its answer fits the context of the tiny model."""
    from c2s.models import check_context

    examples = case.examples()
    check_context(
        tiny_model(case),
        examples["prompt"].to_pylist(),
        examples["answer"].to_pylist(),
        ids=examples["example_id"].to_pylist(),
    )


def baselines_answer(case: Case) -> None:
    """Each baseline whose packages are installed gives one answer per test cell, the same twice."""
    import importlib.util

    split = case.split()
    train, test = (case.adata[split.ids(part)] for part in ("train", "test"))
    asked = case.part("train")
    pairs = zip(asked["cell_ids"].to_pylist(), asked["answer"].to_pylist(), strict=True)
    answers = {cells[0]: answer for cells, answer in pairs if len(cells) == 1}
    if len(answers) < train.n_obs:
        return  # baselines see one cell at a time; this task asks about several
    for baseline in case.baselines:
        if any(importlib.util.find_spec(package) is None for package in baseline.requires):
            continue
        truth = [answers[cell_id] for cell_id in train.obs_names]
        first = baseline.function(train, truth, test, seed=0)
        require(
            len(first) == test.n_obs and all(isinstance(answer, str) for answer in first),
            f"baseline {baseline.name!r} must give one string per test cell",
        )
        again = baseline.function(train, truth, test, seed=0)
        require(list(first) == list(again), f"baseline {baseline.name!r} differs between two calls with seed 0")


def trains_and_predicts(case: Case, folder: Path) -> None:
    """A few steps of training, with and without gene dropout, then answers that metrics can read."""
    from c2s.inference import generate, score
    from c2s.metrics import evaluate_predictions
    from c2s.models import load_model
    from c2s.prompts import GeneDropout
    from c2s.training import SFTConfig, train_sft

    train, test = case.part("train"), case.part("test")
    dropout = GeneDropout(0.3, case.templates)
    config = SFTConfig(max_steps=3, batch_size=4, learning_rate=1e-3, seed=0)
    result = train_sft(
        tiny_model(case),
        train,
        out=folder / "model",
        config=config,
        augment=dropout if dropout.reaches(train.column_names) else None,
        show_progress=False,
    )
    model = load_model(result.path, device="cpu")
    prompts = test["prompt"].to_pylist()
    candidates = case.task.candidates(case.examples())
    if candidates is not None:
        answers = [candidates[i] for i in score(model, prompts, candidates).log_probs.argmax(axis=1)]
    else:
        answers = generate(model, prompts, max_new_tokens=8)
    require(len(answers) == len(prompts), "the model gave fewer answers than there are prompts")
    predictions = [case.task.parse(answer) for answer in answers]
    if candidates is not None:
        require(None not in predictions, "parse() does not read one of the task's own candidates")
    columns = {k: v for k, v in case.columns(test).items() if k != "answer"}
    table = evaluate_predictions(
        case.metrics, predictions, test["answer"].to_pylist(), columns=columns, n_bootstrap=20
    )
    for metric in case.metrics:
        value = float(table.loc[table["metric"] == metric.name, "value"].iloc[0])
        require(
            math.isnan(value) or metric.range[0] - 1e-9 <= value <= metric.range[1] + 1e-9,
            f"after training, metric {metric.name!r} is {value}, outside its range {metric.range}",
        )
