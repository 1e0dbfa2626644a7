"""The documents say what is so: commands exist, snippets run, links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml

from c2s.cli import COMMANDS, LazyCommand, plugin_commands

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("plugins/*/*.md")])
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def sessions() -> set[str]:
    """Return the sessions that noxfile.py defines."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    marked = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.decorator_list]
    return {node.name for node in marked}


def c2s_commands() -> list[list[str]]:
    """Return every ``c2s ...`` line of the documents' shell blocks."""
    lines = [line for path in DOCUMENTS for b in blocks(path.read_text(), "bash") for line in b.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("c2s ")]


def test_the_two_commands_stand_alone_and_name_sessions() -> None:
    shell = blocks(README, "bash")
    assert shell[:2] == ["python -m pip install nox && python -m nox -s demo\n", "python -m nox -s tests\n"]
    assert {"demo", "tests", "lint", "types", "book", "bench", "plugin_tests"} <= sessions()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_nox_sessions_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"nox -s ((?:[a-z_]+ ?)+)", path.read_text())
    assert {word for names in named for word in names.split()} <= sessions()


def test_the_ci_script_runs_the_readmes_own_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -m1 -oE '([^']+)' README\.md", script)
    assert pattern is not None
    assert re.findall(pattern[1], README, flags=re.MULTILINE) == ["python -m nox -s tests"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


@pytest.mark.parametrize("words", c2s_commands(), ids=" ".join)
def test_a_command_of_the_documents_is_accepted_by_the_command_line(words: list[str]) -> None:
    """Parse the line with the real options; nothing is run."""
    name, arguments = words[1], words[2:]
    command = LazyCommand(name, COMMANDS[name]).resolve() if name in COMMANDS else plugin_commands()[name][1]
    context = command.make_context(name, arguments)
    if isinstance(command, typer.core.TyperGroup):
        sub, found, rest = command.resolve_command(context, context._protected_args + context.args)
        assert found is not None, sub
        found.make_context(sub, rest, parent=context)


def test_every_python_snippet_of_the_readme_runs() -> None:
    snippets = blocks(README, "python")
    assert snippets
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", snippet], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.split()) == 200


def test_every_task_of_the_plan_has_its_state_and_every_plugin_its_row() -> None:
    rows = re.findall(r"^\| (T\d) \| .* \| (.*) \| (here|planned) \|$", README, flags=re.MULTILINE)
    assert [row[0] for row in rows] == [f"T{i}" for i in range(1, 10)]
    here = {re.sub(r"\[`plugins/(.*)`\].*", r"\1", plugin) for _, plugin, state in rows if state == "here"}
    assert here == {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}


def test_licences_and_the_patent_notice_are_named() -> None:
    assert "US 2025/0139386 A1" in README
    assert "licences of their own" in README


def test_the_readme_fits_a_screen_and_its_figure_is_small() -> None:
    assert len(README.splitlines()) <= 110
    figure = ROOT / "book" / "_static" / "overview.png"
    assert figure.stat().st_size < 150_000
    assert "overview=" in (ROOT / "book" / "chapters" / "cells-as-sentences.md").read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
    missing = [target for target in targets if not (path.parent / target).exists()]
    assert missing == []


def test_every_hook_is_documented_with_its_own_sentence() -> None:
    """Each hook's docstring says when it is called; ARCHITECTURE.md names every one."""
    tree = ast.parse((ROOT / "c2s" / "hookspecs.py").read_text())
    hooks = {
        node.name: ast.get_docstring(node)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(ast.unparse(d) == "hookspec" for d in node.decorator_list)
    }
    assert len(hooks) >= 8
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name, docstring in hooks.items():
        assert re.search(r"; (used|called) ", docstring or ""), name
        assert re.search(rf"`{name}\b", text), f"ARCHITECTURE.md does not document {name}"


def test_the_citation_names_the_version_of_the_package() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]


def test_the_constraints_pin_every_direct_dependency_and_no_local_build() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # vLLM pins a torch of its own: its environment is another one.
    extras = [w for name, extra in project["optional-dependencies"].items() if name != "vllm" for w in extra]
    wanted = [*project["dependencies"], *extras]
    wanted += [w for w in (ROOT / "tests" / "requirements.txt").read_text().splitlines() if not w.startswith("#")]
    wanted += ["nox", "ruff", "mypy", "import-linter"]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[ ]", w)[0]).lower() for w in wanted}
    assert names <= pinned
    assert "torch==2.13.0" in pins


def test_the_pre_commit_hooks_are_local() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in config["repos"]} == {"local"}


def test_no_notebook_or_data_is_committed() -> None:
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if files.returncode:
        pytest.skip("not a git checkout")
    unwanted = re.compile(r"\.(ipynb|h5ad|zarr|safetensors|pkl|parquet)$")
    assert [name for name in files.stdout.splitlines() if unwanted.search(name)] == []


def test_benchmark_results_are_readable() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert "machine" in json.loads(path.read_text()), path.name
