"""Parameters of a chapter: what its cell declares, what a caller gives, and the cell with the values used.

Kinds are written as in an annotation: ``int``, ``list[str]``, ``str | None``. The one conversion here serves
``c2s chapters run`` and ``papermill c2s://NAME`` alike.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c2s.errors import ChapterError, ConfigError

_WORDS: Mapping[str, dict[str, Any]] = {
    "bool": {"true": True, "false": False},
    "None": {"none": None, "null": None},
}
_SCALARS = ("bool", "int", "float", "str", "None", "Any")


@dataclass(frozen=True)
class Parameter:
    """One line ``name: kind = default  # what it is`` of a parameters cell.

    Attributes
    ----------
    name, default
        As declared.
    kind
        The annotation; of a line without one, what the default is.
    place
        First and last byte of the default in the UTF-8 of the cell.
    """

    name: str
    kind: str
    default: Any
    place: tuple[int, int]


def declared_parameters(source: str, chapter: str) -> dict[str, Parameter]:
    """Read a parameters cell.

    Parameters
    ----------
    source
        The cell.
    chapter
        Name of the chapter, for messages.

    Raises
    ------
    ChapterError
        It holds something other than ``name = literal``, or an annotation that is none of the kinds.
    """
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    declared: dict[str, Parameter] = {}
    for statement in ast.parse(source).body:
        annotation: ast.expr | None = None
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                annotation = statement.annotation
            case _:
                raise ChapterError(
                    f"the parameters cell of chapter {chapter!r} holds {ast.unparse(statement)!r}.",
                    fix="keep to lines of the form name = literal.",
                )
        try:
            default = ast.literal_eval(value)
        except ValueError as error:
            raise ChapterError(
                f"the default of parameter {name!r} of chapter {chapter!r} is not a literal.",
                fix="write a number, a string, a list, True, False or None.",
            ) from error
        kind = _kind_of(default) if annotation is None else ast.unparse(annotation)
        if not _is_kind(kind):
            raise ChapterError(
                f"parameter {name!r} of chapter {chapter!r} is annotated {kind}.",
                fix="write bool, int, float, str or None, list[...] of them, or several with | between.",
            )
        assert value.end_lineno is not None and value.end_col_offset is not None
        place = (starts[value.lineno - 1] + value.col_offset, starts[value.end_lineno - 1] + value.end_col_offset)
        declared[name] = Parameter(name, kind, default, place)
    return declared


def with_values(source: str, values: Mapping[str, Any], chapter: str) -> str:
    """Return a parameters cell with other values; comments, annotations and unchanged defaults stay as they are.

    Raises
    ------
    ChapterError
        As `declared_parameters`.
    """
    text = source.encode()
    parameters = declared_parameters(source, chapter).values()
    for parameter in sorted(parameters, key=lambda p: p.place, reverse=True):
        value = values.get(parameter.name, parameter.default)
        if value != parameter.default or type(value) is not type(parameter.default):
            start, end = parameter.place
            text = text[:start] + literal(value).encode() + text[end:]
    return text.decode()


def literal(value: Any) -> str:
    """Write a value as Python, with the quotes that chapters have."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def converted(
    chapter: str, given: Mapping[str, Any], kinds: Mapping[str, str], *, origin: str = ""
) -> dict[str, Any]:
    """Convert what was given to the kinds that are declared.

    Parameters
    ----------
    chapter
        Name of the chapter, for messages.
    given
        Values by name; text is read as its kind says, anything else must fit.
    kinds
        Kinds by name.
    origin
        Where the values come from, for messages.

    Raises
    ------
    ConfigError
        Names are unknown, or values of another kind; all are named, each name with the nearest known one.
    """
    problems, found = [], {}
    for name, value in given.items():
        if name not in kinds:
            problems.append(f"{origin}unknown parameter {name!r}{near(name, list(kinds))}")
            continue
        try:
            found[name] = convert(value, kinds[name])
        except ValueError as error:
            problems.append(f"{origin}{name}: {error}")
    if problems:
        raise ConfigError(
            f"parameters of chapter {chapter!r}", problems, fix=f"it takes {', '.join(kinds) or 'none'}."
        )
    return found


def check_parameters(chapter: str, kinds: Mapping[str, str], namespace: dict[str, Any]) -> None:
    """Convert, in a running notebook, what papermill was given; its own cell has assigned it as it came.

    Parameters
    ----------
    chapter
        Name of the chapter, for messages.
    kinds
        Kinds by name of the chapter's parameters.
    namespace
        The notebook's ``globals()``.

    Raises
    ------
    ConfigError
        As `converted`.
    """
    injected = [cell for cell in namespace.get("In", ()) if cell.startswith("# Parameters")]
    assigned = [node for node in ast.parse(injected[-1]).body if isinstance(node, ast.Assign)] if injected else []
    names = [target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)]
    # Papermill's own, with --inject-paths.
    given = {name: namespace[name] for name in names if not name.startswith("PAPERMILL_")}
    namespace.update(converted(chapter, given, kinds))


def convert(value: Any, kind: str) -> Any:
    """Convert `value` to `kind`; text is read, anything else must fit already.

    A list may be given as one value, as a literal or YAML list, or as text with commas. The path of a file that is
    there is never cut at its commas, also not among others.

    Raises
    ------
    ValueError
        It does not fit.
    """
    kinds = _alternatives(kind)
    text = isinstance(value, str)
    for one in kinds:
        try:
            if one.startswith("list["):
                inner = one[len("list[") : -1]
                items = _items(value, inner) if text else value if isinstance(value, list | tuple) else [value]
                return [convert(item, inner) for item in items]
            if text and one != "str":
                return _read(value.strip(), one)
            if _fits(value, one):
                return float(value) if one == "float" else value
        except ValueError:
            continue
    raise ValueError(f"{value!r} is not of type {kind}{_way_out(value, kinds)}")


def near(name: str, known: Sequence[str]) -> str:
    """Suggest the known name that is nearest, if one is near."""
    found = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _read(text: str, kind: str) -> Any:
    """Read what a person types on a command line."""
    if kind in _WORDS:
        if text.lower() not in _WORDS[kind]:
            raise ValueError(text)
        return _WORDS[kind][text.lower()]
    if kind == "int":
        return int(text)
    if kind == "float" and math.isfinite(number := float(text)):
        return number
    if kind == "Any":
        words = _WORDS["bool"] | _WORDS["None"]
        try:
            return words[text.lower()] if text.lower() in words else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text
    raise ValueError(text)


def _fits(value: Any, kind: str) -> bool:
    if kind == "Any":
        return True
    if isinstance(value, bool) or value is None:
        return kind == ("None" if value is None else "bool")
    if kind == "float":
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, {"int": int, "str": str}.get(kind, ()))


def _items(text: str, kind: str) -> list[Any]:
    """Return what a text says as a list, each item text unless a literal says more."""
    text = text.strip()
    of_text = bool({"str", "Any"} & set(_alternatives(kind)))
    if of_text and _exists(text):
        return [text]
    if text.startswith(("[", "(")) and text.endswith(("]", ")")):
        try:
            return list(ast.literal_eval(text))
        except (ValueError, SyntaxError, TypeError):
            import yaml

            try:
                read = yaml.safe_load(text)
            except yaml.YAMLError:
                read = None
            if isinstance(read, list):
                return read
    parts = text.removesuffix(",").split(",") if text else []
    items = []
    while parts:
        # The longest run of parts that names a file is one path.
        longest = range(len(parts), 1, -1) if of_text else ()
        n = next((n for n in longest if _exists(",".join(parts[:n]).strip())), 1)
        items.append(",".join(parts[:n]).strip())
        parts = parts[n:]
    return items


def _exists(path: str) -> bool:
    # Path.exists raises where a text is too long for the name of a file.
    return os.path.exists(path)  # noqa: PTH110


def _way_out(value: Any, kinds: Sequence[str]) -> str:
    """Say how text is given that looks like a number."""
    numbers = isinstance(value, bool | int | float) and any("str" in kind for kind in kinds)
    return "; give it as text (papermill: with -r instead of -p)" if numbers else ""


def _kind_of(default: Any) -> str:
    if isinstance(default, list | tuple):
        inside = {_kind_of(item) for item in default}
        if inside == {"int", "float"}:
            inside = {"float"}
        return f"list[{inside.pop() if len(inside) == 1 else 'Any'}]"
    name = type(default).__name__
    return name if name in _SCALARS else "Any"


def _is_kind(kind: str) -> bool:
    return all(
        _is_kind(one[len("list[") : -1]) if one.startswith("list[") else one in _SCALARS
        for one in _alternatives(kind)
    )


def _alternatives(kind: str) -> list[str]:
    """Return the kinds between the bars that are in no bracket, text last: it takes anything."""
    found, depth = [""], 0
    for letter in kind.replace(" ", ""):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "|" and not depth:
            found.append("")
        else:
            found[-1] += letter
    return sorted(found, key=lambda one: (one == "str", one.startswith("list[")))
