"""The trainer's loss is the objective of section 4.5.2, recomputed here from the formula alone.

Only what was drawn is taken from the trainer: the tokens of prompts and answers, and the weights at each step.
Probabilities, rewards, advantages, ratios, clipping, divergence and averages are computed here, one answer at a
time, without padding or masks, in the order in which the formula is printed.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c2s.training import GRPOConfig, train_grpo
from c2s.training.grpo_trainer import PolicyTrainer

from .conftest import make_examples, make_model

#: Tokens of a prompt, and of one of its answers.
Drawn = tuple[tuple[int, ...], list[int]]
Step = tuple[list[Drawn], torch.nn.Module]


def quality(text: str) -> float:
    """A reward with many values, so that no two answers of a group are alike."""
    return sum(len(word) * (1 + place) for place, word in enumerate(text.split())) % 17 / 17


def reward(prompts: list[str], answers: list[str], **columns: Any) -> list[float | None]:
    return [quality(answer) for answer in answers]


def log_probabilities(network: Any, drawn: Drawn, temperature: float) -> torch.Tensor:
    """Log-probability of each token of an answer, float64 ``[tokens]``."""
    prompt, answer = drawn
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0].double()
    log_p = (logits / temperature).log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return torch.stack([log_p[place, token] for place, token in zip(places, answer, strict=True)])


def objective(
    drawn: list[Drawn], now: Any, old: Any, first: Any, config: GRPOConfig, tokenizer: Any
) -> tuple[float, float, float]:
    """Return the negative of J_GRPO for one group after the other, the mean divergence and the share clipped."""
    groups: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for prompt, answer in drawn:
        groups[prompt].append(answer)
    total, divergence, clipped, tokens = [], 0.0, 0, 0
    for prompt, answers in groups.items():
        assert len(answers) == config.group_size
        r = np.array([quality(tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers])
        advantages = (r - r.mean()) / (r.std(ddof=1) + 1e-4)  # TRL keeps equal rewards from dividing by zero
        for answer, advantage in zip(answers, advantages.tolist(), strict=True):
            p, q, ref = (log_probabilities(m, (prompt, answer), config.temperature) for m in (now, old, first))
            ratio = (p - q).exp()
            low, high = 1 - config.epsilon, 1 + (config.epsilon_high or config.epsilon)
            surrogate = torch.minimum(ratio * advantage, ratio.clip(low, high) * advantage)
            kl = (ref - p).exp() - (ref - p) - 1
            total.append(float((surrogate - config.beta * kl).mean()))
            divergence += float(kl.sum())
            clipped += int((ratio < low if advantage < 0 else ratio > high).sum() * (advantage != 0))
            tokens += len(answer)
    return -float(np.mean(total)), divergence / tokens, clipped / tokens


def spied_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[list[Step], Any, GRPOConfig]:
    """Train, and keep the tokens and the weights of every step."""
    config = GRPOConfig.of(
        {
            "max_steps": 4, "prompts_per_step": 2, "group_size": 4, "max_answer_tokens": 10, "temperature": 0.8,
            "learning_rate": 0.01, "lr_schedule": "constant", "epsilon": 0.1, "iterations": 2, "beta": 0.2,
        } | options
    )  # fmt: skip
    steps: dict[int, Step] = {}
    original = PolicyTrainer._compute_loss

    def spy(self: Any, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.state.global_step not in steps:
            plain = copy.deepcopy(self.accelerator.unwrap_model(model))
            plain.__dict__.pop("forward", None)
            steps[self.state.global_step] = ([], plain.eval())
        for p, pm, c, cm in zip(
            *(inputs[k] for k in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")), strict=True
        ):
            drawn = (tuple(p[pm.bool()].tolist()), c[cm.bool()].tolist())
            steps[self.state.global_step][0].append(drawn)
        return original(self, model, inputs)

    monkeypatch.setattr(PolicyTrainer, "_compute_loss", spy)
    result = train_grpo(
        make_model(initializer_range=0.3), make_examples(), rewards=reward, out=tmp_path / "out", config=config,
        show_progress=False,
    )  # fmt: skip
    return [steps[i] for i in range(config.max_steps or 0)], result, config


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.0, "iterations": 1},
        {"answers_per_batch": 2, "epsilon_high": 0.02, "temperature": 1.3},
    ],
    ids=["two steps on the same answers", "no reference", "in several passes"],
)
def test_the_loss_is_the_papers_objective(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, result, config = spied_run(tmp_path, monkeypatch, **options)
    lines = [line for line in result.history if "loss" in line]
    assert len(lines) == len(steps) == 4
    first = steps[0][1]
    for number, (drawn, now) in enumerate(steps):
        old = steps[number - number % config.iterations][1]  # the policy that drew these answers
        loss, divergence, clipped = objective(drawn, now, old, first, config, result.model.tokenizer)
        assert lines[number]["loss"] == pytest.approx(loss, abs=1e-5)
        assert lines[number]["clipped"] == pytest.approx(clipped, abs=1e-6)
        if config.beta:
            assert lines[number]["kl"] == pytest.approx(divergence, rel=1e-5, abs=1e-5)
    if config.iterations > 1:
        assert max(line["clipped"] for line in lines) > 0, "a test of clipping in which nothing is clipped"
        assert max(line["kl"] for line in lines) > 0.01, "a test of the divergence in which there is none"


def test_advantages_do_not_depend_on_the_scale_or_origin_of_the_reward(tmp_path: Path) -> None:
    def shifted(prompts: list[str], answers: list[str], **columns: Any) -> list[float]:
        return [50 * quality(answer) - 7 for answer in answers]

    config = GRPOConfig(max_steps=2, prompts_per_step=2, group_size=4, max_answer_tokens=6, iterations=2)
    losses = [
        train_grpo(
            make_model(), make_examples(), rewards=each, out=tmp_path / each.__name__, config=config,
            show_progress=False,
        ).losses
        for each in (reward, shifted)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert abs(losses[0][1]) > 1e-3
