"""TRL's supervised trainer with what this project needs of it; import it only to train.

What is changed, and why: the loss asks the model for logits at label positions only (a tiny model's work is mostly
its vocabulary); one JSON line is written per step; validation is a function that is handed in; a checkpoint is
written whole or not at all; nothing is sent anywhere.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from trl import SFTTrainer

from c2s.errors import TrainingError
from c2s.progress import Advance
from c2s.training.batches import IGNORED
from c2s.training.record import TrainingRecord
from c2s.training.recorded import RecordedTrainer
from c2s.training.watch import DivergenceWatch


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


class AnswerTrainer(RecordedTrainer, SFTTrainer):  # type: ignore[misc]
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
        self.begin_record(record, evaluate_with, eval_every, best, patience, keep_checkpoints, advance)
        self.n_examples = n_examples
        self.watch = DivergenceWatch(divergence, [line["loss"] for line in record.lines if "loss" in line])
        # The loss below always divides by the labels of the whole step.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._step_tokens = 0
        self._step_examples: list[str] = []

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
