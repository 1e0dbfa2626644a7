"""Bad models, options and outputs get the error class that names the kind of mistake, and a fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from bad_inputs import Case, annotation, cells, check_case, cli, h5ad, new_files, write

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
    # --- models
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
    # --- plugins, chapters
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


def _predict_with(folder: Path, model: Path, *options: str, out: Path | None = None) -> None:
    cli("predict", h5ad(folder, cells()), out or folder / "o.h5ad", "--model", model, *options)


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
