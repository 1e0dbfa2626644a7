"""Run as a program, alone or under torchrun: train, and say what came out.

``python -m training.trained_together OUT BATCH [STEPS]``, in the folder of the tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from c2s.prompts import GeneDropout
from c2s.training import SFTConfig, train_sft

from .conftest import TEMPLATE, make_examples, make_model


def main() -> None:
    out, batch = Path(sys.argv[1]), int(sys.argv[2])
    more = dict(pair.split("=") for pair in sys.argv[3:])
    torch.set_num_threads(1)
    config = SFTConfig.of(
        {"max_steps": 6, "batch_size": batch, "learning_rate": 5e-3, "eval_every": 3, "length_window": 0}
        # With the usual epsilon, rounding in a gradient of nearly nothing would make a whole step.
        | {"adam_epsilon": 1e-4},
        **more,
    )
    result = train_sft(
        make_model(), make_examples(40), out=out, config=config, validation=make_examples(8, seed=1),
        augment=GeneDropout(0.3, [TEMPLATE]), show_progress=False,
    )  # fmt: skip
    assert result.path == out
    assert result.model.path == out
    assert result.steps == 6


if __name__ == "__main__":
    main()
