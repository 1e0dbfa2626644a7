"""``c2s plugins``: list, inspect, check and create plugins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from c2s.plugins import KINDS, PluginHost, PluginInfo, default_host

app = typer.Typer(no_args_is_help=True, help="List, inspect, check and create plugins.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the plugin, as `c2s plugins list` shows it.")]


@app.command("list")
def list_plugins(as_json: Json = False) -> None:
    """List the installed plugins, what each registers, and which are broken and why."""
    host = _host()
    if as_json:
        print(json.dumps([_facts(info) for info in host.plugins], indent=2))
        return
    rows = [("PLUGIN", "DISTRIBUTION", "VERSION", "STATE", "REGISTERS")]
    for info in host.plugins:
        owner = info.owner
        registers = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in _registered(info).items())
        rows.append((info.name, owner.distribution or "-", owner.version or "-", info.state, registers or "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]))
    for problem in host.problems:
        print(f"\n{problem}")


@app.command("info")
def info_plugin(name: Name, as_json: Json = False) -> None:
    """Show everything that a plugin registers, and what its tasks ask, need and measure."""
    host = _host()
    info = host.plugin(name)
    facts = _facts(info) | {"entries": _entries(host, info), "tasks": _tasks(host, info)}
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    print(f"{info.name}: {info.owner}, {info.state}\nentry point: {info.value}")
    for problem in info.problems:
        print(f"problem: {problem}")
    for kind, entries in facts["entries"].items():
        print(f"\n{kind}")
        for entry in entries:
            print(
                f"  {entry['name']}  {entry['target']}" + (f"  -- {entry['summary']}" if entry["summary"] else "")
            )
    if info.registered.get("commands"):
        print("\ncommands\n  " + "\n  ".join(f"c2s {command}" for command in info.registered["commands"]))
    for task in facts["tasks"]:
        print(f"\ntask {task.pop('name')}")
        for key, value in task.items():
            print(f"  {key}: {', '.join(value) or '-' if isinstance(value, list) else value}")


@app.command("check")
def check_plugin(name: Name) -> None:
    """Check a plugin: import and type of all it registers, and the parts of a task's contract that train nothing.

    Says only what was checked. Exit code 1 if anything failed.
    """
    from c2s.testing.checking import check

    results = check(_host(), name)
    for result in results:
        print(
            f"{'ok    ' if result.passed else 'FAILED'}  {result.what}" + (f": {result.why}" if result.why else "")
        )
    failed = sum(not result.passed for result in results)
    print(f"\n{len(results) - failed} of {len(results)} checks of plugin {name!r} passed.")
    print("Not checked here: training and prediction. The plugin's own tests do that: `pytest` in its folder.")
    if failed:
        raise typer.Exit(1)


@app.command("new")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the task, e.g. my-task.")],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", "-f", help="Where to put it; default ./c2s-NAME.", show_default=False),
    ] = None,
) -> None:
    """Write a complete plugin: a small working task with prompts, reward, metric and passing tests."""
    from c2s.scaffold import new

    written = new(name, folder)
    print(f"Wrote {written}:")
    for path in sorted(p for p in written.rglob("*") if p.is_file()):
        print(f"  {path.relative_to(written)}")
    print(f"\nNext:\n  python -m pip install -e {written}\n  c2s plugins list\n  python -m pytest {written}")


def _host() -> PluginHost:
    """Return the default host with the commands of all plugins asked for, without printing warnings twice."""
    from c2s.cli import plugin_commands

    plugin_commands(report=False)
    return default_host()


def _registered(info: PluginInfo) -> dict[str, list[str]]:
    return {kind: info.registered[kind] for kind in (*KINDS, "commands") if info.registered.get(kind)}


def _facts(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "distribution": info.owner.distribution,
        "version": info.owner.version,
        "entry_point": info.value,
        "state": info.state,
        "registered": _registered(info),
        "problems": [str(problem) for problem in info.problems],
    }


def _entries(host: PluginHost, info: PluginInfo) -> dict[str, list[dict[str, str]]]:
    mine: dict[str, list[dict[str, str]]] = {}
    for kind, registry in host.registries().items():
        own = [entry for entry in registry.entries() if entry.owner == info.owner]
        if own:
            mine[kind] = [{"name": e.name, "target": e.where, "summary": e.summary} for e in own]
    return mine


def _tasks(host: PluginHost, info: PluginInfo) -> list[dict[str, Any]]:
    """Details of the plugin's tasks; this imports them."""
    import dataclasses

    from c2s.errors import C2SError

    details = []
    for name in info.registered.get("tasks", []):
        try:
            task = host.tasks.get(name)
            templates = len(host.prompts.get(task.prompts))
        except C2SError as error:
            print(f"Warning: {error}", file=sys.stderr)
            continue
        details.append(
            {
                "name": name,
                "title": task.title,
                "version": task.version,
                "paper section": task.paper_section or "-",
                "options": [
                    f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default!r}"
                    for f in dataclasses.fields(task)
                ],
                "prompts": f"{task.prompts} ({templates} templates)",
                "metrics": list(task.metrics),
                "rewards": list(task.rewards),
                "baselines": list(task.baselines),
            }
        )
    return details
