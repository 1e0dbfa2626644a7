"""From cells to a model that does a task, and back from its folder.

`train_task` is what ``c2s train sft`` and the chapters call. Task, templates and configuration come in as
arguments; nothing is looked up in a registry here.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from c2s.errors import ModelError
from c2s.files import RESUME, check_target
from c2s.missing import known_rows
from c2s.models.loading import LanguageModel, load_model
from c2s.models.tiny import TinyConfig
from c2s.prompts import PromptTemplate
from c2s.splits import Split, recur
from c2s.training.adapters import training_dtype
from c2s.training.config import SFTConfig
from c2s.training.parts import examples_of_parts, gene_dropout
from c2s.training.resume import table_checksum
from c2s.training.scoring import AnswerScoring, CandidateScoring
from c2s.training.seen import CellPrints, SeenCells
from c2s.training.sft import TrainResult, train_sft
from c2s.training.validation import Evaluate

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.inference import Calibration
    from c2s.sentences import CellSentences
    from c2s.tasks import Metric, Task

TASK_FILE = "c2s_task.json"
SPLIT_FILE = "split.parquet"
CALIBRATION_FILE = "calibration.json"
GENES_FILE = "genes.txt"


@dataclass(frozen=True)
class TaskModel:
    """A language model trained on a task, with all that prediction needs.

    Attributes
    ----------
    path
        The folder.
    model
        The language model.
    task_name, task_version, options
        Which task; ``TaskClass.from_options(options)`` makes it again.
    templates
        The prompts it was trained with.
    seed
        Of the split and the choice of templates.
    top_k
        Genes per cell; None for all.
    candidates
        The answers it may give; None when answers are free text.
    calibration
        Temperature fitted on the validation cells; None where there was nothing to fit.
    split
        Which cell it was trained on; None if it was not kept.
    seen
        The cells of the split, known by their genes; None if these were not kept.
    data
        Name, number of cells and checksum of the training data, and how they were read (``reading``).
    genes
        Words of the training cells' sentences, sorted; None if they were not kept.
    answers
        How often each answer occurs in the training part; None where they do not recur, or were not kept.
    """

    path: Path
    model: LanguageModel
    task_name: str
    task_version: str
    options: Mapping[str, Any]
    templates: tuple[PromptTemplate, ...]
    seed: int
    top_k: int | None
    candidates: tuple[str, ...] | None
    calibration: Calibration | None
    split: Split | None
    data: Mapping[str, Any] = field(default_factory=dict)
    genes: tuple[str, ...] | None = None
    seen: SeenCells | None = None
    answers: Mapping[str, int] | None = None

    def reading(self, name: str) -> dict[str, Any]:
        """Return how the training data were read, as keywords of `c2s.load_dataset`; nothing for other data."""
        return _reading(self.data, name)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto", dtype: str = "auto") -> TaskModel:
        """Read a folder that `train_task` wrote.

        Raises
        ------
        ModelError
            The folder holds no model, or one that was not trained on a task.
        """
        from c2s.inference import Calibration

        folder = Path(path)
        facts = _read_task_file(folder)
        templates = tuple(PromptTemplate(t["name"], t["text"], t["answer"]) for t in facts["templates"])
        candidates = facts["candidates"]
        calibration = folder / CALIBRATION_FILE
        split, seen = _read_split(folder, facts)
        return cls(
            path=folder,
            model=load_model(folder, device=device, dtype=dtype),
            task_name=facts["task"],
            task_version=facts["version"],
            options=facts["options"],
            templates=templates,
            seed=facts["seed"],
            top_k=facts["top_k"],
            candidates=None if candidates is None else tuple(candidates),
            calibration=Calibration.load(calibration) if calibration.exists() else None,
            split=split,
            data=facts["data"],
            genes=_read_genes(folder),
            seen=seen,
            answers=facts.get("answers"),
        )


@dataclass(frozen=True)
class TrainedTask:
    """What `train_task` made.

    Attributes
    ----------
    task_model
        The model with what prediction needs, as `TaskModel.load` reads it.
    task
        The task.
    sentences
        All cells, of all parts of the split.
    training
        Steps, losses and validation scores.
    """

    task_model: TaskModel
    task: Task
    sentences: CellSentences
    training: TrainResult

    @property
    def path(self) -> Path:
        """The model folder."""
        return self.task_model.path

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self.task_model.model

    @property
    def split(self) -> Split:
        """Which cell belongs to which part."""
        assert self.task_model.split is not None
        return self.task_model.split


def train_task(
    data: AnnData | CellSentences,
    task: Task,
    templates: Sequence[PromptTemplate],
    *,
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] | LanguageModel = "tiny",
    config: SFTConfig | None = None,
    tiny: TinyConfig | None = None,
    top_k: int | None = None,
    seed: int = 0,
    split: Split | None = None,
    metrics: Sequence[Metric] = (),
    data_name: str = "",
    reading: Mapping[str, Any] | None = None,
    device: str = "auto",
    resume: bool = False,
    show_progress: bool = True,
) -> TrainedTask:
    """Train a language model on a task: sentences, split, examples, fine-tuning, calibration.

    Cells without a value in a column of the task are left out.
    The model learns from the training cells; its validation score, by which the best weights are kept, and its
    calibration come from the validation cells. Of the test cells the true answers are counted, and
    `c2s.splits.split_problems` warned of; the model never sees them.

    Parameters
    ----------
    data
        Normalised cells, or sentences made of them before.
    task
        What to learn.
    templates
        How to ask.
    out
        Folder for the model; must not exist unless `resume`.
    model
        ``"tiny"``, the name or folder of a model (see `c2s.load_model`), or a loaded one, trained in place.
    config
        How to train; ``gene_dropout`` and the seed of the data order are in here.
    tiny
        Shape of the tiny model.
    top_k
        Genes per cell; None for all. Ignored for sentences.
    seed
        Of the split, of the choice of templates and of the tiny model's first weights.
    split
        A split to use instead of the task's own.
    metrics
        What answers on validation examples are measured by while training, where ``config.eval_examples`` asks for
        it; the first decides which weights are kept.
    data_name
        What to call the data in ``c2s_task.json``.
    reading
        How the data were read, as keywords of `c2s.load_dataset`; kept with the model, whose evaluation reads them
        again.
    device
        As for `c2s.load_model`.
    resume
        Go on with a run that was stopped; see `c2s.train_sft`.
    show_progress
        Show progress bars.

    Returns
    -------
    TrainedTask

    Raises
    ------
    C2SError
        Whatever the parts raise: `ObsError` for columns and parts without an example, `ContextError` for prompts
        that do not fit, `OutputError` if `out` exists, `TrainingError` for a run that cannot start or go on.
    """
    from c2s.sentences import CellSentences, to_cell_sentences

    if not resume:
        check_target(Path(out), fix=RESUME)
    config = config or SFTConfig()
    if isinstance(data, CellSentences):
        sentences, top_k = data, data.provenance.get("top_k")
    else:
        sentences = to_cell_sentences(data, top_k=top_k, show_progress=show_progress)
    if split is None:
        known = known_rows(sentences.obs, task.columns)
        if not known.all():
            sentences = sentences.select(known.index[known].tolist())
        split = task.split(sentences.obs, seed=seed)
    parts = examples_of_parts(task, sentences, split, templates, seed=seed)
    train, validation = parts["train"], parts.get("validation")
    learned = Counter(train["answer"].to_pylist())
    augment = gene_dropout(config.gene_dropout, task, templates, train) if config.gene_dropout else None
    candidates = task.candidates(train)
    if not isinstance(model, LanguageModel):
        corpus = [
            f"{p} {a}" for p, a in zip(train["prompt"].to_pylist(), train["answer"].to_pylist(), strict=True)
        ]
        is_tiny = os.fspath(model) == "tiny"
        model = load_model(
            model, corpus=corpus if is_tiny else None, config=tiny if is_tiny else None, seed=seed, device=device,
            dtype=training_dtype(config),
        )  # fmt: skip
    seen = SeenCells.of(split, data, sentences)
    facts = {
        "task": task.name,
        "version": task.version,
        "options": task.options(),
        "templates": [{"name": t.name, "text": t.text, "answer": t.answer} for t in templates],
        "seed": seed,
        "top_k": top_k,
        "candidates": candidates,
        "answers": dict(learned.most_common()) if candidates or recur(learned) else None,
        "split": {"unit": split.unit, "note": split.note, "sizes": dict(split.sizes), "longest": seen.longest},
        "data": {
            "name": data_name,
            "path": os.path.realpath(data_name) if data_name and Path(data_name).exists() else None,
            "cells": len(sentences),
            "checksum": table_checksum(sentences.table, ("cell_id", "cell_sentence")),
            "reading": dict(reading or {}),
        },
    }
    scoring: CandidateScoring | None = None
    measured: Evaluate | None = None
    if validation is not None and candidates:
        measured = scoring = CandidateScoring(validation, candidates)
    elif validation is not None and config.eval_examples and metrics:
        measured = AnswerScoring(validation, metrics, task, config.eval_examples)
    trained_on = sentences.select(split.ids("train"))

    def also_write(trained: LanguageModel, folder: Path) -> None:
        (folder / TASK_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        parts = {"cell_id": split.assignment.index.to_numpy(str), "part": split.assignment.to_numpy(str)}
        columns = {k: pa.array(v.tolist(), pa.string()) for k, v in parts.items()}
        columns |= {"whole": pa.array(seen.prints.whole), "shown": pa.array(seen.prints.shown)}
        pq.write_table(pa.table(columns), folder / SPLIT_FILE)
        words = {word for text in trained_on.table["cell_sentence"].to_pylist() for word in text.split()}
        (folder / GENES_FILE).write_text("\n".join(sorted(words)) + "\n", encoding="utf-8")
        if scoring is not None and (calibration := scoring.calibrate(trained)) is not None:
            calibration.save(folder / CALIBRATION_FILE)

    result = train_sft(
        model,
        train,
        out=out,
        config=config,
        validation=validation if scoring is None else None,
        evaluate=measured,
        augment=augment,
        resume=resume,
        show_progress=show_progress,
        also_write=also_write,
    )
    return TrainedTask(_task_model(result, task, templates, facts, split), task, sentences, result)


def _task_model(
    result: TrainResult, task: Task, templates: Sequence[PromptTemplate], facts: Mapping[str, Any], split: Split
) -> TaskModel:
    from c2s.inference import Calibration

    calibration = result.path / CALIBRATION_FILE
    return TaskModel(
        path=result.path,
        model=result.model,
        task_name=task.name,
        task_version=task.version,
        options=facts["options"],
        templates=tuple(templates),
        seed=facts["seed"],
        top_k=facts["top_k"],
        candidates=None if facts["candidates"] is None else tuple(facts["candidates"]),
        calibration=Calibration.load(calibration) if calibration.exists() else None,
        split=split,
        data=facts["data"],
        genes=_read_genes(result.path),
        seen=_read_split(result.path, facts)[1],
        answers=facts["answers"],
    )


def reading_of_training(model: str | os.PathLike[str], source: str | os.PathLike[str]) -> dict[str, Any]:
    """Return how training data were read, keywords of `c2s.read_cells`; none where `source` is another file."""
    if not (Path(model) / TASK_FILE).is_file():
        return {}
    return _reading(_read_task_file(Path(model))["data"], os.fspath(source))


def _reading(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    path = data.get("path")
    if name != data.get("name") if path is None else os.path.realpath(name) != path:
        return {}
    found = data.get("reading", {})
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def _read_task_file(folder: Path) -> dict[str, Any]:
    file = folder / TASK_FILE
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}.", fix="train one: c2s train sft --out DIR ...")
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder} was not trained on a task: it has no {TASK_FILE}.",
            fix="give a folder that `c2s train sft --task ...` wrote.",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} is not readable JSON: {error}.", fix="copy the model folder again.") from None
    wanted = ("task", "version", "options", "templates", "seed", "top_k", "candidates", "split", "data")
    missing = [key for key in wanted if key not in facts]
    if missing:
        raise ModelError(f"{file} lacks {', '.join(missing)}.", fix="copy the model folder again, or train again.")
    return facts


def _read_split(folder: Path, facts: Mapping[str, Any]) -> tuple[Split | None, SeenCells | None]:
    import pandas as pd

    file = folder / SPLIT_FILE
    if not file.exists():
        return None, None
    table = pq.read_table(file)
    assignment = pd.Series(table["part"].to_pylist(), index=pd.Index(table["cell_id"].to_pylist()), dtype=object)
    split = Split(assignment.astype(str), facts["split"]["unit"], facts["split"]["note"])
    if "whole" not in table.column_names:  # of an earlier version, which knew cells by their ids alone
        return split, None
    prints = CellPrints(tuple(split.assignment.index), table["whole"].to_numpy(), table["shown"].to_numpy())
    return split, SeenCells(split, prints, facts["split"].get("longest", 0))


def _read_genes(folder: Path) -> tuple[str, ...] | None:
    file = folder / GENES_FILE
    return tuple(file.read_text(encoding="utf-8").split()) if file.exists() else None
