"""Run as a program: train once in peace and once killed again and again, and compare what is left.

``python -m training.killed_runs FOLDER ARCHITECTURE KILLS SEED``, in the folder of the tests. Children are forked
before any thread is started, so importing torch is paid once. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from c2s.prompts import GeneDropout
from c2s.training import SFTConfig, train_sft, trainer as trainer_module
from c2s.training.record import TrainingRecord

from .conftest import TEMPLATE, make_examples, make_model

STEPS = 18
CONFIG = SFTConfig(
    max_steps=STEPS, batch_size=4, gradient_accumulation=2, learning_rate=5e-3, lr_schedule="cosine",
    warmup_steps=3, save_steps=4, eval_every=3, patience=5,
)  # fmt: skip


def scores(model: object) -> dict[str, float]:
    """Best in the middle, so that the end must go back to it; draws, as an evaluation may."""
    scores.calls += 1
    torch.rand(1)
    weight = model.model.get_output_embeddings().weight
    return {"score": float(-abs(weight.detach().abs().mean() - 0.0225))}


scores.calls = 0


def train(out: Path, architecture: str, *, resume: bool) -> None:
    train_sft(
        make_model(architecture, dropout=0.1), make_examples(20), out=out, config=CONFIG, evaluate=scores,
        augment=GeneDropout(0.3, [TEMPLATE]), resume=resume, show_progress=False,
    )  # fmt: skip


def die_after(count: int, where: str) -> None:
    """Arrange for this process to be killed: when its n-th line is written, or amid its n-th checkpoint."""
    lived = iter(range(1, 10**6))
    if where == "step":
        add = TrainingRecord.add

        def deadly(self: TrainingRecord, line: dict) -> None:
            add(self, line)
            if next(lived) == count:
                os.kill(os.getpid(), signal.SIGKILL)

        TrainingRecord.add = deadly
    else:
        save = trainer_module.AnswerTrainer._save_optimizer_and_scheduler

        def deadly_save(self: trainer_module.AnswerTrainer, output_dir: str) -> None:
            if next(lived) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            save(self, output_dir)

        trainer_module.AnswerTrainer._save_optimizer_and_scheduler = deadly_save


def in_child(out: Path, architecture: str, death: tuple[int, str] | None) -> int:
    """Train in a forked process; return its wait status."""
    child = os.fork()
    if not child:
        try:
            if death:
                die_after(*death)
            train(out, architecture, resume=True)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return os.waitpid(child, 0)[1]


def main() -> None:
    folder, architecture, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    peace = in_child(folder / "peace", architecture, None)
    rng = np.random.default_rng(seed)
    statuses, deaths = [], []
    for _ in range(kills):
        where = str(rng.choice(["step", "step", "checkpoint"]))
        death = (int(rng.integers(1, 7 if where == "step" else 3)), where)
        deaths.append(death)
        statuses.append(in_child(folder / "war", architecture, death))
    last = in_child(folder / "war", architecture, None)
    print(json.dumps({"peace": peace, "statuses": statuses, "deaths": deaths, "last": last}))


if __name__ == "__main__":
    main()
