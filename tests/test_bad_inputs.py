"""Bad labels, models, options and outputs get the error class that names the kind of mistake, and a fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from bad_inputs import Case, annotation, cells, check_case, cli, edited, h5ad, new_files, write

import c2s
from c2s import errors as e


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A task model, trained for two steps."""
    from c2s.models import TinyConfig
    from c2s.training import SFTConfig, train_task

    task = annotation()
    out = tmp_path_factory.mktemp("trained") / "model"
    train_task(
        cells(n=40),
        task,
        c2s.default_host().prompts.get(task.prompts),
        out=out,
        config=SFTConfig(max_steps=2, batch_size=4),
        tiny=TinyConfig(layers=1, hidden_size=16, heads=2),
        top_k=5,
        data_name="simulated",
        show_progress=False,
    )
    return out


CASES = [
    # --- labels and splits
    Case(
        "missing label",
        e.ObsError,
        "no label column 'type'",
        "--label",
        lambda d, m: annotation(label="type").split(cells().obs),
    ),
    Case(
        "constant label",
        e.ObsError,
        "constant",
        "--label",
        lambda d, m: annotation(label="a").split(cells(a=["x"] * 12).obs),
    ),
    Case(
        "empty label",
        e.ObsError,
        "empty for 1 of 12 cells, first 'cell0'",
        "notna",
        lambda d, m: annotation(label="a").split(cells(a=[None, *"bc" * 5, "b"]).obs),
    ),
    Case(
        "identifier for a label",
        e.ObsError,
        "an identifier",
        "--label",
        lambda d, m: annotation(label="a").split(cells(n=60, a=[f"{i}" for i in range(60)]).obs),
    ),
    Case(
        "one cell",
        e.ObsError,
        r"constant|1 cell\(s\) are too few",
        ".",
        lambda d, m: annotation().split(cells()[:1].obs),
    ),
    Case(
        "donor column missing",
        e.ObsError,
        "no column 'donor'",
        "name one of them",
        lambda d, m: c2s.split_cells(cells().obs, unit="donor"),
    ),
    Case(
        "one donor",
        e.ObsError,
        "too few for 3 parts",
        "split by cell",
        lambda d, m: c2s.split_cells(cells(d=["x"] * 12).obs, unit="d"),
    ),
    Case(
        "fractions",
        e.ConfigError,
        "add up to 1.2",
        "add up to 1",
        lambda d, m: c2s.split_cells(cells().obs, fractions={"train": 1.0, "test": 0.2}),
    ),
    # --- models
    Case(
        "missing model folder",
        e.ModelError,
        "nowhere",
        "c2s train|give",
        lambda d, m: c2s.load_model(d / "nowhere"),
    ),
    Case(
        "model not downloaded",
        e.ModelError,
        "EleutherAI/pythia-70m",
        "hf download EleutherAI/pythia-70m",
        lambda d, m: c2s.load_model("EleutherAI/pythia-70m"),
    ),
    Case(
        "folder that is no model",
        e.ModelError,
        "config.json",
        "folder that train or hf download wrote",
        lambda d, m: c2s.load_model(d),
    ),
    Case(
        "model without tokenizer",
        e.ModelError,
        "tokenizer",
        "copy the tokenizer of the model",
        lambda d, m: c2s.load_model(edited(m, d, lambda c: [p.unlink() for p in c.glob("tokenizer*")])),
    ),
    Case(
        "pickled weights",
        e.ModelError,
        r"pytorch_model\.bin",
        "safetensors",
        lambda d, m: c2s.load_model(
            edited(m, d, lambda c: (c / "model.safetensors").rename(c / "pytorch_model.bin"))
        ),
    ),
    Case("remote code", e.ModelError, "auto_map|code", ".", lambda d, m: c2s.load_model(edited(m, d, _auto_map))),
    Case(
        "truncated weights",
        e.ModelError,
        "model",
        "copy|cut off",
        lambda d, m: c2s.load_model(edited(m, d, _cut_weights)),
    ),
    Case("tiny without a corpus", e.ModelError, "none were given", "corpus=", lambda d, m: c2s.load_model("tiny")),
    Case(
        "impossible tiny shape",
        e.ConfigError,
        "'colour'",
        "it takes",
        lambda d, m: _tiny_config(hidden_size=30, heads=4, colour="red"),
    ),
    Case("context too small", e.ContextError, "tokens", "fewer genes|longer context", lambda d, m: _too_long(m)),
    Case(
        "model of no task",
        e.ModelError,
        "c2s_task.json",
        "c2s train",
        lambda d, m: _predict_with(d, edited(m, d, lambda c: (c / "c2s_task.json").unlink())),
    ),
    Case(
        "another task",
        e.ConfigError,
        "'annotation', not on 'tissue'",
        "--task annotation",
        lambda d, m: _predict_with(d, m, "--task", "tissue"),
    ),
    # --- training
    Case(
        "all problems of a configuration",
        e.ConfigError,
        r"epochs.*nonsense|nonsense.*epochs",
        ".",
        lambda d, m: c2s.SFTConfig.of(epochs=-1, nonsense=1),
    ),
    Case("nothing to train on", e.TrainingError, "no example", "at least one", lambda d, m: _train(d, m, None)),
    Case(
        "an answer is missing", e.TrainingError, "answer", "answers=True", lambda d, m: _train(d, m, [None, "B"])
    ),
    # --- plugins, chapters
    Case(
        "unknown task",
        e.RegistryError,
        "'anotation'.*annotation",
        "choose one of",
        lambda d, m: c2s.default_host().tasks.get("anotation"),
    ),
    Case(
        "unknown plugin",
        e.PluginError,
        "unknown plugin 'annotations'",
        "c2s plugins list",
        lambda d, m: cli("plugins", "info", "annotations"),
    ),
    Case(
        "bad plugin name",
        e.ConfigError,
        "3d tissue!",
        "c2s plugins new d-tissue",
        lambda d, m: cli("plugins", "new", "3d tissue!", "--folder", d / "out"),
    ),
    Case(
        "unknown task option",
        e.ConfigError,
        "unknown option 'labels'",
        "it takes label",
        lambda d, m: type(annotation()).from_options({"labels": 1}),
    ),
    Case(
        "gene dropout of prompts without genes",
        e.ConfigError,
        r"gene dropout is 0\.3, and its prompts show no genes",
        "--gene-dropout 0",
        lambda d, m: cli(
            *("train", "sft", "--task", "conditional-cell-generation", "--data", h5ad(d, cells(n=40))),
            *("--model", "tiny", "--out", d / "out", "--gene-dropout", "0.3"),
        ),
    ),
    Case("unknown chapter", e.RegistryError, "'anotation'", "annotation", lambda d, m: _chapter(d, "anotation")),
    Case("unknown profile", e.ChapterError, "laptpo", "laptop", lambda d, m: _chapter(d, profile="laptpo")),
    Case(
        "unknown parameter",
        e.ConfigError,
        "'n_cell'",
        "it takes",
        lambda d, m: _chapter(d, parameters={"n_cell": 1}),
    ),
    # --- prediction
    Case(
        "no genes in common",
        e.GeneError,
        r"none of the \d+ words of the cells .*was in the training cells",
        "--symbols",
        lambda d, m: cli(
            "predict", h5ad(d, cells(genes=[f"Mm{i}" for i in range(8)])), d / "o.h5ad", "--model", m
        ),
    ),
    Case(
        "threshold above one",
        e.ConfigError,
        r"2\.0, not in \[0, 1\]",
        "0.5",
        lambda d, m: _predict_with(d, m, "--threshold", "2"),
    ),
    Case(
        "training cells scored",
        e.ObsError,
        "not the data that the model was trained on: of the 8 test cells .* 0 of these cells",
        "--part all",
        lambda d, m: cli("evaluate", "--model", m, "--data", h5ad(d, cells(n=4))),
    ),
    Case(
        "one candidate",
        e.ConfigError,
        "candidate|label",
        "two or more",
        lambda d, m: c2s.score(c2s.load_model(m), ["a"], ["B"]),
    ),
    Case("metric of nothing", e.MetricError, "no examples", "at least one", lambda d, m: _accuracy([], [])),
    # --- outputs
    Case(
        "output exists",
        e.OutputError,
        "exists already",
        "--overwrite",
        lambda d, m: cli("transform", h5ad(d, cells()), write(d, "o.parquet", "precious")),
    ),
    Case(
        "model folder exists",
        e.OutputError,
        "exists already",
        "--overwrite",
        lambda d, m: _predict_with(d, m, out=write(d, "o.h5ad", "precious")),
    ),
]


def _auto_map(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))


def _cut_weights(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def _tiny_config(**options):
    from c2s.models import TinyConfig

    return TinyConfig.of(**options)


def _too_long(model: Path):
    loaded = c2s.load_model(model)
    return c2s.score(loaded, ["ACTB " * (loaded.context_length + 1)], ["B", "T"])


def _predict_with(folder: Path, model: Path, *options: str, out: Path | None = None) -> None:
    cli("predict", h5ad(folder, cells()), out or folder / "o.h5ad", "--model", model, *options)


def _train(folder: Path, model: Path, answers):
    import pyarrow as pa

    names = ["example_id", "prompt", "answer", "template"]
    rows = [[f"c{i}", "ACTB", a, "t"] for i, a in enumerate(answers or [])]
    table = pa.table({n: pa.array([r[i] for r in rows], pa.string()) for i, n in enumerate(names)})
    return c2s.train_sft(c2s.load_model(model), table, out=folder / "out", show_progress=False)


def _chapter(folder: Path, name: str = "how-to-read", **options):
    from c2s.chapters import run_chapter

    return run_chapter(name, out=folder / "run", **options)


def _accuracy(predictions, references):
    return c2s.default_host().metrics.get("accuracy").function(predictions, references)


def test_there_are_at_least_thirty_cases_with_names_of_their_own():
    assert len(CASES) >= 30
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_error_names_the_thing_and_the_fix_and_leaves_nothing_behind(case, tmp_path, model):
    check_case(case, tmp_path, model)


@pytest.mark.parametrize("command", ["transform", "predict"])
def test_a_full_disk_is_named_and_leaves_nothing(command, tmp_path, model, monkeypatch):
    source = h5ad(tmp_path, cells())
    before = new_files(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if command == "transform":
        monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", full)
        monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
        words = ["transform", source, tmp_path / "o.parquet"]
    else:
        monkeypatch.setattr("anndata.AnnData.write_h5ad", full)
        words = ["predict", source, tmp_path / "o.h5ad", "--model", model]
    with pytest.raises(e.OutputError, match=r"disk is full.*Fix: free some space"):
        cli(*words)
    assert new_files(tmp_path) == before


@pytest.mark.parametrize("command", ["transform", "predict"])
def test_ctrl_c_ends_with_one_line_and_leaves_nothing(command, tmp_path, model, monkeypatch, capsys):
    from c2s.cli import main

    source = h5ad(tmp_path, cells())
    before = new_files(tmp_path)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    if command == "transform":
        monkeypatch.setattr("c2s.sentences.SentenceStream.vocabulary", interrupted)
        words = ["transform", source, tmp_path / "o.parquet"]
    else:
        monkeypatch.setattr("anndata.AnnData.write_h5ad", interrupted)
        words = ["predict", source, tmp_path / "o.h5ad", "--model", model]
    monkeypatch.setattr("sys.argv", ["c2s", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert "Stopped by Ctrl-C" in capsys.readouterr().err
    assert new_files(tmp_path) == before


def test_the_command_line_prints_the_error_without_a_traceback(tmp_path, monkeypatch, capsys):
    from c2s.cli import main

    monkeypatch.setattr("sys.argv", ["c2s", "transform", str(tmp_path / "no.h5ad"), str(tmp_path / "o.parquet")])
    with pytest.raises(SystemExit) as stopped:
        main()
    shown = capsys.readouterr().err
    assert stopped.value.code == 2
    assert shown.startswith("Error: there is no file") and "Fix:" in shown and "Traceback" not in shown
