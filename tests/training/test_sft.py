"""Training: it learns, it repeats, it stops at the right time, and it refuses what cannot work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from c2s.errors import ContextError, OutputError, TrainingError
from c2s.models import LanguageModel, load_model
from c2s.prompts import GeneDropout
from c2s.training import SFTConfig, read_record, train_sft

from .conftest import TEMPLATE, make_examples, make_model

QUICK: dict[str, Any] = {"batch_size": 8, "learning_rate": 3e-3, "max_steps": 4, "save_steps": 100}


def train(out: Path, model: LanguageModel | None = None, examples: pa.Table | None = None, **options: Any) -> Any:
    passed = {k: options.pop(k) for k in [*options] if k in {"augment", "evaluate", "validation", "resume"}}
    config = SFTConfig.of(QUICK | options)
    examples = make_examples() if examples is None else examples
    return train_sft(model or make_model(), examples, out=out, config=config, show_progress=False, **passed)


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2", "llama"])
def test_a_model_read_from_a_folder_learns_and_is_saved_whole(architecture: str, tmp_path: Path) -> None:
    make_model(architecture).save(tmp_path / "first")
    model = load_model(tmp_path / "first", device="cpu")
    result = train(tmp_path / "out", model, max_steps=12, learning_rate=1e-2)
    assert result.losses[-1] < result.losses[0] / 2
    assert result.steps == 12
    assert result.path == model.path == tmp_path / "out"
    read = load_model(tmp_path / "out", device="cpu")
    for (name, ours), theirs in zip(
        model.model.state_dict().items(), read.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "train.jsonl", "training.json",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(("out.", "."))] == []
    assert "forward" not in vars(model.model)
    assert not model.model.training


def test_every_step_has_one_line_with_what_happened(tmp_path: Path) -> None:
    result = train(tmp_path / "out", epochs=2, max_steps=None, warmup_steps=2, lr_schedule="linear")
    lines = read_record(tmp_path / "out" / "train.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2], abs=1e-3)
    assert lines[0]["learning_rate"] == 0
    assert max(line["learning_rate"] for line in lines) == pytest.approx(3e-3)
    assert lines[-1]["learning_rate"] < lines[3]["learning_rate"]
    assert all(line["grad_norm"] > 0 and line["tokens"] > 8 * 9 and line["seconds"] > 0 for line in lines)
    assert result.history == lines
    summary = json.loads((tmp_path / "out" / "training.json").read_text())
    assert summary["config"]["epochs"] == 2
    assert summary["taken"] == summary["steps"] == 6
    assert (result.best_step, result.best_score, result.stopped_early) == (None, None, False)


def test_same_seed_same_bytes_and_other_seed_other_bytes(tmp_path: Path) -> None:
    dropout = {"dropout": 0.1}
    runs = {}
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        torch.manual_seed(hash(name) % 1000)  # what the caller drew before must not matter
        train(tmp_path / name, make_model(**dropout), seed=seed, augment=GeneDropout(0.3, [TEMPLATE]))
        runs[name] = (tmp_path / name / "model.safetensors").read_bytes()
    assert runs["a"] == runs["b"]
    assert runs["a"] != runs["c"]


def test_global_generators_are_left_as_they_were(tmp_path: Path) -> None:
    import random

    states = lambda: (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())  # noqa: E731, NPY002
    before = states()
    train(tmp_path / "out", make_model(dropout=0.1), validation=make_examples(4, seed=1), eval_every=2)
    assert states() == before


def test_one_batch_of_eight_equals_eight_of_one(tmp_path: Path) -> None:
    whole, parts = (
        train(tmp_path / f"{b}x{g}", batch_size=b, gradient_accumulation=g, loss=loss)
        for b, g, loss in [(8, 1, "full"), (1, 8, "full")]
    )
    assert whole.losses == pytest.approx(parts.losses, rel=1e-4)
    assert [h["grad_norm"] for h in whole.history] == pytest.approx(
        [h["grad_norm"] for h in parts.history], rel=1e-3
    )
    assert [h["tokens"] for h in whole.history] == [h["tokens"] for h in parts.history]
    for a, b in zip(whole.model.model.parameters(), parts.model.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=2e-4)


def test_the_first_loss_is_that_of_the_untrained_model_on_the_first_batch(tmp_path: Path) -> None:
    from c2s.training import validation_loss

    examples = make_examples(8)
    expected = validation_loss(make_model(), examples)
    result = train(tmp_path / "out", examples=examples, max_steps=1)
    assert result.losses == pytest.approx([expected], rel=1e-5)


class Script:
    """An evaluation with scores known beforehand; remembers the weights of each time."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.seen = scores, []

    def __call__(self, model: LanguageModel) -> Mapping[str, float]:
        assert not model.model.training
        assert not torch.is_grad_enabled()
        torch.rand(3)  # an evaluation that draws must not change the training
        self.seen.append({k: v.clone() for k, v in model.model.state_dict().items()})
        return {"score": self.scores[len(self.seen) - 1], "accuracy": 0.5}


def test_early_stopping_gives_back_the_best_weights(tmp_path: Path) -> None:
    script = Script([0.1, 0.7, 0.7, 0.6, 0.9])
    result = train(tmp_path / "out", evaluate=script, max_steps=10, eval_every=2, patience=2, keep_checkpoints=1)
    assert (result.steps, result.best_step, result.best_score, result.stopped_early) == (8, 4, 0.7, True)
    for name, weight in load_model(tmp_path / "out", device="cpu").model.state_dict().items():
        assert torch.equal(weight, script.seen[1][name])
        assert torch.equal(weight, result.model.model.state_dict()[name])
    evaluated = [line for line in result.history if "evaluation" in line]
    assert [line["step"] for line in evaluated] == [2, 4, 6, 8]
    assert evaluated[0]["evaluation"] == {"score": 0.1, "accuracy": 0.5}


def test_without_patience_it_goes_on_and_the_last_step_is_evaluated(tmp_path: Path) -> None:
    script = Script([0.9, 0.5, 0.5])
    result = train(tmp_path / "out", evaluate=script, max_steps=5, eval_every=2)
    assert (result.steps, result.best_step, result.stopped_early) == (5, 2, False)
    assert len(script.seen) == 3
    for name, weight in result.model.model.state_dict().items():
        assert torch.equal(weight, script.seen[0][name])
    assert not torch.equal(script.seen[0]["lm_head.weight"], script.seen[2]["lm_head.weight"])


def test_evaluating_changes_nothing_of_the_training(tmp_path: Path) -> None:
    plain = train(tmp_path / "a", make_model(dropout=0.2), max_steps=4)
    watched = train(
        tmp_path / "b", make_model(dropout=0.2), max_steps=4, evaluate=Script([1, 2, 3, 4]), eval_every=1
    )
    assert plain.losses == watched.losses


def test_validation_examples_alone_give_the_score(tmp_path: Path) -> None:
    result = train(tmp_path / "out", validation=make_examples(6, seed=1), max_steps=6, eval_every=3)
    numbers = [line["evaluation"] for line in result.history if "evaluation" in line]
    assert [n["score"] for n in numbers] == [-n["loss"] for n in numbers]
    assert numbers[1]["loss"] < numbers[0]["loss"]
    assert result.best_step == 6


def test_gene_dropout_reaches_the_model(tmp_path: Path) -> None:
    seen: list[str] = []
    dropout = GeneDropout(0.5, [TEMPLATE])

    def spying(record: dict, rng: np.random.Generator) -> Mapping[str, Any]:
        thinned = dropout(record, rng)
        seen.append(thinned["prompt"])
        return thinned

    thin = train(tmp_path / "a", epochs=2, max_steps=None, augment=spying)
    full = train(tmp_path / "b", epochs=2, max_steps=None)
    assert len(seen) == 2 * 24
    assert len(set(seen)) > 40
    assert sum(line["tokens"] for line in thin.history) < 0.8 * sum(line["tokens"] for line in full.history)


def test_what_is_written_along_is_there_with_the_model(tmp_path: Path) -> None:
    def also(model: LanguageModel, folder: Path) -> None:
        (folder / "extra.json").write_text(str(model.n_parameters))

    train_sft(
        make_model(), make_examples(), out=tmp_path / "out", config=SFTConfig.of(QUICK, max_steps=1),
        show_progress=False, also_write=also,
    )  # fmt: skip
    assert int((tmp_path / "out" / "extra.json").read_text()) == make_model().n_parameters


# What cannot work, and what is said about it.


def test_an_existing_output_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists"):
        train(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def replaced(examples: pa.Table, column: str, row: int, value: str | None) -> pa.Table:
    values = examples[column].to_pylist()
    values[row] = value
    return examples.set_column(examples.column_names.index(column), column, pa.array(values, pa.string()))


BAD_EXAMPLES = {
    "none": (make_examples().slice(0, 0), TrainingError, "no example to train on"),
    "no answers": (make_examples().drop_columns(["answer"]), TrainingError, "no column answer"),
    "one answer missing": (replaced(make_examples(), "answer", 5, None), TrainingError, "1 of 24 .* 'cell-0-5'"),
    "empty answer": (replaced(make_examples(), "answer", 2, ""), TrainingError, "1 of 24 .* 'cell-0-2'"),
    "too long": (
        replaced(make_examples(), "prompt", 7, "GENE1 " * 80 + ":"),
        ContextError,
        r"1 of 24 .*\(64 tokens\).* 'cell-0-7' with 83 tokens",
    ),
}


@pytest.mark.parametrize("case", BAD_EXAMPLES)
def test_examples_that_cannot_be_learned_are_refused_before_the_first_step(case: str, tmp_path: Path) -> None:
    examples, error, problem = BAD_EXAMPLES[case]
    with pytest.raises(error, match=problem) as caught:
        train(tmp_path / "out", examples=examples)
    assert caught.value.fix
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_a_number_stops_with_its_step_and_batch(tmp_path: Path) -> None:
    model = make_model()

    def poison(record: dict, rng: np.random.Generator) -> dict:
        if len(calls) == 8:  # the second batch
            with torch.no_grad():
                next(model.model.parameters())[:] = float("nan")
        calls.append(record["example_id"])
        return record

    calls: list[str] = []
    with pytest.raises(
        TrainingError, match=r"the loss of step \d is nan; its batch begins with 'cell-0-"
    ) as caught:
        train(tmp_path / "out", model, augment=poison)
    assert "learning_rate" in caught.value.fix
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [({"accuracy": 1.0}, "accuracy, but no 'score'"), ({"score": float("nan")}, "score of step 2 is nan")],
)
def test_an_evaluation_without_a_usable_score_is_refused(numbers: dict, problem: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=problem):
        train(tmp_path / "out", evaluate=lambda model: numbers, eval_every=2)
