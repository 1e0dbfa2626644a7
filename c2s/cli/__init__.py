"""The command line ``c2s``: a table of commands, each imported only when it is called.

A command `c2s foo` lives in ``c2s/cli/foo.py`` as a function ``foo`` with typer annotations, or as a group
``app = typer.Typer()``. Plugins add commands through ``c2s_register_commands``.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import typer
import typer.core
import typer.main

from c2s.errors import C2SError, C2SWarning


class Command(NamedTuple):
    """One line of the command table: ``"module:attribute"`` and one line of help."""

    target: str
    help: str


#: The core's commands, in the order in which ``c2s --help`` shows them.
COMMANDS = {
    "check": Command("c2s.cli.check:check", "Is my file ready? What it holds, and what would be refused."),
    "transform": Command("c2s.cli.transform:transform", "Turn cells into cell sentences."),
    "invert": Command("c2s.cli.invert:invert", "Turn cell sentences back into expression."),
    "train": Command("c2s.cli.train:app", "Train a language model on a task."),
    "scaling": Command("c2s.cli.scaling:app", "Train and measure models of many sizes."),
    "predict": Command("c2s.cli.predict:predict", "Predict with a trained model; writes an .h5ad."),
    "evaluate": Command("c2s.cli.evaluate:evaluate", "Measure a trained model, next to baselines."),
    "results": Command("c2s.cli.results:results", "Read the results of many runs into one table."),
    "corpus": Command("c2s.cli.corpus:app", "Build, inspect and verify a pretraining corpus."),
    "prompts": Command("c2s.cli.prompts:app", "Show the prompts of the twelve pretraining tasks."),
    "data": Command("c2s.cli.data:app", "List, inspect, fetch and verify datasets."),
    "models": Command("c2s.cli.models:app", "List and inspect models; plan what a run costs."),
    "plugins": Command("c2s.cli.plugins:app", "List, inspect, check and create plugins."),
    "chapters": Command("c2s.cli.chapters:app", "List and run the chapters of the book."),
}


class LazyCommand(typer.core.TyperCommand):
    """Stands in for a command in listings; becomes the real one when it is called."""

    def __init__(self, name: str, command: Command) -> None:
        super().__init__(name, help=command.help, rich_markup_mode="rich")
        self.target = command.target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the command and hand over to it."""
        return self.resolve().make_context(info_name, args, parent=parent, **extra)

    def resolve(self) -> Any:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        single = typer.Typer(add_completion=False)
        single.command(self.name)(found)
        return typer.main.get_command(single)


class LazyGroup(typer.core.TyperGroup):
    """The ``c2s`` command: the core's table first, plugins asked only for what is not in it."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the core's commands, then those of plugins."""
        return [*COMMANDS, *sorted(plugin_commands())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find a command; plugins are loaded only if the core has none of this name."""
        if cmd_name in COMMANDS:
            return LazyCommand(cmd_name, COMMANDS[cmd_name])
        found = plugin_commands().get(cmd_name)
        return found[1] if found else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Make every name known before an unknown one is reported, so that close ones can be suggested."""
        if args and args[0] not in COMMANDS:
            known = {name: LazyCommand(name, command) for name, command in COMMANDS.items()}
            self.commands = {**known, **{name: command for name, (_, command) in plugin_commands().items()}}
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what the user must know is one line, and the exit code says the rest."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # typer would end with the same code but without a word.
            print("Stopped by Ctrl-C; no half-written output was left.", file=sys.stderr)
            raise typer.Exit(130) from None


def plugin_commands(*, report: bool = True) -> dict[str, tuple[Any, Any]]:
    """Ask the plugins for their commands; broken plugins are reported on standard error, once."""
    from c2s.plugins import PluginWarning, default_host

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        host = default_host()
        commands = host.commands(COMMANDS)
    for problem in host.problems if report else []:
        if problem not in _reported:
            _reported.append(problem)
            print(f"Warning: {problem}", file=sys.stderr)
    return commands


_reported: list[object] = []


def _version(wanted: bool) -> None:
    if wanted:
        from c2s import __version__

        print(f"c2s {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def c2s(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Cell sentences, read and written by language models."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always ends with `SystemExit`.

    Exit codes: 0; 1 a check or an unforeseen error failed; 2 a usage error or a `C2SError`; 130 Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # no character may break an output that cannot show it
            stream.reconfigure(errors="replace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _one_line_for_our_own(warnings.showwarning, command, given)
            command(args=given, prog_name="c2s")
    except C2SError as error:
        if os.environ.get("C2S_DEBUG", "") not in {"", "0"}:
            raise
        print(f"Error: {_fitted(str(error), command, given)}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        extra = _extra_with(error.name or "")
        if not extra:
            raise
        print(
            f"Error: this command needs the package {error.name!r}, which is not installed. "
            f"Fix: python -m pip install 'c2s[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr)
        raise SystemExit(130) from None


def _fitted(text: str, command: Any, arguments: Sequence[str]) -> str:
    """Leave out of an error or warning the options that the command does not have."""
    from c2s.cli.fixes import fitted, options_of

    return fitted(text, options_of(command, arguments)) if "--" in text else text


def _one_line_for_our_own(usual: Any, command: Any, arguments: Sequence[str]) -> Any:
    """Show what c2s itself warns of as one line, without the place in our code; other warnings as usual."""

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, C2SWarning) or category.__module__ == "c2s.plugin_report":
            print(f"Warning: {_fitted(str(message), command, arguments)}", file=sys.stderr)
        else:
            usual(message, category, *where, **more)

    return show


def _extra_with(module: str) -> str:
    """Return the extra of c2s that brings `module`, or nothing."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in requires("c2s") or []]
    except PackageNotFoundError:
        return ""
    wanted = module.partition(".")[0].replace("_", "-")
    for requirement in requirements:
        if requirement.name == wanted and requirement.marker is not None:
            found = re.search(r"extra == ['\"]([\w-]+)", str(requirement.marker))
            return found[1] if found else ""
    return ""
