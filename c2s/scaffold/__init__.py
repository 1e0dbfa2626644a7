"""``c2s plugins new``: write a complete plugin from the templates beside this file."""

from __future__ import annotations

import re
import string
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from c2s.errors import ConfigError, RegistryError
from c2s.files import atomic_output, refuse_existing

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new(name: str, folder: Path | None = None) -> Path:
    """Write a plugin with one working task.

    Parameters
    ----------
    name
        Name of the task and of the plugin, e.g. ``"my-task"``; the distribution is ``c2s-my-task`` and the package
        ``c2s_my_task``.
    folder
        Where to write it; default ``./c2s-NAME``.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ConfigError
        The name is not made of small letters, digits and single hyphens.
    RegistryError
        An installed plugin that is not broken has this name, or a task of this name.
    OutputError
        The folder exists.
    """
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise ConfigError(
            f"plugin name {name!r}",
            ["a name has small letters, digits and single hyphens, starts with a letter, and has 40 at most"],
            fix=f"`c2s plugins new {_suggestion(name)}`.",
        )
    _refuse_taken(name)
    target = Path(f"c2s-{name}") if folder is None else folder
    refuse_existing(target, fix="choose another folder (--folder).")
    module = name.replace("-", "_")
    values = {
        "name": name,
        "distribution": f"c2s-{name}",
        "module": module,
        "package": f"c2s_{module}",
        "Class": "".join(word.capitalize() for word in name.split("-")),
        "core": _compatible_core(),
    }
    with atomic_output(target) as temporary:
        temporary.mkdir()
        _write(files("c2s.scaffold") / "template", temporary, values)
    return target


def _write(source: Traversable, target: Path, values: dict[str, str]) -> None:
    """Copy a folder of templates: fill in the files, give ``package`` its name, drop ``.template``."""
    for item in sorted(source.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            folder = target / (values["package"] if item.name == "package" else item.name)
            folder.mkdir()
            _write(item, folder, values)
        elif item.name.endswith(".template"):
            text = string.Template(item.read_text(encoding="utf-8")).substitute(values)
            (target / item.name.removesuffix(".template")).write_text(text, encoding="utf-8")


def _refuse_taken(name: str) -> None:
    from c2s.plugins import default_host

    host = default_host()
    owners = [info.owner for info in host.plugins if info.name == name and info.state != "broken"]
    owners += [host.tasks.owner(name)] if name in host.tasks else []
    if owners:
        raise RegistryError(f"the name {name!r} belongs to {owners[0]}.", fix="choose another name.")


def _compatible_core() -> str:
    """Return the range of core versions that a plugin written now can count on, e.g. ``>=0.1,<0.2``."""
    from packaging.version import Version

    import c2s

    major, minor = Version(c2s.__version__).release[:2]
    return f">={major}.{minor},<{major}.{minor + 1}"


def _suggestion(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    suggestion = re.sub(r"^[0-9-]+", "", "-".join(words))[:40].strip("-")
    return suggestion or "my-task"
