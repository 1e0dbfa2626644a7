"""What the supervised trainer and the one for GRPO share: a record, validation, and checkpoints that are whole.

Import it only to train.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, Trainer, TrainerCallback

from c2s.errors import TrainingError
from c2s.progress import Advance
from c2s.training.record import TrainingRecord
from c2s.training.resume import BEST_FILE, checkpoint_steps, out_of_patience
from c2s.training.watch import reporting_callbacks

# TRL's trainers, which this stands before, have no types either.
_Trainer: Any = Trainer


class RecordedTrainer(_Trainer):  # type: ignore[misc]
    """A base that stands before TRL's trainer: one line per step, handed-in validation, atomic checkpoints.

    Nothing is sent anywhere but where the run was told to report to.
    """

    record: TrainingRecord
    evaluate_with: Callable[[], Mapping[str, float]] | None
    best: tuple[float, int] | None
    patience: int | None
    keep_checkpoints: int

    def begin_record(
        self,
        record: TrainingRecord,
        evaluate_with: Callable[[], Mapping[str, float]] | None,
        eval_every: int,
        best: tuple[float, int] | None,
        patience: int | None,
        keep_checkpoints: int,
        advance: Advance,
    ) -> None:
        """Take what the run was told; call it when the trainer is made.

        Parameters
        ----------
        record
            Where steps and evaluations are written.
        evaluate_with
            Returns validation numbers, ``"score"`` among them (higher is better); None for no evaluation.
        eval_every, patience, keep_checkpoints
            As in `c2s.training.SFTConfig`.
        best
            Best score so far and its step, of a resumed run.
        advance
            Called once per step.
        """
        self.record, self.evaluate_with, self.best = record, evaluate_with, best
        self.patience, self.keep_checkpoints = patience, keep_checkpoints
        self._reports = reporting_callbacks(self)
        self._step_started = time.perf_counter()
        self.add_callback(_Pace(eval_every if evaluate_with else None, advance))

    def _write(self, line: dict[str, Any]) -> None:
        """Add a line to the record, and send its numbers where the run reports to."""
        self.record.add(line)
        flat = dict(line.get("evaluation", line))
        numbers = {key: value for key, value in flat.items() if isinstance(value, int | float) and key != "step"}
        if "evaluation" in line:
            numbers = {f"eval_{key}": value for key, value in numbers.items()}
        for report in self._reports:
            report.on_log(self.args, self.state, self.control, logs=dict(numbers), model=self.model)

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        """Score the model; mark a better one to be saved, and stop when there was none for too long."""
        assert self.evaluate_with is not None
        self.control.should_evaluate = False
        numbers = {key: float(value) for key, value in self.evaluate_with().items()}
        if not math.isfinite(numbers["score"]):
            raise TrainingError(
                f"the validation score of step {self.state.global_step} is {numbers['score']}.",
                fix="make evaluate return a finite 'score', higher for better models.",
            )
        self._write({"step": self.state.global_step, "evaluation": numbers})
        if self.best is None or numbers["score"] > self.best[0]:
            self.best = (numbers["score"], self.state.global_step)
            self.control.should_save = True
        elif out_of_patience(self.record, self.best, self.patience):
            self.control.should_training_stop = True
        self._step_started = time.perf_counter()
        return numbers

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint under a temporary name, move it into place, and prune the older ones."""
        place = Path(self.args.output_dir)
        writing = place / "writing"
        if self.args.should_save:
            shutil.rmtree(writing, ignore_errors=True)
        self.accelerator.wait_for_everyone()  # each process writes its own part
        self.args.output_dir = str(writing)
        try:
            # Not TRL's own, which would also write a model card.
            Trainer._save_checkpoint(self, model, trial)
        finally:
            self.args.output_dir = str(place)
        self.accelerator.wait_for_everyone()
        if not self.args.should_save:
            return
        written = writing / f"checkpoint-{self.state.global_step}"
        best = None if self.best is None else {"score": self.best[0], "step": self.best[1]}
        (written / BEST_FILE).write_text(json.dumps(best), encoding="utf-8")
        final = place / written.name
        shutil.rmtree(final, ignore_errors=True)
        written.replace(final)
        shutil.rmtree(writing, ignore_errors=True)
        protected = {self.state.global_step, self.best[1] if self.best else -1}
        steps = checkpoint_steps(place)
        for step in steps[: -self.keep_checkpoints]:
            if step not in protected:
                shutil.rmtree(place / f"checkpoint-{step}", ignore_errors=True)
        self._step_started = time.perf_counter()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Read weights back through ``from_pretrained``, and miss none.

        Transformers 5.23 matches the names in the file with those in memory loosely, and saving renames some
        (GPT-NeoX's ``lm_head`` becomes ``embed_out``): its own way would silently leave such weights as they were.
        """
        network = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not isinstance(network, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        read = type(network).from_pretrained(
            resume_from_checkpoint, dtype=network.dtype, use_safetensors=True, local_files_only=True
        )
        network.load_state_dict(read.state_dict())

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the count is not used, and walking all parameters each step is not free."""
        return 0

    def _send_telemetry(self) -> None:
        """Send nothing."""


class _Pace(TrainerCallback):
    """Asks for an evaluation when one is due, and moves the progress bar."""

    def __init__(self, eval_every: int | None, advance: Advance) -> None:
        self.eval_every, self.advance = eval_every, advance

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after each optimizer step."""
        self.advance(1)
        last = state.global_step >= state.max_steps
        if self.eval_every is not None and (state.global_step % self.eval_every == 0 or last):
            control.should_evaluate = True
