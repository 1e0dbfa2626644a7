"""Configurations that are checked as a whole: all their problems are told at once, in our words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from c2s.errors import ConfigError, InputFileError

M = TypeVar("M", bound=BaseModel)


class Options(BaseModel):
    """Base of flat configurations: no other keys, and no change once they are made.

    Attributes
    ----------
    subject
        What errors call it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    subject: ClassVar[str] = "configuration"

    @classmethod
    def of(cls, options: Mapping[str, Any] | Self | None = None, **more: Any) -> Self:
        """Build it from plain values; all problems are reported at once.

        Parameters
        ----------
        options
            Values by name.
        **more
            Further ones, which come first.

        Raises
        ------
        ConfigError
            An option is unknown or has a bad value.
        """
        given = options.model_dump() if isinstance(options, Options) else dict(options or {})
        return checked(cls, given | more, cls.subject)


def checked(kind: type[M], content: object, subject: str) -> M:
    """Build a pydantic model from plain values.

    Parameters
    ----------
    kind
        The model.
    content
        A mapping; anything else is reported.
    subject
        What the error calls it.

    Raises
    ------
    ConfigError
        It does not fit the model; all its problems are named.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(subject, problems_of(error), fix=f"it takes {', '.join(kind.model_fields)}.") from None


def problems_of(error: ValidationError) -> list[str]:
    """Return one line per problem of a pydantic error, with the name of the field and the value given."""
    lines = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown option {where!r}")
        else:
            given = f", got {problem['input']!r}" if where else ""
            lines.append(f"{where + ': ' if where else ''}{problem['msg'].removeprefix('Value error, ')}{given}")
    return lines


def read_yaml(path: str | os.PathLike[str], what: str, *, see: str) -> dict[str, Any]:
    """Read a mapping from a YAML file.

    Parameters
    ----------
    path
        The file.
    what
        What it holds, for errors.
    see
        Where there is one to look at, or which keys it has.

    Raises
    ------
    InputFileError
        It is missing, or no YAML in UTF-8.
    ConfigError
        It holds no mapping, or keys that are not words.
    """
    import yaml

    source = Path(path)
    if not source.is_file():
        raise InputFileError(f"there is no {what} {source}.", fix=f"check the path; {see}.")
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputFileError(
            f"{source} is not readable YAML ({reason}).", fix="mend the line it names; quote texts with a colon."
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{what} {source}", ["it is not a mapping"], fix=f"write KEY: VALUE; {see}.")
    odd = [f"the key {key!r} is not a word" for key in content if not isinstance(key, str)]
    if odd:
        raise ConfigError(f"{what} {source}", odd, fix="write every key as a word, in quotes if need be.")
    return content
