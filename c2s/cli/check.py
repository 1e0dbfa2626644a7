"""``c2s check``: whether a file is ready, and what mends it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from c2s.command_options import Layer, Normalise, Strip, Symbols, how_to_read


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Cells of any format, or gene sets (.gmt).")],
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Say what a file of cells holds, what would be refused, and the options that mend it.

    The whole matrix is read, as c2s transform reads it. Exit code 1 if the file cannot be used as it is.
    """
    from c2s.data.check import check_file

    report = check_file(file, show_progress=not as_json, **how_to_read(layer, symbols, strip, normalise))
    if as_json:
        told = dataclasses.asdict(report) | {"commands": report.commands}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        typer.echo(str(report))
    if report.problems:
        raise typer.Exit(1)
