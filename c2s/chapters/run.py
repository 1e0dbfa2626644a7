"""Run a chapter with papermill and keep everything it makes in one folder."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.chapters.catalogue import chapter_notebook, chapter_parameters, find_chapter, resolve_parameters
from c2s.chapters.papermill_io import SCHEME
from c2s.chapters.results import ResultsTable
from c2s.errors import ChapterError
from c2s.files import atomic_output, refuse_existing
from c2s.provenance import RunRecord

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: A reader need not know over which socket their kernel talks, nor that tqdm misses a widget.
_KERNEL = [
    "--IPKernelApp.log_level=40",
    "--IPKernelApp.exec_lines=import warnings",
    "--IPKernelApp.exec_lines=warnings.filterwarnings('ignore', message='IProgress not found')",
    "--IPKernelApp.exec_lines=del warnings",
]


@dataclass(frozen=True)
class ChapterResult:
    """What a run left behind.

    Attributes
    ----------
    folder
        The output folder; the other paths lie in it.
    notebook, page
        The executed notebook and its HTML page.
    record
        ``run.json``.
    results
        The table "paper / this run"; None for a chapter that measures nothing.
    figures
        The figures, sorted by name.
    others
        Whatever else the chapter wrote (an annotated ``.h5ad``, say), sorted by name.
    """

    folder: Path
    notebook: Path
    page: Path
    record: Path
    results: ResultsTable | None
    figures: tuple[Path, ...]
    others: tuple[Path, ...]

    def __str__(self) -> str:
        lines = [f"page      {self.page}", f"notebook  {self.notebook}", f"record    {self.record}"]
        if self.results is not None:
            lines.append(f"results   {self.folder / 'results.json'}")
        lines += [f"figure    {path}" for path in self.figures]
        lines += [f"output    {path}" for path in self.others]
        if self.results is not None:
            lines += ["", str(self.results)]
        return "\n".join(lines)


def run_chapter(
    name: str,
    *,
    profile: str = "laptop",
    parameters: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
) -> ChapterResult:
    """Run the chapter `name` and keep the executed notebook, its page, its results, figures and record.

    Parameters
    ----------
    name
        Name of a registered chapter.
    profile
        ``"smoke"``, ``"laptop"`` or ``"paper"``.
    parameters
        Values that go before the profile's; text is converted to the type of the chapter's default.
    out
        The output folder, ``out/NAME`` if not given. It appears whole or not at all; if the chapter fails, what
        was executed is kept beside it as ``NAME.failed.ipynb``.
    overwrite
        Replace an existing folder.
    show_progress
        Show papermill's progress bar, on a terminal.

    Returns
    -------
    ChapterResult

    Raises
    ------
    RegistryError
        No such chapter.
    ChapterError
        The profile is unknown, the chapter is malformed, or one of its cells failed.
    ConfigError
        Parameters are unknown or of another type.
    OutputError
        The folder exists and `overwrite` is false.
    """
    chapter = find_chapter(name)
    declared = chapter_parameters(chapter, chapter_notebook(chapter))
    values = resolve_parameters(chapter, declared, profile=profile, parameters=parameters)
    final = Path(out) if out is not None else Path("out") / name
    refuse_existing(final, overwrite=overwrite)
    with atomic_output(final, overwrite=overwrite) as folder:
        folder.mkdir()
        if "out" in declared:
            values["out"] = str(folder)
        record = RunRecord(folder / "run.json", command=["c2s", "chapters", "run", name, "--profile", profile])
        record.config.update(values)
        notebook = _execute(name, values, folder, final, show_progress=show_progress)
        _forget(notebook, folder, final)
        _write_page(notebook, folder / f"{name}.html")
        if not (folder / "run.json").exists():
            record.finish()
        for text in (folder / f"{name}.ipynb", folder / "run.json"):
            text.write_text(text.read_text(encoding="utf-8").replace(str(folder), str(final)), encoding="utf-8")
    return _collect(name, final)


def _execute(name: str, values: dict[str, Any], folder: Path, final: Path, *, show_progress: bool) -> NotebookNode:
    """Execute the chapter into `folder`; on failure keep the notebook as ``FINAL.failed.ipynb``."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    written = folder / f"{name}.ipynb"
    failed = final.with_name(f"{final.name}.failed.ipynb")
    try:
        with warnings.catch_warnings():
            # Papermill expects an address to end in .ipynb.
            warnings.filterwarnings("ignore", message="the file is not specified with any extension")
            notebook = papermill.execute_notebook(
                SCHEME + name,
                written,
                parameters=values,
                kernel_name="python3",
                progress_bar=show_progress and sys.stderr.isatty(),
                extra_arguments=_KERNEL,
            )
    except (PapermillExecutionError, DeadKernelError) as error:
        if isinstance(error, PapermillExecutionError):
            what = f"cell {error.exec_count} of chapter {name!r} failed: {error.ename}: {error.evalue}"
        else:
            what = f"the kernel that ran chapter {name!r} died (out of memory?)"
        if written.exists():
            written.replace(failed)
        raise ChapterError(what, fix=f"open {failed} to see where; it holds the cells executed so far.") from error
    with suppress(FileNotFoundError):
        failed.unlink()
    return notebook


def _forget(notebook: NotebookNode, folder: Path, final: Path) -> None:
    """Fold the injected parameters, and name the final folder where the temporary one stood."""
    import nbformat

    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
    text = nbformat.writes(notebook).replace(str(folder), str(final))
    name = f"{notebook.metadata.papermill.input_path.removeprefix(SCHEME)}.ipynb"
    (folder / name).write_text(text, encoding="utf-8")
    notebook.update(nbformat.reads(text, as_version=4))


def _write_page(notebook: NotebookNode, path: Path) -> None:
    from c2s.chapters.page import chapter_page

    path.write_text(chapter_page(notebook), encoding="utf-8")


def _collect(name: str, folder: Path) -> ChapterResult:
    results = folder / "results.json"
    notebook, page, record = folder / f"{name}.ipynb", folder / f"{name}.html", folder / "run.json"
    figures = tuple(sorted((folder / "figures").glob("*"))) if (folder / "figures").is_dir() else ()
    named = {notebook, page, record, results, folder / "figures"}
    return ChapterResult(
        folder=folder,
        notebook=notebook,
        page=page,
        record=record,
        results=ResultsTable.from_json(results) if results.exists() else None,
        figures=figures,
        others=tuple(sorted(p for p in folder.iterdir() if p not in named)),
    )
