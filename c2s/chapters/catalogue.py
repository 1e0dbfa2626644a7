"""From a chapter's name to its notebook and its declared parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.chapters.parameters import Parameter, converted, declared_parameters, literal, near
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


def parameters_cell(chapter: Chapter, notebook: NotebookNode) -> NotebookNode:
    """Return the one cell tagged ``parameters``.

    Raises
    ------
    ChapterError
        There is none, or more than one.
    """
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ChapterError(
            f"chapter {chapter.name!r} has {len(cells)} cells tagged 'parameters'.",
            fix=f"tag exactly one code cell of {chapter.source} with 'parameters'.",
        )
    return cells[0]


def chapter_parameters(chapter: Chapter, notebook: NotebookNode | None = None) -> dict[str, Any]:
    """Return the parameters a chapter declares, with their defaults.

    Raises
    ------
    ChapterError
        The parameters cell holds something other than ``name = literal``.
    """
    return {name: parameter.default for name, parameter in parameters_of(chapter, notebook).items()}


def parameters_of(chapter: Chapter, notebook: NotebookNode | None = None) -> dict[str, Parameter]:
    """Return the parameters a chapter declares, with their kinds.

    Raises
    ------
    ChapterError
        As `chapter_parameters`.
    """
    cell = parameters_cell(chapter, chapter_notebook(chapter) if notebook is None else notebook)
    return declared_parameters(str(cell.source), chapter.name)


def resolve_parameters(
    chapter: Chapter,
    declared: Mapping[str, Parameter],
    *,
    profile: str,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Merge a profile with a caller's own parameters, and check both against what the chapter declares.

    Parameters
    ----------
    chapter
        The chapter.
    declared
        What `parameters_of` found.
    profile
        Name of a profile.
    parameters
        Values by name; text is converted to the kind that is declared.

    Returns
    -------
    dict
        A value for every parameter: the caller's own before the profile's, and this before the default.

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
            f"chapter {chapter.name!r} has no profile {profile!r}{near(profile, known)}.",
            fix=f"choose one of {', '.join(known)}.",
        )
    kinds = {name: parameter.kind for name, parameter in declared.items()}
    merged = {name: parameter.default for name, parameter in declared.items()}
    problems: list[str] = []
    for origin, values in (("profile: ", chapter.profiles.get(profile, {})), ("", parameters or {})):
        try:
            merged |= converted(chapter.name, values, kinds, origin=origin)
        except ConfigError as error:
            problems += error.problems
            fix = error.fix
    if problems:
        raise ConfigError(f"parameters of chapter {chapter.name!r}", problems, fix=fix)
    return merged


def profile_of(
    chapter: Chapter, declared: Mapping[str, Parameter], used: Mapping[str, Any], *, asked: str = "laptop"
) -> str:
    """Say which profile values are those of: its name, or the nearest one and what differs from it.

    Parameters
    ----------
    chapter
        The chapter.
    declared
        What `parameters_of` found.
    used
        The values of a run, by name. Where results go (``out``) is no matter of profiles.
    asked
        The profile that was asked for, which is named where others are as near.
    """
    differing = {}
    for name in sorted(chapter.profiles, key=lambda profile: profile != asked):
        try:
            values = resolve_parameters(chapter, declared, profile=name)
        except ConfigError:
            continue  # a broken profile is reported when it is asked for
        differing[name] = {k: used[k] for k in declared if k != "out" and used[k] != values[k]}
    if not differing:
        return ""
    fewest = min(map(len, differing.values()))
    first, *others = [name for name, changed in differing.items() if len(changed) == fewest]
    if not fewest:
        same = f"; {' and '.join(others)} {'is' if len(others) == 1 else 'are'} the same"
        return first + (same if others else "")
    changed = [f"{name}={literal(value)}" for name, value in differing[first].items()]
    more = f" and {fewest - 6} more (see the parameters)" if fewest > 6 else ""
    return f"{first}, with {', '.join(changed[:6])}{more}"
