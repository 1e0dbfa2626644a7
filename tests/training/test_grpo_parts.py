"""Rewards by name and what they may give, guards on records, and the configuration with the paper's presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import c2s
from c2s.errors import ConfigError, RegistryError
from c2s.tasks import Reward
from c2s.training import GRPOConfig, WeightedReward, resolve_rewards, score_answers
from c2s.training.grpo_guards import look
from c2s.training.grpo_run import arguments
from c2s.training.rewards import as_rewards, total_reward


def test_names_with_weights_are_looked_up() -> None:
    found = resolve_rewards("exact_match:2, overlap:0.5,gene_f1", c2s.default_host().rewards)
    assert [(w.name, w.weight) for w in found] == [("exact_match", 2.0), ("overlap", 0.5), ("gene_f1", 1.0)]
    assert resolve_rewards(["overlap:-1"], c2s.default_host().rewards)[0].weight == -1
    with pytest.raises(RegistryError, match="Did you mean 'overlap'"):
        resolve_rewards("overlapp", c2s.default_host().rewards)


def test_a_plain_function_is_a_reward_of_its_own_name_without_a_range() -> None:
    def far(prompts: list[str], answers: list[str], **columns: Any) -> list[float | None]:
        return [1e6] * len(answers)

    (one,) = as_rewards(far)
    assert (one.name, one.weight) == ("far", 1.0)
    assert score_answers([one], ["p"], ["a"], {"example_id": ["x"]}).tolist() == [[1e6]]
    assert [w.name for w in as_rewards([far, Reward("other", far)])] == ["far", "other"]


def test_the_registered_rewards_are_what_they_say() -> None:
    answers = ["A B", "A A A A", "B A C D", "", "Z"]
    wanted = resolve_rewards("exact_match,overlap,gene_f1", c2s.default_host().rewards)
    columns = {"example_id": list("12345"), "answer": ["A B"] * 5, "prompt": ["p"] * 5}
    values = score_answers(wanted, ["p"] * 5, answers, columns)
    # F1 from its definition: precision over words written, so that repeats cost.
    f1 = []
    for answer in answers:
        words, hits = answer.split(), len({"A", "B"} & set(answer.split()))
        p, r = hits / max(1, len(words)), hits / 2
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    assert values.T.tolist() == [[1, 0, 0, 0, 0], [1, 0.5, 1, 0, 0], pytest.approx(f1)]
    unknown = score_answers(wanted + as_rewards(lambda p, a, **c: [0.0] * len(a)), ["p"], ["A"],
                            {"example_id": ["1"], "answer": [None]})  # fmt: skip
    assert np.isnan(unknown[0, :3]).all()


def test_the_sum_leaves_out_what_does_not_apply() -> None:
    rewards = [WeightedReward(Reward("a", len), 2.0), WeightedReward(Reward("b", len), -0.5)]  # type: ignore[arg-type]
    values = np.array([[1.0, 2.0], [np.nan, 2.0], [np.nan, np.nan]])
    assert total_reward(values, rewards).tolist() == pytest.approx([1.0, -1.0, np.nan], nan_ok=True)


def steps(n: int, **values: Any) -> list[dict[str, Any]]:
    line = {"no_signal": 0.0, "answer_tokens": 20.0, "kl": 0.01}
    return [{"step": i + 1, **line, **{k: v[i] if isinstance(v, list) else v for k, v in values.items()}}
            for i in range(n)]  # fmt: skip


def alarms(lines: list[dict[str, Any]], config: GRPOConfig) -> list[tuple[int, str]]:
    """Steps at which a guard speaks, as a run would hear them."""
    return [(i, alarm.guard) for i in range(len(lines) + 1) for alarm in look(lines[:i], config)]


def test_guards_speak_when_a_limit_is_crossed_and_again_only_after_it_was_kept() -> None:
    config = GRPOConfig(guard_window=2, max_kl=0.5, no_signal=0.75, length_collapse=0.5)
    assert alarms(steps(30), config) == []
    assert alarms(steps(6, kl=[0.1, 0.6, 0.7, 0.2, 0.9, 0.9]), config) == [(2, "kl"), (5, "kl")]
    assert alarms(steps(5, no_signal=[1.0, 0.0, 1.0, 0.5, 1.0]), config) == [(4, "signal")]
    assert alarms(steps(6, answer_tokens=[20, 20, 20, 9, 9, 9]), config) == [(5, "length")]
    assert alarms(steps(3, kl=None), config) == []  # no reference, no divergence
    mixed = [line for step in steps(4, kl=[0.1, 0.1, 0.9, 0.9]) for line in (step, {"step": 0, "evaluation": {}})]
    assert alarms(mixed, config) == [(5, "kl"), (6, "kl")]  # an evaluation in between changes nothing it hears


def test_an_alarm_says_what_was_measured_and_what_helps() -> None:
    (alarm,) = look(steps(1, kl=3.0), GRPOConfig())
    assert (alarm.guard, alarm.value, alarm.limit) == ("kl", 3.0, 1.0)
    assert "3.00 nats per token" in alarm.message
    assert "raise beta" in alarm.message


def test_the_papers_presets() -> None:
    qa, dong, l1000 = (GRPOConfig.paper(run) for run in ("qa", "dong", "l1000"))
    assert (qa.beta, qa.learning_rate, qa.group_size) == (0.03, 5e-7, 32)
    assert (dong.group_size, dong.epochs) == (32, 3.0)
    assert (l1000.beta, l1000.learning_rate, l1000.group_size, l1000.epochs) == (5e-3, 1e-6, 24, 3.0)
    assert (l1000.answers_per_batch, l1000.answers_per_step) == (
        8,
        3 * 4 * 8,
    )  # three devices, four passes of eight
    assert GRPOConfig.paper("qa", beta=0.1, max_steps=5).beta == 0.1
    for config in (qa, dong, l1000):
        assert (config.loss, config.scale_rewards) == ("grpo", "group")
    with pytest.raises(ConfigError, match="no run 'figure 7'"):
        GRPOConfig.paper("figure 7")


def test_the_settings_reach_trl_and_its_own_defaults_do_not_change_the_objective(tmp_path: Path) -> None:
    config = GRPOConfig(
        prompts_per_step=4, group_size=6, answers_per_batch=8, iterations=3, save_steps=4, vllm="server",
        vllm_server="http://localhost:8000", epsilon_high=0.3,
    )  # fmt: skip
    two = [WeightedReward(Reward(name, len), weight) for name, weight in (("a", 1.0), ("b", 0.5))]  # type: ignore[arg-type]
    made = arguments(config, two, tmp_path, 30, cpu=True)
    assert (made.generation_batch_size, made.gradient_accumulation_steps, made.num_generations) == (24, 3, 6)
    assert (made.loss_type, made.use_bias_correction_kl, made.num_iterations) == ("grpo", False, 3)
    assert (made.epsilon, made.epsilon_high, made.reward_weights) == (0.2, 0.3, [1.0, 0.5])
    assert made.save_steps == 6  # whole cycles of three steps on the same answers
    assert (made.use_vllm, made.vllm_mode, made.vllm_server_base_url) == (True, "server", "http://localhost:8000")
    assert made.report_to == []
