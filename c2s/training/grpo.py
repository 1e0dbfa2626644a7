"""Group relative policy optimization: answers are drawn, rewarded, made more or less likely (section 4.5.2)."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c2s.errors import ConfigError, ContextError, TrainingError
from c2s.files import RESUME, check_target
from c2s.models.loading import LanguageModel, load_model
from c2s.models.lora import add_lora, has_adapter, merge_lora
from c2s.progress import progress
from c2s.training.adapters import adapter_options, check_trainable, training_dtype
from c2s.training.generators import isolated_generators
from c2s.training.grpo_config import GRPOConfig
from c2s.training.record import TrainingRecord, read_record
from c2s.training.resume import begin, same_settings, table_checksum, weights_checksum
from c2s.training.reward_evaluation import joined_reward_evaluation
from c2s.training.rewards import RewardLike, WeightedReward, as_rewards
from c2s.training.sft import RECORD_FILE, SUMMARY_FILE, TrainResult, process_rank, processes, write_finished
from c2s.training.validation import Evaluate
from c2s.training.watch import check_reports

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class GRPOResult(TrainResult):
    """A finished GRPO run.

    Attributes
    ----------
    stopped_by
        The guard that stopped it: ``"signal"``, ``"length"`` or ``"kl"``; None where none did.
    """

    stopped_by: str | None = None

    @property
    def rewards(self) -> list[float]:
        """Mean weighted reward of the answers of each step that drew some."""
        return [line["reward"] for line in self.history if "reward" in line]

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What the guards found: ``step``, and ``warning`` with guard, value, limit and message."""
        return [line for line in self.history if "warning" in line]


def train_grpo(
    model: LanguageModel | str | os.PathLike[str],
    examples: pa.Table,
    *,
    rewards: RewardLike | Sequence[RewardLike],
    out: str | os.PathLike[str],
    config: GRPOConfig | None = None,
    validation: pa.Table | None = None,
    evaluate: Evaluate | None = None,
    device: str = "auto",
    resume: bool = False,
    show_progress: bool = True,
    also_write: Callable[[LanguageModel, Path], None] | None = None,
) -> GRPOResult:
    """Train a fine-tuned model on rewards of the answers it draws itself.

    For each prompt a group of answers is drawn; each answer's advantage is its reward, less the group's mean, over
    the group's standard deviation; the clipped objective of section 4.5.2 makes tokens of better answers more
    likely, and a divergence from the model as it came in holds it back.

    While it runs, its state is kept in ``<out>.training`` beside `out`; `out` appears when it is finished. A run
    that was killed goes on with ``resume=True`` from the same first model and, on a CPU, ends in the same weights.

    Parameters
    ----------
    model
        The fine-tuned model, trained in place; or its folder.
    examples
        Table with ``example_id``, ``prompt`` and whatever the rewards need (usually ``answer``, the truth).
    rewards
        What to aim for: `c2s.Reward` objects, functions ``(prompts, answers, **columns) -> list[float | None]``,
        `WeightedReward` for other weights than 1; names go through `resolve_rewards`. Beside the columns of the
        examples they are given ``answer_ids``, the tokens that were drawn, the end of text among them.
    out
        Folder for the trained model; must not exist.
    config
        See `GRPOConfig`.
    validation
        Examples that are answered, once each, at every evaluation (and before the first step); their mean weighted
        reward is the score by which the best weights are kept, unless `evaluate` returns a ``"score"``. Where
        nothing beats the model as it came in, that is what is kept (``best_step`` 0).
    evaluate
        Called with the model at each evaluation; returns numbers, ``"score"`` (higher is better) among them.
    device
        Where a model given by its folder goes, as for `c2s.load_model`.
    resume
        Go on where a killed run of the same settings stopped; starts afresh if there is none, and returns the
        finished run if there is one.
    show_progress
        Show a progress bar of steps.
    also_write
        Called with the trained model and a folder whose files go into `out` together with the model.

    Returns
    -------
    GRPOResult
        Its history has, per step, ``loss``, ``kl``, ``clipped`` (share of tokens), ``entropy``, ``learning_rate``,
        ``grad_norm`` and ``seconds``; steps that drew answers also ``reward``, ``reward/NAME``, ``reward_std`` and
        ``reward_std/NAME``, ``no_signal`` (share of groups with equal rewards), ``unscored`` (share of answers
        no reward applied to), ``answer_tokens``, ``cut`` (share of answers that met the limit) and ``tokens``.

    Raises
    ------
    OutputError
        `out` exists.
    ConfigError
        Something is no reward, the processes do not divide the answers of a step, or vLLM is asked for and
        not installed.
    ContextError
        A prompt and its longest answer do not fit the context; raised before the first step.
    RewardError
        A reward gave what cannot be learned from.
    TrainingError
        There is no example, the loss is not a number, memory ran out, an unfinished run is in the way, or a
        resumed run had other settings.
    """
    config = config or GRPOConfig()
    final = Path(out)
    place = final.with_name(final.name + ".training")
    if not resume:
        check_target(final, fix=RESUME)
    check_reports(config.report_to)
    wanted = as_rewards(rewards)
    _check_machine(config)
    if not isinstance(model, LanguageModel):
        model = load_model(model, device=device, dtype=training_dtype(config))
    _check_reference(model, config)
    _check_prompts(model, examples, config)
    cycles = math.ceil(config.epochs * examples.num_rows / config.prompts_per_step)
    steps = config.max_steps or cycles * config.iterations
    settings = _settings(model, examples, validation, wanted, config, steps)
    if resume and final.exists():
        same_settings(settings, final / SUMMARY_FILE)
        return _finished(final)
    rank = process_rank()
    from c2s.training.grpo_run import arguments, as_policy, make_trainer, run_policy

    with ExitStack() as stack:
        stack.enter_context(isolated_generators())
        policy = _with_adapters(model, config)
        check_trainable(policy)
        stack.enter_context(as_policy(policy))
        evaluation = joined_reward_evaluation(policy, validation, wanted, config, evaluate)
        # Before anything waits for the other processes: this sets up how they talk.
        settled = arguments(config, wanted, place, steps, cpu=model.device.type == "cpu")
        start = begin(place, settings, resume=resume, rank=rank)
        record = TrainingRecord(place / (RECORD_FILE if rank == 0 else f"{rank}-{RECORD_FILE}"), up_to=start.step)
        advance = stack.enter_context(progress("GRPO steps", steps, enabled=show_progress and rank == 0))
        advance(start.step or 0)
        if start.step is None and evaluation is not None:
            first = {key: float(value) for key, value in evaluation().items()}
            record.add({"step": 0, "evaluation": first})
            start = replace(start, best=(first["score"], 0))
        trainer = make_trainer(policy, examples, wanted, config, settled, start, record, advance, evaluation, rank)
        if start.step is None and start.best is not None:
            trainer.save_model(str(place / "checkpoint-0"))  # what is kept, should nothing better come
        run_policy(trainer, place, start, config)
        taken, best, stopped_by = int(trainer.state.global_step), trainer.best, trainer.stopped_by
        everyone: Callable[[], None] = trainer.accelerator.wait_for_everyone
        del trainer
    if policy is not model:
        model.model = merge_lora(policy).model
    summary = {
        **settings,
        "taken": taken,
        "best": None if best is None else {"step": best[1], "score": best[0]},
        "stopped_early": taken < steps,
        "stopped_by": stopped_by,
    }
    if rank == 0:
        write_finished(model, place, final, summary, also_write)
    everyone()
    model.path = final
    return _result(final, model, summary)


def _check_reference(model: LanguageModel, config: GRPOConfig) -> None:
    """Refuse a fine-tuned adapter: switched off, it leaves its base, not the model that was fine-tuned."""
    if has_adapter(model.model) and config.beta:
        raise ConfigError(
            "GRPO",
            [f"{model.name} is an adapter on its base, and the divergence is from the fine-tuned model"],
            fix="load it with merge=True; lora_rank then trains a new adapter on it.",
        )


def _check_machine(config: GRPOConfig) -> None:
    """Refuse what this machine or this number of processes cannot do."""
    problems = []
    if config.vllm is not None and importlib.util.find_spec("vllm") is None:
        problems.append(f"vllm is {config.vllm!r}, and the package vllm is not installed")
    if config.answers_per_step % ((config.answers_per_batch or 1) * processes()):
        problems.append(
            f"{processes()} processes cannot share {config.answers_per_step} answers in forward passes of "
            f"{config.answers_per_batch or 1}"
        )
    if problems:
        raise ConfigError(
            "GRPO configuration",
            problems,
            fix='pip install "c2s[models,vllm]" in an environment of its own on a machine with a GPU, or leave '
            "vllm out to generate with Transformers; make prompts_per_step x group_size a multiple of "
            "answers_per_batch x processes.",
        )


def _check_prompts(model: LanguageModel, examples: pa.Table, config: GRPOConfig) -> None:
    """Make sure that every prompt can be answered."""
    from c2s.inference.batching import encode

    missing = [name for name in ("example_id", "prompt") if name not in examples.column_names]
    if missing:
        raise TrainingError(
            f"the examples have no column {', '.join(missing)}.", fix="make them with a task's examples()."
        )
    if not examples.num_rows:
        raise TrainingError("there is no prompt to train on.", fix="give at least one example.")
    lengths = [len(tokens) for tokens in encode(model, examples["prompt"].to_pylist())]
    longest = int(np.argmax(lengths))
    if lengths[longest] + config.max_answer_tokens > model.context_length:
        raise ContextError(
            f"example {examples['example_id'][longest].as_py()!r} has {lengths[longest]} tokens, and with "
            f"{config.max_answer_tokens} for the answer that is more than the context of {model.context_length}.",
            fix="lower max_answer_tokens, use fewer genes per prompt, or a model with a longer context.",
        )


def _settings(
    model: LanguageModel,
    examples: pa.Table,
    validation: pa.Table | None,
    rewards: Sequence[WeightedReward],
    config: GRPOConfig,
    steps: int,
) -> dict[str, Any]:
    """Return all that decides what a run computes; of a reward its name and weight, since code has no checksum."""
    return {
        "config": config.model_dump(mode="json")
        | {"rewards": {weighted.name: weighted.weight for weighted in rewards}, "processes": processes()},
        "steps": steps,
        "examples": examples.num_rows,
        "data": table_checksum(examples, examples.column_names),
        "validation": None if validation is None else table_checksum(validation, validation.column_names),
        "model": model.name if model.path is None else str(model.path),
        "weights": weights_checksum(model),
    }


def _with_adapters(model: LanguageModel, config: GRPOConfig) -> LanguageModel:
    """Return the model, or the same network with new adapters where the configuration asks for them."""
    options = adapter_options(config)
    return model if options is None else add_lora(model, options, seed=config.seed)


def _result(path: Path, model: LanguageModel, summary: Mapping[str, Any]) -> GRPOResult:
    best = summary["best"] or {"step": None, "score": None}
    return GRPOResult(
        path=path,
        model=model,
        steps=summary["taken"],
        best_step=best["step"],
        best_score=best["score"],
        stopped_early=summary["stopped_early"],
        history=read_record(path / RECORD_FILE),
        stopped_by=summary["stopped_by"],
    )


def _finished(path: Path) -> GRPOResult:
    """Read a finished run from its folder."""
    summary = json.loads((path / SUMMARY_FILE).read_text(encoding="utf-8"))
    return _result(path, load_model(path), summary)
