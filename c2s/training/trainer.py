"""TRL's supervised trainer with what this project needs of it; import it only to train.

What is changed, and why: the loss asks the model for logits at label positions only (a tiny model's work is mostly
its vocabulary); one JSON line is written per step; validation is a function that is handed in; a checkpoint is
written whole or not at all; nothing is sent anywhere.
"""

from __future__ import annotations

import inspect
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback
from trl import SFTTrainer

from c2s.errors import TrainingError
from c2s.progress import Advance
from c2s.training.batches import IGNORED
from c2s.training.record import TrainingRecord
from c2s.training.resume import BEST_FILE, checkpoint_steps, out_of_patience
from c2s.training.watch import DivergenceWatch, out_of_memory, reporting_callbacks


def next_token_loss(
    model: Any,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    n_labels: torch.Tensor | int | None = None,
    position_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the next-token loss, computing logits at label positions only where the model can.

    Parameters
    ----------
    model
        A causal language model, wrapped or not.
    input_ids, labels
        int64 of shape (batch, length); ``-100`` marks positions without a label.
    n_labels
        What the sum is divided by: the labels of the whole optimizer step; by default those of this batch.
    position_ids
        Position of each token in its own example, of shape (batch, length), where rows hold several examples.

    Returns
    -------
    torch.Tensor
        Scalar, float32.
    """
    losses, _ = label_losses(model, input_ids, labels, position_ids)
    return losses.sum() / (len(losses) if n_labels is None else n_labels)


def label_losses(
    model: Any, input_ids: torch.Tensor, labels: torch.Tensor, position_ids: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each label, and the positions that predict one.

    Parameters
    ----------
    model, input_ids, labels, position_ids
        As for `next_token_loss`.

    Returns
    -------
    tuple
        float32 ``[labels]``, row by row, and bool ``[batch, length]``.
    """
    wanted = torch.zeros_like(labels, dtype=torch.bool)
    wanted[:, :-1] = labels[:, 1:] != IGNORED
    targets = labels[:, 1:][wanted[:, :-1]]
    places = {} if position_ids is None else {"position_ids": position_ids}
    if _keeps_logits(model):
        logits = model(input_ids=input_ids, use_cache=False, logits_to_keep=wanted, **places).logits
        logits = logits.reshape(-1, logits.shape[-1])
    else:
        logits = model(input_ids=input_ids, use_cache=False, **places).logits[wanted]
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none"), wanted


def _keeps_logits(model: Any) -> bool:
    """Whether the model's forward pass takes ``logits_to_keep``."""
    inner = model
    while hasattr(inner, "module"):
        inner = inner.module
    if hasattr(inner, "get_base_model"):  # PEFT's wrapper takes whatever the model inside it takes
        inner = inner.get_base_model()
    return bool("logits_to_keep" in inspect.signature(type(inner).forward).parameters)


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """`trl.SFTTrainer` with a sparse loss, a record, handed-in validation and atomic checkpoints.

    Parameters
    ----------
    record
        Where steps and evaluations are written.
    n_examples
        Size of the training table, to state epochs.
    evaluate_with
        Returns validation numbers, ``"score"`` among them (higher is better); None for no evaluation.
    eval_every, patience, keep_checkpoints
        As in `c2s.training.SFTConfig`.
    best
        Best score so far and its step, of a resumed run.
    divergence
        As in `c2s.training.SFTConfig`.
    advance
        Called once per step.
    """

    def __init__(
        self,
        *args: Any,
        record: TrainingRecord,
        n_examples: int,
        evaluate_with: Callable[[], Mapping[str, float]] | None,
        eval_every: int,
        patience: int | None,
        keep_checkpoints: int,
        best: tuple[float, int] | None,
        advance: Advance,
        divergence: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.watch = DivergenceWatch(divergence, [line["loss"] for line in record.lines if "loss" in line])
        self._reports = reporting_callbacks(self)
        self._step_examples: list[str] = []
        self.record, self.n_examples, self.evaluate_with = record, n_examples, evaluate_with
        self.patience, self.keep_checkpoints, self.best = patience, keep_checkpoints, best
        # The loss below always divides by the labels of the whole step.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._step_tokens = 0
        self._step_started = time.perf_counter()
        self.add_callback(_Pace(eval_every if evaluate_with else None, advance))

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the loss of a batch; a loss that is not a number stops the run."""
        loss = next_token_loss(
            model, inputs["input_ids"], inputs["labels"], num_items_in_batch, inputs.get("position_ids")
        )
        if not torch.isfinite(loss):
            names = ", ".join(map(repr, inputs["example_ids"][:3]))
            raise TrainingError(
                f"the loss of step {self.state.global_step + 1} is {loss.item()}; its batch begins with {names}.",
                fix="lower learning_rate or max_grad_norm, or add warmup_steps; then start again.",
            )
        self._step_tokens += inputs["n_tokens"]
        self._step_examples += inputs["example_ids"]
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages gradients; the sum was divided already
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write the line of a step; the trainer's own summaries at the end are left out."""
        if "loss" not in logs or not self.is_world_process_zero():
            return
        now = time.perf_counter()
        seen = self.state.global_step * self.args.train_batch_size * self.args.gradient_accumulation_steps
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise TrainingError(
                f"the gradient of step {self.state.global_step} is not finite.",
                fix="lower learning_rate, or add warmup_steps; then start again.",
            )
        self._write(
            {
                "step": self.state.global_step,
                "epoch": round(seen * self.accelerator.num_processes / self.n_examples, 4),
                "loss": logs["loss"],
                "learning_rate": logs["learning_rate"],
                "grad_norm": logs.get("grad_norm"),
                "tokens": self._step_tokens,
                "seconds": round(now - self._step_started, 4),
            }
        )
        said = self.watch.problem(logs["loss"])
        if said is not None:
            names = ", ".join(map(repr, self._step_examples[:3]))
            raise TrainingError(
                f"the run diverges at step {self.state.global_step}: {said}; the step's examples begin with "
                f"{names}.",
                fix="lower learning_rate or max_grad_norm, or add warmup_steps; divergence=None turns this off.",
            )
        self._step_tokens, self._step_started, self._step_examples = 0, now, []

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run one forward and backward pass; say what to lower where memory is too small for it."""
        try:
            step: torch.Tensor = super().training_step(*args, **kwargs)
            return step
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                f"memory is too small for {self.args.per_device_train_batch_size} examples at once: {error}.",
                fix="lower batch_size and raise gradient_accumulation by as much; or set "
                "activation_checkpointing, bf16 or lora_rank, or use fewer genes (top_k).",
            ) from None

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
            # The grandparent's: TRL's own would also write a model card.
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
