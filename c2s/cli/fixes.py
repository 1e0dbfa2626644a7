"""What errors and warnings advise, fitted to the command that shows them: no option that it does not have."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

#: A hint such as ``(--layer raw)`` after the way it is done in Python.
_HINT = re.compile(r"\s*\((?:e\.g\. )?(--[a-z][^()]*)\)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def fitted(text: str, options: Collection[str]) -> str:
    """Leave out the hints of `text` that name an option which is none of `options`.

    The core says how a mistake is mended in Python, and in parentheses by which option: it does not know which
    command was called, or whether one was.
    """

    def keep(hint: re.Match[str]) -> str:
        return hint[0] if set(_OPTION.findall(hint[1])) <= set(options) else ""

    return _HINT.sub(keep, text)


def options_of(group: Any, arguments: Sequence[str]) -> set[str]:
    """Return the options of the command that `arguments` call.

    Parameters
    ----------
    group
        The click group ``c2s``.
    arguments
        What came after ``c2s``.
    """
    import click

    command, found = group, set[str]()
    context = click.Context(group)
    for word in arguments:
        if not hasattr(command, "get_command"):
            break
        if word.startswith("-"):
            continue
        inner = command.get_command(context, word)
        if inner is None:
            break
        command = inner.resolve() if hasattr(inner, "resolve") else inner
        found = {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)}
    return found
