"""A task's model goes on with rewards, from Python and from the command line, and stays a task's model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import c2s
from c2s.errors import ConfigError, ObsError
from c2s.training import SFTConfig, TaskModel, read_record, train_task

pytest.importorskip("c2s_annotation")
SMALL = ["--max-steps", "2", "--prompts-per-step", "2", "--group-size", "2", "--max-answer-tokens", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that named types for two steps."""
    folder = tmp_path_factory.mktemp("sft") / "model"
    cells = c2s.load_dataset("pbmc68k_reduced")[:120].copy()
    cells.write_h5ad(folder.parent / "cells.h5ad")
    host = c2s.default_host()
    task = host.tasks.get("annotation")()
    train_task(
        c2s.load_dataset(str(folder.parent / "cells.h5ad")), task, host.prompts.get(task.prompts), out=folder,
        config=SFTConfig(max_steps=2, batch_size=4), top_k=8, show_progress=False,
    )  # fmt: skip
    return folder


def run(*arguments: str | Path) -> str:
    from c2s.cli.train import app

    result = CliRunner().invoke(app, ["grpo", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_trains_on_the_tasks_own_rewards(trained: Path, tmp_path: Path) -> None:
    data = trained.parent / "cells.h5ad"
    said = run("--model", trained, "--data", data, "--out", tmp_path / "better", "--validation-cells", "3",
               "--option", "epsilon=0.1", *SMALL)  # fmt: skip
    assert "Trained 2 steps." in said
    assert f"c2s evaluate --model {tmp_path / 'better'}" in said
    record = json.loads((tmp_path / "better" / "run.json").read_text())
    assert record["config"]["rewards"] == {"label_match": 1.0}
    assert record["config"]["training"]["epsilon"] == 0.1
    model = TaskModel.load(tmp_path / "better")
    before = TaskModel.load(trained)
    assert (model.task_name, model.options, model.genes) == (before.task_name, before.options, before.genes)
    assert model.split is not None
    assert model.calibration is None  # it belonged to other weights
    history = read_record(tmp_path / "better" / "train.jsonl")
    assert history[0]["step"] == 0
    assert "reward/label_match" in history[0]["evaluation"]


def test_the_command_takes_rewards_and_a_run_of_the_paper(trained: Path, tmp_path: Path) -> None:
    data = trained.parent / "cells.h5ad"
    run("--model", trained, "--data", data, "--out", tmp_path / "out", "--rewards", "exact_match:2,label_match",
        "--paper", "qa", "--validation-cells", "0", *SMALL)  # fmt: skip
    config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert config["rewards"] == {"exact_match": 2.0, "label_match": 1.0}
    assert (config["training"]["beta"], config["training"]["learning_rate"]) == (0.03, 5e-7)
    assert not any("evaluation" in line for line in read_record(tmp_path / "out" / "train.jsonl"))


def test_other_cells_and_bad_options_are_refused(trained: Path, tmp_path: Path) -> None:
    cells = c2s.load_dataset("pbmc68k_reduced")[200:260].copy()
    cells.write_h5ad(tmp_path / "others.h5ad")
    common = ["--model", trained, "--out", tmp_path / "out"]
    with pytest.raises(ObsError, match="not the data that the model was trained on"):
        run(*common, "--data", tmp_path / "others.h5ad", *SMALL)
    with pytest.raises(ConfigError, match="'epsilon' is not NAME=VALUE"):
        run(*common, "--data", trained.parent / "cells.h5ad", "--option", "epsilon")
    assert not (tmp_path / "out" / "model.safetensors").exists()
