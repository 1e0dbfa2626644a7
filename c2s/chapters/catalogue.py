"""From a chapter's name to its notebook and its declared parameters."""

from __future__ import annotations

import ast
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.errors import ChapterError, ConfigError
from c2s.plugins import default_host

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from c2s.tasks import Chapter


def find_chapter(name: str) -> Chapter:
    """Return the registered chapter `name`, its source found and its profiles filled in.

    A source without a folder lies in the book, and a chapter without profiles takes the book's. A plugin outside
    this repository gives an absolute path and its own profiles.

    Raises
    ------
    RegistryError
        No plugin registers it; the message names the nearest.
    """
    from c2s.chapters.profiles import book_folder, profiles_of

    chapter: Chapter = default_host().chapters.get(name)
    source = Path(chapter.source)
    if source.name == chapter.source:
        source = book_folder() / "chapters" / source
    return dataclasses.replace(chapter, source=str(source), profiles=chapter.profiles or profiles_of(name))


def chapter_notebook(chapter: Chapter) -> NotebookNode:
    """Read a chapter's text notebook.

    Returns
    -------
    nbformat.NotebookNode
        Without outputs; ``metadata.kernelspec`` says ``python3`` and ``metadata.title`` the chapter's title.

    Raises
    ------
    ChapterError
        The source is missing, or does not hold exactly one parameters cell.
    """
    import jupytext

    path = Path(chapter.source)
    if not path.is_file():
        raise ChapterError(
            f"chapter {chapter.name!r} has no source at {path}.",
            fix="install the distribution that ships it again.",
        )
    notebook = jupytext.read(path, fmt="md:myst")
    parameters_cell(chapter, notebook)
    # The kernel of the environment that runs the chapter, whatever its author called theirs.
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["title"] = chapter.title
    return notebook


def parameters_cell(chapter: Chapter, notebook: NotebookNode) -> str:
    """Return the source of the one cell tagged ``parameters``.

    Raises
    ------
    ChapterError
        There is none, or more than one.
    """
    cells = [c.source for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ChapterError(
            f"chapter {chapter.name!r} has {len(cells)} cells tagged 'parameters'.",
            fix=f"tag exactly one code cell of {chapter.source} with 'parameters'.",
        )
    return str(cells[0])


def chapter_parameters(chapter: Chapter, notebook: NotebookNode | None = None) -> dict[str, Any]:
    """Return the parameters a chapter declares, with their defaults.

    Raises
    ------
    ChapterError
        The parameters cell holds something other than ``name = literal``.
    """
    source = parameters_cell(chapter, chapter_notebook(chapter) if notebook is None else notebook)
    declared: dict[str, Any] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                raise ChapterError(
                    f"the parameters cell of chapter {chapter.name!r} holds {ast.unparse(statement)!r}.",
                    fix="keep to lines of the form name = literal.",
                )
        try:
            declared[name] = ast.literal_eval(value)
        except ValueError as error:
            raise ChapterError(
                f"the default of parameter {name!r} of chapter {chapter.name!r} is not a literal.",
                fix="write a number, a string, a list, True, False or None.",
            ) from error
    return declared


def resolve_parameters(
    chapter: Chapter, declared: Mapping[str, Any], *, profile: str, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Merge a profile with a caller's own parameters, and check both against what the chapter declares.

    Parameters
    ----------
    chapter
        The chapter.
    declared
        What `chapter_parameters` found.
    profile
        Name of a profile.
    parameters
        Values by name; text is converted to the type of the default.

    Returns
    -------
    dict
        The values to pass, the caller's own before the profile's.

    Raises
    ------
    ChapterError
        The profile is unknown.
    ConfigError
        Parameters are unknown or have values of another type; all are named, each with the nearest known name.
    """
    from c2s.chapters.profiles import PROFILES

    known = [*chapter.profiles] or list(PROFILES)
    if profile not in known:
        raise ChapterError(
            f"chapter {chapter.name!r} has no profile {profile!r}{_near(profile, known)}.",
            fix=f"choose one of {', '.join(known)}.",
        )
    problems: list[str] = []
    merged: dict[str, Any] = {}
    for origin, values in (("profile: ", chapter.profiles.get(profile, {})), ("", parameters or {})):
        for name, value in values.items():
            if name not in declared:
                problems.append(f"{origin}unknown parameter {name!r}{_near(name, list(declared))}")
                continue
            try:
                merged[name] = convert(value, declared[name])
            except ValueError as error:
                problems.append(f"{origin}{name}: {error}")
    if problems:
        raise ConfigError(
            f"parameters of chapter {chapter.name!r}", problems, fix=f"it takes {', '.join(declared) or 'none'}."
        )
    return merged


def convert(value: Any, default: Any) -> Any:
    """Convert `value` to the type of `default`; text is read, anything else must fit already.

    Raises
    ------
    ValueError
        It does not fit.
    """
    if isinstance(value, str) and not isinstance(default, str):
        value = _read(value)
    if default is None or value is None:
        return value
    if isinstance(default, list | tuple):
        if not isinstance(value, list | tuple):
            value = [value]
        return [convert(item, default[0]) for item in value] if default else list(value)
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, float):
        fits = isinstance(value, int | float)
        value = float(value) if fits else value
    else:
        fits = isinstance(value, type(default))
    if not fits:
        raise ValueError(f"{value!r} is not of type {type(default).__name__}, like its default {default!r}")
    return value


def _read(text: str) -> Any:
    """Read what a person types on a command line: numbers, true/false, none, lists; else the text itself."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.strip().lower() in words:
        return words[text.strip().lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return [_read(part.strip()) for part in text.split(",")] if "," in text else text


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
