"""The plugin host: finds plugins, loads them one at a time, and keeps what they register.

A plugin is a module named by an entry point of the group ``c2s``; `c2s.hookspecs` says what it may implement. What
a plugin hands over counts only if all of it is sound: a plugin that fails half-way has registered nothing.

Three environment variables steer the default host: ``C2S_LOAD_PLUGINS=annotation,qa`` loads only these (and the
core), ``C2S_STRICT_PLUGINS=1`` turns the first broken plugin into an error, ``C2S_TRACE_PLUGINS=1`` prints every
hook call and every registration to standard error.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

from c2s import hookspecs
from c2s.compatibility import unmet_by_distribution, unmet_by_plugin
from c2s.errors import PluginError
from c2s.plugin_report import PluginInfo, PluginProblem, PluginWarning, write_traceback
from c2s.registry import Owner, Registry, Staging, check_instance, check_prompts, check_task, did_you_mean

if TYPE_CHECKING:
    from c2s.prompts import PromptTemplate
    from c2s.tasks import Baseline, Chapter, Dataset, Embedder, Metric, Reward, Task

__all__ = ["GROUP", "KINDS", "PluginHost", "PluginInfo", "PluginProblem", "PluginWarning", "default_host"]

GROUP = "c2s"

#: Kinds of things that are registered, in the order in which their hooks are called.
KINDS = ("prompts", "metrics", "rewards", "baselines", "embedders", "datasets", "tasks", "chapters")

_CORE = importlib.metadata.EntryPoint(name="core", value="c2s.builtin", group=GROUP)


class PluginHost:
    """Loads plugins and owns the registries.

    Parameters
    ----------
    entry_points
        Where plugins come from; default: the installed entry points of the group ``c2s``. The core's own
        registrations always come first.
    only
        Names of the plugins to load beside the core; None loads all.
    strict
        Raise on the first broken plugin instead of noting it in `problems`.
    trace
        Print hook calls and registrations to standard error.

    Attributes
    ----------
    tasks, prompts, metrics, rewards, baselines, embedders, datasets, chapters
        The registries; frozen once `load` is over.
    plugins
        One `PluginInfo` per plugin found, in loading order, broken ones included.
    problems
        What went wrong, one per broken plugin.
    """

    def __init__(
        self,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        *,
        only: Iterable[str] | None = None,
        strict: bool = False,
        trace: bool = False,
    ) -> None:
        self._entry_points = entry_points
        self._only = None if only is None else [name.strip() for name in only if name.strip()]
        self._strict, self._trace = strict, trace
        self.prompts: Registry[list[PromptTemplate]] = Registry(
            "list of prompts", "a list of c2s.PromptTemplate with distinct names", check_prompts
        )
        self.metrics: Registry[Metric] = Registry(
            "metric", "a c2s.Metric registered under its own name", check_instance("Metric")
        )
        self.rewards: Registry[Reward] = Registry(
            "reward", "a c2s.Reward registered under its own name", check_instance("Reward")
        )
        self.baselines: Registry[Baseline] = Registry(
            "baseline", "a c2s.Baseline registered under its own name", check_instance("Baseline")
        )
        self.embedders: Registry[Embedder] = Registry(
            "embedder", "a c2s.Embedder registered under its own name", check_instance("Embedder")
        )
        self.datasets: Registry[Dataset] = Registry(
            "dataset", "a c2s.Dataset registered under its own name", check_instance("Dataset")
        )
        self.tasks: Registry[type[Task]] = Registry(
            "task", "a complete subclass of c2s.Task registered under its own name", check_task
        )
        self.chapters: Registry[Chapter] = Registry(
            "chapter", "a c2s.Chapter registered under its own name", check_instance("Chapter")
        )
        self.plugins: list[PluginInfo] = []
        self.problems: list[PluginProblem] = []
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self._commands: dict[str, tuple[Owner, Any]] | None = None

    @classmethod
    def from_environment(cls) -> PluginHost:
        """Make a host as the environment variables say; it is not loaded yet."""
        restrict = os.environ.get("C2S_LOAD_PLUGINS")
        return cls(
            only=None if restrict is None else restrict.split(","),
            strict=_is_set("C2S_STRICT_PLUGINS"),
            trace=_is_set("C2S_TRACE_PLUGINS"),
        )

    def registries(self) -> dict[str, Registry[Any]]:
        """Return the registries by kind, in the order of `KINDS`."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def plugin(self, name: str) -> PluginInfo:
        """Return what is known about a plugin, loaded or broken; of several with this name the one that works.

        Raises
        ------
        PluginError
            No such plugin; close names are suggested.
        """
        named = [info for info in self.plugins if info.name == name]
        if named:
            return next((info for info in named if info.state == "loaded"), named[0])
        known = [info.name for info in self.plugins]
        raise PluginError(
            f"unknown plugin {name!r}.{did_you_mean(name, known)}",
            fix="install its distribution with pip; `c2s plugins list` shows what is installed.",
        )

    def load(self) -> PluginHost:
        """Load the core and every plugin, then freeze the registries; returns itself.

        Raises
        ------
        PluginError
            In strict mode, for the first broken plugin.
        """
        found = list(self._entry_points) if self._entry_points is not None else _installed()
        found = [e for e in found if not _is_core(e)]
        self.load_entry_point(_core_entry_point())
        for entry_point in sorted(found, key=lambda e: (e.name, e.value)):
            if self._only is None or entry_point.name in self._only:
                self.load_entry_point(entry_point)
            else:
                self.plugins.append(PluginInfo(_owner(entry_point), entry_point.value, state="not loaded"))
        self._report_unknown_restrictions([e.name for e in found])
        self.freeze()
        return self

    def load_entry_point(self, entry_point: importlib.metadata.EntryPoint) -> PluginInfo:
        """Import one plugin and let it register; a failure is noted in `problems` and stops nothing else."""
        owner = _owner(entry_point)
        info = PluginInfo(owner, entry_point.value)
        self.plugins.append(info)
        taken = self._name_taken(info)
        if taken:
            return self._broken(info, "collision", taken)
        unmet = unmet_by_distribution(entry_point)
        if unmet:
            return self._broken(info, "version", unmet)
        try:
            plugin = entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin that calls sys.exit() must not take the rest with it
            return self._broken(info, "import", "it cannot be imported", error)
        return self._register(plugin, info)

    def register(self, plugin: object, name: str, *, distribution: str | None = None) -> PluginInfo:
        """Register a plugin that is in memory already: a module, or an object with hook methods."""
        info = PluginInfo(Owner(name, distribution), f"{plugin!r}")
        self.plugins.append(info)
        taken = self._name_taken(info)
        return self._broken(info, "collision", taken) if taken else self._register(plugin, info)

    def freeze(self) -> None:
        """Close the registries."""
        for registry in self.registries().values():
            registry.freeze()

    def commands(self, reserved: Iterable[str] = ()) -> dict[str, tuple[Owner, Any]]:
        """Ask the plugins for their commands; called when the command line starts, and once only.

        Parameters
        ----------
        reserved
            Names of the core's commands, which no plugin may take.

        Returns
        -------
        dict
            Owner and command (ready to be added to a group) by name.
        """
        if self._commands is not None:
            return self._commands
        import typer.main

        taken: dict[str, tuple[Owner, Any]] = {}
        core = self.plugins[0].owner if self.plugins else Owner("core")
        for info in [p for p in self.plugins if p.state == "loaded"]:
            if not self._implements(info, "c2s_register_commands"):
                continue
            app = typer.Typer()
            try:
                self._call(info, "c2s_register_commands", app=app)
                offered: Mapping[str, Any] = typer.main.get_group(app).commands
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                message = "its hook c2s_register_commands failed; no command of it was added"
                self._problem(info, "hook", message, error)
                continue
            owners = dict.fromkeys(reserved, core) | {name: owner for name, (owner, _) in taken.items()}
            clashes = [f"the command {name!r} belongs to {owners[name]}" for name in offered if name in owners]
            if clashes:
                self._problem(info, "collision", f"{'; '.join(clashes)}; no command of it was added")
                continue
            taken |= {name: (info.owner, command) for name, command in offered.items()}
            info.registered["commands"] = sorted(offered)
        self._commands = taken
        return taken

    # -- one plugin -----------------------------------------------------------------------------------------------

    def _name_taken(self, info: PluginInfo) -> str:
        """Say whose the plugin's name is; one that failed to load keeps no name, but nobody replaces the core."""
        named = [p for p in self.plugins if p.name == info.name and p is not info]
        holder = next((p for p in named if p.state == "loaded" or p.name == _CORE.name), None)
        return f"its name is taken by {holder.owner}" if holder else ""

    def _register(self, plugin: object, info: PluginInfo) -> PluginInfo:
        try:
            unmet = unmet_by_plugin(plugin)
            if not unmet:
                self.manager.register(plugin, info.name)
        except Exception as error:
            # pluggy keeps the name, and the hooks that came before the one that does not fit.
            if self.manager.get_plugin(info.name) is plugin:
                self.manager.unregister(plugin)
            message = f"its hooks do not fit: {_one_line(error)}"
            return self._broken(info, "hook", message, error)
        if unmet:
            return self._broken(info, "version", unmet)
        wrong = self._misspelt(plugin)
        if wrong:
            self.manager.unregister(plugin)
            return self._broken(info, "hook", wrong)
        staged, failure = self._collect(info)
        if failure is not None or staged.problems:
            self.manager.unregister(plugin)
            message = "; ".join(problem for _, problem in staged.problems)
            if failure is not None:
                return self._broken(info, "hook", "; ".join(filter(None, [message, failure[0]])), failure[1])
            return self._broken(info, staged.problems[0][0], message)
        for kind, entry in staged.entries:
            self.registries()[kind].add(entry.name, entry.target, owner=info.owner, summary=entry.summary)
            info.registered.setdefault(kind, []).append(entry.name)
            self._say(f"  {kind}: {entry.name} -> {entry.where}")
        info.state = "loaded"
        return info

    def _collect(self, info: PluginInfo) -> tuple[Staging, tuple[str, BaseException] | None]:
        """Call the plugin's hooks and gather what it hands over, without registering anything yet."""
        staged = Staging(info.owner)
        for kind, registry in self.registries().items():
            hook = f"c2s_register_{kind}"
            if not self._implements(info, hook):
                continue
            try:
                with staged.collecting(kind, registry) as register:
                    self._call(info, hook, register=register)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                return staged, (f"its hook {hook} failed", error)
        return staged, None

    def _call(self, info: PluginInfo, hook: str, **arguments: object) -> None:
        """Call one hook of one plugin, so that whatever happens has an owner."""
        self._say(f"{info.name}.{hook}({', '.join(arguments)})")
        others = [p for p in self.manager.get_plugins() if self.manager.get_name(p) != info.name]
        self.manager.subset_hook_caller(hook, others)(**arguments)

    def _implements(self, info: PluginInfo, hook: str) -> bool:
        return any(impl.plugin_name == info.name for impl in getattr(self.manager.hook, hook).get_hookimpls())

    def _misspelt(self, plugin: object) -> str:
        """Name the functions that look like hooks and are none."""
        known = [name for name in vars(hookspecs) if name.startswith("c2s_register_")]
        problems = []
        try:
            self.manager.check_pending()
        except pluggy.PluginValidationError:
            callers = self.manager.get_hookcallers(plugin) or []
            unknown = [caller.name for caller in callers if not caller.has_spec()]
            problems += [f"{name!r} is not a hook.{did_you_mean(name, known)}" for name in unknown]
        for name, value in list(vars(plugin).items()) if hasattr(plugin, "__dict__") else []:
            marked = hasattr(value, "c2s_impl") or hasattr(value, "c2s_spec")
            if name.startswith("c2s_register") and callable(value) and not marked:
                problems.append(f"the function {name!r} is not marked with @c2s.hookimpl")
        if not problems and not self.manager.get_hookcallers(plugin):
            problems.append("it implements no hook (see c2s/hookspecs.py)")
        return "; ".join(problems)

    def _report_unknown_restrictions(self, known: list[str]) -> None:
        for name in self._only or []:
            if name not in known and name != "core":
                info = PluginInfo(Owner(name), "(C2S_LOAD_PLUGINS)")
                self.plugins.append(info)
                self._broken(info, "import", f"no plugin of this name is installed.{did_you_mean(name, known)}")

    def _broken(self, info: PluginInfo, kind: str, message: str, error: BaseException | None = None) -> PluginInfo:
        info.state = "broken"
        self._problem(info, kind, f"{message}; nothing of it was registered", error)
        return info

    def _problem(self, info: PluginInfo, kind: str, message: str, error: BaseException | None = None) -> None:
        trace = write_traceback(info.owner, error) if error is not None else None
        problem = PluginProblem(info.owner, kind, message, error, trace)
        info.problems.append(problem)
        self.problems.append(problem)
        if self._strict:
            raise PluginError(str(problem), fix="mend or uninstall it, or unset C2S_STRICT_PLUGINS.") from error

    def _say(self, line: str) -> None:
        if self._trace:
            print(f"c2s plugins: {line}", file=sys.stderr, flush=True)


_building = threading.local()


def default_host() -> PluginHost:
    """Return the host with all installed plugins, loaded on first use and kept for the process.

    Broken plugins are reported as `PluginWarning`, one each, when the host is loaded.

    Raises
    ------
    PluginError
        Called by a plugin while plugins are being loaded; or a plugin is broken and ``C2S_STRICT_PLUGINS`` is set.
    """
    if getattr(_building, "now", False):
        raise PluginError(
            "default_host() was called while the plugins were being loaded.",
            fix="register a 'module:attribute' target and look names up when it is used.",
        )
    return _default_host()


@functools.cache
def _default_host() -> PluginHost:
    _building.now = True
    try:
        host = PluginHost.from_environment().load()
    finally:
        _building.now = False
    for problem in host.problems:
        warnings.warn(str(problem), PluginWarning, stacklevel=3)
    return host


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() not in {"", "0", "no", "false"}


def _installed() -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=GROUP))


def _is_core(entry_point: importlib.metadata.EntryPoint) -> bool:
    return (entry_point.name, entry_point.value) == (_CORE.name, _CORE.value)


def _core_entry_point() -> importlib.metadata.EntryPoint:
    """Return the installed entry point of the core, or its twin when c2s runs from a checkout not installed."""
    return next((e for e in _installed() if _is_core(e)), _CORE)


def _owner(entry_point: importlib.metadata.EntryPoint) -> Owner:
    if entry_point.dist is None:
        return Owner(entry_point.name)
    metadata = entry_point.dist.metadata
    return Owner(entry_point.name, metadata["Name"] or "(unnamed)", metadata["Version"] or "(no version)")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
