"""What ``c2s plugins check`` does: every target and type, and the clauses of the contract that train nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from c2s.errors import C2SError

if TYPE_CHECKING:
    from c2s.plugins import PluginHost
    from c2s.tasks import Task


@dataclass(frozen=True)
class Result:
    """One thing that was checked.

    Attributes
    ----------
    what
        What was checked.
    passed
        None if it could not be checked here; `why` says what is missing.
    why
        The reason, if it did not pass.
    """

    what: str
    passed: bool | None
    why: str = ""


def check(host: PluginHost, name: str) -> list[Result]:
    """Check one plugin.

    Parameters
    ----------
    host
        A loaded host.
    name
        Name of the plugin.

    Raises
    ------
    PluginError
        No such plugin.
    """
    info = host.plugin(name)
    if info.state == "not loaded":
        return [Result("the plugin loads", None, "it is left out by C2S_LOAD_PLUGINS")]
    results = [Result("the plugin loads", False, str(problem)) for problem in info.problems]
    if info.state == "broken":
        return results
    results = results or [Result("the plugin loads", True)]
    for kind, registry in host.registries().items():
        for registered in info.registered.get(kind, []):
            results.append(_resolved(f"{kind}: {registered} is {registry.expected}", registry.get, registered))
    for task in info.registered.get("tasks", []):
        results += _task(host, task)
    return results


def _resolved(what: str, get: object, name: str) -> Result:
    try:
        get(name)  # type: ignore[operator]
    except C2SError as error:
        return Result(what, False, str(error))
    return Result(what, True)


def _task(host: PluginHost, name: str) -> list[Result]:
    """Check the names that a task uses, then its contract on its example cells, with its default options."""
    from c2s.testing import checks, scoring
    from c2s.testing.case import Case

    try:
        task_class = host.tasks.get(name)
        task = task_class.from_options({})
    except C2SError:
        return []  # reported with its registration
    except TypeError as error:
        return [Result(f"task {name}: contract", None, f"it has options without a default ({error})")]
    results = _names(host, task_class)
    if not all(result.passed for result in results):
        return results
    try:
        case = Case.build(name, host=host)
    except Exception as error:  # example cells that cannot be made have failed
        return [*results, Result(f"task {name}: its example cells", False, f"{type(error).__name__}: {error}")]
    absent = [column for column in task.columns if column not in case.adata.obs]
    if absent:
        why = f"its example cells have no {', '.join(absent)}; let its example_cells() return cells that do"
        return [*results, Result(f"task {name}: contract", None, why)]
    for clause in (*checks.CHECKS, *scoring.CHECKS):
        what = f"task {name}: {(clause.__doc__ or clause.__name__).splitlines()[0].rstrip('.').replace('``', '')}"
        try:
            clause(case)
        except Exception as error:  # a clause that crashes has failed
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            results.append(Result(what, False, f"{kind}{error}"))
        else:
            results.append(Result(what, True))
    return results


def _names(host: PluginHost, task: type[Task]) -> list[Result]:
    """Look up what the task names in the registries."""
    results = [_resolved(f"task {task.name}: its prompts {task.prompts!r} exist", host.prompts.get, task.prompts)]
    for kind in ("metrics", "rewards", "baselines"):
        registry = host.registries()[kind]
        for used in getattr(task, kind):
            results.append(_resolved(f"task {task.name}: its {registry.kind} {used!r} exists", registry.get, used))
    return results
