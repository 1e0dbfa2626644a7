"""No error that the project raises on purpose is without its fix."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from c2s import errors

ROOT = Path(__file__).parents[2]
KINDS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.C2SError)
}
SOURCES = [*ROOT.glob("c2s/**/*.py"), *ROOT.glob("plugins/*/c2s_*/**/*.py")]


def kinds_of(tree: ast.Module) -> set[str]:
    """Return the error classes of the project and those that a module derives from them."""
    return KINDS | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and {getattr(base, "id", "") for base in node.bases} & KINDS
    }


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=lambda path: path.name)
def test_every_error_that_is_raised_is_given_a_fix(folder: Path) -> None:
    without = []
    for path in folder.glob("*.py"):
        tree = ast.parse(path.read_text())
        kinds = kinds_of(tree)
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
            if getattr(call.func, "id", getattr(call.func, "attr", "")) in kinds:
                fixes = [keyword.value for keyword in call.keywords if keyword.arg in ("fix", None)]
                if not fixes or getattr(fixes[0], "value", "text") == "":
                    without.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert without == []
