"""Whether an output can be written is found out before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_inputs import cli
from layouts import counted_cells

from c2s.errors import OutputError
from c2s.results import ResultsTable

#: Commands whose input is missing, which they would say next.
COMMANDS = (
    "transform missing.h5ad OUT.parquet",
    "invert missing.parquet OUT.h5ad",
    "train sft --task annotation --data missing.h5ad --out OUT",
    "train grpo --model missing --data missing.h5ad --out OUT",
    "predict missing.h5ad OUT.h5ad --model missing",
    "evaluate --model missing --data missing.h5ad --out OUT",
    "embed missing.h5ad OUT.h5ad --model missing",
    "embed missing.h5ad OUT.h5ad --model missing --samples donor_id",
    "embedding-report missing.h5ad --out OUT",
    "generate --model missing --data missing.h5ad OUT.h5ad",
    "results missing --out OUT.csv",
    "chapters run annotation --out OUT",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("a_file/out", r"cannot write .*a_file/out.*Fix: choose a folder you may write to"),
        pytest.param(
            "/proc/out",
            r"cannot write /proc/out.*Fix: choose a folder",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc"),
        ),
        ("o" * 256, r"cannot write .*: File name too long.*Fix: choose a shorter name"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(command, place, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    with pytest.raises(OutputError, match=says):
        cli(*(word.replace("OUT", place) for word in command.split()))
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


@pytest.mark.filterwarnings("ignore")
def test_what_is_read_is_never_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counted_cells(60).write_h5ad("cells.h5ad")
    small = ("--option", "layers=1", "--option", "hidden_size=16", "--option", "heads=1", "--genes", 6)
    how = ("--task", "conditional-cell-generation", "--data", "cells.h5ad", "--out", "m", "--max-steps", 1)
    cli("train", "sft", *how, *small)
    before = (tmp_path / "cells.h5ad").read_bytes()
    with pytest.raises(OutputError, match=r"the output cells\.h5ad is the input cells\.h5ad"):
        cli("generate", "cells.h5ad", "--model", "m", "--cell-type", "B cell", "--n", 1, "--overwrite")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "notes.md").write_text("mine")
    for command in (
        "evaluate --model m --data cells.h5ad --out . --overwrite",
        "evaluate --model m --data cells.h5ad --out results --overwrite",
        "chapters run how-to-read --profile smoke --out results --overwrite",
    ):
        with pytest.raises(OutputError, match="holds"):
            cli(*command.split())
    assert (tmp_path / "cells.h5ad").read_bytes() == before
    assert (tmp_path / "results" / "notes.md").read_text() == "mine"
    ResultsTable("a table", source="test").to_json("results/results.json")
    with pytest.raises(OutputError, match=r"is the input results/results\.json"):
        cli("results", "results", "--out", "results/results.json", "--overwrite")
