"""What the host says about a plugin: what it registered, or what is wrong with it and where the traceback is."""

from __future__ import annotations

import os
import re
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from c2s.registry import Owner

#: ``not loaded`` means left out by C2S_LOAD_PLUGINS.
State = Literal["found", "loaded", "broken", "not loaded"]


class PluginWarning(UserWarning):
    """A plugin is broken; the rest works."""


@dataclass(frozen=True)
class PluginProblem:
    """What is wrong with one plugin.

    Attributes
    ----------
    owner
        The plugin and its distribution.
    kind
        ``import``, ``hook``, ``collision``, ``type`` or ``version``.
    message
        What happened, and what of the plugin was registered.
    error
        The exception, if there was one.
    traceback
        File that holds the exception's traceback; None without exception, or when no folder could be written.
    """

    owner: Owner
    kind: str
    message: str
    error: BaseException | None = None
    traceback: Path | None = None

    def __str__(self) -> str:
        text = f"{self.owner} is broken: {self.message}."
        if self.error is not None:
            text += f" {type(self.error).__name__}: {' '.join(str(self.error).split())}"
        if self.traceback is not None:
            text += f" (traceback: {self.traceback})"
        return text


@dataclass
class PluginInfo:
    """One plugin: who it is, whether it works, what it registered.

    Attributes
    ----------
    owner
        Name, distribution and version.
    value
        What its entry point says, e.g. ``"c2s_annotation.plugin"``.
    state
        ``loaded``, ``broken`` or ``not loaded``.
    registered
        Names by kind; ``commands`` is there once the command line has asked for them.
    problems
        What is wrong with it.
    """

    owner: Owner
    value: str
    state: State = "found"
    registered: dict[str, list[str]] = field(default_factory=dict)
    problems: list[PluginProblem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the plugin."""
        return self.owner.plugin


def write_traceback(owner: Owner, error: BaseException) -> Path | None:
    """Write the traceback of `error` to the cache folder, one file per plugin; None if no folder is writable."""
    text = "".join(traceback.format_exception(error))
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{owner.distribution or 'local'}-{owner.plugin}")
    for folder in (_traceback_folder(), Path(tempfile.gettempdir()) / f"c2s-tracebacks-{_user()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.txt"
            path.write_text(f"{owner}\n\n{text}", encoding="utf-8")
        except OSError:
            continue
        return path
    return None


def _traceback_folder() -> Path:
    """``C2S_TRACEBACK_DIR``, or ``c2s/tracebacks`` in the user's cache folder."""
    chosen = os.environ.get("C2S_TRACEBACK_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 -- never raises
    return Path(base) / "c2s" / "tracebacks"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
