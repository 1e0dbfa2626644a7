"""What a run looks out for while it trains."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from c2s.errors import ConfigError, TrainingError
from c2s.training import SFTConfig, train_sft
from c2s.training.watch import WINDOW, DivergenceWatch

from .conftest import make_examples, make_model


def test_a_loss_that_climbs_and_stays_up_is_told_of() -> None:
    watch = DivergenceWatch(2.0)
    assert [watch.problem(1.0) for _ in range(WINDOW)] == [None] * WINDOW
    # A single jump is none: its share of the mean is small.
    assert watch.problem(20.0) is None
    said = [watch.problem(4.0) for _ in range(WINDOW)]
    assert said[0] is None
    assert "was 1.00" in said[-1]


def test_a_watch_that_goes_on_remembers_the_lowest_loss() -> None:
    watch = DivergenceWatch(2.0, [1.0] * WINDOW + [3.0] * (WINDOW - 1))
    assert watch.problem(3.5) is not None
    assert DivergenceWatch(None, [1.0] * WINDOW).problem(1e6) is None


def test_a_run_that_diverges_stops_and_names_the_step_and_its_examples(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"diverges at step \d+.*examples begin with 'cell-0-") as caught:
        train_sft(
            make_model(), make_examples(), out=tmp_path / "out", show_progress=False,
            config=SFTConfig(
                max_steps=80, batch_size=4, learning_rate=8.0, warmup_steps=80, max_grad_norm=1e6, divergence=0.5,
            ),
        )  # fmt: skip
    assert "learning_rate" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_memory_that_runs_out_names_what_to_lower(tmp_path: Path) -> None:
    model = make_model()

    def hungry(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    model.model.gpt_neox.forward = hungry
    with pytest.raises(TrainingError, match=r"8 examples at once.*lower batch_size"):
        train_sft(
            model, make_examples(), out=tmp_path / "out", show_progress=False,
            config=SFTConfig(max_steps=2, batch_size=8),
        )  # fmt: skip


def test_other_errors_of_a_step_are_not_taken_for_it(tmp_path: Path) -> None:
    model = make_model()

    def broken(*args, **kwargs):
        raise RuntimeError("size mismatch")

    model.model.gpt_neox.forward = broken
    with pytest.raises(RuntimeError, match="size mismatch"):
        train_sft(model, make_examples(), out=tmp_path / "out", show_progress=False, config=SFTConfig(max_steps=2))


def test_a_tool_that_is_not_installed_is_named_with_the_command_that_gets_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"'wandb', which is not installed.*pip install wandb"):
        train_sft(
            make_model(), make_examples(), out=tmp_path / "out", show_progress=False,
            config=SFTConfig(max_steps=1, report_to=("wandb",)),
        )  # fmt: skip
    assert not (tmp_path / "out.training").exists()


def test_the_record_is_also_sent_where_the_run_reports_to(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train_sft(
        make_model(), make_examples(), out=tmp_path / "out", validation=make_examples(8, seed=1),
        config=SFTConfig(max_steps=4, batch_size=8, eval_every=2, report_to=("tensorboard",)), show_progress=False,
    )  # fmt: skip
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    assert [event.value for event in losses] == pytest.approx(result.losses, rel=1e-6)
    assert [event.step for event in events.Scalars("eval/score")] == [2, 4]


def test_nothing_is_sent_by_default(tmp_path: Path) -> None:
    before = set(sys.modules)
    train_sft(
        make_model(), make_examples(), out=tmp_path / "out", show_progress=False, config=SFTConfig(max_steps=1)
    )
    new = {name for name in set(sys.modules) - before if isinstance(sys.modules[name], ModuleType)}
    assert not {"tensorboard", "wandb", "trackio"} & {name.split(".")[0] for name in new}
