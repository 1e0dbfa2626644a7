"""Running a chapter: everything in one folder, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import pytest
from typer.testing import CliRunner

from c2s.chapters import ResultsTable, run_chapter
from c2s.chapters.papermill_io import ChapterHandler
from c2s.cli.chapters import app
from c2s.errors import ChapterError, ConfigError, OutputError, RegistryError
from c2s.tasks import Chapter

from .conftest import CHAPTER

Register = Callable[..., Chapter]


def test_a_run_leaves_notebook_page_results_and_record(chapters: Register) -> None:
    chapters()
    result = run_chapter("small", profile="smoke", parameters={"label": "tissue"})
    assert result.folder == Path("out/small")
    assert {p.name for p in result.folder.iterdir()} == {
        "small.ipynb",
        "small.html",
        "results.json",
        "run.json",
        "cells.txt",
    }
    assert (result.folder / "cells.txt").read_text() == "5 0.5 ['a', 'b'] False tissue"
    assert result.results is not None
    assert result.results.rows[0].ours == 10
    assert result.others == (result.folder / "cells.txt",)
    record = json.loads(result.record.read_text())
    assert record["status"] == "finished"
    assert record["config"] == {"top_k": 5, "label": "tissue", "out": "out/small"}
    assert "twice top_k" in str(result)


def test_outputs_are_kept_and_name_the_final_folder(chapters: Register) -> None:
    chapters()
    result = run_chapter("small")
    text = result.notebook.read_text()
    assert "wrote to out/small" in text
    assert ".tmp" not in text
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")


def test_the_page_shows_solutions_folded_and_the_table(chapters: Register) -> None:
    chapters()
    page = run_chapter("small").page.read_text()
    assert "<summary><strong>Solution</strong></summary>" in page
    assert "<em>two</em>" in page
    assert ":::" not in page
    assert "95% interval" in page
    assert ".tmp" not in page


def test_a_chapters_own_warnings_are_shown_but_not_tqdms_missing_widget(chapters: Register) -> None:
    warned = "import warnings; warnings.warn('few cells'); warnings.warn('IProgress not found. Update it')"
    chapters(CHAPTER.replace('print("wrote to", out)', warned))
    notebook = nbformat.read(run_chapter("small").notebook, as_version=4)
    shown = [o["text"] for c in notebook.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
    assert len(shown) == 1
    assert "few cells" in shown[0]


def test_an_existing_folder_is_refused_before_anything_runs(chapters: Register) -> None:
    chapters()
    Path("out/small").mkdir(parents=True)
    Path("out/small/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        run_chapter("small")
    assert Path("out/small/mine.txt").read_text() == "mine"
    run_chapter("small", overwrite=True)
    assert not Path("out/small/mine.txt").exists()


def test_a_failing_cell_is_named_and_leaves_only_what_was_executed(chapters: Register) -> None:
    chapters(CHAPTER.replace('print("wrote to", out)', 'raise RuntimeError("no such gene")'))
    with pytest.raises(ChapterError, match=r"RuntimeError: no such gene.*open out/small.failed.ipynb"):
        run_chapter("small")
    assert [p.name for p in Path("out").iterdir()] == ["small.failed.ipynb"]
    failed = nbformat.read("out/small.failed.ipynb", as_version=4)
    assert any("no such gene" in str(c.get("outputs")) for c in failed.cells)


def test_a_run_that_works_takes_the_failed_one_away(chapters: Register) -> None:
    chapters()
    Path("out").mkdir()
    Path("out/small.failed.ipynb").write_text("old")
    run_chapter("small")
    assert not Path("out/small.failed.ipynb").exists()


def test_a_kernel_that_dies_is_an_error_of_ours(chapters: Register) -> None:
    chapters(CHAPTER.replace('print("wrote to", out)', "import os; os._exit(1)"))
    with pytest.raises(ChapterError, match="died"):
        run_chapter("small")
    assert not Path("out/small").exists()


def test_bad_parameters_stop_the_run_before_a_folder_is_made(chapters: Register) -> None:
    chapters()
    with pytest.raises(ConfigError, match="did you mean 'top_k'"):
        run_chapter("small", parameters={"topk": 1})
    assert not Path("out").exists()


def test_papermill_reads_a_chapter_by_its_address(chapters: Register, tmp_path: Path) -> None:
    chapters()
    papermill.execute_notebook(
        "c2s://small", str(tmp_path / "out.ipynb"), {"top_k": 3, "out": str(tmp_path)}, progress_bar=False
    )
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["ours"] == 6


def test_the_handler_lists_chapters_and_refuses_to_be_written(chapters: Register) -> None:
    chapters()
    assert ChapterHandler.listdir("c2s://") == ["c2s://small"]
    assert ChapterHandler.pretty_path("c2s://small") == "c2s://small"
    with pytest.raises(OutputError, match="not a place to write to"):
        ChapterHandler.write("{}", "c2s://small")
    with pytest.raises(RegistryError, match="unknown chapter 'smal'"):
        ChapterHandler.read("c2s://smal")


def test_papermill_finds_the_handler_through_its_entry_point() -> None:
    """In a fresh process, without c2s imported first; --prepare-only runs nothing."""
    script = (
        "import papermill, json, sys;"
        "nb = papermill.execute_notebook('c2s://how-to-read', None, prepare_only=True, progress_bar=False);"
        "print(len(nb.cells), nb.metadata.kernelspec.language)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    cells, language = done.stdout.split()
    assert int(cells) > 5
    assert language == "python"


def test_the_command_line_lists_and_runs(chapters: Register) -> None:
    chapters()
    runner = CliRunner()
    listed = runner.invoke(app, ["list"])
    assert listed.output.splitlines() == ["small  A chapter  [plugin 'test']"]
    ran = runner.invoke(app, ["run", "small", "-p", "top_k", "4", "-p", "strict", "true", "--out", "here"])
    assert ran.exit_code == 0, ran.output
    assert "here/small.html" in ran.output
    assert Path("here/cells.txt").read_text() == "4 0.5 ['a', 'b'] True cell_type"
    assert ResultsTable.from_json("here/results.json").rows[0].ours == 8


def test_a_parameter_without_its_value_is_a_usage_error(chapters: Register) -> None:
    chapters()
    ran = CliRunner().invoke(app, ["run", "small", "-p", "top_k"])
    assert ran.exit_code == 2
    assert "a name and a value" in ran.output
    assert not Path("out").exists()
