"""Run a chapter with papermill and keep everything it makes in one folder."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.chapters.catalogue import (
    chapter_notebook,
    find_chapter,
    parameters_cell,
    parameters_of,
    profile_of,
    resolve_parameters,
)
from c2s.chapters.papermill_io import SCHEME
from c2s.chapters.parameters import literal, with_values
from c2s.chapters.record import ASKED
from c2s.errors import ChapterError
from c2s.files import atomic_output, check_target
from c2s.provenance import RunRecord
from c2s.results import FILE, ResultsTable

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from c2s.tasks import Chapter

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
            lines.append(f"results   {self.folder / FILE}")
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
    import nbformat

    chapter = find_chapter(name)
    notebook = chapter_notebook(chapter)
    declared = parameters_of(chapter, notebook)
    values = resolve_parameters(chapter, declared, profile=profile, parameters=parameters)
    final = Path(out) if out is not None else Path("out") / name
    check_target(final, overwrite=overwrite)
    with atomic_output(final, overwrite=overwrite) as folder:
        folder.mkdir()
        if "out" in declared:
            values["out"] = str(folder)
        given = [word for key, value in (parameters or {}).items() for word in ("-p", key, _as_text(value))]
        command = ["c2s", "chapters", "run", name, "--profile", profile, *given, "--out", str(final)]
        record = RunRecord(
            folder / "run.json",
            command=command,
            config=values,
            profile=profile_of(chapter, declared, values, asked=profile),
        )
        cell = parameters_cell(chapter, notebook)
        cell.source = with_values(cell.source, values, name)
        asked = json.dumps({"command": command, "profile": profile})
        with _environment(ASKED, asked):
            executed = _execute(chapter, notebook, folder, final, values, show_progress=show_progress)
        if not (folder / "run.json").exists():
            record.finish()
        cell = parameters_cell(chapter, executed)
        cell.source = with_values(cell.source, values | {"out": str(final)}, name)
        nbformat.write(executed, folder / f"{name}.ipynb")
        for told in (f"{name}.ipynb", "run.json", FILE):
            if (folder / told).exists():
                _name_final_folder(folder / told, folder, final)
        _write_page(folder / f"{name}.ipynb", folder / f"{name}.html")
    return _collect(name, final)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else literal(value)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _execute(
    chapter: Chapter,
    notebook: NotebookNode,
    folder: Path,
    final: Path,
    values: Mapping[str, Any],
    *,
    show_progress: bool,
) -> NotebookNode:
    """Execute the chapter into `folder`; on failure keep the notebook as ``FINAL.failed.ipynb``."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    written = folder / f"{chapter.name}.ipynb"
    failed = final.with_name(f"{final.name}.failed.ipynb")
    nbformat.write(notebook, written)
    try:
        executed = papermill.execute_notebook(
            written,
            written,
            kernel_name="python3",
            progress_bar=show_progress and sys.stderr.isatty(),
            extra_arguments=_KERNEL,
        )
    except (PapermillExecutionError, DeadKernelError) as error:
        _name_final_folder(written, folder, final)
        written.replace(failed)
        fix = f"open {failed} to see where; it holds the cells executed so far."
        if isinstance(error, DeadKernelError):
            problem = f"the kernel that ran chapter {chapter.name!r} died (out of memory?)."
        else:
            # What a chapter stops with is often an error of ours, which says itself how it is mended.
            said = as_parameters(error.evalue.replace(str(folder), str(final)), values)
            what, *fixes = said.split(" Fix: ")
            inner = " ".join(fixes)
            problem = f"cell {error.exec_count} of chapter {chapter.name!r} failed: {error.ename}: {what}"
            fix = f"{inner} (The cells executed so far are in {failed}.)" if inner else fix
        raise ChapterError(problem, fix=fix) from error
    with suppress(FileNotFoundError):
        failed.unlink()
    # The cell holds the values already; who looks for them where papermill writes them finds them too.
    executed.metadata.papermill["parameters"] = dict(values)
    executed.metadata.papermill["input_path"] = SCHEME + chapter.name
    return executed


def as_parameters(text: str, parameters: Collection[str]) -> str:
    """Write options of commands that a message names as parameters of a chapter: ``--label X`` as ``-p label X``.

    Options that the chapter has no parameter for stay, and so do those of a whole command that is given.
    """

    def replaced(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        sentence = re.split(r"[.;:] |`|\n", text[: option.start()])[-1]
        of_command = re.search(r"\bc2s [a-z]", sentence)
        return f"-p {name}" if name in parameters and name != "out" and not of_command else option[0]

    return re.sub(r"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)", replaced, text)


def _name_final_folder(file: Path, folder: Path, final: Path) -> None:
    """Name the final folder in all texts of a JSON file where the temporary one stood."""

    def renamed(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(str(folder), str(final))
        if isinstance(value, dict):
            return {key: renamed(inner) for key, inner in value.items()}
        return [renamed(inner) for inner in value] if isinstance(value, list) else value

    text = file.read_text(encoding="utf-8")
    indent = 1 if file.suffix == ".ipynb" else 2
    changed = json.dumps(renamed(json.loads(text)), indent=indent, ensure_ascii=False)
    file.write_text(changed + "\n", encoding="utf-8")


def _write_page(notebook: Path, page: Path) -> None:
    import nbformat

    from c2s.chapters.page import chapter_page

    page.write_text(chapter_page(nbformat.read(notebook, as_version=4)), encoding="utf-8")


def _collect(name: str, folder: Path) -> ChapterResult:
    results = folder / FILE
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
