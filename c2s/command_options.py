"""Options of every command that reads cells, for the commands of the core and those of plugins alike."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Layer = Annotated[str | None, typer.Option(help="Layer to read instead of X; 'raw' reads adata.raw.")]
Symbols = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of var with gene symbols.")]
Strip = Annotated[
    list[str] | None,
    typer.Option(help="Take from the names of genes: genome (GRCh38_), version (.2) or ensembl; may be repeated."),
]
Normalise = Annotated[str, typer.Option(help="auto; always: take the values for counts; never: leave them.")]
Donor = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of obs that a split keeps whole.")]


def how_to_read(layer: str | None, symbols: str | None, strip: list[str] | None, normalise: str) -> dict[str, Any]:
    """Return what was given of these options, as keywords of `c2s.read_cells` and `c2s.load_dataset`."""
    given = {"layer": layer, "symbols": symbols, "strip": tuple(strip or ())}
    return {name: value for name, value in given.items() if value} | (
        {} if normalise == "auto" else {"normalise": normalise}
    )
