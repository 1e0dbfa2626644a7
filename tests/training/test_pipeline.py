"""From cells to a model folder, by function and by command line, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp

import c2s.plugins
from c2s.cli.train import _sort_options
from c2s.errors import C2SWarning, ConfigError, ContextError, ModelError, ObsError, OutputError
from c2s.inference import score
from c2s.models import TinyConfig
from c2s.prompts import PromptTemplate, choose_template
from c2s.sentences import CellSentences, to_cell_sentences
from c2s.splits import Split, split_cells
from c2s.tasks import Metric, Task, example_table
from c2s.training import SFTConfig, read_record
from c2s.training.pipeline import TaskModel, train_task

TEMPLATES = [
    PromptTemplate("toy/a", "{n_genes} genes : {cell_sentence} . Type :", "{label}"),
    PromptTemplate("toy/b", "Cell : {cell_sentence} . Type :", "{label}"),
]
TINY = TinyConfig(layers=1, hidden_size=32, heads=2, context_length=96, initializer_range=0.1, rotary_pct=1.0)
QUICK = SFTConfig(max_steps=80, batch_size=16, learning_rate=1e-2, gene_dropout=0.2, eval_every=20, save_steps=200)


@dataclass(frozen=True)
class ToyTask(Task):
    """Name the label of a cell."""

    label: str = "cell_type"
    free: bool = False

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    prompts: ClassVar[str] = "toy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    profiles: ClassVar[dict[str, dict[str, object]]] = {
        "smoke": {"top_k": 8, "max_steps": 3, "learning_rate": 1e-3},
        "laptop": {"top_k": 10, "epochs": 2},
    }

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.label,)

    def split(self, obs: pd.DataFrame, *, seed: int = 0) -> Split:
        return split_cells(obs, stratify=self.label, seed=seed)

    def examples(
        self, sentences: CellSentences, templates: Sequence[PromptTemplate], *, seed: int = 0, answers: bool = True
    ) -> pa.Table:
        records = []
        for row in sentences.table.to_pylist():
            template = choose_template(templates, row["cell_id"], seed)
            record = {"cell_sentence": row["cell_sentence"], "label": row[self.label] if answers else None}
            records.append(
                {
                    "example_id": row["cell_id"],
                    "prompt": template.render(record),
                    "answer": template.render_answer(record) if answers else None,
                    "template": template.name,
                    "cell_ids": [row["cell_id"]],
                    **record,
                }
            )
        return example_table(records)

    def candidates(self, examples: pa.Table) -> list[str] | None:
        return None if self.free else sorted(set(examples["answer"].to_pylist()))


@dataclass(frozen=True)
class Blind(ToyTask):
    """Shows the name of a cell and none of its genes."""

    def examples(
        self, sentences: CellSentences, templates: Sequence[PromptTemplate], *, seed: int = 0, answers: bool = True
    ) -> pa.Table:
        shown = super().examples(sentences, templates, seed=seed, answers=answers)
        return shown.drop_columns(["cell_sentence"]).set_column(1, "prompt", shown["example_id"])


@dataclass(frozen=True)
class Samples(ToyTask):
    """Needs so many cells at once."""

    min_cells: int = 10

    def examples(
        self, sentences: CellSentences, templates: Sequence[PromptTemplate], *, seed: int = 0, answers: bool = True
    ) -> pa.Table:
        if len(sentences) < self.min_cells:
            raise ObsError(f"{len(sentences)} cells are too few for a sample.", fix="lower min_cells.")
        return super().examples(sentences, templates, seed=seed, answers=answers)


def make_cells(n: int = 60, *, seed: int = 0) -> ad.AnnData:
    """Cells of two types, told apart by which of two groups of five genes is high; log-normalised."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(1.0, 0.4, size=(n, 24)) * (rng.random((n, 24)) < 0.6)
    for i in range(n):
        own = slice(0, 5) if i % 2 else slice(5, 10)
        x[i, own] += 3 + rng.random(5)
    counts = np.floor(x * 20)
    x = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    obs = pd.DataFrame(
        {"cell_type": ["B cell" if i % 2 else "NK" for i in range(n)]}, index=[f"c{i}" for i in range(n)]
    )
    cells = ad.AnnData(sp.csr_matrix(x.astype(np.float32)), obs=obs)
    cells.var_names = [f"GENE{i}" for i in range(24)]
    return cells


def train(out: Path, data: Any = None, task: Task | None = None, **options: Any) -> Any:
    arguments = {"config": QUICK, "tiny": TINY, "top_k": 12, "device": "cpu", "show_progress": False} | options
    return train_task(
        data if data is not None else make_cells(), task or ToyTask(), TEMPLATES, out=out, **arguments
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(tmp_path_factory.mktemp("pipeline") / "model", data_name="toy cells")


def test_it_learns_what_the_training_cells_show(trained: Any) -> None:
    test = trained.sentences.select(trained.split.ids("test"))
    examples = trained.task.examples(test, TEMPLATES)
    best = score(trained.model, examples["prompt"].to_pylist(), trained.task_model.candidates).best()
    accuracy = np.mean(np.array(best) == np.array(examples["answer"].to_pylist()))
    assert accuracy >= 0.9
    assert trained.training.best_score > 0.9
    assert trained.training.best_step in (20, 40, 60, 80)


def test_the_folder_holds_all_that_prediction_needs(trained: Any) -> None:
    loaded = TaskModel.load(trained.path, device="cpu")
    facts = json.loads((trained.path / "c2s_task.json").read_text())
    assert loaded.task_name == facts["task"] == "toy"
    assert ToyTask.from_options(loaded.options) == trained.task
    assert list(loaded.templates) == TEMPLATES
    assert (loaded.top_k, loaded.seed, loaded.candidates) == (12, 0, ("B cell", "NK"))
    assert loaded.data["name"] == "toy cells"
    assert loaded.data["cells"] == 60
    assert loaded.calibration == trained.task_model.calibration
    assert loaded.calibration.n == loaded.split.sizes["validation"]
    assert loaded.split.assignment.equals(trained.split.assignment.astype(str))
    assert loaded.split.note == trained.split.note
    prompts = ["3 genes : GENE1 GENE2 GENE3 . Type :"]
    ours, theirs = (score(m, prompts, loaded.candidates).log_probs for m in (trained.model, loaded.model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_nothing_of_the_test_cells_is_used(tmp_path: Path) -> None:
    cells = make_cells()
    split = ToyTask().split(cells.obs)
    other = cells.copy()
    mask = cells.obs_names.isin(split.ids("test"))
    changed = other.X.tolil()
    changed[mask] = np.log1p(1e4 / cells.n_vars)  # all genes alike, normalised as the others are
    other.X = changed.tocsr()
    config = SFTConfig(max_steps=3, batch_size=8)
    for name, data in [("a", cells), ("b", other)]:
        train(tmp_path / name, data, config=config, split=split)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (
        tmp_path / "b" / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "a" / "calibration.json").read_bytes() == (tmp_path / "b" / "calibration.json").read_bytes()


def test_sentences_and_a_loaded_model_do_as_well(trained: Any, tmp_path: Path) -> None:
    sentences = to_cell_sentences(make_cells(), top_k=12)
    model = TaskModel.load(trained.path, device="cpu").model
    again = train(tmp_path / "more", sentences, model=model, config=SFTConfig(max_steps=2, learning_rate=1e-4))
    assert again.task_model.top_k == 12
    assert again.training.losses[0] < trained.training.losses[0] / 2  # it went on from the trained weights
    by_path = train(
        tmp_path / "path", sentences, model=trained.path, config=SFTConfig(max_steps=2, learning_rate=1e-4)
    )
    assert by_path.training.losses == again.training.losses


def test_free_answers_are_judged_by_the_validation_loss(tmp_path: Path) -> None:
    result = train(tmp_path / "out", task=ToyTask(free=True), config=SFTConfig(max_steps=4, eval_every=2))
    assert result.task_model.candidates is None
    assert result.task_model.calibration is None
    evaluations = [line["evaluation"] for line in result.training.history if "evaluation" in line]
    assert all(e["score"] == -e["loss"] for e in evaluations)
    assert len(evaluations) == 2


def test_a_label_that_no_training_cell_has_counts_as_wrong(tmp_path: Path) -> None:
    cells = make_cells()
    split = ToyTask().split(cells.obs)
    labels = cells.obs["cell_type"].astype(str)
    labels[split.ids("validation")[0]] = "unheard of"
    cells.obs["cell_type"] = labels
    result = train(tmp_path / "out", cells, split=split, config=SFTConfig(max_steps=2, eval_every=2))
    assert "unheard of" not in result.task_model.candidates
    assert result.task_model.calibration.n == split.sizes["validation"] - 1
    (line,) = [line["evaluation"] for line in result.training.history if "evaluation" in line]
    assert line["accuracy"] <= 1 - 1 / split.sizes["validation"]


def test_without_validation_cells_the_last_weights_are_kept(tmp_path: Path) -> None:
    split = split_cells(make_cells().obs, fractions={"train": 0.8, "test": 0.2})
    result = train(tmp_path / "out", split=split, config=SFTConfig(max_steps=2))
    assert (result.training.best_step, result.task_model.calibration) == (None, None)


def test_a_test_part_that_nothing_can_be_asked_of_is_warned_of(tmp_path: Path) -> None:
    split = split_cells(make_cells().obs, fractions={"train": 0.7, "validation": 0.2, "test": 0.1})
    message = (
        r"No example can be made of the test part \(6 cells, split by cell\): 6 cells are too few .*min_cells"
    )
    with pytest.warns(C2SWarning, match=message):
        result = train(tmp_path / "out", task=Samples(), split=split, config=SFTConfig(max_steps=2))
    assert sum(result.task_model.answers.values()) == 42
    assert TaskModel.load(result.path).answers == result.task_model.answers


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"task": ToyTask(label="nothing")}, ObsError, "no column 'nothing'"),
        ({"tiny": TinyConfig(layers=1, hidden_size=16, heads=1, context_length=12)}, ContextError, "do not fit"),
        (
            {"task": Samples()},
            ObsError,
            r"No example can be made of the validation part \(6 cells, split by cell\): 6 cells are too few",
        ),
        (
            {"split": split_cells(make_cells().obs, unit="cell_type", fractions={"train": 0.5, "test": 0.5})},
            ObsError,
            "all 30 answers of the training part are '.*', split by cell_type: there is nothing to learn",
        ),
        ({"task": Blind()}, ConfigError, "gene dropout is 0.2, and its prompts show no genes"),
        ({"model": "tinny"}, ModelError, "Did you mean 'tiny'"),
        (
            {"split": Split(pd.Series("test", index=make_cells().obs_names), "cell", "")},
            ObsError,
            "no cell to train on",
        ),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(
    options: dict, error: type, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=problem) as caught:
        train(tmp_path / "out", **options)
    assert caught.value.fix
    assert not list(tmp_path.iterdir())


def test_an_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists"):
        train_task(None, ToyTask(), TEMPLATES, out=tmp_path / "out")  # type: ignore[arg-type]


BROKEN_FOLDERS = {
    "missing": (lambda f: None, "no model folder", "c2s train sft"),
    "without a task": (lambda f: f.mkdir(), "not trained on a task", "c2s train sft"),
    "broken": (lambda f: (f.mkdir(), (f / "c2s_task.json").write_text("{")), "not readable JSON", "copy"),
    "incomplete": (
        lambda f: (f.mkdir(), (f / "c2s_task.json").write_text('{"task": "x"}')),
        "lacks version",
        "train",
    ),
}


@pytest.mark.parametrize("case", BROKEN_FOLDERS)
def test_a_folder_that_is_no_task_model_is_refused(case: str, tmp_path: Path) -> None:
    make, problem, fix = BROKEN_FOLDERS[case]
    make(tmp_path / "m")
    with pytest.raises(ModelError, match=problem) as caught:
        TaskModel.load(tmp_path / "m")
    assert fix in caught.value.fix


# The command line.


@pytest.fixture
def c2s_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run ``c2s ...`` with the toy task; return exit code, output and errors."""
    from c2s.cli import main

    host = SimpleNamespace(
        tasks=SimpleNamespace(get=lambda name: ToyTask), prompts=SimpleNamespace(get=lambda name: TEMPLATES)
    )
    monkeypatch.setattr(c2s.plugins, "default_host", lambda: host)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(w) for w in words])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    cells = make_cells()
    cells.obs["kind"] = cells.obs["cell_type"]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


SHAPE = [
    *("--option", "layers=1", "--option", "hidden_size=16", "--option", "heads=1", "--device", "cpu"),
]


def test_the_command_trains_and_says_what_comes_next(c2s_command: Any, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    code, said, errors = c2s_command(
        "train", "sft", "--task", "toy", "--data", file, "--label", "kind", "--out", out, "--profile", "smoke",
        "--genes", "9", "--gene-dropout", "0.1", "--loss", "full", "--seed", "3", "--option", "max_steps=5",
        "--option", "eval_every=5", *SHAPE,
    )  # fmt: skip
    assert code == 0, errors
    assert f"Next: c2s evaluate --model {out}" in said
    assert "Trained 5 steps" in said
    assert "accuracy" in said
    assert "temperature" in said
    loaded = TaskModel.load(out, device="cpu")
    assert loaded.options["label"] == "kind"
    assert (loaded.top_k, loaded.seed) == (9, 3)
    config = json.loads((out / "training.json").read_text())["config"]
    assert (config["gene_dropout"], config["loss"], config["learning_rate"]) == (0.1, "full", 1e-3)
    assert loaded.model.model.config.hidden_size == 16
    run = json.loads((out / "run.json").read_text())
    assert run["config"]["top_k"] == 9
    assert run["seeds"] == {"seed": 3}
    assert run["data"][0]["cells"] == 60
    assert len(run["data"][0]["sha256"]) == 64
    assert [line["step"] for line in read_record(out / "train.jsonl") if "loss" in line] == [1, 2, 3, 4, 5]


BAD_COMMANDS = {
    "unknown option": (["--option", "colour=red"], "unknown option 'colour'"),
    "malformed option": (["--option", "layers"], "'layers' is not NAME=VALUE"),
    "unknown profile": (["--profile", "desktop"], "no profile 'desktop'"),
    "bad value": (["--option", "weight_decay=-1"], "weight_decay"),
    "bad shape": (["--option", "heads=3"], "over 3 heads"),
    "label missing": (["--label", "nothing"], "'nothing'"),
    "data missing": (["--data", "no-such.h5ad"], "no-such.h5ad"),
    "model unknown": (["--model", "tinny"], "Did you mean 'tiny'"),
    "nothing to resume is fine, but the model must exist": (
        ["--resume", "--model", "no/model"],
        "hf download no/model",
    ),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_commands_end_with_one_line_and_leave_nothing(
    case: str, c2s_command: Any, file: Path, tmp_path: Path
) -> None:
    words, problem = BAD_COMMANDS[case]
    code, _, errors = c2s_command(
        "train", "sft", "--task", "toy", "--data", file, "--out", tmp_path / "model", "--profile", "smoke", *words
    )
    assert code == 2
    assert errors.splitlines()[-1].startswith("Error: ")
    assert problem in errors
    assert "Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == ["cells.h5ad"]


def test_options_go_to_whom_they_belong_with_their_types() -> None:
    found = _sort_options(
        ToyTask, ["label=10x", "free=true", "epochs=2.5", "bf16=false", "tie_embeddings=true", "patience=null"]
    )
    assert found == {
        "task": {"label": "10x", "free": True},
        "training": {"epochs": 2.5, "bf16": False, "patience": None},
        "tiny": {"tie_embeddings": True},
    }
    with pytest.raises(ConfigError) as caught:
        _sort_options(ToyTask, ["nope=1", "label"])
    assert len(caught.value.problems) == 2
    assert "training: epochs" in caught.value.fix


def test_answers_are_measured_while_training_and_decide_which_weights_are_kept(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"eval_examples": 6})
    seen: list[tuple[list[str | None], list[str]]] = []

    def first_letters(
        predictions: Sequence[str | None], references: Sequence[str], **columns: Any
    ) -> dict[str, float]:
        seen.append((list(predictions), list(references)))
        assert len(columns["label"]) == len(references)
        right = [p is not None and p[0] == r[0] for p, r in zip(predictions, references, strict=True)]
        return {"first_letters": 1 - float(np.mean(right)), "answers": float(len(right))}

    metric = Metric("first_letters", first_letters, higher_is_better=False)
    result = train(tmp_path / "out", task=ToyTask(free=True), config=config, metrics=[metric])
    lines = [line["evaluation"] for line in result.training.history if "evaluation" in line]
    assert [len(references) for _, references in seen] == [6] * len(lines)
    assert len({tuple(references) for _, references in seen}) == 1
    assert all(line["score"] == -line["first_letters"] and line["loss"] > 0 for line in lines)
    assert result.training.best_score == max(line["score"] for line in lines)
    # This toy can be learned, so the answers that are generated come to be right.
    assert lines[-1]["first_letters"] <= 0.34 < 1.0
