"""``run.json`` of a chapter: everything its parameters cell declares, as it was used, and all data it reads."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from c2s.chapters.catalogue import find_chapter, parameters_of, profile_of
from c2s.errors import ConfigError
from c2s.files import short_names
from c2s.provenance import RunRecord
from c2s.results import ResultsTable

#: Variable of the environment in which `c2s chapters run` tells a chapter what was asked for.
ASKED = "C2S_CHAPTER_ASKED"
#: Parameters that say how files of cells are read, and the values that change nothing.
READING: Mapping[str, Any] = {"symbols": None, "layer": None, "normalise": "auto", "strip": []}


class ChapterRecord(RunRecord):
    """The record of a chapter's run; see `start_record`.

    Attributes
    ----------
    chapter
        Name of the chapter.
    """

    chapter: str

    def reading(self, name: str) -> dict[str, Any]:
        """Return how the chapter's parameters say that a file is read; nothing for a named dataset.

        Parameters
        ----------
        name
            Name of a dataset, or path of a file.

        Returns
        -------
        dict
            Those of ``symbols``, ``layer``, ``normalise`` and ``strip`` that were set, for `c2s.load_dataset`.
        """
        from c2s.data.datasets import is_file

        if not is_file(Path(name)):
            return {}
        return {key: self.config[key] for key, usual in READING.items() if self.config.get(key, usual) != usual}

    def corpus_source(self, name: str) -> dict[str, Any]:
        """Find a dataset, record it, and return what a specification of a corpus says of it.

        Parameters
        ----------
        name
            Name of a dataset, or path of a file; one of the parameter ``datasets``.

        Returns
        -------
        dict
            Entry of ``datasets``, see `c2s.corpus.spec.DatasetSpec`. A file is called by its short name, and read
            as `reading` says.

        Raises
        ------
        C2SError
            It is not available here.
        """
        from c2s.data import locate_cells

        located = locate_cells(name, strict=True)
        facts: dict[str, Any] = {}
        if located.manifest is not None and located.manifest.simulated:
            facts["simulated"] = True
        self.add_data(name, located.path, **facts)
        if located.manifest is not None:
            return {"name": name} if not Path(name).exists() else {"name": located.name, "path": str(located.path)}
        others: Any = self.config["datasets"]
        called = re.sub(r"[^A-Za-z0-9._-]+", "-", short_names([*others, name])[name]).strip("-._")
        return {"name": called or "cells", "path": str(located.path.resolve()), **self.reading(name)}

    def table(self, title: str) -> ResultsTable:
        """Return a table of results to fill, once all data are recorded: each row names some of them."""
        source = f"chapter {self.chapter}"
        return ResultsTable(title, source=source, profile=self.profile or "", inputs=tuple(self.data))


def start_record(name: str, namespace: Mapping[str, Any]) -> ChapterRecord:
    """Start the record of a chapter's run from its parameters cell.

    Parameters
    ----------
    name
        Name of the registered chapter.
    namespace
        The notebook's ``globals()``, in which its parameters have the values that are used.

    Returns
    -------
    ChapterRecord
        ``config`` holds every parameter, ``seeds`` those called ``seed`` or ``seeds``, ``profile`` the profile
        that they equal or what is nearest. It is written to ``run.json`` in the folder ``out`` by `finish`.

    Raises
    ------
    RegistryError
        No plugin registers the chapter.
    ConfigError
        How files are read is set, and no file is read.

    Examples
    --------
    >>> record = start_record("annotation", globals())  # doctest: +SKIP
    """
    chapter = find_chapter(name)
    declared = parameters_of(chapter)
    used = {parameter: namespace[parameter] for parameter in declared}
    asked = json.loads(os.environ.get(ASKED, "{}"))
    record = ChapterRecord(
        Path(used["out"], "run.json") if "out" in used else None,
        command=asked.get("command", ["chapter", name]),
        config=used,
        seeds={key: used[key] for key in ("seed", "seeds") if key in used},
        profile=profile_of(chapter, declared, used, asked=asked.get("profile", "laptop")),
    )
    record.chapter = name
    _refuse_idle_reading(record)
    return record.start()


def _refuse_idle_reading(record: ChapterRecord) -> None:
    """Refuse options that would change nothing."""
    from c2s.data.datasets import is_file

    config: Mapping[str, Any] = record.config
    idle = [key for key, usual in READING.items() if config.get(key, usual) != usual]
    sources = [value for key, value in config.items() if key.endswith(("dataset", "datasets"))]
    names = [name for value in sources for name in (value if isinstance(value, list) else [value])]
    if idle and not any(is_file(Path(name)) for name in names):
        raise ConfigError(
            f"parameters of chapter {record.chapter!r}",
            [f"{key} is for files, and {', '.join(names) or 'nothing'} is none" for key in idle],
            fix="leave it out: a named dataset knows how it is read.",
        )
