"""Run a grid, one model after the other; what is done stays done."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from c2s.corpus import Corpus, build_corpus, load_spec, open_corpus
from c2s.errors import ConfigError, InputFileError
from c2s.files import atomic_output
from c2s.progress import progress
from c2s.scaling.grid import ScalingGrid, Unit
from c2s.scaling.measure import held_out_samples, measure, training_rows

if TYPE_CHECKING:
    from c2s.models.loading import LanguageModel
    from c2s.training.config import SFTConfig

_SPECIFICATIONS = (".yaml", ".yml")
GRID_FILE, RUNS, RESULTS, RESULT = "grid.json", "runs", "results.parquet", "result.json"


@dataclass(frozen=True)
class ScalingResults:
    """What a grid found.

    Attributes
    ----------
    path
        Folder of the results.
    grid
        The grid.
    table
        One row per run, held-out sample and metric: ``size``, ``parameters`` (all of them, tied ones once),
        ``way``, ``samples``, ``seed``, ``task``, ``example_id``, ``metric``, ``value``.
    runs
        One row per run: the same first columns, ``trained_parameters``, ``steps``, ``tokens``, ``seconds``.
    """

    path: Path
    grid: ScalingGrid
    table: pd.DataFrame
    runs: pd.DataFrame

    @property
    def corpus(self) -> Path:
        """Folder of the corpus that was read."""
        source = Path(self.grid.corpus)
        return self.path / "corpus" if source.suffix in _SPECIFICATIONS else source

    def means(self) -> pd.DataFrame:
        """Return the mean over samples of each run, task and metric; with ``n``, the number of samples."""
        keys = ["size", "parameters", "way", "samples", "seed", "task", "metric"]
        grouped = self.table.groupby(keys, sort=False)["value"]
        return grouped.agg(value="mean", n="size").reset_index()


def run_grid(
    grid: ScalingGrid, out: str | os.PathLike[str], *, device: str = "auto", show_progress: bool = True
) -> ScalingResults:
    """Run every unit of a grid that is not done yet, and gather the results.

    For each size and seed a model is pretrained once; each way and number of samples then fine-tunes a copy of it.
    A run that was stopped goes on at its last checkpoint when the same grid is run into the same folder again.

    Parameters
    ----------
    grid
        See `ScalingGrid`.
    out
        Folder of the results.
    device
        As for `c2s.load_model`.
    show_progress
        Show a progress bar of runs.

    Returns
    -------
    ScalingResults

    Raises
    ------
    ConfigError
        The folder holds the results of another grid, another process works in it, or the corpus has too few
        samples.
    C2SError
        What building the corpus, training and generating raise.
    """
    folder = Path(out)
    _claim(grid, folder)
    try:
        with FileLock(folder / ".lock", timeout=0):
            corpus = _corpus(grid, folder)
            _enough(grid, corpus)
            samples = held_out_samples(corpus, grid.tasks, grid.held_out)
            units = grid.units()
            with progress("runs", len(units), enabled=show_progress) as advance:
                for unit in units:
                    if not (folder / RUNS / unit.name / RESULT).exists():
                        _run(grid, unit, corpus, samples, folder / RUNS, device)
                    advance(1)
            if not grid.keep_models:
                for base in {unit.base for unit in units}:
                    shutil.rmtree(folder / RUNS / base, ignore_errors=True)
    except Timeout:
        raise ConfigError(
            f"scaling results {folder}", ["another process is running a grid in it"], fix="wait for it to end."
        ) from None
    return _gather(grid, folder)


def read_results(path: str | os.PathLike[str]) -> ScalingResults:
    """Read the results of a grid that has run.

    Raises
    ------
    InputFileError
        There are none, or not all runs are done.
    """
    folder = Path(path)
    if not (folder / RESULTS).exists():
        raise InputFileError(
            f"there are no results in {folder}.", fix=f"run the grid: c2s scaling run GRID.yaml --out {folder}."
        )
    said = json.loads((folder / GRID_FILE).read_text(encoding="utf-8"))
    table = pq.read_table(folder / RESULTS).to_pandas()
    return ScalingResults(folder, ScalingGrid(**said["grid"]), table, pd.read_csv(folder / "runs.csv"))


def _claim(grid: ScalingGrid, folder: Path) -> None:
    """Make the folder this grid's, or find that it is."""
    place = folder / GRID_FILE
    if place.exists():
        said = json.loads(place.read_text(encoding="utf-8"))
        before, now = said["grid"], grid.model_dump(mode="json")
        changed = [
            f"{key} was {before.get(key)!r} and is {value!r}"
            for key, value in now.items()
            if key not in ("name", "keep_models") and before.get(key) != value
        ]
        if changed:
            raise ConfigError(
                f"scaling results {folder}", changed, fix="run the grid it was made with, or into another folder."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"scaling results {folder}", ["the folder holds something else"], fix="choose another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_output(place) as temporary:
        content = {"digest": grid.digest(), "grid": grid.model_dump(mode="json")}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _corpus(grid: ScalingGrid, folder: Path) -> Corpus:
    """Open the corpus, or build it from its specification."""
    source = Path(grid.corpus)
    if source.suffix in _SPECIFICATIONS:
        build_corpus(load_spec(source), folder / "corpus", show_progress=False)
        return open_corpus(folder / "corpus")
    return open_corpus(source)


def _enough(grid: ScalingGrid, corpus: Corpus) -> None:
    """Refuse a grid whose runs would read samples twice: what is compared is samples seen."""
    known = corpus.manifest["tasks"]
    problems = [f"the corpus has no task {task!r}" for task in grid.tasks if task not in known]
    if not problems:
        there = sum(int(known[task]["parts"].get("train", 0)) for task in grid.tasks)
        problems += [
            f"{n} samples are wanted, and its training part has {there}" for n in grid.samples if n > there
        ]
        pretraining = grid.pretrain.tasks or tuple(known)
        there = sum(int(known[t]["parts"].get("train", 0)) for t in pretraining if t in known)
        if grid.pretrain.samples > there:
            problems.append(f"pretraining reads {grid.pretrain.samples} samples, and there are {there}")
    if problems:
        raise ConfigError(
            f"corpus {corpus.path}", problems, fix="see `c2s corpus info`; build it with more cells."
        )


def _run(grid: ScalingGrid, unit: Unit, corpus: Corpus, samples: pa.Table, runs: Path, device: str) -> None:
    """Fine-tune and measure one model."""
    from c2s.models import load_model
    from c2s.training import train_sft
    from c2s.training.adapters import training_dtype

    base = _base(grid, unit, corpus, runs, device)
    model = load_model(base, device=device, dtype=training_dtype(_config(grid, unit)))
    rows = training_rows(corpus, grid.tasks, unit.samples, seed=unit.seed)
    work = runs / f"{unit.name}.model"
    started = time.perf_counter()
    trained = train_sft(
        model,
        pa.Table.from_pylist(rows),
        out=work,
        config=_config(grid, unit),
        resume=True,
        show_progress=False,
    )
    seconds = time.perf_counter() - started
    found = measure(
        trained.model, samples, max_new_tokens=grid.max_new_tokens, bert_score=grid.bert_score,
        batch_size=grid.batch_size,
    )  # fmt: skip
    lines = [line for line in trained.history if "loss" in line]
    facts = {
        "size": str(unit.size),
        "parameters": trained.model.n_parameters,
        "way": unit.way,
        "samples": unit.samples,
        "seed": unit.seed,
        "trained_parameters": _trained_parameters(grid, trained.model)
        if unit.way == "lora"
        else trained.model.n_parameters,
        "steps": trained.steps,
        "tokens": sum(line["tokens"] for line in lines),
        "seconds": round(seconds, 3),
        "last_loss": lines[-1]["loss"],
    }
    with atomic_output(runs / unit.name) as temporary:
        temporary.mkdir()
        pq.write_table(pa.Table.from_pylist(found), temporary / "samples.parquet")
        (temporary / RESULT).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        if grid.keep_models:
            shutil.copytree(work, temporary / "model")
    shutil.rmtree(work, ignore_errors=True)


def _config(grid: ScalingGrid, unit: Unit) -> SFTConfig:
    from c2s.training import SFTConfig

    steps = unit.samples // grid.batch_size
    return SFTConfig(
        max_steps=steps,
        batch_size=grid.batch_size,
        learning_rate=grid.learning_rate[unit.way],
        warmup_steps=min(20, steps // 10),
        loss=grid.learn,
        lora_rank=grid.lora_rank if unit.way == "lora" else None,
        save_steps=max(50, steps // 4),
        seed=unit.seed,
    )


def _trained_parameters(grid: ScalingGrid, model: LanguageModel) -> int:
    """Count the weights of adapters on such a network."""
    from c2s.models.lora import LoraOptions, add_lora
    from c2s.models.shapes import count_parameters, empty_network

    empty = replace(model, model=empty_network(model.model.config))
    return count_parameters(add_lora(empty, LoraOptions(rank=grid.lora_rank)).model, trainable=True)


def _base(grid: ScalingGrid, unit: Unit, corpus: Corpus, runs: Path, device: str) -> str | Path:
    """Return the folder or preset that a run begins with; make the folder where it is not there."""
    from c2s.training import SFTConfig, pretrain_corpus

    final = runs / unit.base
    if final.exists():
        return final
    if isinstance(unit.size, str) and not grid.pretrain.samples:
        return unit.size
    model = _begin_with(grid, unit, corpus, device)
    if not grid.pretrain.samples:
        return model.save(final)
    steps = grid.pretrain.samples // grid.batch_size
    pretrain_corpus(
        corpus,
        out=final,
        model=model,
        config=SFTConfig(
            loss="full",
            max_steps=steps,
            batch_size=grid.batch_size,
            learning_rate=grid.pretrain.learning_rate,
            warmup_steps=min(20, steps // 10),
            length_window=0,
            eval_every=steps,
            save_steps=max(50, steps // 4),
            seed=unit.seed,
        ),
        tasks=grid.pretrain.tasks,
        validation_examples=0,
        resume=True,
        show_progress=False,
    )
    return final


def _begin_with(grid: ScalingGrid, unit: Unit, corpus: Corpus, device: str) -> LanguageModel:
    """Build a model of the wanted number of parameters, or load the preset."""
    import torch

    from c2s.models import LanguageModel, TinyConfig, learn_tokenizer, load_model
    from c2s.models.devices import find_device
    from c2s.models.tiny import build_tiny

    if isinstance(unit.size, str):
        return load_model(unit.size, device=device, dtype="float32")
    own = corpus.path / "tokenizer"
    tokenizer: Any
    if own.is_dir():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(own, local_files_only=True)
        tokenizer.padding_side = "left"
    else:
        rows = training_rows(corpus, grid.pretrain.tasks, 5000, seed=0)
        tokenizer = learn_tokenizer((f"{r['prompt']} {r['answer']}" for r in rows), max_words=grid.max_words)
    shape = TinyConfig.of_size(
        unit.size,
        vocabulary=len(tokenizer),
        architecture=grid.architecture,
        context_length=grid.context_length,
    )
    network, tokenizer = build_tiny(tokenizer, shape, seed=unit.seed)
    torch.nn.Module.to(network, device=find_device(device))
    return LanguageModel(network, tokenizer, f"tiny-{unit.size}", None, shape.context_length)


def _gather(grid: ScalingGrid, folder: Path) -> ScalingResults:
    """Join the runs' results into one tidy table, and write it."""
    facts, parts = [], []
    for unit in grid.units():
        place = folder / RUNS / unit.name
        fact = json.loads((place / RESULT).read_text(encoding="utf-8"))
        facts.append(fact)
        part = pq.read_table(place / "samples.parquet").to_pandas()
        keys = ("size", "parameters", "way", "samples", "seed")
        parts.append(part.assign(**{key: fact[key] for key in keys})[[*keys, *part.columns]])
    table, runs = pd.concat(parts, ignore_index=True), pd.DataFrame(facts)
    with atomic_output(folder / RESULTS, overwrite=True) as temporary:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), temporary)
    with atomic_output(folder / "runs.csv", overwrite=True) as temporary:
        runs.to_csv(temporary, index=False)
    return ScalingResults(folder, grid, table, runs)
