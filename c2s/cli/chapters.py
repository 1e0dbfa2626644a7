"""``c2s chapters``: list and run the executable chapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List and run the executable chapters.", no_args_is_help=True)


@app.command("list")
def list_chapters() -> None:
    """List the chapters, their titles and who ships them."""
    from c2s.plugins import default_host

    chapters = default_host().chapters
    names = chapters.names()
    width = max(map(len, names), default=0)
    for name in names:
        typer.echo(f"{name:<{width}}  {chapters.get(name).title}  [{chapters.owner(name)}]")


@app.command("run")
def run(
    name: Annotated[str, typer.Argument(help="Name of the chapter; see `c2s chapters list`.")],
    profile: Annotated[str, typer.Option(help="Size of the run: smoke, laptop or paper.")] = "laptop",
    parameter: Annotated[
        list[tuple[str, str]] | None,
        typer.Option("--parameter", "-p", metavar="NAME VALUE", help="Set a parameter; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results [default: out/NAME].")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing folder.")] = False,
) -> None:
    """Run a chapter; keep the executed notebook, its page, its figures and its results."""
    from c2s.chapters import run_chapter

    result = run_chapter(
        name, profile=profile, parameters=dict(parameter or []), out=out, overwrite=overwrite, show_progress=True
    )
    typer.echo(str(result))
