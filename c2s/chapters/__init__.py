"""Executable chapters: found by name, run with papermill, their figures compared with the paper's."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "ChapterRecord": "c2s.chapters.record",
    "ChapterResult": "c2s.chapters.run",
    "FigurePage": "c2s.chapters.figures",
    "ResultsTable": "c2s.results",
    "chapter_notebook": "c2s.chapters.catalogue",
    "chapter_parameters": "c2s.chapters.catalogue",
    "chapter_style": "c2s.chapters.figures",
    "check_parameters": "c2s.chapters.parameters",
    "find_chapter": "c2s.chapters.catalogue",
    "run_chapter": "c2s.chapters.run",
    "short_names": "c2s.files",
    "show_figures": "c2s.chapters.figures",
    "start_record": "c2s.chapters.record",
}

__all__ = [
    "ChapterRecord",
    "ChapterResult",
    "FigurePage",
    "ResultsTable",
    "chapter_notebook",
    "chapter_parameters",
    "chapter_style",
    "check_parameters",
    "find_chapter",
    "run_chapter",
    "short_names",
    "show_figures",
    "start_record",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s.chapters' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    from c2s.chapters.catalogue import chapter_notebook, chapter_parameters, find_chapter
    from c2s.chapters.figures import FigurePage, chapter_style, show_figures
    from c2s.chapters.parameters import check_parameters
    from c2s.chapters.record import ChapterRecord, start_record
    from c2s.chapters.run import ChapterResult, run_chapter
    from c2s.files import short_names
    from c2s.results import ResultsTable
