"""Every command that leaves a ``run.json`` writes all its options into it, and what it read with its checksum."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import c2s
from c2s.cli import COMMANDS, LazyCommand, main, plugin_commands
from c2s.data import cells_checksum
from c2s.provenance import checksum
from c2s.results import ResultsTable
from c2s.testing import simulated_cells

pytestmark = pytest.mark.skipif(
    not {"annotation", "conditional-cell-generation"} <= set(c2s.default_host().tasks.names()),
    reason="the plugins annotation and generation are not installed",
)
ROOT = Path(__file__).parents[2]
TINY = ("--option", "hidden_size=16", "--option", "layers=1", "--option", "heads=2")
FEW = ("--max-steps", 2, "--batch-size", 4)


def call(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code in (0, None)


def options(*path: str) -> set[str]:
    """Names of the arguments and options of a command."""
    name, *rest = path
    command: Any = LazyCommand(name, COMMANDS[name]).resolve() if name in COMMANDS else plugin_commands()[name][1]
    for word in rest:
        command = command.commands[word]
    return {option.name for option in command.params}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one command after the other made of the same cells."""
    here = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        simulated_cells(240).write_h5ad("cells.h5ad")
        call("transform", "cells.h5ad", "cells.parquet", "--genes", 12)
        call("invert", "cells.parquet", "back.h5ad")
        sft = ("train", "sft", "--data", "cells.h5ad", *TINY, *FEW, "--genes", 8, "--device", "cpu")
        call(*sft, "--task", "annotation", "--out", "model", "--profile", "smoke")
        call(*sft, "--task", "conditional-cell-generation", "--out", "writer")
        grpo = ("train", "grpo", "--model", "model", "--data", "cells.h5ad", "--rewards", "exact_match")
        few = ("--max-steps", 1, "--group-size", 2, "--prompts-per-step", 1, "--validation-cells", 0)
        call(*grpo, *few, "--out", "better")
        call("evaluate", "--model", "model", "--out", "report", "--n-bootstrap", 10, "--baselines", "none")
        call("predict", "cells.h5ad", "predicted.h5ad", "--model", "model")
        call("predict", "cells.parquet", "parts", "--model", "model")
        call("generate", "cells.generated.h5ad", "--model", "writer", "--n", 2, "--cell-type", "B cell")
        call("embed", "cells.h5ad", "embedded.h5ad", "--model", "model")
        call("embed", "cells.h5ad", "samples.h5ad", "--model", "model", "--samples", "donor_id", "--cells", "2-3")
        call("embedding-report", "cells.h5ad", "--out", "embeddings", "--embedders", "pca", "--model", "model",
             "--cells", 4, "--n-bootstrap", 10)  # fmt: skip
        spec = {"datasets": ["cells.h5ad"], "tasks": ["cell-type-annotation"], "genes": [6, 8], "seed": 3}
        Path("spec.yaml").write_text(json.dumps(spec))
        call("corpus", "build", "spec.yaml", "--out", "corpus")
        call("train", "pretrain", "--corpus", "corpus", "--out", "base", *TINY, *FEW, "--device", "cpu")
        grid = {"corpus": "corpus", "tasks": ["cell-type-annotation"], "sizes": [20_000, 30_000], "samples": [8],
                "batch_size": 4, "held_out": 4, "bert_score": False, "context_length": 64}  # fmt: skip
        Path("grid.yaml").write_text(json.dumps(grid))
        call("scaling", "run", "grid.yaml", "--out", "scaling")
    return here


#: Command, its record, and options whose value is known only once they are resolved.
RECORDS: list[tuple[tuple[str, ...], str, dict[str, object]]] = [
    (("transform",), "cells.run.json", {"genes": 12, "normalise": "auto", "chunk_size": None}),
    (("invert",), "back.run.json", {"model": "the one inside cells.parquet", "chunk_size": 16384}),
    (
        ("train", "sft"),
        "model/run.json",
        {"label": "cell_type", "genes": 8, "max_steps": 2, "device": "cpu", "profile": "smoke", "lora_rank": None},
    ),
    (("train", "grpo"), "better/run.json", {"device": "cpu", "group_size": 2, "rewards": {"exact_match": 1.0}}),
    (("train", "pretrain"), "base/run.json", {"max_steps": 2, "buffer_size": 10_000, "device": "cpu"}),
    (("evaluate",), "report/run.json", {"task": "annotation", "data": "cells.h5ad", "dtype": "float32"}),
    (("predict",), "predicted.run.json", {"task": "annotation", "device": "cpu", "dtype": "float32"}),
    (("predict",), "parts/run.json", {"task": "annotation", "threshold": 0.0}),
    (("generate",), "cells.generated.run.json", {"genes": 8, "cells": None, "device": "cpu", "top_p": 1.0}),
    (("embed",), "embedded.run.json", {"genes": 8, "key": "X_c2s", "device": "cpu", "dtype": "float32"}),
    (("embed",), "samples.run.json", {"genes": 50, "cells": "2-3", "samples": "donor_id", "device": "cpu"}),
    (("embedding-report",), "embeddings/run.json", {"genes": {"model": 8}, "models": {"model": "model"}}),
    (("corpus", "build"), "corpus.run.json", {"workers": 1, "out": "corpus"}),
    (("scaling", "run"), "scaling.run.json", {"grid": "grid.yaml", "batch_size": 4, "seeds": [0]}),
]


@pytest.mark.parametrize("command, file, resolved", RECORDS, ids=[file for _, file, _ in RECORDS])
def test_a_record_holds_every_option_and_the_checksum_of_all_data(
    folder: Path, command: tuple[str, ...], file: str, resolved: dict[str, object]
) -> None:
    record = json.loads((folder / file).read_text())
    assert record["status"] == "finished"
    assert options(*command) <= set(record["config"])
    assert {name: record["config"][name] for name in resolved} == resolved
    assert record["data"]
    assert all(len(entry["sha256"]) == 64 for entry in record["data"])
    assert record["profile"] == record["config"].get("profile")
    sums = {entry["sha256"] for entry in record["data"]}
    read = "cells.parquet" if file in {"back.run.json", "parts/run.json"} else "cells.h5ad"
    assert checksum(folder / read) in sums


def test_only_the_mechanism_makes_records_of_commands() -> None:
    """A list of options written by hand falls behind the options."""
    for path in [*ROOT.glob("c2s/cli/*.py"), *ROOT.glob("plugins/*/c2s_*/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "RunRecord", f"{path}:{node.lineno} should call RunRecord.of_command"


def test_a_dataset_that_a_plugin_makes_is_recorded_with_a_checksum(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    adata = simulated_cells(240)
    dataset = c2s.Dataset("made", "Made here", lambda: adata.copy())
    monkeypatch.chdir(tmp_path)
    datasets = c2s.default_host().datasets
    known: Callable[[str], Any] = datasets.get
    monkeypatch.setattr(datasets, "get", lambda name: dataset if name == "made" else known(name))
    evaluate = ("evaluate", "--model", folder / "model", "--data", "made", "--n-bootstrap", 10)
    call(*evaluate, "--out", "report", "--baselines", "none")
    (entry,) = json.loads(Path("report/run.json").read_text())["data"]
    assert entry["sha256"] == cells_checksum(adata)
    assert {row.sha256 for row in ResultsTable.from_json("report/results.json")} == {entry["sha256"]}


def test_the_results_of_all_are_read_into_one_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    places = [folder / name for name in ("report", "embeddings", "scaling")]
    for out in ("all.csv", "all.parquet", "all.json"):
        call("results", *places, "--out", folder / out)
    printed = capsys.readouterr().out
    assert "language model" in printed
    tables = [
        pd.read_csv(folder / "all.csv", keep_default_na=False, na_values={"value": "", "low": "", "high": ""}),
        pd.read_parquet(folder / "all.parquet"),
        pd.DataFrame(json.loads((folder / "all.json").read_text())),
    ]
    for table in tables:
        assert list(table.columns) == ["run", *c2s.results.COLUMNS]
        assert set(table["source"]) == {"c2s evaluate", "c2s embedding-report", "c2s scaling"}
        assert set(table["run"]) == {str(place) for place in places}
        assert (table["sha256"].str.len() >= 64).all()
        assert (table["data"] != "").all()
        assert table["value"].astype(float).tolist() == pytest.approx(
            tables[1]["value"].tolist(), nan_ok=True, rel=1e-9
        )
    by_hand = ResultsTable.from_json(folder / "report" / "results.json").rows[0]
    first = tables[1].iloc[0]
    assert (first["predictor"], first["metric"], first["value"]) == (
        "language model", by_hand.metric, by_hand.value,
    )  # fmt: skip
