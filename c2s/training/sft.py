"""Supervised fine-tuning of a language model on a table of examples (sections 4.3.4 and 4.5.1)."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c2s.errors import TrainingError
from c2s.files import RESUME, atomic_output, check_target
from c2s.models.context import check_context
from c2s.models.loading import LanguageModel, quiet_transformers, write_model
from c2s.progress import progress
from c2s.training.adapters import add_adapters, check_base_is_kept, check_trainable, finish_adapters
from c2s.training.batches import Augment, Collator, check_apart, plan_visits
from c2s.training.config import SFTConfig
from c2s.training.generators import isolated_generators
from c2s.training.record import TrainingRecord, read_record
from c2s.training.resume import Start, begin, out_of_patience, run_settings, same_settings
from c2s.training.validation import Evaluate, joined_evaluation
from c2s.training.watch import TENSORBOARD_FOLDER, check_reports, out_of_memory

if TYPE_CHECKING:
    import pyarrow as pa

    from c2s.training.grpo_config import GRPOConfig
    from c2s.training.trainer import AnswerTrainer

RECORD_FILE = "train.jsonl"
SUMMARY_FILE = "training.json"


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    Attributes
    ----------
    path
        The model folder: weights, tokenizer, ``train.jsonl`` and ``training.json``.
    model
        The trained model, with the weights that were written.
    steps
        Optimizer steps taken.
    best_step, best_score
        Step whose weights were kept, and its validation score; None when nothing was evaluated.
    stopped_early
        Whether patience ran out before the last step.
    history
        The lines of ``train.jsonl``.
    """

    path: Path
    model: LanguageModel
    steps: int
    best_step: int | None
    best_score: float | None
    stopped_early: bool
    history: list[dict[str, Any]]

    @property
    def losses(self) -> list[float]:
        """Training loss of each step."""
        return [line["loss"] for line in self.history if "loss" in line]


def train_sft(
    model: LanguageModel,
    examples: pa.Table,
    *,
    out: str | os.PathLike[str],
    config: SFTConfig | None = None,
    validation: pa.Table | None = None,
    augment: Augment | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    show_progress: bool = True,
    also_write: Callable[[LanguageModel, Path], None] | None = None,
) -> TrainResult:
    """Fine-tune `model` on the answers of `examples`.

    While it runs, its state is kept in ``<out>.training`` beside `out`; `out` appears when it is finished. A run
    that was killed goes on with ``resume=True`` and, on a CPU, ends in the same weights bit for bit. Under
    ``torchrun`` or ``accelerate launch`` the processes share each step: two with a batch of 8 take the steps of
    one with 16.

    Parameters
    ----------
    model
        Trained in place.
    examples
        Table with ``example_id``, ``prompt``, ``answer`` and whatever `augment` needs.
    out
        Folder for the trained model; must not exist.
    config
        See `SFTConfig`.
    validation
        Examples whose loss is measured at each evaluation. Without `evaluate`, its negative is the score.
    augment
        ``(record, rng) -> record``, drawn anew for each example in each epoch, from a generator seeded by
        the seed, the epoch and the example's id; `c2s.GeneDropout`, for example.
    evaluate
        Called with the model at each evaluation; its ``"score"`` decides which weights are kept.
    resume
        Go on where a killed run of the same settings stopped; starts afresh if there is none, and returns the
        finished run if there is one.
    show_progress
        Show a progress bar of steps.
    also_write
        Called with the trained model and a folder whose files go into `out` together with the model.

    Returns
    -------
    TrainResult

    Raises
    ------
    OutputError
        `out` exists.
    ContextError
        An example does not fit the context; raised before the first step.
    TrainingError
        There is no example, an answer is missing, the loss is not a number or climbs, memory runs out, an
        unfinished run is in the way, or a resumed run had other settings.
    ConfigError
        A tool to report to is not installed.
    ModelError
        A layer that is to get adapters is not in the model.
    """
    config = config or SFTConfig()
    final = Path(out)
    place = final.with_name(final.name + ".training")
    if not resume:
        check_target(final, fix=RESUME)
    check_base_is_kept(model, config)
    lengths = _check_examples(model, examples)
    n = len(lengths)
    check_reports(config.report_to)
    rank, world = process_rank(), processes()
    per_step = config.batch_size * config.gradient_accumulation * world
    steps = config.max_steps or math.ceil(config.epochs * n / per_step)
    settings = run_settings(model, examples, validation, config, steps)
    settings["config"]["processes"] = world
    if resume and final.exists():
        same_settings(settings, final / SUMMARY_FILE)
        return finished_run(final)
    with isolated_generators():
        add_adapters(model, config)
        check_trainable(model)
        if config.padding_free:
            check_apart(model.model)
        arguments = training_arguments(config, place, steps, cpu=model.device.type == "cpu")
        start = begin(place, settings, resume=resume, rank=rank)
        # Each process keeps a record, since patience reads it; the first one's goes with the model.
        record = TrainingRecord(place / (RECORD_FILE if rank == 0 else f"{rank}-{RECORD_FILE}"), up_to=start.step)
        with progress("training steps", steps, enabled=show_progress and rank == 0) as advance:
            advance(start.step or 0)
            trainer = _make_trainer(
                model, examples, arguments, config, lengths, steps, start, record, advance, augment,
                joined_evaluation(model, config, validation, evaluate),
            )  # fmt: skip
            run_trainer(trainer, place, start, config)
    best = trainer.best
    taken = int(trainer.state.global_step)
    summary = {
        **settings,
        "taken": taken,
        "best": None if best is None else {"step": best[1], "score": best[0]},
        "stopped_early": taken < steps,
    }
    everyone: Callable[[], None] = trainer.accelerator.wait_for_everyone
    del trainer
    finish_adapters(model, config)
    if rank == 0:
        write_finished(model, place, final, summary, also_write)
    everyone()
    model.path = final
    return result_of(final, model, summary)


def write_finished(
    model: LanguageModel,
    place: Path,
    final: Path,
    summary: Mapping[str, Any],
    also_write: Callable[[LanguageModel, Path], None] | None = None,
) -> None:
    """Write the folder of a finished run, whole or not at all, and remove its working folder."""
    with atomic_output(final) as temporary:
        write_model(model, temporary)
        shutil.copyfile(place / RECORD_FILE, temporary / RECORD_FILE)
        (temporary / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        if (place / TENSORBOARD_FOLDER).exists():
            shutil.copytree(place / TENSORBOARD_FOLDER, temporary / TENSORBOARD_FOLDER)
        if also_write is not None:
            also_write(model, temporary)
    shutil.rmtree(place, ignore_errors=True)


def result_of(path: Path, model: LanguageModel, summary: Mapping[str, Any]) -> TrainResult:
    """Return a finished run as its folder and summary tell it."""
    best = summary["best"] or {"step": None, "score": None}
    return TrainResult(
        path=path,
        model=model,
        steps=summary["taken"],
        best_step=best["step"],
        best_score=best["score"],
        stopped_early=summary["stopped_early"],
        history=read_record(path / RECORD_FILE),
    )


def finished_run(path: Path) -> TrainResult:
    """Read a finished run from its folder."""
    from c2s.models.loading import load_model

    summary = json.loads((path / SUMMARY_FILE).read_text(encoding="utf-8"))
    return result_of(path, load_model(path), summary)


def _check_examples(model: LanguageModel, examples: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the tokens of each example after making sure that it can be trained on."""
    missing = [name for name in ("example_id", "prompt", "answer") if name not in examples.column_names]
    if missing:
        raise TrainingError(
            f"the examples have no column {', '.join(missing)}.", fix="make them with a task's examples()."
        )
    if not examples.num_rows:
        raise TrainingError("there is no example to train on.", fix="give at least one cell with an answer.")
    ids = examples["example_id"].to_pylist()
    answers = examples["answer"].to_pylist()
    empty = [name for name, answer in zip(ids, answers, strict=True) if not answer]
    if empty:
        raise TrainingError(
            f"{len(empty)} of {len(ids)} examples have no answer, first {empty[0]!r}.",
            fix="make the examples with answers=True, of cells that have a label.",
        )
    return check_context(model, examples["prompt"].to_pylist(), answers, ids=ids).tokens


def process_rank() -> int:
    """Return the number of this process among those that train together; 0 for the first or only one."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """Return the number of processes that train together (``accelerate launch`` sets it)."""
    return max(1, int(os.environ.get("WORLD_SIZE", "1")))


def training_arguments(config: SFTConfig, place: Path, steps: int, *, cpu: bool) -> Any:
    """Return the trainer's own configuration of a run."""
    import trl

    made = trl.SFTConfig(
        **common_arguments(config, place, steps, cpu=cpu),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        save_steps=config.save_steps,
        ddp_find_unused_parameters=False,
        # The visits are tokenised when they are read, since their genes are drawn anew each epoch.
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
    )
    return one_device(made)


def one_device(arguments: Any) -> Any:
    """Keep a process to one device: left to itself, the trainer spreads a batch over all GPUs that it sees."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def common_arguments(config: SFTConfig | GRPOConfig, place: Path, steps: int, *, cpu: bool) -> dict[str, Any]:
    """Return what TRL's supervised trainer and the one for GRPO are told alike."""
    schedules = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
    return {
        "output_dir": str(place),
        "max_steps": steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": schedules[config.lr_schedule],
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "adam_epsilon": config.adam_epsilon,
        "max_grad_norm": config.max_grad_norm,
        "bf16": config.bf16,
        "activation_checkpointing": config.activation_checkpointing,
        "gradient_checkpointing": None,  # the deprecated name of the same, which TRL turns on
        "seed": config.seed,
        "save_strategy": "steps",
        "eval_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": list(config.report_to) or "none",
        "use_cpu": cpu,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
    }


def _make_trainer(
    model: LanguageModel,
    examples: pa.Table,
    arguments: Any,
    config: SFTConfig,
    lengths: np.ndarray[Any, np.dtype[np.int64]],
    steps: int,
    start: Start,
    record: TrainingRecord,
    advance: Any,
    augment: Augment | None,
    evaluation: Callable[[], Mapping[str, float]] | None,
) -> AnswerTrainer:
    from datasets import Dataset

    from c2s.training.trainer import AnswerTrainer

    per_step = config.batch_size * config.gradient_accumulation * processes()
    visits = plan_visits(lengths, steps=steps, per_step=per_step, window=config.length_window, seed=config.seed)
    return AnswerTrainer(
        model=model.model,
        args=arguments,
        train_dataset=Dataset.from_dict({"epoch": visits.epochs, "example": visits.examples}),
        data_collator=Collator(
            examples,
            model.tokenizer,
            augment=augment,
            loss=config.loss,
            seed=config.seed,
            context_length=model.context_length,
            padding_free=config.padding_free,
        ),
        processing_class=model.tokenizer,
        record=record,
        n_examples=len(lengths),
        evaluate_with=evaluation,
        eval_every=config.eval_every or max(1, math.ceil(len(lengths) / per_step)),
        patience=config.patience,
        keep_checkpoints=config.keep_checkpoints,
        best=start.best,
        advance=advance,
        divergence=config.divergence,
    )


def run_trainer(trainer: AnswerTrainer, place: Path, start: Start, config: SFTConfig) -> None:
    """Train to the end, put the best weights back, and leave the model as plain as it came."""
    from transformers.utils import logging

    network = trainer.model
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet_transformers():
            if start.checkpoint is not None and out_of_patience(trainer.record, start.best, config.patience):
                trainer._load_from_checkpoint(str(start.checkpoint))
                trainer.state.global_step = start.step
            else:
                trainer.train(resume_from_checkpoint=str(start.checkpoint) if start.checkpoint else None)
            if trainer.best is not None and trainer.best[1] != trainer.state.global_step:
                trainer._load_from_checkpoint(str(place / f"checkpoint-{trainer.best[1]}"))
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"memory ran out in step {trainer.state.global_step + 1}, with {config.batch_size} examples at once.",
            fix="lower batch_size and raise gradient_accumulation by as much; or set activation_checkpointing, "
            "bf16 or lora_rank, or use fewer genes (top_k).",
        ) from error
    finally:
        logging.set_verbosity(level)
        network = trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        # TRL puts a forward pass of its own on the instance; the class's is ours again.
        network.__dict__.pop("forward", None)
        network.eval()
