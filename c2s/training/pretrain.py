"""Pretraining on a corpus: next-token loss on the streamed shards (sections 4.1 and 4.3.4)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from c2s.corpus import Corpus, open_corpus
from c2s.errors import ConfigError, ContextError
from c2s.files import RESUME, check_target
from c2s.models.loading import LanguageModel, find_device, load_model
from c2s.models.tiny import TinyConfig, build_tiny
from c2s.progress import progress
from c2s.provenance import checksum
from c2s.training.adapters import (
    add_adapters,
    check_base_is_kept,
    check_trainable,
    finish_adapters,
    training_dtype,
)
from c2s.training.config import SFTConfig
from c2s.training.generators import isolated_generators
from c2s.training.resume import Start, begin, same_settings, table_checksum, weights_checksum
from c2s.training.sft import (
    RECORD_FILE,
    SUMMARY_FILE,
    TrainResult,
    finished_run,
    process_rank,
    processes,
    result_of,
    run_trainer,
    training_arguments,
    write_finished,
)
from c2s.training.validation import joined_evaluation, validation_loss
from c2s.training.watch import check_reports

if TYPE_CHECKING:
    from c2s.training.streaming import StreamTrainer

#: Settings of the tiny model; the paper's are `SFTConfig.paper(loss="full")`.
DEFAULTS = SFTConfig(loss="full", epochs=1.0)
#: Texts of the stream that a tokenizer is learned from, where the corpus has none.
_SAMPLE = 5000


def pretrain_corpus(
    corpus: str | os.PathLike[str] | Corpus,
    *,
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] | LanguageModel = "tiny",
    config: SFTConfig | None = None,
    tiny: TinyConfig | None = None,
    tasks: Sequence[str] | None = None,
    buffer_size: int = 10_000,
    validation_examples: int = 8,
    too_long: Literal["skip", "error"] | None = None,
    device: str = "auto",
    resume: bool = False,
    show_progress: bool = True,
) -> TrainResult:
    """Train a language model on the prompts and answers of a corpus, streamed from its shards.

    The shards are never loaded: a process holds its shuffle buffer and one batch. Under ``torchrun`` or
    ``accelerate launch`` each process reads a share of its own (``RANK`` and ``WORLD_SIZE``). Like
    `c2s.train_sft`, a run that was killed goes on with ``resume=True``, at the very next example, and ends in the
    same weights on a CPU.

    Parameters
    ----------
    corpus
        Folder that ``c2s corpus build`` wrote, or the corpus.
    out
        Folder for the trained model; must not exist unless `resume`.
    model
        ``"tiny"``, the name or folder of a model (see `c2s.load_model`), or a loaded one, trained in place. The
        tokenizer of ``"tiny"`` is the corpus's own where it has one, and is else learned from its first examples.
    config
        See `SFTConfig`; ``loss="full"`` reads whole texts, as pretraining does. ``gene_dropout`` does not apply to
        a stream. ``eval_every`` defaults to a tenth of the run, or to as much as a half of it where
        evaluations would read more tokens than the training itself.
    tiny
        Shape of the tiny model; its context defaults to the corpus's budget.
    tasks
        Train on these tasks only; default all of the corpus.
    buffer_size
        Examples that are shuffled together, as for `c2s.corpus.Corpus.stream`.
    validation_examples
        Examples of each task, from the validation part, whose loss is measured at each evaluation.
    too_long
        What happens to an example longer than the context: ``"error"``, or ``"skip"``, counted in the record. No
        text is ever cut. Default: an error where the corpus was built for a budget of tokens, else skip.
    device
        As for `c2s.load_model`.
    resume
        Go on where a killed run of the same settings stopped.
    show_progress
        Show a progress bar of steps.

    Returns
    -------
    TrainResult
        Evaluations in its history hold ``loss`` (mean of the tasks), and ``loss/TASK`` for each.

    Raises
    ------
    InputFileError
        There is no corpus.
    ConfigError
        The corpus has no such task, or the configuration asks for what a stream cannot do.
    ContextError
        The corpus was built for a longer context than the model's, or an example does not fit.
    TrainingError
        As for `c2s.train_sft`.
    OutputError
        `out` exists.
    """
    final = Path(out)
    place = final.with_name(final.name + ".training")
    if not resume:
        check_target(final, fix=RESUME)
    found = corpus if isinstance(corpus, Corpus) else open_corpus(corpus)
    config = config or DEFAULTS
    _check(found, config, tasks, buffer_size, validation_examples)
    check_reports(config.report_to)
    rank = process_rank()
    if not isinstance(model, LanguageModel):
        model = _model(found, model, tiny, tasks, config.seed, device, training_dtype(config))
    check_base_is_kept(model, config)
    too_long = _budget(found, model, too_long)
    rows = _rows(found, tasks)
    steps = config.max_steps or math.ceil(
        config.epochs * rows / (config.batch_size * config.gradient_accumulation * processes())
    )
    validation = _validation(found, model, tasks, validation_examples)
    settings = {
        "config": config.model_dump(mode="json")
        | {"tasks": list(tasks) if tasks else None, "buffer_size": buffer_size, "too_long": too_long}
        | {"processes": processes(), "validation_examples": validation_examples},
        "steps": steps,
        "examples": rows,
        "data": checksum(found.path / "manifest.json"),
        "validation": {task: table_checksum(table) for task, table in validation.items()} or None,
        "model": model.name if model.path is None else str(model.path),
        "weights": weights_checksum(model),
    }
    if resume and final.exists():
        same_settings(settings, final / SUMMARY_FILE)
        return finished_run(final)
    evaluation = joined_evaluation(model, config, None, _by_task(validation, config) if validation else None)
    with isolated_generators():
        arguments = training_arguments(config, place, steps, cpu=model.device.type == "cpu")
        arguments.ignore_data_skip = True  # the stream knows itself where to go on
        add_adapters(model, config)
        check_trainable(model)
        start = begin(place, settings, resume=resume, rank=rank)
        with progress("training steps", steps, enabled=show_progress and rank == 0) as advance:
            advance(start.step or 0)
            trainer = _make_trainer(
                model, found, config, arguments, start, place, tasks, buffer_size, too_long, steps, rows, advance,
                evaluation, _eval_every(found, config, tasks, validation, steps), rank,
            )  # fmt: skip
            run_trainer(trainer, place, start, config)
    summary = _summary(settings, trainer, steps)
    everyone: Callable[[], None] = trainer.accelerator.wait_for_everyone
    del trainer
    finish_adapters(model, config)
    if rank == 0:
        write_finished(model, place, final, summary)
    everyone()
    model.path = final
    return result_of(final, model, summary)


def _check(
    corpus: Corpus, config: SFTConfig, tasks: Sequence[str] | None, buffer_size: int, validation_examples: int
) -> None:
    known = corpus.manifest["tasks"]
    problems = [f"the corpus has no task {task!r}" for task in tasks or () if task not in known]
    if config.gene_dropout:
        problems.append(f"gene_dropout is {config.gene_dropout:g}, and a stream's texts are read as they are")
    if config.padding_free:
        problems.append("padding_free is set, and a stream pads (little, with length_window)")
    if buffer_size < 0:
        problems.append(f"buffer_size is {buffer_size}")
    if validation_examples < 0:
        problems.append(f"validation_examples is {validation_examples}")
    if not problems and not _rows(corpus, tasks):
        problems.append("the corpus has no example to train on")
    if problems:
        raise ConfigError(
            "pretraining", problems, fix=f"the tasks are {', '.join(known)}; see `c2s corpus info {corpus.path}`."
        )


def _rows(corpus: Corpus, tasks: Sequence[str] | None, part: str = "train") -> int:
    """Return the examples of these tasks in a part."""
    known = corpus.manifest["tasks"]
    return sum(int(known[task]["parts"].get(part, 0)) for task in tasks or known)


def _model(
    corpus: Corpus, name: str | os.PathLike[str], tiny: TinyConfig | None, tasks: Sequence[str] | None, seed: int,
    device: str, dtype: str = "float32",
) -> LanguageModel:  # fmt: skip
    """Load a model, or build the tiny one with the tokenizer of the corpus."""
    import torch

    if os.fspath(name) != "tiny":
        return load_model(name, config=tiny, device=device, dtype=dtype)
    limit = corpus.manifest["tokenizer"]["limit"]
    own = corpus.manifest["tokenizer"]["name"] == "tiny"
    shape = tiny or (TinyConfig(context_length=limit) if own and limit else TinyConfig())
    place = find_device(device)
    words: Any
    if own:
        from transformers import AutoTokenizer

        words = AutoTokenizer.from_pretrained(corpus.path / "tokenizer", local_files_only=True)
        words.padding_side = "left"
    else:
        stream = corpus.stream("train", buffer_size=0, tasks=tasks).select_columns(["prompt", "answer"])
        words = [f"{row['prompt']} {row['answer']}" for row in stream.take(_SAMPLE)]
    network, tokenizer = build_tiny(words, shape, seed=seed)
    torch.nn.Module.to(network, device=place)
    return LanguageModel(network, tokenizer, "tiny", None, shape.context_length)


def _budget(
    corpus: Corpus, model: LanguageModel, too_long: Literal["skip", "error"] | None
) -> Literal["skip", "error"]:
    """Return what to do with long examples; refuse a corpus that was made for a longer context."""
    stated = corpus.manifest["tokenizer"]
    if stated["name"] == "words" or stated["limit"] is None:
        return too_long or "skip"
    if stated["limit"] > model.context_length and too_long != "skip":
        raise ContextError(
            f"the corpus {corpus.path} was built for {stated['limit']} tokens, and {model.name} reads "
            f"{model.context_length}.",
            fix=f"build it with context: {{tokens: {model.context_length}}}, choose another model, or leave "
            'longer examples out with too_long="skip" (--too-long skip).',
        )
    return too_long or "error"


def _validation(
    corpus: Corpus, model: LanguageModel, tasks: Sequence[str] | None, most: int
) -> dict[str, pa.Table]:
    """Return some validation examples of each task that fit the context; in the order of the manifest."""
    from c2s.models.context import measure_context

    if "validation" not in corpus.parts or not most:
        return {}
    found = {}
    for task in tasks or corpus.manifest["tasks"]:
        if not _rows(corpus, [task], "validation"):
            continue
        stream = corpus.stream("validation", tasks=[task], seed=0, buffer_size=1000).take(most)
        records = [{k: row[k] for k in ("example_id", "prompt", "answer")} for row in stream]
        table = pa.Table.from_pylist(records)
        used = measure_context(model, table["prompt"].to_pylist(), table["answer"].to_pylist())
        table = table.filter(pa.array(used.tokens <= model.context_length))
        if len(table):
            found[task] = table
    return found


def _eval_every(
    corpus: Corpus,
    config: SFTConfig,
    tasks: Sequence[str] | None,
    validation: Mapping[str, pa.Table],
    steps: int,
) -> int:
    """Return how often to evaluate: ten times, or down to twice so as to read fewer tokens than training does."""
    known = corpus.manifest["tasks"]
    counts = {task: known[task]["counts"] for task in tasks or known if known[task]["counts"].get("rows")}
    mean = sum(c["tokens"] for c in counts.values()) / sum(c["rows"] for c in counts.values())
    step: float = mean * config.batch_size * config.gradient_accumulation
    once: float = sum(
        len(table) * counts[task]["tokens"] / counts[task]["rows"] for task, table in validation.items()
    )
    return max(1, steps // 10, min(steps // 2, math.ceil(once / step)))


def _by_task(validation: Mapping[str, pa.Table], config: SFTConfig) -> Callable[[LanguageModel], dict[str, float]]:
    """Return the evaluation: the loss of each task, and their mean."""

    def evaluate(model: LanguageModel) -> dict[str, float]:
        losses = {
            task: validation_loss(model, table, loss=config.loss, batch_size=config.batch_size)
            for task, table in validation.items()
        }
        mean = sum(losses.values()) / len(losses)
        return {"score": -mean, "loss": mean} | {f"loss/{task}": value for task, value in losses.items()}

    return evaluate


def _make_trainer(
    model: LanguageModel,
    corpus: Corpus,
    config: SFTConfig,
    arguments: Any,
    start: Start,
    place: Path,
    tasks: Sequence[str] | None,
    buffer_size: int,
    too_long: Literal["skip", "error"],
    steps: int,
    rows: int,
    advance: Any,
    evaluation: Callable[[], Mapping[str, float]] | None,
    eval_every: int,
    rank: int,
) -> StreamTrainer:
    from datasets import Dataset

    from c2s.training.streaming import (
        StreamedBatches,
        StreamRecord,
        StreamTrainer,
        collator,
        read_position,
    )

    batches = StreamedBatches(
        corpus,
        model,
        tasks=tasks,
        rank=rank,
        world_size=processes(),
        batch_size=config.batch_size,
        buffer_size=buffer_size,
        seed=config.seed,
        too_long=too_long,
        window=config.length_window * config.gradient_accumulation,
        start=read_position(start.checkpoint, rank),
    )
    # Each process keeps a record, since patience reads it; the first one's goes with the model.
    record = StreamRecord(place / (RECORD_FILE if rank == 0 else f"{rank}-{RECORD_FILE}"), up_to=start.step)
    record.batches, record.per_step, record.first_step = batches, config.gradient_accumulation, start.step or 0
    return StreamTrainer(
        model=model.model,
        args=arguments,
        # The trainer wants a table to look at; what is read comes from the loader.
        train_dataset=Dataset.from_dict({"example": [0]}),
        data_collator=collator(model, config.loss),
        processing_class=model.tokenizer,
        record=record,
        n_examples=rows,
        evaluate_with=evaluation,
        eval_every=config.eval_every or eval_every,
        patience=config.patience,
        keep_checkpoints=config.keep_checkpoints,
        best=start.best,
        advance=advance,
        divergence=config.divergence,
        batches=batches,
        first_step=start.step or 0,
    )


def _summary(settings: Mapping[str, Any], trainer: StreamTrainer, steps: int) -> dict[str, Any]:
    taken, best = int(trainer.state.global_step), trainer.best
    return {
        **settings,
        "taken": taken,
        "best": None if best is None else {"step": best[1], "score": best[0]},
        "stopped_early": taken < steps,
    }
