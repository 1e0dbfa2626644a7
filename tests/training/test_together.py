"""Two processes take the steps of one with twice the batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from c2s.training import read_record

TESTS = Path(__file__).parents[1]


def run(*words: str, out: Path, batch: int, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Train in processes of their own, without a GPU."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, *words, "-m", "training.trained_together", str(out), str(batch), *more]
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("lora_rank=4",)], ids=["all weights", "adapters"])
def test_two_processes_end_in_the_weights_of_one_with_twice_the_batch(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    alone = run(out=tmp_path / "one", batch=8, more=more)
    assert alone.returncode == 0, alone.stderr[-2000:]
    together = run(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        out=tmp_path / "two", batch=4, more=more,
    )  # fmt: skip
    assert together.returncode == 0, together.stderr[-2000:]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        np.testing.assert_allclose(weights[1][name], weight, rtol=2e-4, atol=2e-6, err_msg=name)
    records = [read_record(tmp_path / name / "train.jsonl") for name in ("one", "two")]
    losses = [[line["loss"] for line in record if "loss" in line] for record in records]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    scores = [[line["evaluation"]["loss"] for line in record if "evaluation" in line] for record in records]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4)
    assert not list(tmp_path.glob("*.training"))
