"""Registries: names that plugins hand over, resolved and type-checked when first asked for."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from c2s.errors import PluginError, RegistryError

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Owner:
    """Who registered something.

    Attributes
    ----------
    plugin
        Name of the entry point.
    distribution, version
        What ``pip list`` calls it; None for a plugin that was handed over in memory.
    """

    plugin: str
    distribution: str | None = None
    version: str | None = None

    def __str__(self) -> str:
        if self.distribution is None:
            return f"plugin {self.plugin!r}"
        return f"plugin {self.plugin!r} (distribution {self.distribution} {self.version})"


@dataclass(frozen=True)
class Entry:
    """One registered name: what it stands for, whose it is, and one line about it."""

    name: str
    target: object
    owner: Owner
    summary: str = ""

    @property
    def where(self) -> str:
        """``"module:attribute"`` of the target, for people to read."""
        if isinstance(self.target, str):
            return self.target
        made = self.target if isinstance(self.target, type) else type(self.target)
        return f"{made.__module__}:{made.__qualname__}"


class Registry(Generic[T]):
    """Objects of one kind by name.

    A target is the object or ``"module:attribute"``. The latter is imported when the name is first asked for, so
    that listing names costs no import.

    Parameters
    ----------
    kind
        What is registered, in the singular, e.g. ``"task"``; for messages.
    expected
        What an object must be, in words.
    check
        Returns what is wrong with ``(name, object)``, or None.
    """

    def __init__(self, kind: str, expected: str, check: Callable[[str, object], str | None]) -> None:
        self.kind, self.expected = kind, expected
        self._check = check
        self._entries: dict[str, Entry] = {}
        self._resolved: dict[str, T] = {}
        self._frozen = False

    def add(self, name: str, target: object, *, owner: Owner, summary: str = "") -> None:
        """Add a name.

        Raises
        ------
        RegistryError
            The name is malformed or taken (both owners are named), or the registry is frozen.
        PluginError
            The target is an object of the wrong type, or a string that is not ``"module:attribute"``.
        """
        problem = self.problem(name, target, owner=owner)
        if problem is not None:
            raise problem
        self._entries[name] = Entry(name, target, owner, summary)

    def problem(self, name: str, target: object, *, owner: Owner) -> RegistryError | PluginError | None:
        """Return the error that `add` would raise, or None."""
        if self._frozen:
            return RegistryError(
                f"{owner} registered the {self.kind} {name!r} after loading was over.",
                fix="register inside the c2s_register_* hooks only.",
            )
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return RegistryError(
                f"{owner} registered a {self.kind} as {name!r}, which is not a plain name.",
                fix="use letters, digits, '-', '_' and '.', e.g. 'cell-type'.",
            )
        if name in self._entries:
            return RegistryError(
                f"{owner} registered the {self.kind} {name!r}, which belongs to {self._entries[name].owner}.",
                fix=f"rename one of them, or uninstall {owner.distribution or owner.plugin}.",
            )
        if isinstance(target, str):
            if not _TARGET.fullmatch(target):
                return PluginError(
                    f"{owner} registered the {self.kind} {name!r} as {target!r}, which is not 'module:attribute'.",
                    fix="write the target like 'c2s_mine.task:MyTask'.",
                )
            return None
        return self._wrong(name, target, owner)

    def get(self, name: str) -> T:
        """Return the object registered as `name`; import and check it on first use.

        Raises
        ------
        RegistryError
            No such name; close names are suggested.
        PluginError
            The target cannot be imported or is of the wrong type; the plugin and its distribution are named.
        """
        if name in self._resolved:
            return self._resolved[name]
        entry = self.entry(name)
        value: Any = self._import(entry) if isinstance(entry.target, str) else entry.target
        wrong = self._wrong(name, value, entry.owner)
        if wrong is not None:
            raise wrong
        self._resolved[name] = value
        return self._resolved[name]

    def entry(self, name: str) -> Entry:
        """Return the entry of `name` without importing its target.

        Raises
        ------
        RegistryError
            No such name; close names are suggested.
        """
        if name not in self._entries:
            raise RegistryError(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self.names())}",
                fix=f"choose one of {', '.join(self.names()) or '(none are registered)'}; "
                "`c2s plugins list` shows what is installed.",
            )
        return self._entries[name]

    def names(self) -> list[str]:
        """Names, sorted."""
        return sorted(self._entries)

    def entries(self) -> list[Entry]:
        """Entries, sorted by name; nothing is imported."""
        return [self._entries[name] for name in self.names()]

    def owner(self, name: str) -> Owner:
        """Return who registered `name`."""
        return self.entry(name).owner

    def freeze(self) -> None:
        """Refuse every later `add`."""
        self._frozen = True

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __repr__(self) -> str:
        return f"Registry({self.kind}: {', '.join(self.names()) or 'empty'})"

    def _import(self, entry: Entry) -> Any:
        module_name, _, attribute = str(entry.target).partition(":")
        try:
            value: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                value = getattr(value, part)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a module may call sys.exit() while it is imported
            raise PluginError(
                f"the {self.kind} {entry.name!r} of {entry.owner} cannot be imported from {entry.target}: "
                f"{type(error).__name__}: {error}.",
                fix=f"mend that module, or reinstall {entry.owner.distribution or entry.owner.plugin}.",
            ) from error
        return value

    def _wrong(self, name: str, value: object, owner: Owner) -> PluginError | None:
        problem = self._check(name, value)
        if problem is None:
            return None
        return PluginError(
            f"{owner} registered the {self.kind} {name!r}, but {problem}.",
            fix=f"a {self.kind} is {self.expected}.",
        )


class Staging:
    """What one plugin hands over, checked at once and kept until all of it is known to be sound.

    Attributes
    ----------
    entries
        ``(kind, entry)`` in the order in which they were handed over.
    problems
        ``(kind of problem, message)``; all of them, not only the first.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.entries: list[tuple[str, Entry]] = []
        self.problems: list[tuple[str, str]] = []

    @contextmanager
    def collecting(self, kind: str, registry: Registry[Any]) -> Iterator[Callable[..., None]]:
        """Yield the `register` callable for one hook call; it refuses to work afterwards."""
        open_ = True

        def register(name: str, target: object, *, summary: str = "") -> None:
            if not open_:
                raise PluginError(
                    f"{self.owner} registered the {registry.kind} {name!r} after its hook had returned.",
                    fix="call register() inside the hook.",
                )
            problem = registry.problem(name, target, owner=self.owner)
            if problem is not None:
                cause = "collision" if name in registry else "type"
                self.problems.append((cause, problem.problem.rstrip(".").removeprefix(f"{self.owner} ")))
            elif any(kind == other and name == entry.name for other, entry in self.entries):
                self.problems.append(("collision", f"registered the {registry.kind} {name!r} twice"))
            else:
                self.entries.append((kind, Entry(name, target, self.owner, summary)))

        try:
            yield register
        finally:
            open_ = False


def did_you_mean(name: str, known: list[str]) -> str:
    """Return `` Did you mean 'x'?``, or nothing when no known name is close."""
    close = difflib.get_close_matches(str(name), known, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def check_task(name: str, value: object) -> str | None:
    """Say what keeps `value` from being a task class, or None."""
    from c2s.tasks import Task

    if not (isinstance(value, type) and issubclass(value, Task)):
        return f"it is {_described(value)}, not a subclass of c2s.Task"
    missing = [a for a in ("name", "title", "prompts", "metrics") if not hasattr(value, a)]
    if missing:
        return f"the class {value.__name__} does not set {', '.join(missing)}"
    if inspect.isabstract(value):
        left = ", ".join(sorted(value.__abstractmethods__))
        return f"the class {value.__name__} does not define {left}"
    if "__dataclass_params__" not in vars(value) and _own_options(value):
        return f"the class {value.__name__} has options but is not decorated with @dataclass(frozen=True)"
    return _name_differs(name, value)


def _own_options(value: type) -> list[str]:
    """Annotations of the class itself that a dataclass decorator would have turned into options."""
    own = inspect.get_annotations(value)
    fields = {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
    return [a for a, kind in own.items() if "ClassVar" not in str(kind) and a not in fields]


def check_prompts(name: str, value: object) -> str | None:
    """Say what keeps `value` from being a list of templates, or None."""
    from c2s.prompts import PromptTemplate

    if not isinstance(value, list | tuple) or not value:
        return f"it is {_described(value)}, not a list with at least one c2s.PromptTemplate"
    wrong = [item for item in value if not isinstance(item, PromptTemplate)]
    if wrong:
        return f"one of its items is {_described(wrong[0])}, not a c2s.PromptTemplate"
    names = [template.name for template in value]
    twice = sorted({n for n in names if names.count(n) > 1})
    return f"two of its templates are called {twice[0]!r}" if twice else None


def check_instance(class_name: str) -> Callable[[str, object], str | None]:
    """Return a check that an object is an instance of ``c2s.tasks.<class_name>`` registered under its own name."""

    def check(name: str, value: object) -> str | None:
        wanted = getattr(importlib.import_module("c2s.tasks"), class_name)
        if not isinstance(value, wanted):
            return f"it is {_described(value)}, not a c2s.{class_name}"
        return _name_differs(name, value)

    return check


def _name_differs(name: str, value: object) -> str | None:
    own = getattr(value, "name", None)
    return None if own == name else f"its own name is {own!r}"


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
