"""Run by torchrun: a short GRPO run; each process writes what it ended with."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from c2s.training import GRPOConfig, train_grpo
from training.conftest import make_examples, make_model


def reward(prompts: list[str], answers: list[str], **columns: object) -> list[float | None]:
    return [len(set(answer)) / 100 for answer in answers]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    result = train_grpo(
        make_model(), make_examples(), rewards=reward, out=folder / "out", validation=make_examples(4, seed=2),
        config=GRPOConfig(max_steps=3, prompts_per_step=2, group_size=4, max_answer_tokens=6, eval_every=3),
        show_progress=False,
    )  # fmt: skip
    total = float(sum(p.detach().double().sum() for p in result.model.model.parameters()))
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps([result.losses, total]))
