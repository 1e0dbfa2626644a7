"""A run that is killed goes on to the same weights, and never with other settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from c2s.errors import TrainingError
from c2s.training import SFTConfig, read_record, train_sft

from .conftest import make_examples, make_model

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("architecture", "kills", "seed"), [("gpt_neox", 6, 1), pytest.param("gemma2", 20, 2, marks=pytest.mark.slow)]
)
def test_a_run_killed_at_random_steps_ends_in_the_same_bytes(
    architecture: str, kills: int, seed: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "training.killed_runs"]
    done = subprocess.run(
        [*command, str(tmp_path), architecture, str(kills), str(seed)],
        cwd=TESTS, env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["peace"] == report["last"] == 0, done.stderr
    assert set(report["statuses"]) <= {signal.SIGKILL, 0}
    assert report["statuses"].count(signal.SIGKILL) >= kills // 2, report
    peace, war = tmp_path / "peace", tmp_path / "war"
    assert (peace / "model.safetensors").read_bytes() == (war / "model.safetensors").read_bytes()
    summaries = [json.loads((p / "training.json").read_text()) for p in (peace, war)]
    assert summaries[0] == summaries[1]
    assert 0 < summaries[0]["best"]["step"] < summaries[0]["taken"]  # the best weights were put back
    assert without_times(peace) == without_times(war)  # no step lost, none twice
    assert [line["step"] for line in without_times(war) if "loss" in line] == list(
        range(1, summaries[0]["taken"] + 1)
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["peace", "war"]


def without_times(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_record(folder / "train.jsonl")]


def stopped_run(out: Path, **changes: Any) -> None:
    """Leave an unfinished run behind: stopped by Ctrl-C after its first checkpoint."""

    def stop(record: dict, rng: object) -> dict:
        seen.append(record)
        if len(seen) > 8 * 4:
            raise KeyboardInterrupt
        return record

    seen: list[dict] = []
    with pytest.raises(KeyboardInterrupt):
        train(out, augment=stop, **changes)
    assert not out.exists()
    assert out.with_name(out.name + ".training").is_dir()


def train(
    out: Path, *, examples: Any = None, model: Any = None, resume: bool = False, augment: Any = None, **c: Any
):
    options = {"max_steps": 6, "batch_size": 8, "save_steps": 2} | c
    return train_sft(
        model or make_model(), examples or make_examples(), out=out, config=SFTConfig.of(options), augment=augment,
        resume=resume, show_progress=False,
    )  # fmt: skip


def test_an_unfinished_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    stopped_run(tmp_path / "out")
    with pytest.raises(TrainingError, match=r"unfinished run is in .*out\.training") as caught:
        train(tmp_path / "out")
    assert "--resume" in caught.value.fix


CHANGES = {
    "learning rate": ({"learning_rate": 0.5}, "learning_rate was 0.001 and is 0.5"),
    "two things": ({"seed": 1, "loss": "full"}, "loss was 'answer' and is 'full'; seed was 0 and is 1"),
    "examples": ({"examples": make_examples(seed=5)}, "the examples are not the same"),
    "model": ({"model": make_model(hidden_size=16)}, "the model's first weights are not the same"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_resuming_with_other_settings_is_refused_with_the_difference(change: str, tmp_path: Path) -> None:
    changes, problem = CHANGES[change]
    stopped_run(tmp_path / "out")
    with pytest.raises(TrainingError, match=problem):
        train(tmp_path / "out", resume=True, **changes)
    train(tmp_path / "out", resume=True)
    with pytest.raises(TrainingError, match=problem):  # also when it is finished
        train(tmp_path / "out", resume=True, **changes)


def test_how_often_checkpoints_are_written_may_change(tmp_path: Path) -> None:
    stopped_run(tmp_path / "out")
    assert train(tmp_path / "out", resume=True, save_steps=1, keep_checkpoints=2).steps == 6


def test_resuming_with_nothing_to_resume_starts_afresh(tmp_path: Path) -> None:
    assert train(tmp_path / "out", resume=True).steps == 6


def test_a_run_killed_before_its_first_checkpoint_starts_afresh(tmp_path: Path) -> None:
    stopped_run(tmp_path / "out", save_steps=100)
    whole = train(tmp_path / "whole", save_steps=100)
    assert train(tmp_path / "out", resume=True, save_steps=100).losses == whole.losses


def test_resuming_a_finished_run_returns_it(tmp_path: Path) -> None:
    first = train(tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    again = train(tmp_path / "out", resume=True)
    assert again.losses == first.losses
    assert (again.steps, again.path) == (6, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_killed_after_patience_ran_out_is_not_trained_further(tmp_path: Path) -> None:
    def run(also_write: Any) -> Any:
        scores = iter([3.0, 2.0, 1.0])
        return train_sft(
            make_model(), make_examples(), out=tmp_path / "out", evaluate=lambda model: {"score": next(scores)},
            config=SFTConfig(max_steps=9, batch_size=8, save_steps=1, eval_every=1, patience=2),
            resume=True, also_write=also_write, show_progress=False,
        )  # fmt: skip

    def interrupt(model: Any, folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupt)
    result = run(None)
    assert (result.steps, result.best_step, result.stopped_early) == (3, 1, True)
    assert len(result.losses) == 3


def test_a_folder_of_something_else_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(TrainingError, match="not written by a training run"):
        train(tmp_path / "out", resume=True)


def test_checkpoints_are_pruned_to_the_newest_and_the_best(tmp_path: Path) -> None:
    place = tmp_path / "out.training"
    kept: list[list[str]] = []

    def score(model: Any) -> dict[str, float]:
        kept.append(sorted(p.name for p in place.glob("checkpoint-*")))
        return {"score": [1.0, 3.0, 2.0, 2.0, 2.0, 2.0][len(kept) - 1]}

    train_sft(
        make_model(), make_examples(), out=tmp_path / "out", evaluate=score, show_progress=False,
        config=SFTConfig(max_steps=6, batch_size=8, save_steps=1, eval_every=1, keep_checkpoints=1),
    )  # fmt: skip
    assert kept[-1] == ["checkpoint-2", "checkpoint-5"]
    assert max(map(len, kept)) == 2
