"""More than one machine: the corpus and batched inference on a Ray cluster (extra ``ray``)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "TablePredictions": "tables",
    "predict_table": "tables",
    "run_units": "units",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s.distributed' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"c2s.distributed.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    from c2s.distributed.tables import TablePredictions as TablePredictions, predict_table as predict_table
    from c2s.distributed.units import run_units as run_units
