"""``c2s data``: which datasets there are, where they lie, and whether they are what they should be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from c2s.data.manifest import Manifest
    from c2s.data.store import Store
    from c2s.tasks import Dataset

app = typer.Typer(no_args_is_help=True, help="List, inspect, fetch and verify datasets.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a dataset, or a manifest (.yaml).")]
_OVERFLOW: dict[str, Any] = {"TITLE": "ellipsis"}
_PLACES = {"package": "here", "mirror": "in the mirror", "store": "in the store", "": "not here"}
_COLOURS = {"ok": "green", "recorded": "yellow", "absent": "dim", "refused": "bold red"}


@app.command("list")
def list_datasets(
    here: Annotated[bool, typer.Option("--here", help="Only those that need no download.")] = False,
    as_json: Json = False,
) -> None:
    """List the manifests, and at a glance which are here (`verify` reads the files)."""
    from c2s.data.catalogue import plugin_entries, shipped_manifests
    from c2s.data.store import store

    place = store()
    rows = []
    for name, manifest in shipped_manifests().items():
        where = _where(place, manifest)
        if not here or where in {"bundled", "mirror", "store", "simulated"}:
            rows.append({"name": name, "loader": manifest.loader, "where": where, "title": manifest.title})
    # What plugins bring is named without importing it; `info` and `verify` do.
    for entry in plugin_entries():
        where = f"plugin {entry.owner.plugin}"
        rows.append({"name": entry.name, "loader": "", "where": where, "title": entry.summary})
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = _table("NAME", "LOADER", "WHERE", "TITLE")
    for row in rows:
        table.add_row(*row.values())
    _print(table)
    print(
        f"\n{len(rows)} datasets. WHERE: bundled with a package; in the mirror or the store; simulated when used;"
    )
    print("fetch: can be downloaded; mirror only: put it into C2S_DATA_MIRROR; by hand: see `c2s data info NAME`.")


@app.command("info")
def info(name: Name, as_json: Json = False) -> None:
    """Show a manifest, and where its files are or will be."""
    from c2s.data.catalogue import dataset_without_manifest, find_manifest
    from c2s.data.store import store

    brought = dataset_without_manifest(name)
    if brought is not None:
        _info_of_plugin(*brought, as_json=as_json)
        return
    place, manifest = store(), find_manifest(name)
    if as_json:
        print(json.dumps(manifest.model_dump(), indent=2))
        return
    print(f"{manifest.name}: {manifest.title}")
    for key in (
        "citation",
        "doi",
        "licence",
        "homepage",
        "species",
        "matrix",
        "loader",
        "study",
        "layer",
        "symbols",
    ):
        value = getattr(manifest, key)
        if value is not None:
            print(f"  {key}: {value}")
    for key, words in (("overlaps", "overlaps"), ("fallbacks", "fallbacks, best first")):
        if getattr(manifest, key):
            print(f"  {words}: {', '.join(getattr(manifest, key))}")
    for standard, source in manifest.columns.items():
        print(f"  column {standard}: {source if isinstance(source, str) else f'always {source.value!r}'}")
    if manifest.note:
        print(f"  note: {manifest.note}")
    if manifest.simulation is not None:
        from c2s.data.simulated_files import simulated_path

        told = ", ".join(f"{key}={value!r}" for key, value in manifest.simulation.arguments.items())
        made = simulated_path(place.home, manifest)
        print(f"  simulated by: c2s.data.simulate.{manifest.simulation.function}({told})")
        print(f"  kept at: {made}{'' if made.is_file() else ' (made when it is first used)'}")
    for file in manifest.files:
        size = f"{file.bytes:,} bytes" if file.bytes else "size not known"
        where = place.whereabouts(manifest, file)
        print(f"  file {file.name} ({file.role}, {size}): {_PLACES[where]}")
        print(f"    sha256: {file.sha256 or f'not stated: {file.sha256_reason}'}")
        for url in file.urls:
            print(f"    {url}")
        if file.package is not None:
            print(f"    comes with: {file.package.partition(':')[0]}")
        elif file.urls or where == "store":
            print(f"    in the store: {place.place(manifest, file)}")
        elif not where and file.sha256:
            print("    no address: set C2S_DATA_MIRROR to a folder that holds it, under any name;")
            print(f"    or put it at {place.place(manifest, file)}")
        elif not where:
            print(f"    no address, and no sum to find it by in a mirror: put it at {place.place(manifest, file)}")


def _info_of_plugin(dataset: Dataset, plugin: str, *, as_json: bool) -> None:
    """Show what a plugin says of a dataset that has no manifest."""
    about = {
        "name": dataset.name,
        "title": dataset.title,
        "citation": dataset.citation,
        "licence": dataset.licence,
        "label": dataset.label,
        "plugin": plugin,
    }
    if as_json:
        print(json.dumps(about, indent=2))
        return
    print(f"{dataset.name}: {dataset.title}")
    for key in ("citation", "licence", "label", "plugin"):
        if about[key]:
            print(f"  {key}: {about[key]}")
    print("  no manifest: the plugin makes or finds it itself, by its name.")


@app.command("fetch")
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of datasets, or manifests (.yaml).")
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Fail rather than use a fallback.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget sums recorded at a first download, and download again.")
    ] = False,
) -> None:
    """Bring datasets here, verified; what is here already is not fetched again."""
    from c2s.data.catalogue import find_manifest
    from c2s.data.loaders import available
    from c2s.data.store import store

    place = store()
    wanted = [find_manifest(name) for name in names]
    for manifest in wanted:
        if forget:
            for file in manifest.files:
                if place.forget(manifest, file):
                    print(f"{manifest.name}: the recorded sum of {file.name} is forgotten.")
        used, paths = available(manifest, strict=strict, place=place)
        instead = "" if used.name == manifest.name else f" (instead: {used.name})"
        for path in paths.values():
            print(f"{manifest.name}{instead}: {path}")


@app.command("verify")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Default: everything that is here.")
    ] = None,
    load: Annotated[bool, typer.Option("--load", help="Also load each and check its columns.")] = False,
    as_json: Json = False,
) -> None:
    """Read the files that are here and compare their sums; downloads nothing.

    Exit code 1 if a file is corrupt, or if a dataset that was named is not here.
    """
    from c2s.data.catalogue import find_manifest, manifests
    from c2s.data.store import Verified, store

    place = store()
    wanted = [find_manifest(name) for name in names] if names else list(manifests().values())
    rows = [place.verify(manifest, file) for manifest in wanted for file in manifest.files]
    if names:
        rows += [
            Verified(manifest.name, "", "absent", None, "no file with a known address")
            for manifest in wanted
            if not manifest.files and not manifest.simulated
        ]
    failed = [row for row in rows if row.state == "refused" or (names and row.state == "absent")]
    shown = [row for row in rows if names or row.state != "absent"]
    loaded = _load(wanted, {row.dataset for row in rows if row.state in {"absent", "refused"}}) if load else {}
    if as_json:
        records = [
            {"dataset": r.dataset, "file": r.file, "state": r.state, "path": str(r.where or ""), "what": r.what}
            for r in rows
        ]
        print(json.dumps({"files": records, "loaded": loaded}, indent=2))
    else:
        from rich.markup import escape

        table = _table("DATASET", "FILE", "STATE", "WHAT")
        for row in shown:
            table.add_row(
                row.dataset, escape(row.file), f"[{_COLOURS[row.state]}]{row.state}[/]", escape(row.what)
            )
        for name, text in loaded.items():
            table.add_row(
                name, "(loaded)", "[red]failed[/]" if text.startswith("Error") else "[green]ok[/]", escape(text)
            )
        _print(table)
        absent = len(rows) - len(shown)
        good = sum(row.state in {"ok", "recorded"} for row in rows)
        print(
            f"\n{good} of {len(rows)} files are here and sound" + (f", {absent} are not here." if absent else ".")
        )
    if failed or any(text.startswith("Error") for text in loaded.values()):
        raise typer.Exit(1)


@app.command("path")
def path(
    name: Name,
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help="Which file, if it has several.")] = None,
) -> None:
    """Print the path of a file of a dataset, fetching it if needed; a fallback is never taken."""
    from c2s.data.catalogue import find_manifest
    from c2s.data.store import store

    place, manifest = store(), find_manifest(name)
    if manifest.simulated:
        print(next(iter(place.paths(manifest).values())))
        return
    print(place.path(manifest, file))


def _where(place: Store, manifest: Manifest) -> str:
    """Say in a word where a dataset is, or how it can be had."""
    if manifest.simulated:
        return "simulated"
    if not manifest.files:
        return "by hand"
    found = {place.whereabouts(manifest, file) for file in manifest.files}
    if "" not in found:
        return "bundled" if found == {"package"} else "mirror" if "mirror" in found else "store"
    if all(file.urls for file in manifest.files):
        return "fetch"
    return "mirror only" if all(file.sha256 or file.urls for file in manifest.files) else "by hand"


def _load(wanted: list[Manifest], missing: set[str]) -> dict[str, str]:
    """Load what is here; say what it is, or what is wrong with it."""
    from c2s.data.loaders import load_manifest
    from c2s.errors import C2SError

    said = {}
    for manifest in wanted:
        if manifest.name in missing or manifest.simulated or not manifest.files:
            continue
        try:
            found: Any = load_manifest(manifest, strict=True)
        except C2SError as error:
            said[manifest.name] = f"Error: {error}"
            continue
        if hasattr(found, "obs"):
            columns = ", ".join(column for column in manifest.columns if column in found.obs)
            rows = "wells" if manifest.matrix == "level3" else "cells"
            said[manifest.name] = f"{found.n_obs:,} {rows} x {found.n_vars:,} genes; {columns}"
        else:
            kinds = {"GeneSets": "gene sets", "DataFrame": "rows"}
            said[manifest.name] = f"{len(found):,} {kinds.get(type(found).__name__, 'files')}"
    return said


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Names are for copying: they are never broken.
        table.add_column(
            column, no_wrap=column in {"NAME", "DATASET", "TITLE"}, overflow=_OVERFLOW.get(column, "fold")
        )
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console()
    # Nothing is cut in a pipe or a file.
    (console if console.is_terminal else Console(width=200)).print(table)
