"""GRPO on a toy task: it learns, it can be repeated and resumed, and it leaves the model as plain as it came."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import PreTrainedModel

from c2s.errors import C2SWarning, RewardError, TrainingError
from c2s.models import LanguageModel, load_model
from c2s.tasks import Reward
from c2s.training import GRPOConfig, GRPOResult, WeightedReward, read_record, reward_evaluation, train_grpo
from c2s.training.grpo_trainer import PolicyTrainer

from .conftest import make_examples, make_model

FAST = {"prompts_per_step": 2, "group_size": 4, "max_answer_tokens": 6, "learning_rate": 0.01}


def genes(prompts: list[str], answers: list[str], **columns: Any) -> list[float | None]:
    """Share of an answer's words that are genes."""
    return [sum(w.startswith("GENE") for w in a.split()) / max(1, len(a.split())) for a in answers]


def train(out: Path, *, model: Any = None, rewards: Any = genes, **more: Any) -> GRPOResult:
    arguments = {k: more.pop(k) for k in ("validation", "evaluate", "resume", "also_write") if k in more}
    config = GRPOConfig.of({**FAST, "max_steps": 4, **more})
    given = more.get("examples") or make_examples()
    return train_grpo(
        model or make_model(), given, rewards=rewards, out=out, config=config, show_progress=False, **arguments
    )


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_the_reward_rises(tmp_path: Path) -> None:
    model = make_model()
    held_out = make_examples(12, seed=3)
    before = reward_evaluation(model, held_out, genes, max_answer_tokens=6)["reward"].mean()
    result = train(tmp_path / "out", model=model, max_steps=30, group_size=8, beta=0.0)
    after = reward_evaluation(load_model(tmp_path / "out"), held_out, genes, max_answer_tokens=6)["reward"].mean()
    assert np.mean(result.rewards[-5:]) > 2 * np.mean(result.rewards[:5])
    assert after > 2 * before
    assert result.steps == 30
    assert result.path == model.path == tmp_path / "out"
    assert not (tmp_path / "out.training").exists()


def test_the_record_says_what_happened_in_each_step(tmp_path: Path) -> None:
    rewards = [
        genes,
        WeightedReward(Reward("short", lambda p, a, **c: [1 / (1 + len(x.split())) for x in a]), 0.5),
    ]
    result = train(
        tmp_path / "out",
        rewards=rewards,
        iterations=2,
        max_steps=6,
        validation=make_examples(4, seed=2),
        eval_every=3,
    )
    assert result.history == read_record(tmp_path / "out" / "train.jsonl")
    steps = [line for line in result.history if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    drew = [line for line in steps if "reward" in line]
    assert [line["step"] for line in drew] == [1, 3, 5]  # two steps on the same answers
    for line in drew:
        assert line["reward"] == pytest.approx(line["reward/genes"] + 0.5 * line["reward/short"], abs=1e-6)
        assert line["reward_std/short"] > 0
        assert 1 <= line["answer_tokens"] <= 6
        assert line["tokens"] == pytest.approx(8 * line["answer_tokens"])
        assert 0 <= line["no_signal"] <= 1
        assert line["unscored"] == 0
        assert 0 <= line["cut"] <= 1
    for line in steps:
        assert line["entropy"] > 0
        assert line["kl"] >= -1e-6
        assert line["grad_norm"] > 0
        assert line["seconds"] > 0
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)  # the first step has not left the reference
    assert steps[0]["clipped"] == 0
    evaluations = [line for line in result.history if "evaluation" in line]
    assert [line["step"] for line in evaluations] == [0, 4, 6]  # where new answers are drawn, not in between
    assert evaluations[0]["evaluation"]["score"] == evaluations[0]["evaluation"]["reward"]


def test_the_seed_decides_all_and_no_global_generator_is_touched(tmp_path: Path) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = train(tmp_path / "first")
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again = train(tmp_path / "again")
    other = train(tmp_path / "other", seed=1)
    assert weights(tmp_path / "first") == weights(tmp_path / "again")
    assert without_times(first.history) == without_times(again.history)
    assert weights(tmp_path / "first") != weights(tmp_path / "other")
    assert other.rewards != first.rewards


def stop_in_call(number: int) -> Any:
    """Return the reward, which is stopped as by Ctrl-C when it is called for the n-th time."""
    calls: list[int] = []

    def counted(prompts: list[str], answers: list[str], **columns: Any) -> list[float | None]:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return genes(prompts, answers)

    counted.__name__ = "genes"
    return counted


@pytest.mark.parametrize(
    "options",
    [{}, {"iterations": 2, "answers_per_batch": 4}, {"lora_rank": 2}],
    ids=["full", "two steps on the same answers", "adapters"],
)
def test_a_stopped_run_goes_on_to_the_same_weights(options: dict[str, Any], tmp_path: Path) -> None:
    options = {"max_steps": 6, "save_steps": 1, "epochs": 5, **options}
    whole = train(tmp_path / "whole", **options)
    draws = 3 if options.get("iterations") else 5
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "out", rewards=stop_in_call(draws), **options)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.training" / "checkpoint-4").is_dir()
    with pytest.raises(TrainingError, match="unfinished run"):
        train(tmp_path / "out", **options)
    result = train(tmp_path / "out", resume=True, **options)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")
    assert without_times(result.history) == without_times(whole.history)
    assert train(tmp_path / "out", resume=True, **options).losses == whole.losses  # finished: read, not trained


def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    train(tmp_path / "out", max_steps=1)
    for changes, said in (
        ({"beta": 0.5}, "beta was 0.03 and is 0.5"),
        ({"rewards": WeightedReward(Reward("genes", genes), 2.0)}, "rewards was"),
        ({"model": make_model(hidden_size=16)}, "first weights"),
    ):
        with pytest.raises(TrainingError, match=said):
            train(tmp_path / "out", max_steps=1, resume=True, **changes)


def test_adapters_alone_are_trained_and_merged(tmp_path: Path) -> None:
    model = make_model()
    before = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    result = train(tmp_path / "out", model=model, lora_rank=2, lora_targets=("dense_h_to_4h",))
    assert isinstance(model.model, PreTrainedModel)
    assert "forward" not in vars(model.model)
    changed = {name for name, weight in load_model(tmp_path / "out").model.state_dict().items()
               if not torch.equal(weight, before[name])}  # fmt: skip
    assert changed == {"gpt_neox.layers.0.mlp.dense_h_to_4h.weight"}
    steps = [line for line in result.history if "kl" in line]
    assert steps[0]["kl"] == 0  # the adapters switched off are the reference, to the last bit
    assert steps[-1]["kl"] > 0


def test_answers_end_at_the_end_of_text_and_prompts_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    original = PolicyTrainer._compute_loss

    def spy(self: Any, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(inputs)
        return original(self, model, inputs)

    monkeypatch.setattr(PolicyTrainer, "_compute_loss", spy)
    model = make_model()
    tokenizer: Any = model.tokenizer
    with torch.no_grad():  # a model that likes to stop, so that answers have all lengths
        model.model.get_output_embeddings().weight[tokenizer.eos_token_id] = 0
        model.model.get_output_embeddings().weight.mul_(0)
    train(tmp_path / "out", model=model, max_answer_tokens=40, group_size=32, max_steps=1, learning_rate=1e-9)
    (inputs,) = seen
    eos = tokenizer.eos_token_id
    ended = 0
    for ids, mask in zip(inputs["completion_ids"].tolist(), inputs["completion_mask"].tolist(), strict=True):
        length = sum(mask)
        assert mask == [1] * length + [0] * (len(mask) - length)
        assert eos not in ids[: length - 1]
        ended += ids[length - 1] == eos
    assert 0 < ended < 64
    for ids, mask in zip(inputs["prompt_ids"].tolist(), inputs["prompt_mask"].tolist(), strict=True):
        assert mask == sorted(mask)  # padded on the left
        kept = [token for token, real in zip(ids, mask, strict=True) if real]
        assert eos not in kept
        assert tokenizer.decode(kept) in set(make_examples()["prompt"].to_pylist())
    assert len({tuple(row) for row in inputs["prompt_mask"].tolist()}) > 1


def test_the_checkpoints_own_settings_and_dropout_do_not_disturb_the_policy(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain")
    odd = make_model(dropout=0.3)
    odd.model.generation_config.repetition_penalty = 5.0
    odd.model.generation_config.do_sample = True
    odd.model.generation_config.top_k = 1
    dropouts = [m for m in odd.model.modules() if isinstance(m, torch.nn.Dropout)]
    result = train(tmp_path / "odd", model=odd)
    assert result.rewards == plain.rewards
    assert odd.model.generation_config.repetition_penalty == 5.0
    assert {m.p for m in dropouts} == {0.3}
    assert [m.attention_dropout for m in odd.model.modules() if hasattr(m, "attention_dropout")] == [0.3]


def test_a_model_may_be_given_by_its_folder(tmp_path: Path) -> None:
    make_model().save(tmp_path / "sft")
    before = weights(tmp_path / "sft")
    result = train(tmp_path / "out", model=str(tmp_path / "sft"))
    assert result.losses == train(tmp_path / "loaded").losses
    assert weights(tmp_path / "sft") == before


def test_the_best_weights_are_put_back(tmp_path: Path) -> None:
    scores = iter([0.0, 3.0, 1.0, 2.0])
    seen: list[torch.Tensor] = []

    def evaluate(model: LanguageModel) -> dict[str, float]:
        seen.append(next(model.model.parameters()).detach().clone())
        return {"score": next(scores)}

    result = train(tmp_path / "out", evaluate=evaluate, eval_every=1, patience=2, max_steps=9)
    assert (result.best_step, result.best_score, result.steps, result.stopped_early) == (1, 3.0, 3, True)
    assert torch.equal(next(result.model.model.parameters()), seen[1])
    with pytest.raises(TrainingError, match="no 'score'"):
        train(tmp_path / "none", evaluate=lambda model: {"loss": 1.0})
    with pytest.raises(TrainingError, match="validation score of step 1 is nan"):
        train(tmp_path / "nan", evaluate=lambda model: {"score": float("nan")}, eval_every=1)


def test_a_reward_that_does_not_apply_is_left_out_of_the_sum(tmp_path: Path) -> None:
    def sometimes(prompts: list[str], answers: list[str], *, answer: list[str], **c: Any) -> list[float | None]:
        return [1.0 if truth == "B" else None for truth in answer]

    result = train(tmp_path / "out", rewards=[genes, sometimes], prompts_per_step=8, max_steps=2)
    for line in result.history:
        if "reward" in line:
            assert line["reward/sometimes"] == 1.0
            assert line["reward/genes"] < line["reward"] < line["reward/genes"] + 1
            assert line["unscored"] == 0
    with pytest.raises(RewardError, match=r"no reward applies to example 'cell-0-\d+'"):
        train(tmp_path / "none", rewards=sometimes, prompts_per_step=8)


def test_answers_without_any_reward_move_nothing(tmp_path: Path) -> None:
    def first_only(prompts: list[str], answers: list[str], **c: Any) -> list[float | None]:
        return [float(len(a)) if i % 4 == 0 else None for i, a in enumerate(answers)]

    model = make_model()
    before = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    result = train(tmp_path / "out", model=model, rewards=first_only, beta=0.0, max_steps=1)
    assert result.history[0]["unscored"] == 0.75
    assert all(torch.equal(weight, before[name]) for name, weight in model.model.state_dict().items())


def test_equal_rewards_are_told_of_and_can_stop_the_run(tmp_path: Path) -> None:
    def same(prompts: list[str], answers: list[str], **columns: Any) -> list[float | None]:
        return [0.5] * len(answers)

    options = {"guard_window": 2, "max_steps": 6, "rewards": same}
    with pytest.warns(C2SWarning, match=r"step 2: in 100% of the groups") as caught:
        result = train(tmp_path / "warned", **options)
    assert len([w for w in caught if issubclass(w.category, C2SWarning)]) == 1  # said once
    assert (result.steps, result.stopped_by) == (6, None)
    assert [line["step"] for line in result.warnings] == [2]
    with pytest.warns(C2SWarning, match="Training stops here"):
        stopped = train(tmp_path / "stopped", stop_on=("signal",), **options)
    assert (stopped.steps, stopped.stopped_by, stopped.stopped_early) == (2, "signal", True)
    assert stopped.warnings[0]["warning"]["guard"] == "signal"


def test_a_run_that_a_guard_stopped_stays_stopped_when_resumed(tmp_path: Path) -> None:
    def same(prompts: list[str], answers: list[str], **columns: Any) -> list[float | None]:
        return [0.5] * len(answers)

    def killed(model: LanguageModel, folder: Path) -> None:
        raise KeyboardInterrupt

    options = {"guard_window": 2, "max_steps": 6, "rewards": same, "stop_on": ("signal",)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", C2SWarning)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "out", also_write=killed, **options)
        result = train(tmp_path / "out", resume=True, **options)
    assert (result.steps, result.stopped_by) == (2, "signal")
    assert len([line for line in result.history if "loss" in line]) == 2


def test_running_out_of_memory_says_what_to_lower(tmp_path: Path) -> None:
    def evaluate(model: LanguageModel) -> dict[str, float]:
        if calls:
            raise torch.OutOfMemoryError("CUDA out of memory")
        calls.append(1)
        return {"score": 0.0}

    calls: list[int] = []
    with pytest.raises(TrainingError, match="memory ran out") as caught:
        train(tmp_path / "out", evaluate=evaluate, eval_every=1)
    assert "answers_per_batch" in caught.value.fix


def test_memory_that_runs_out_in_a_step_names_what_grpo_has(tmp_path: Path, monkeypatch) -> None:
    from c2s.training.grpo_trainer import PolicyTrainer

    def hungry(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PolicyTrainer, "_compute_loss", hungry)
    with pytest.raises(TrainingError, match=r"memory ran out in step 1, with \d+ answers") as caught:
        train(tmp_path / "out")
    assert "answers_per_batch" in caught.value.fix
    assert "gradient_accumulation" not in caught.value.fix


def test_a_step_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"the (loss|gradient) of step \d+ is|probabilities are no numbers"
    ) as caught:
        train(tmp_path / "out", learning_rate=1e30, max_grad_norm=1e30)
    assert "learning_rate" in caught.value.fix


def test_an_example_may_be_drawn_twice_in_one_step(tmp_path: Path) -> None:
    few: pa.Table = make_examples(2)
    result = train_grpo(
        make_model(), few, rewards=genes, out=tmp_path / "out", config=GRPOConfig.of(FAST, prompts_per_step=3,
        max_steps=2), show_progress=False,
    )  # fmt: skip
    assert result.steps == 2
