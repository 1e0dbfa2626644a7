"""What can be trained, in which precision, and from which base."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from c2s.cli import app
from c2s.errors import C2SWarning, ConfigError, TrainingError
from c2s.models import load_model, merge_lora
from c2s.training import GRPOConfig, SFTConfig, read_record, train_grpo, train_sft
from c2s.training.adapters import training_dtype

from .conftest import make_examples, make_model

QUICK = {"max_steps": 2, "batch_size": 4}


def train(model, out: Path, **options):
    return train_sft(model, make_examples(), out=out, config=SFTConfig.of(QUICK | options), show_progress=False)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    base = make_model()
    base.save(tmp_path / "base")
    train(load_model(tmp_path / "base"), tmp_path / "adapter", lora_rank=2, lora_merge=False)
    return tmp_path / "adapter"


def genes(prompts, answers, **columns):
    return [float(len(answer)) for answer in answers]


def test_half_precision_is_refused_or_warned_of(tmp_path: Path) -> None:
    model = make_model()
    model.model.half()
    with pytest.raises(TrainingError, match="float16") as caught:
        train(model, tmp_path / "a")
    assert 'dtype="float32"' in caught.value.fix
    model.model.bfloat16()
    with pytest.warns(C2SWarning, match="small steps round away"):
        train(model, tmp_path / "b")


def test_a_run_loads_what_it_trains_in_float32() -> None:
    assert training_dtype(SFTConfig()) == training_dtype(GRPOConfig()) == "float32"
    assert training_dtype(SFTConfig(lora_rank=4)) == "auto"


def test_an_adapter_that_is_used_is_not_trained_on_and_a_merged_one_is(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no weight that can be trained") as caught:
        train(load_model(adapter), tmp_path / "a")
    assert "merge=True" in caught.value.fix
    merged = merge_lora(load_model(adapter))
    before = copy.deepcopy(merged.model.state_dict())
    train(merged, tmp_path / "b", learning_rate=0.01)
    assert any(not torch.equal(before[name], weight) for name, weight in merged.model.state_dict().items())


def test_grpo_measures_divergence_from_the_fine_tuned_model(adapter: Path, tmp_path: Path) -> None:
    config = GRPOConfig(
        max_steps=1, prompts_per_step=2, group_size=2, max_answer_tokens=4, beta=0.1, learning_rate=0.01
    )
    with pytest.raises(ConfigError, match="adapter on its base") as caught:
        train_grpo(load_model(adapter), make_examples(), rewards=genes, out=tmp_path / "a", config=config)
    assert "merge=True" in caught.value.fix
    model = load_model(adapter, merge=True)
    done = train_grpo(
        model, make_examples(), rewards=genes, out=tmp_path / "b", config=config, show_progress=False
    )
    assert done.history[-1]["kl"] == pytest.approx(0, abs=1e-6)


def test_an_adapter_alone_needs_a_base_that_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"base .* is only in memory"):
        train(make_model(), tmp_path / "a", lora_rank=2, lora_merge=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rank", [None, 2])
def test_grpo_keeps_the_first_weights_where_nothing_is_better(rank: int | None, tmp_path: Path) -> None:
    model = make_model()
    first = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    scores = iter([1.0, 0.5, 0.25])
    config = GRPOConfig(
        max_steps=4, eval_every=2, prompts_per_step=2, group_size=4, max_answer_tokens=4, learning_rate=0.05,
        lora_rank=rank,
    )  # fmt: skip
    done = train_grpo(
        model, make_examples(), rewards=genes, out=tmp_path / "out", config=config, show_progress=False,
        evaluate=lambda model: {"score": next(scores)},
    )  # fmt: skip
    assert (done.best_step, done.best_score) == (0, 1.0)
    kept = load_model(tmp_path / "out").model.state_dict()
    for name, weight in first.items():
        torch.testing.assert_close(kept[name], weight, atol=1e-6, rtol=0)


def test_a_guard_that_stops_is_followed_by_an_evaluation(tmp_path: Path) -> None:
    config = GRPOConfig(
        max_steps=8, eval_every=8, prompts_per_step=2, group_size=2, max_answer_tokens=4, guard_window=1,
        no_signal=0.01, stop_on=("signal",),
    )  # fmt: skip
    with pytest.warns(C2SWarning, match="Training stops here"):
        done = train_grpo(
            make_model(), make_examples(), rewards=lambda p, a, **c: [1.0] * len(a), out=tmp_path / "out",
            config=config, validation=make_examples(4), show_progress=False,
        )  # fmt: skip
    assert done.stopped_by == "signal" and done.steps == 1
    assert [line["step"] for line in read_record(done.path / "train.jsonl") if "evaluation" in line] == [0, 1]
    assert done.best_score == 1.0


def test_a_run_of_two_processes_is_not_resumed_by_one(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train_sft(
            make_model(), make_examples(), out=tmp_path / "out", show_progress=False,
            config=SFTConfig.of({**QUICK, "max_steps": 4, "save_steps": 1, "eval_every": 2}),
            evaluate=lambda model: (_ for _ in ()).throw(RuntimeError("killed")),
        )  # fmt: skip
    told = tmp_path / "out.training" / "settings.json"
    settings = json.loads(told.read_text())
    assert settings["config"]["processes"] == 1
    told.write_text(json.dumps(settings | {"config": settings["config"] | {"processes": 2}}))
    with pytest.raises(TrainingError, match="processes was 2 and is 1"):
        train_sft(
            make_model(), make_examples(), out=tmp_path / "out", show_progress=False, resume=True,
            config=SFTConfig.of({**QUICK, "max_steps": 4, "save_steps": 1, "eval_every": 2}),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--option", "seed=3"], "seed has a flag of its own"),
        (["--option", "lr_schedule=[linear"], "is not readable"),
        (["--model", "elsewhere", "--option", "hidden_size=512"], "hidden_size is a matter of the tiny model"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words: list[str], says: str, tmp_path: Path) -> None:
    common = ["train", "sft", "--task", "annotation", "--data", "pbmc68k_reduced", "--out", str(tmp_path / "out")]
    with pytest.raises(ConfigError, match=says):
        app([*common, *words], standalone_mode=False)
