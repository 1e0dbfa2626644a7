"""TRL's GRPO trainer with what this project needs of it; import it only to train.

The objective, the draws and the advantages are TRL's. What is changed, and why: prompts become tokens as
everywhere else here; rewards are checked before anything learns from them; one JSON line is written per step, and
read by the guards; validation is a function that is handed in; a checkpoint is written whole or not at all;
nothing is sent anywhere.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather
from trl import GRPOTrainer

from c2s.errors import C2SWarning, TrainingError
from c2s.inference.batching import encode
from c2s.progress import Advance
from c2s.training.grpo_config import GRPOConfig
from c2s.training.grpo_guards import look
from c2s.training.record import TrainingRecord
from c2s.training.recorded import RecordedTrainer
from c2s.training.rewards import WeightedReward, score_answers, total_reward

if TYPE_CHECKING:
    import pyarrow as pa

    from c2s.models.loading import LanguageModel

#: Rewards closer than this count as equal: no answer of their group is better than another.
_EQUAL = 1e-6


class PolicyTrainer(RecordedTrainer, GRPOTrainer):  # type: ignore[misc]
    """`trl.GRPOTrainer` with checked rewards, a record, guards, handed-in validation and atomic checkpoints.

    Parameters
    ----------
    language_model
        Model and tokenizer; the network is given once more to TRL.
    examples
        Table whose rows the dataset's ``example`` column counts; rewards see its columns.
    rewards
        What to aim for.
    config
        Thresholds of the guards, and for checks.
    record
        Where steps, evaluations and warnings are written.
    evaluate_with
        Returns validation numbers, ``"score"`` among them (higher is better); None for no evaluation.
    eval_every
        Steps between evaluations.
    best
        Best score so far and its step, of a resumed run.
    advance
        Called once per step.
    """

    def __init__(
        self,
        *args: Any,
        language_model: LanguageModel,
        examples: pa.Table,
        rewards: Sequence[WeightedReward],
        config: GRPOConfig,
        record: TrainingRecord,
        evaluate_with: Callable[[], Mapping[str, float]] | None,
        eval_every: int,
        best: tuple[float, int] | None,
        advance: Advance,
        **kwargs: Any,
    ) -> None:
        # TRL wants functions; what they would compute is computed in `_calculate_rewards`, all at once.
        super().__init__(*args, reward_funcs=[weighted.reward.function for weighted in rewards], **kwargs)
        self.reward_func_names = [weighted.name for weighted in rewards]
        self.language_model, self.examples, self.rewards, self.config = language_model, examples, rewards, config
        self.begin_record(
            record, evaluate_with, eval_every, best, config.patience, config.keep_checkpoints, advance
        )
        self.stopped_by: str | None = None
        self._drawn: dict[str, float | None] = {}

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Return the tokens of prompts as inference makes them: without an end of text."""
        return encode(self.language_model, prompts), None, {}

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[str],
        completions: list[str],
        completion_ids: list[list[int]],
    ) -> torch.Tensor:
        """Return the rewards of all processes' answers, float32 ``[answers, rewards]``, NaN where none applies."""
        rows = self.examples.take([row["example"] for row in inputs])
        answers = [text.strip() for text in completions]
        columns = {name: rows[name].to_pylist() for name in rows.column_names} | {"answer_ids": completion_ids}
        values = score_answers(self.rewards, prompts, answers, columns)
        total = total_reward(values, self.rewards)
        device = self.accelerator.device
        gathered: torch.Tensor = gather(torch.tensor(values, dtype=torch.float32, device=device))
        groups = gather(torch.tensor(total, dtype=torch.float32, device=device)).view(-1, self.num_generations)
        spread = groups.nan_to_num(nan=-math.inf).amax(1) - groups.nan_to_num(nan=math.inf).amin(1)
        self._drawn = {
            "no_signal": float((spread <= _EQUAL).float().mean()),
            "unscored": float(groups.isnan().float().mean()),
        }
        return gathered

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the loss of a batch of answers; a loss that is not a number stops the run."""
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of step {self.state.global_step + 1} is {loss.item()}.",
                fix="lower learning_rate or max_grad_norm, or add warmup_steps; then start again.",
            )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write the line of a step and let the guards look at it; the trainer's own summaries are left out."""
        metrics, self._metrics["train"] = self._metrics["train"], type(self._metrics["train"])(list)
        if "loss" not in logs:
            return
        now = time.perf_counter()
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise TrainingError(
                f"the gradient of step {self.state.global_step} is not finite.",
                fix="lower learning_rate, or add warmup_steps; then start again.",
            )
        line: dict[str, Any] = {"step": self.state.global_step, "loss": logs["loss"]}
        line |= {"kl": _mean(metrics, "kl")} if self.beta else {}
        line |= {"clipped": _mean(metrics, "clip_ratio/region_mean"), "entropy": _mean(metrics, "entropy")}
        if self._drawn:  # the first step on these answers
            line |= {"reward": _mean(metrics, "reward"), "reward_std": _mean(metrics, "reward_std")}
            for name in self.reward_func_names:
                line[f"reward/{name}"] = _mean(metrics, f"rewards/{name}/mean")
                line[f"reward_std/{name}"] = _mean(metrics, f"rewards/{name}/std")
            line |= self._drawn
            length = _mean(metrics, "completions/mean_length") or 0.0
            line |= {
                "answer_tokens": length,
                "cut": _mean(metrics, "completions/clipped_ratio"),
                "tokens": round(length * self.args.generation_batch_size),
            }
        line |= {
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm"),
            "seconds": round(now - self._step_started, 4),
        }
        self._write(line)
        if self._drawn:
            self._watch()
        self._drawn, self._step_started = {}, now

    def _watch(self) -> None:
        """Warn of what the guards find, and stop where that was asked for."""
        for alarm in look(self.record.lines, self.config):
            stops = alarm.guard in self.config.stop_on
            said = {"guard": alarm.guard, "value": alarm.value, "limit": alarm.limit, "message": alarm.message}
            self.record.add({"step": self.state.global_step, "warning": said | {"stopped": stops}})
            if self.is_world_process_zero():
                end = " Training stops here." if stops else ""
                warnings.warn(f"step {self.state.global_step}: {alarm.message}.{end}", C2SWarning, stacklevel=2)
            if stops:
                self.stopped_by = self.stopped_by or alarm.guard
                self.control.should_training_stop = self.control.should_save = True
                self.control.should_evaluate = self.evaluate_with is not None


def _mean(metrics: Mapping[str, list[float]], name: str) -> float | None:
    """Return the mean of what TRL noted of a step, over its forward passes; None where it noted nothing."""
    known = [value for value in metrics.get(name, ()) if not math.isnan(value)]
    return sum(known) / len(known) if known else None
