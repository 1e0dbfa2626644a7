"""The pretraining corpus: many datasets, abstracts and gene sets as prompts of twelve tasks (4.1, table 1)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Corpus": "stream",
    "CorpusPlan": "plan",
    "CorpusReport": "build",
    "CorpusSpec": "spec",
    "CorpusTask": "prompt_files",
    "TASKS": "prompt_files",
    "Unit": "plan",
    "UnitResult": "units",
    "arrange": "arrangement",
    "build_corpus": "build",
    "build_unit": "units",
    "corpus_task": "prompt_files",
    "corpus_tasks": "prompt_files",
    "load_spec": "spec",
    "make_spec": "spec",
    "open_corpus": "stream",
    "plan_corpus": "plan",
    "preview": "previews",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s.corpus' has no attribute {name!r}")
    return getattr(importlib.import_module(f"c2s.corpus.{_PUBLIC[name]}"), name)


if TYPE_CHECKING:
    from c2s.corpus.arrangement import arrange as arrange
    from c2s.corpus.build import CorpusReport as CorpusReport, build_corpus as build_corpus
    from c2s.corpus.plan import CorpusPlan as CorpusPlan, Unit as Unit, plan_corpus as plan_corpus
    from c2s.corpus.previews import preview as preview
    from c2s.corpus.prompt_files import (
        TASKS as TASKS,
        CorpusTask as CorpusTask,
        corpus_task as corpus_task,
        corpus_tasks as corpus_tasks,
    )
    from c2s.corpus.spec import CorpusSpec as CorpusSpec, load_spec as load_spec, make_spec as make_spec
    from c2s.corpus.stream import Corpus as Corpus, open_corpus as open_corpus
    from c2s.corpus.units import UnitResult as UnitResult, build_unit as build_unit
