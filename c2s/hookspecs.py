"""How a task gets in: every hook of the project, on one page.

A plugin is a module named by an entry point of the group ``c2s``. It marks functions of these names with
`hookimpl` and hands objects over through `register`; the host owns the registries. All hooks are called once per
process, when the host is first asked for something, in this order, plugin by plugin. Return values are ignored.

What a plugin hands over counts only if all of it is sound: a plugin that raises, claims a name that is taken or
registers the wrong type has registered nothing, is reported by name, and the others work on. A module may say
which core it was made for, ``c2s_requires = ">=0.1,<0.2"``; its distribution's own requirement counts as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    import typer

hookspec = pluggy.HookspecMarker("c2s")
hookimpl = pluggy.HookimplMarker("c2s")


class Register(Protocol):
    """Hand one object to the host."""

    def __call__(self, name: str, target: object, *, summary: str = "") -> None:
        """Register `target` as `name`.

        Parameters
        ----------
        name
            Unique within the kind; a second owner is refused with both named.
        target
            The object, or ``"module:attribute"``, which is imported when first used. Prefer the latter: it keeps
            ``c2s plugins list`` and ``c2s --help`` fast.
        summary
            One line for ``c2s plugins info``.
        """


@hookspec
def c2s_register_prompts(register: Register) -> None:
    """Register lists of `c2s.PromptTemplate`, by task name; used wherever a task makes examples."""


@hookspec
def c2s_register_metrics(register: Register) -> None:
    """Register `c2s.Metric` objects; used by ``c2s evaluate`` and the chapters."""


@hookspec
def c2s_register_rewards(register: Register) -> None:
    """Register `c2s.Reward` objects; used by reinforcement learning and by the contract tests."""


@hookspec
def c2s_register_baselines(register: Register) -> None:
    """Register `c2s.Baseline` objects; used by ``c2s evaluate --baselines`` and the chapters."""


@hookspec
def c2s_register_embedders(register: Register) -> None:
    """Register `c2s.Embedder` objects; used by whoever needs vectors of cells: chapters, metrics, rewards."""


@hookspec
def c2s_register_datasets(register: Register) -> None:
    """Register `c2s.Dataset` objects; used wherever ``--data NAME`` is read."""


@hookspec
def c2s_register_tasks(register: Register) -> None:
    """Register `c2s.Task` classes; used by ``c2s train``, ``predict`` and ``evaluate``."""


@hookspec
def c2s_register_chapters(register: Register) -> None:
    """Register `c2s.Chapter` objects; used by ``c2s chapters`` and by papermill's ``c2s://NAME``."""


@hookspec
def c2s_register_commands(app: typer.Typer) -> None:
    """Add commands or groups to the ``c2s`` command line; called only when the command line starts."""
