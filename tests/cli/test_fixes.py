"""Every option that an error or a warning names exists in the command that shows it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from c2s.cli import app
from c2s.cli.fixes import fitted, options_of

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "c2s").rglob("*.py"), *ROOT.glob("plugins/*/c2s_*/**/*.py")])
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
#: What a person would type in another program, or what names another command of c2s, up to where it ends.
END = r"(?:(?!\. |\.$)[^;()`])*"
QUOTED = re.compile(rf"`[^`]*`|\b(?:hf|python|pip|git|ray|iconv|gunzip) {END}|\bc2s [a-z]{END}")
HINT = re.compile(r"\((?:e\.g\. )?--[a-z][^()]*\)")


def leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk all commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        command = found.resolve() if hasattr(found, "resolve") else found
        if hasattr(command, "list_commands"):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


GROUP = typer.main.get_command(app)
COMMANDS = {path: options_of(GROUP, path) for path, _ in leaves(GROUP)}
EVERY_OPTION = set().union(*COMMANDS.values())


def texts_of(module: Path) -> list[tuple[int, str]]:
    """Return what a module may show: its texts that name an option, f-strings with placeholders."""
    tree = ast.parse(module.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    # Helps and names of options are the options' own; docstrings are not shown.
    own = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"typer.Option", "typer.Argument"}
        for argument in ast.walk(node)
    }
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    own |= {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in own or id(node) in inside:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(p.value if isinstance(p, ast.Constant) else "X" for p in node.values)
        else:
            continue
        if OPTION.search(text) and not OPTION.fullmatch(text):
            found.append((node.lineno, text))
    return found


TEXTS = {module: texts for module in MODULES if (texts := texts_of(module))}


def commands_of(module: Path) -> list[tuple[str, ...]]:
    """Return the commands that a module defines."""
    dotted = module.relative_to(ROOT).with_suffix("").parts
    name = ".".join(dotted[2:] if dotted[0] == "plugins" else dotted)
    return [path for path, command in leaves(GROUP) if command.callback and command.callback.__module__ == name]


def bare(text: str) -> set[str]:
    """Return the options that stand neither in a hint nor in a quoted command."""
    return set(OPTION.findall(QUOTED.sub("", HINT.sub("", text))))


def test_there_is_something_to_walk():
    assert sum(map(len, TEXTS.values())) > 60
    assert {("transform",), ("train", "sft"), ("labels",), ("embed",), ("generate",)} <= set(COMMANDS)


@pytest.mark.parametrize("module", TEXTS, ids=lambda m: str(m.relative_to(ROOT)))
def test_an_option_stands_in_a_hint_or_belongs_to_the_commands_of_its_module(module):
    mine = commands_of(module)
    either = set().union(*(COMMANDS[path] for path in mine)) if mine else set()
    for line, text in TEXTS[module]:
        wrong = bare(text) - either
        assert not wrong, f"{module.name}:{line}: {wrong} in {text!r}"


@pytest.mark.parametrize("module", TEXTS, ids=lambda m: str(m.relative_to(ROOT)))
def test_no_name_is_stale_and_quoted_commands_have_their_options(module):
    for line, text in TEXTS[module]:
        for hint in HINT.findall(text):
            assert set(OPTION.findall(hint)) <= EVERY_OPTION, f"{module.name}:{line}: {hint}"
        for quoted in re.findall(r"\bc2s ((?:[a-z][\w-]*)(?: [a-z][\w-]*)?)(" + END + ")", text):
            words = tuple(quoted[0].split())
            path = next((p for p in (words, words[:1]) if p in COMMANDS), None)
            if path is not None:
                unknown = set(OPTION.findall(quoted[1])) - COMMANDS[path]
                assert not unknown - {"--help"}, f"{module.name}:{line}: c2s {' '.join(path)} has no {unknown}"


def test_hints_are_left_out_whole_and_only_where_they_must_be():
    text = "name a layer, layer='raw' (--layer raw), or symbols='gene' (--symbols gene)."
    assert fitted(text, {"--layer", "--symbols"}) == text
    assert fitted(text, {"--layer"}) == "name a layer, layer='raw' (--layer raw), or symbols='gene'."
    assert fitted("lower them (--min-genes, --min-cells).", {"--min-genes"}) == "lower them."
    assert options_of(GROUP, ["train", "sft", "--task", "x"]) == COMMANDS["train", "sft"]
    assert options_of(GROUP, ["nonsense"]) == set()


READING = {"--layer", "--symbols", "--strip", "--normalise"}


def test_whoever_reads_cells_has_the_options_of_reading():
    """A command reads cells if its module calls one of the functions that do."""
    readers = re.compile(
        r"\b(read_cells|load_dataset|read_with_original|check_file|print_label_columns|embed_file)\("
    )
    checked = []
    for path, command in leaves(GROUP):
        source = Path(importlib.import_module(command.callback.__module__).__file__).read_text()
        function = ast.get_source_segment(
            source,
            next(n for n in ast.walk(ast.parse(source)) if getattr(n, "name", "") == command.callback.__name__),
        )
        if readers.search(function) or path == ("generate",):
            checked.append(path)
            assert COMMANDS[path] >= READING, path
    assert len(checked) >= 9, checked
    # Sentences of a corpus are the same in every unit.
    assert COMMANDS["prompts", "show"] >= READING - {"--normalise"}
