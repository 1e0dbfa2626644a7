"""Profiles: the parameters of every shipped chapter at three sizes, from ``book/profiles/*.yaml``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from c2s.errors import ChapterError, ConfigError

#: Smallest first. ``laptop`` is what the chapters' parameters cells say.
PROFILES = ("smoke", "laptop", "paper")

Value = bool | int | float | str | None | list[bool | int | float | str]


class Profile(BaseModel):
    """One file of ``book/profiles``.

    Attributes
    ----------
    about
        What the profile is for.
    seconds
        Longest a chapter may take on 2 cores; None where there is no such promise.
    chapters
        Parameters by chapter.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    about: str
    seconds: Annotated[int, Field(gt=0)] | None
    chapters: dict[str, dict[str, Value]]


@cache
def book_folder() -> Path:
    """Return the folder that holds ``chapters/`` and ``profiles/``: the checkout's book, or the wheel's copy."""
    shipped = Path(__file__).parent / "_book"
    checkout = Path(__file__).resolve().parents[2] / "book"
    for folder in (shipped, checkout):
        if (folder / "chapters").is_dir():
            return folder
    raise ChapterError(
        "this installation of c2s holds no chapters.", fix="install c2s again, from a wheel or a full checkout."
    )


def read_profile(path: Path) -> Profile:
    """Read one profile.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML or breaks the schema; all problems are named.
    """
    subject = f"profile file {path.name}"
    try:
        return Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise ConfigError(subject, problems, fix=f"correct {path}.") from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(subject, [" ".join(str(error).split())], fix=f"correct {path}.") from error


@cache
def shipped_profiles() -> dict[str, Profile]:
    """Return the profiles of the book, by name."""
    return {name: read_profile(book_folder() / "profiles" / f"{name}.yaml") for name in PROFILES}


def profiles_of(chapter: str) -> dict[str, dict[str, Value]]:
    """Return a shipped chapter's parameters, by profile."""
    return {name: dict(profile.chapters.get(chapter, {})) for name, profile in shipped_profiles().items()}
