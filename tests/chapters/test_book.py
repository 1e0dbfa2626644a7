"""Rules that every shipped chapter keeps."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path

import jupytext
import pytest
import yaml

import c2s
from c2s.chapters.catalogue import (
    chapter_notebook,
    chapter_parameters,
    find_chapter,
    parameters_cell,
    parameters_of,
)
from c2s.chapters.page import unsupported_markup
from c2s.chapters.parameters import convert
from c2s.chapters.profiles import PROFILES, book_folder, shipped_profiles

BOOK = Path(__file__).parents[2] / "book"
SOURCES = sorted((BOOK / "chapters").glob("*.md"))
PLUGINS = {path.parent.name for path in BOOK.parent.glob("plugins/*/c2s_*/__init__.py")}
NAMES = [path.stem for path in SOURCES]
#: Modules of the core that a chapter may import; the rest is reached through ``import c2s``.
PUBLIC_MODULES = {
    "c2s",
    "c2s.chapters",
    "c2s.corpus",
    "c2s.data",
    "c2s.data.simulate",
    "c2s.errors",
    "c2s.inference",
    "c2s.inference.predict",
    "c2s.metrics",
    "c2s.models",
    "c2s.models.plan",
    "c2s.plugins",
    "c2s.prediction",
    "c2s.scaling",
    "c2s.sentences",
    "c2s.tasks",
    "c2s.testing",
    "c2s.training",
}


def code_cells(name: str, *, hidden: bool = True) -> list[str]:
    """Return the Python of a chapter's cells; of those that are on the page, or of all."""
    notebook = chapter_notebook(find_chapter(name))
    cells = [
        c.source for c in notebook.cells
        if c.cell_type == "code" and (hidden or "remove-cell" not in c.metadata.get("tags", []))
    ]  # fmt: skip
    # Lines for the shell or for IPython are not Python.
    return ["\n".join(line for line in c.splitlines() if not re.match(r"\s*[%!]", line)) for c in cells]


def code(name: str) -> list[ast.AST]:
    """Return every node of a chapter's code."""
    return [node for cell in code_cells(name) for node in ast.walk(ast.parse(cell))]


def test_the_book_is_found_and_every_chapter_is_registered_and_in_the_contents() -> None:
    assert book_folder() == BOOK
    assert len(NAMES) >= 2
    assert set(NAMES) <= set(c2s.default_host().chapters.names())
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    files = [toc["root"], *(entry["file"] for entry in toc["chapters"])]
    assert sorted(files) == [f"chapters/{name}" for name in NAMES]


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_front_matter_lets_papermill_run_it_and_no_output_is_committed(path: Path) -> None:
    notebook = jupytext.read(path)
    assert notebook.metadata["kernelspec"]["language"] == "python"
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert not list(path.parent.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_the_laptop_profile(name: str) -> None:
    declared = chapter_parameters(find_chapter(name))
    out = declared.pop("out")
    assert out == f"out/{name}"
    assert declared == dict(find_chapter(name).profiles["laptop"])


@pytest.mark.parametrize("name", NAMES)
def test_the_other_profiles_only_name_declared_parameters(name: str) -> None:
    chapter = find_chapter(name)
    declared = chapter_parameters(chapter)
    assert set(chapter.profiles) == set(PROFILES)
    for profile in PROFILES:
        assert set(chapter.profiles[profile]) <= set(declared) - {"out"}


def test_the_profiles_name_no_chapter_that_is_not_there() -> None:
    for profile in shipped_profiles().values():
        assert set(profile.chapters) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_imports_only_public_api(name: str) -> None:
    imported = set()
    for node in code(name):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
            assert not any(alias.name.startswith("_") for alias in node.names)
    ours = {module for module in imported if module.split(".")[0].startswith("c2s")}
    # The chapter of a plugin may also use what that plugin's package hands out itself.
    own = f"c2s_{c2s.default_host().chapters.owner(name).plugin}"
    assert ours <= PUBLIC_MODULES | {own}


@pytest.mark.parametrize("name", NAMES)
def test_a_chapters_own_page_can_show_its_markup(name: str) -> None:
    cells = chapter_notebook(find_chapter(name)).cells
    assert [
        unsupported_markup(c.source) for c in cells if c.cell_type == "markdown" and unsupported_markup(c.source)
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_has_its_parts_in_order(name: str) -> None:
    text = (BOOK / "chapters" / f"{name}.md").read_text()
    parts = ["\n# ", "Key takeaways", "## Exercises", "{dropdown} Solution", "## References", "{footbibliography}"]
    places = [text.find(part) for part in parts]
    assert -1 not in places, dict(zip(parts, places))
    assert places == sorted(places)
    assert f'record = start_record("{name}", globals())' in text
    assert "record.finish()" in text
    assert "record.table(" in text


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_annotated_so_that_papermill_knows_them(name: str) -> None:
    import papermill

    parameters = parameters_of(find_chapter(name))
    cell = str(parameters_cell(find_chapter(name), chapter_notebook(find_chapter(name))).source)
    assert all(isinstance(statement, ast.AnnAssign) for statement in ast.parse(cell).body)
    for parameter in parameters.values():
        assert convert(parameter.default, parameter.kind) == parameter.default
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the file is not specified with any extension")
        known = papermill.inspect_notebook(f"c2s://{name}")
    assert list(known) == list(parameters)
    for parameter in known.values():
        assert parameter["inferred_type_name"] != "None"
        assert parameter["help"]


#: Chapters that read users' cells through `c2s.load_dataset`, and those that build corpora of them.
LOADING = {"annotation", "cells-as-sentences", "embeddings", "generating-cells", "grpo", "limits"}
LOADING |= {"models-and-training", "write-your-own-task"}
BUILDING = {"corpus-and-prompts", "laptop-to-cluster", "scaling"}


@pytest.mark.parametrize("name", NAMES)
def test_chapters_that_read_cells_say_how_files_are_read(name: str) -> None:
    text = (BOOK / "chapters" / f"{name}.md").read_text()
    declared = parameters_of(find_chapter(name))
    reading = {key: declared[key].kind for key in ("symbols", "layer", "normalise") if key in declared}
    files = {"symbols": "str | None", "layer": "str | None"}
    if name in LOADING:
        assert reading == files | {"normalise": "str"}
        by_name = len(re.findall(r"load_dataset\((?!\")", text))  # not one that the chapter names itself
        assert by_name == len(re.findall(r"load_dataset\([^\n]*\*\*record\.reading\(", text)) > 0
    elif name in BUILDING:
        assert reading == files
        assert "record.corpus_source(" in text
    else:
        assert reading == {}  # gene sets, and the one dataset that comes along


@pytest.mark.parametrize("name", NAMES)
def test_prose_is_one_sentence_a_line(name: str) -> None:
    notebook = chapter_notebook(find_chapter(name))
    prose = [line for c in notebook.cells if c.cell_type == "markdown" for line in c.source.splitlines()]
    # Lists, tables, fences and headings may run on; a paragraph's line may not hold two sentences.
    lines = [line for line in prose if re.match(r"[A-Z`*$\"]", line)]
    run_on = [line for line in lines if re.search(r"[a-z`)][.?!] [A-Z]", line)]
    assert run_on == []


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_shown(name: str) -> None:
    """A notebook shows the last value of a cell, and none of what stands inside an ``if`` or a loop."""
    for number, cell in enumerate(code_cells(name, hidden=False)):
        tree = ast.parse(cell)
        calls = [
            n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "show_figures"
        ]
        shown = [
            n.args[0] for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "display"
        ]
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            shown.append(tree.body[-1].value)
        kept = {
            n.targets[0].id: n.value
            for n in ast.walk(tree)
            if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
        }
        seen = {id(kept.get(node.id) if isinstance(node, ast.Name) else node) for node in shown}
        lost = [call.lineno for call in calls if id(call) not in seen]
        assert not lost, f"code cell {number} makes figures at line {lost} that no reader sees; display() them"
