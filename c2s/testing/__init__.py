"""What a plugin author needs to test a plugin: the contract of a task, and small data with known truth.

`TaskContract` is inherited in one line; `simulated_cells` are the cells it uses. With ``c2s`` installed, pytest
also knows the fixtures ``c2s_cells``, ``c2s_sentences`` and ``c2s_tiny_model``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c2s.testing.case import Case
    from c2s.testing.cells import simulated_cells
    from c2s.testing.contract import TaskContract

_PUBLIC = {
    "Case": "c2s.testing.case",
    "TaskContract": "c2s.testing.contract",
    "simulated_cells": "c2s.testing.cells",
}

__all__ = ["Case", "TaskContract", "simulated_cells"]


def __getattr__(name: str) -> Any:
    """Import on first use: the pytest plugin lives in this package and must stay light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
