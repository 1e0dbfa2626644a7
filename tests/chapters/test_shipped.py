"""Chapters of the book as they are run: with papermill alone, on files, and with what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from anndata import AnnData

import c2s
from c2s.chapters import ResultsTable, run_chapter, start_record
from c2s.chapters.catalogue import chapter_parameters, find_chapter
from c2s.data import cells_checksum
from c2s.errors import ChapterError, ConfigError, RegistryError
from c2s.provenance import checksum
from c2s.testing import simulated_cells

FEW = {"top_k_grid": [5, 10], "n_bootstrap": 20}


def papermill(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", *map(str, words), "--no-progress-bar"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def with_ensembl_ids(n: int) -> AnnData:
    """Cells as CELLxGENE has them: ids in the place of symbols, which are in a column."""
    cells = simulated_cells(n)
    cells.var["feature_name"] = cells.var_names.to_numpy()
    cells.var_names = [f"ENSG{i:011d}" for i in range(cells.n_vars)]
    return cells


def test_a_page_made_by_papermill_alone_says_profile_and_data_and_records_every_parameter(tmp_path: Path) -> None:
    done = papermill("c2s://how-to-read", tmp_path / "o.ipynb", "-p", "n_cells", 4, "-p", "out", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["config"] == chapter_parameters(find_chapter("how-to-read")) | {
        "n_cells": 4,
        "out": str(tmp_path / "out"),
    }
    assert record["profile"] == "laptop, with n_cells=4"
    assert record["seeds"] == {"seed": 0}
    (row,) = ResultsTable.from_json(tmp_path / "out" / "results.json")
    assert (row.source, row.profile) == ("chapter how-to-read", "laptop, with n_cells=4")
    assert (row.data, row.sha256) == ("pbmc68k_reduced", record["data"][0]["sha256"])


def test_papermill_lists_the_parameters_of_a_chapter() -> None:
    done = papermill("--help-notebook", "c2s://cells-as-sentences")
    assert "datasets: list[str] (default [" in done.stdout
    assert "symbols: Optional[str] (default None)" in done.stdout
    assert "Unknown type" not in done.stdout


def test_files_with_commas_and_of_one_name_are_read_alike_both_ways_and_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a/PBMC, day 3.h5ad", "b/PBMC, day 3.h5ad"]
    for name, n in zip(names, (40, 50)):
        Path(name).parent.mkdir()
        with_ensembl_ids(n).write_h5ad(name)
    text = ",".join(names)
    result = run_chapter(
        "cells-as-sentences", parameters={**FEW, "datasets": text, "symbols": "feature_name"}, out="one"
    )
    few = [word for name, value in FEW.items() for word in ("-p", name, value)]
    given = ("-p", "datasets", text, "-p", "symbols", "feature_name", *few, "-p", "out", "two")
    done = papermill("c2s://cells-as-sentences", "o.ipynb", *given)
    assert done.returncode == 0, done.stderr[-2000:]
    records = [json.loads(Path(out, "run.json").read_text()) for out in ("one", "two")]
    assert records[0]["config"] | {"out": ""} == records[1]["config"] | {"out": ""}
    assert records[0]["config"]["datasets"] == names
    assert [(entry["name"], entry["sha256"]) for entry in records[0]["data"]] == [
        (name, checksum(name)) for name in names
    ]
    assert result.results is not None
    assert {(row.data, row.sha256) for row in result.results} == {(name, checksum(name)) for name in names}
    assert ResultsTable.from_json("two/results.json").rows == result.results.rows
    assert {path.name for path in result.figures if "rank" in path.name and "hand" not in path.name} == {
        "rank-expression-a-PBMC, day 3.png",
        "rank-expression-b-PBMC, day 3.png",
    }


def test_what_stops_a_chapter_says_which_parameter_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with_ensembl_ids(30).write_h5ad("ids.h5ad")
    with pytest.raises(ChapterError) as caught:
        run_chapter("cells-as-sentences", parameters={**FEW, "datasets": "ids.h5ad"})
    assert "GeneError" in caught.value.problem
    assert str(caught.value).count("Fix:") == 1
    assert "-p symbols" in caught.value.fix
    assert "feature_name" in caught.value.fix
    assert "--symbols" not in str(caught.value)


def namespace(name: str, **changed: object) -> dict[str, object]:
    return {**chapter_parameters(find_chapter(name)), **changed}


def test_files_are_read_as_the_parameters_say_and_named_datasets_as_they_know() -> None:
    changed = {"datasets": ["pbmc68k_reduced", "a.h5ad"], "symbols": "feature_name", "normalise": "never"}
    record = start_record("cells-as-sentences", namespace("cells-as-sentences", **changed))
    assert record.reading("a.h5ad") == {"symbols": "feature_name", "normalise": "never"}
    assert record.reading("pbmc68k_reduced") == {}
    plain = start_record("cells-as-sentences", namespace("cells-as-sentences", datasets=["a.h5ad"]))
    assert plain.reading("a.h5ad") == {}


def test_saying_how_files_are_read_where_none_is_read_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer is for files, and pbmc68k_reduced, pbmc_zheng_facs is none"):
        start_record("cells-as-sentences", namespace("cells-as-sentences", layer="counts"))


def test_an_unknown_chapter_has_no_record() -> None:
    with pytest.raises(RegistryError, match="Did you mean 'how-to-read'"):
        start_record("how-to-rea", {})


def test_sources_of_a_corpus_are_recorded_and_called_apart(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(str(tmp_path / folder / "my cells.h5ad"))
        simulated_cells(20).write_h5ad(files[-1])
    given = namespace("scaling", datasets=files, symbols="feature_name", out=str(tmp_path))
    record = start_record("scaling", given)
    assert [record.corpus_source(file) for file in files] == [
        {"name": f"{folder}-my-cells", "path": file, "symbols": "feature_name"}
        for folder, file in zip("ab", files)
    ]
    assert [entry["sha256"] for entry in record.data] == [checksum(file) for file in files]


def test_the_table_of_a_chapter_takes_rows_of_recorded_data_only() -> None:
    record = start_record("how-to-read", namespace("how-to-read"))
    cells = simulated_cells(20)
    record.add_cells("made here", cells)
    table = record.table("Lengths")
    table.add("words", 12.0, data="made here", n=20, unit="cells")
    assert (table.rows[0].sha256, table.rows[0].data) == (cells_checksum(cells), "made here (SIMULATED)")
    with pytest.raises(ConfigError, match="which the run has not recorded"):
        table.add("words", 12.0, data="elsewhere")
    assert "laptop; smoke and paper are the same" in str(table)


def test_the_chapters_functions_are_public() -> None:
    assert {"start_record", "check_parameters", "short_names"} <= set(c2s.chapters.__all__)
