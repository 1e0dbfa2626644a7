"""What GRPO is told wrongly gets the error class that names the mistake, and a message that ends with the fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
After every row there is no model in the output folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from bad_inputs import Case

import c2s
from c2s import errors as e
from c2s.models import LanguageModel, TinyConfig, load_model
from c2s.tasks import Reward, example_table
from c2s.training import GRPOConfig, resolve_rewards, train_grpo

WORDS = ["T", "B", "NK", "cell", "Type", "of", ":"]


def model() -> LanguageModel:
    shape = TinyConfig(layers=1, hidden_size=16, heads=2, context_length=24)
    return load_model("tiny", corpus=[" ".join(WORDS)], config=shape, device="cpu")


def examples(n: int = 4, words: int = 3) -> pa.Table:
    return example_table(
        [
            {"example_id": f"cell-{i}", "prompt": " ".join(["Type"] * words), "answer": "B", "template": "t",
             "cell_ids": [f"cell-{i}"]}
            for i in range(n)
        ]
    )  # fmt: skip


def fine(prompts: list[str], answers: list[str], **columns: Any) -> list[float | None]:
    return [0.5] * len(answers)


def train(folder: Path, rewards: Any = fine, table: pa.Table | None = None, **options: Any) -> object:
    settings = {"max_steps": 1, "prompts_per_step": 2, "group_size": 2, "max_answer_tokens": 4} | options
    return train_grpo(
        model(), examples() if table is None else table, rewards=rewards, out=folder / "out",
        config=GRPOConfig.of(settings), show_progress=False,
    )  # fmt: skip


def giving(value: Any, **reward: Any) -> Any:
    """A reward that gives `value`, called with the number of answers where it is a function."""

    def mine(prompts: list[str], answers: list[str], **columns: Any) -> Any:
        return value(len(answers)) if callable(value) else value

    return Reward("mine", mine, **reward)


CASES = [
    Case("reward with too few values", e.RewardError, r"'mine' gave 1 values for 4 answers.*'cell-\d'",
         "one number or None per answer", lambda d: train(d, giving([1.0]))),
    Case("reward with too many values", e.RewardError, "gave 5 values for 4 answers", "in their order",
         lambda d: train(d, giving(lambda n: [0.0] * (n + 1)))),
    Case("reward that is no list", e.RewardError, r"'mine' gave 0\.5, not a list", "one number or None",
         lambda d: train(d, giving(0.5))),
    Case("reward NaN", e.RewardError, r"'mine' gave nan for example 'cell-\d', not a finite number",
         "a finite number", lambda d: train(d, giving(lambda n: [float("nan")] * n))),
    Case("reward infinite", e.RewardError, "gave inf .* not a finite number", "a finite number",
         lambda d: train(d, giving(lambda n: [float("inf")] * n, range=(0, float("inf"))))),
    Case("reward a text", e.RewardError, "gave 'good' .* not a finite number", "a finite number",
         lambda d: train(d, giving(lambda n: ["good"] * n))),
    Case("reward above its range", e.RewardError, r"gave 2\.0 for example 'cell-\d', outside its range 0 to 1",
         "state the range", lambda d: train(d, giving(lambda n: [2.0] * n))),
    Case("reward below its range", e.RewardError, r"gave -1\.0 .* outside its range", "state the range",
         lambda d: train(d, giving(lambda n: [-1.0] * n))),
    Case("reward None for all", e.RewardError, r"no reward applies to example 'cell-\d' \(mine gave None",
         "add a reward that applies", lambda d: train(d, giving(lambda n: [None] * n))),
    Case("reward that raises", e.RewardError, "the reward 'mine' raised ZeroDivisionError", "whatever the answer",
         lambda d: train(d, giving(lambda n: [1 / 0]))),
    Case("reward that does not take columns", e.RewardError, "the reward 'mine' raised TypeError",
         r"\(prompts, answers, \*\*columns\)", lambda d: train(d, Reward("mine", lambda prompts, answers: [1.0]))),
    Case("no reward", e.ConfigError, "there is no reward", "resolve_rewards", lambda d: train(d, [])),
    Case("a name where an object belongs", e.ConfigError, "'overlap' is neither a reward nor a function",
         "resolve_rewards", lambda d: train(d, ["overlap"])),
    Case("a reward twice", e.ConfigError, "'fine' comes twice", "resolve_rewards",
         lambda d: train(d, [fine, fine])),
    Case("weight zero", e.ConfigError, "the weight of 'overlap' is 0", "c2s.Reward",
         lambda d: resolve_rewards("overlap:0", c2s.default_host().rewards)),
    Case("weight no number", e.ConfigError, "the weight of 'overlap' is 'much'", "exact_match:1",
         lambda d: resolve_rewards("overlap:much", c2s.default_host().rewards)),
    Case("prompt longer than the context", e.ContextError,
         "example 'cell-0' has 22 tokens, and with 4 for the answer", "lower max_answer_tokens",
         lambda d: train(d, table=examples(words=22))),
    Case("no prompts", e.TrainingError, "there is no prompt", "at least one example",
         lambda d: train(d, table=examples().slice(0, 0))),
    Case("no column prompt", e.TrainingError, "no column prompt", r"examples\(\)",
         lambda d: train(d, table=examples().drop_columns(["prompt"]))),
    Case("one answer per group", e.ConfigError, "group_size: .*greater than or equal to 2", "it takes",
         lambda d: GRPOConfig.of(group_size=1)),
    Case("answers that do not divide", e.ConfigError, "answers_per_batch 5 must divide .* = 4", "it takes",
         lambda d: train(d, answers_per_batch=5)),
    Case("guard without a reference", e.ConfigError, "stop_on kl needs beta above 0", "it takes",
         lambda d: GRPOConfig.of(beta=0, stop_on=("kl",))),
    Case("unknown guard", e.ConfigError, "stop_on", "it takes", lambda d: GRPOConfig.of(stop_on=("boredom",))),
    Case("all problems at once", e.ConfigError, "unknown option 'epsilom'.*|temperature.*", "it takes",
         lambda d: GRPOConfig.of(temperature=0, epsilom=1)),
    Case("address of a server that is not used", e.ConfigError, "vllm_server needs vllm: server", "it takes",
         lambda d: GRPOConfig.of(vllm_server="http://localhost:8000")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_mistake_is_named_with_its_fix(case: Case, tmp_path: Path) -> None:
    with pytest.raises(e.C2SError) as caught:
        case.do(tmp_path)
    assert type(caught.value) is case.error, caught.value
    assert re.search(case.says, caught.value.problem, re.DOTALL), caught.value.problem
    assert re.search(case.fix, caught.value.fix), caught.value.fix
    assert not (tmp_path / "out").exists()


def test_vllm_is_refused_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None)
    with pytest.raises(e.ConfigError, match="the package vllm is not installed") as caught:
        train(tmp_path, vllm="colocate")
    assert "c2s[models,vllm]" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_processes_that_cannot_share_a_step_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(e.ConfigError, match="3 processes cannot share 4 answers"):
        train(tmp_path)
    assert list(tmp_path.iterdir()) == []
