"""Running a chapter: everything in one folder, whole or not at all."""

from __future__ import annotations

import json
import re
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
from c2s.chapters.run import as_parameters
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
    assert result.results.rows[0].value == 10
    assert result.others == (result.folder / "cells.txt",)
    record = json.loads(result.record.read_text())
    assert record["status"] == "finished"
    assert record["config"] == {
        "top_k": 5,
        "rate": 0.5,
        "names": ["a", "b"],
        "strict": False,
        "label": "tissue",
        "out": "out/small",
    }
    assert record["profile"] == 'smoke, with label="tissue"'
    assert "twice top_k" in str(result)


def shown_parameters(text: str) -> list[str]:
    """Return the sources of the code cells of a notebook that set ``top_k``."""
    cells = nbformat.reads(text, as_version=4).cells
    return [c.source for c in cells if c.cell_type == "code" and "top_k" in c.source and "table" not in c.source]


def test_the_page_and_the_notebook_show_the_parameters_that_ran_and_only_them(chapters: Register) -> None:
    chapters()
    result = run_chapter("small", profile="smoke", parameters={"names": "x"})
    expected = (
        'top_k = 5  # genes\nrate = 0.5\nnames = ["x"]\nstrict = False\nlabel = "cell_type"\nout = "out/small"'
    )
    notebook = nbformat.read(result.notebook, as_version=4)
    assert shown_parameters(result.notebook.read_text()) == [expected]
    assert not any("injected-parameters" in c.metadata.get("tags", []) for c in notebook.cells)
    assert notebook.metadata.papermill.parameters["top_k"] == 5
    page = re.sub("<[^>]+>", "", result.page.read_text())
    assert "top_k = 5  # genes" in page
    assert "top_k = 20" not in page


def test_the_executed_notebook_gives_the_same_again(chapters: Register) -> None:
    chapters()
    first = run_chapter("small", profile="smoke", parameters={"rate": 0.25})
    made = (first.folder / "cells.txt").read_text()
    (first.folder / "cells.txt").unlink()
    papermill.execute_notebook(str(first.notebook), "again.ipynb", progress_bar=False)
    assert (first.folder / "cells.txt").read_text() == made
    assert shown_parameters(Path("again.ipynb").read_text()) == shown_parameters(first.notebook.read_text())


def test_the_final_folder_is_named_whatever_letters_it_has(chapters: Register) -> None:
    chapters()
    result = run_chapter("small", out='Zellen ä "1"')
    assert json.loads(result.record.read_text())["config"]["out"] == 'Zellen ä "1"'
    text = result.notebook.read_text()
    assert 'wrote to Zellen ä \\"1\\"' in text
    assert ".tmp" not in text


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
    with pytest.raises(OutputError, match="holds other files"):
        run_chapter("small", overwrite=True)
    assert Path("out/small/mine.txt").read_text() == "mine"
    Path("out/small/mine.txt").unlink()
    record = json.loads(run_chapter("small", overwrite=True, profile="smoke").record.read_text())
    assert record["command"][:6] == ["c2s", "chapters", "run", "small", "--profile", "smoke"]
    assert record["profile"].startswith("smoke")
    Path("out/small/old.txt").write_text("of the run before")
    run_chapter("small", overwrite=True)
    assert not Path("out/small/old.txt").exists()


def test_a_failing_cell_is_named_and_leaves_only_what_was_executed(chapters: Register) -> None:
    chapters(CHAPTER.replace('print("wrote to", out)', 'raise RuntimeError("no such gene")'))
    with pytest.raises(ChapterError, match=r"RuntimeError: no such gene.*open out/small.failed.ipynb"):
        run_chapter("small")
    assert [p.name for p in Path("out").iterdir()] == ["small.failed.ipynb"]
    failed = nbformat.read("out/small.failed.ipynb", as_version=4)
    assert any("no such gene" in str(c.get("outputs")) for c in failed.cells)


def test_an_error_of_ours_is_one_message_with_the_parameter_in_its_fix(chapters: Register) -> None:
    stop = (
        "from c2s.errors import GeneError\n"
        "fix = 'name the column: --label feature_name, or --column x.'\n"
        "raise GeneError('the genes are Ensembl ids.', fix=fix)"
    )
    chapters(CHAPTER.replace('print("wrote to", out)', stop))
    with pytest.raises(ChapterError) as caught:
        run_chapter("small")
    assert str(caught.value) == (
        "cell 2 of chapter 'small' failed: GeneError: the genes are Ensembl ids. "
        "Fix: name the column: -p label feature_name, or --column x. "
        "(The cells executed so far are in out/small.failed.ipynb.)"
    )
    assert ".tmp" not in Path("out/small.failed.ipynb").read_text()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("pass --symbols feature_name.", "pass -p symbols feature_name."),
        ("layer='raw' (--layer raw).", "layer='raw' (-p layer raw)."),
        ("lower --top-k; --min-genes stays", "lower -p top_k; --min-genes stays"),
        ("c2s transform x --symbols y. Or --symbols z", "c2s transform x --symbols y. Or -p symbols z"),
        ("another --out", "another --out"),
    ],
)
def test_options_in_a_fix_become_parameters_where_there_are_such(text: str, expected: str) -> None:
    assert as_parameters(text, {"symbols", "layer", "top_k", "out"}) == expected


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
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["value"] == 6


def papermill_cells(**parameters: object) -> str:
    """Run the small chapter with papermill alone; return what it wrote of its parameters."""
    papermill.execute_notebook("c2s://small", "out.ipynb", {**parameters, "out": "out"}, progress_bar=False)
    return Path("out/cells.txt").read_text()


def test_papermill_converts_parameters_as_chapters_run_does(chapters: Register) -> None:
    chapters()
    Path("PBMC, day 3.h5ad").touch()
    for given, expected in (
        ({"names": "ok.h5ad"}, "20 0.5 ['ok.h5ad'] False cell_type"),
        ({"names": "PBMC, day 3.h5ad"}, "20 0.5 ['PBMC, day 3.h5ad'] False cell_type"),
        ({"names": "b,PBMC, day 3.h5ad", "rate": 1}, "20 1.0 ['b', 'PBMC, day 3.h5ad'] False cell_type"),
    ):
        assert papermill_cells(**given) == expected
        result = run_chapter("small", parameters={k: str(v) for k, v in given.items()}, overwrite=True)
        assert (result.folder / "cells.txt").read_text() == expected


@pytest.mark.parametrize(
    "given, said",
    [
        ({"topk": 3}, r"unknown parameter 'topk' \(did you mean 'top_k'\?\)"),
        ({"top_k": "many", "rate": True}, "top_k: 'many' is not of type int; rate: True is not of type float"),
        ({"label": 5}, "label: 5 is not of type str; give it as text"),
    ],
)
def test_papermill_refuses_unknown_names_and_other_kinds_as_chapters_run_does(
    chapters: Register, given: dict[str, object], said: str
) -> None:
    chapters()
    with pytest.raises(papermill.PapermillExecutionError, match=said) as caught:
        papermill_cells(**given)
    assert caught.value.ename == "ConfigError"
    with pytest.raises(ConfigError, match=said):
        run_chapter("small", parameters=given)
    assert not Path("out").exists()


def test_papermills_own_parameters_are_let_through(chapters: Register) -> None:
    chapters()
    assert papermill_cells(top_k="4", PAPERMILL_INPUT_PATH="c2s://small").startswith("4 0.5")


def test_papermill_knows_names_kinds_and_help_of_the_parameters(chapters: Register) -> None:
    text = CHAPTER.replace("rate = 0.5", "rate: float | None = 0.5  # a share").replace(
        "names =", "names: list[int | str] ="
    )
    chapters(text)
    known = papermill.inspect_notebook("c2s://small")
    assert list(known) == ["top_k", "rate", "names", "strict", "label", "out"]
    assert known["rate"]["inferred_type_name"] == "Optional[float]"
    assert known["rate"]["help"] == "a share"
    assert known["names"]["inferred_type_name"] == "list[Union[int, str]]"
    assert papermill_cells(names="1,b", rate=None) == "20 None [1, 'b'] False cell_type"


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
    assert ResultsTable.from_json("here/results.json").rows[0].value == 8


def test_a_parameter_without_its_value_is_a_usage_error(chapters: Register) -> None:
    chapters()
    ran = CliRunner().invoke(app, ["run", "small", "-p", "top_k"])
    assert ran.exit_code == 2
    assert "a name and a value" in ran.output
    ran = CliRunner().invoke(app, ["run", "small", "-p", "names", "a", "-p", "names", "b"])
    assert ran.exit_code == 2
    assert "names is given twice" in ran.output
    assert not Path("out").exists()
