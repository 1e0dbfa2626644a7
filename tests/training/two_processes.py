"""Run by torchrun, ``-m training.two_processes FOLDER`` in the folder of the tests: fine-tune twice, then GRPO.

All in one launch, since starting processes takes longer than what they do here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from c2s.prompts import GeneDropout
from c2s.training import GRPOConfig, SFTConfig, train_grpo, train_sft

from .conftest import TEMPLATE, make_examples, make_model

#: What is trained, by the name of its folder.
WAYS: dict[str, dict[str, Any]] = {"all weights": {}, "adapters": {"lora_rank": 4}}


def fine_tune(out: Path, batch_size: int, **more: Any) -> None:
    config = SFTConfig.of(
        {"max_steps": 6, "batch_size": batch_size, "learning_rate": 5e-3, "eval_every": 3, "length_window": 0}
        # With the usual epsilon, rounding in a gradient of nearly nothing would make a whole step.
        | {"adam_epsilon": 1e-4},
        **more,
    )
    result = train_sft(
        make_model(), make_examples(40), out=out, config=config, validation=make_examples(8, seed=1),
        augment=GeneDropout(0.3, [TEMPLATE]), show_progress=False,
    )  # fmt: skip
    assert result.path == result.model.path == out
    assert result.steps == 6


def reward(prompts: list[str], answers: list[str], **columns: object) -> list[float | None]:
    return [len(set(answer)) / 100 for answer in answers]


def reinforce(folder: Path) -> None:
    """Train; each process writes what it ended with."""
    result = train_grpo(
        make_model(), make_examples(), rewards=reward, out=folder / "grpo", validation=make_examples(4, seed=2),
        config=GRPOConfig(max_steps=3, prompts_per_step=2, group_size=4, max_answer_tokens=6, eval_every=3),
        show_progress=False,
    )  # fmt: skip
    total = float(sum(p.detach().double().sum() for p in result.model.model.parameters()))
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps([result.losses, total]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, more in WAYS.items():
        fine_tune(Path(sys.argv[1]) / name, 4, **more)
    reinforce(Path(sys.argv[1]))
