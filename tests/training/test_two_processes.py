"""Two processes take the steps of one with twice the batch, and share the answers of GRPO."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from c2s.training import read_record

from .two_processes import WAYS, fine_tune


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes trained, without a GPU."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "training.two_processes", str(folder)], cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_end_in_the_weights_of_one_with_twice_the_batch(
    way: str, together: Path, tmp_path: Path
) -> None:
    fine_tune(tmp_path / "alone", 8, **WAYS[way])
    folders = (tmp_path / "alone", together / way)
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        np.testing.assert_allclose(weights[1][name], weight, rtol=2e-4, atol=2e-6, err_msg=name)
    records = [read_record(folder / "train.jsonl") for folder in folders]
    losses = [[line["loss"] for line in record if "loss" in line] for record in records]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    scores = [[line["evaluation"]["loss"] for line in record if "evaluation" in line] for record in records]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4)


@pytest.mark.slow
def test_two_processes_of_grpo_end_with_the_same_weights(together: Path) -> None:
    first, second = (json.loads((together / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert len(first[0]) == 3
    lines = [json.loads(line) for line in (together / "grpo" / "train.jsonl").read_text().splitlines()]
    assert all(4 * 2 * 1 <= line["tokens"] <= 4 * 2 * 6 for line in lines if "tokens" in line)  # of both
    assert sorted(path.name for path in together.iterdir()) == ["0.json", "1.json", *sorted([*WAYS, "grpo"])]
