"""The training configuration names all its problems at once; the record reads back what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from c2s.errors import ConfigError, TrainingError
from c2s.training import SFTConfig, read_record
from c2s.training.record import TrainingRecord


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SFTConfig.of({"learning_rat": 1, "epochs": 0, "loss": "all", "batch_size": "many"})
    problems = "; ".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for part in ("unknown option 'learning_rat'", "epochs", "got 0", "'answer' or 'full'", "got 'many'"):
        assert part in problems
    assert "learning_rate" in caught.value.fix


def test_later_options_win_and_the_paper_is_a_preset() -> None:
    assert SFTConfig.of({"epochs": 2}, epochs=3).epochs == 3
    paper = SFTConfig.paper(epochs=1)
    assert (paper.learning_rate, paper.lr_schedule, paper.weight_decay, paper.epochs) == (1e-5, "linear", 0.01, 1)


def test_a_record_is_cut_back_to_a_step(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    record = TrainingRecord(path)
    for step in (1, 2, 3):
        record.add({"step": step, "loss": 1 / step})
    record.add({"step": 3, "evaluation": {"score": 0.5}})
    again = TrainingRecord(path, up_to=2)
    again.add({"step": 3, "loss": 0.25})
    assert [line["step"] for line in read_record(path)] == [1, 2, 3]
    assert read_record(path)[-1]["loss"] == 0.25
    assert TrainingRecord(path).lines == []


def test_a_last_line_cut_off_by_a_kill_is_left_out_and_a_broken_one_within_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert read_record(path) == [{"step": 1}]
    path.write_text('{"step"\n{"step": 2}\n')
    with pytest.raises(TrainingError, match="line 1"):
        read_record(path)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_record(tmp_path / "none.jsonl")
