"""``c2s chapters``: list and run the executable chapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

app = typer.Typer(help="List and run the executable chapters.", no_args_is_help=True)


class PairedParameters(typer.core.TyperCommand):
    """Reads ``-p NAME VALUE`` as papermill does; typer knows repeated options of one value only."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two words after ``-p``."""
        joined: list[str] = []
        words = iter(args)
        for word in words:
            joined.append(word)
            if word in {"-p", "--parameter"}:
                pair = [next(words, None), next(words, None)]
                if None in pair:
                    raise typer.BadParameter("it takes a name and a value, e.g. -p top_k 100.", param_hint=word)
                joined.append("=".join(str(part) for part in pair))
        parsed: list[str] = super().parse_args(ctx, joined)
        return parsed


@app.command("list")
def list_chapters() -> None:
    """List the chapters, their titles and who ships them."""
    from c2s.plugins import default_host

    chapters = default_host().chapters
    names = chapters.names()
    width = max(map(len, names), default=0)
    for name in names:
        typer.echo(f"{name:<{width}}  {chapters.get(name).title}  [{chapters.owner(name)}]")


@app.command("run", cls=PairedParameters)
def run(
    name: Annotated[str, typer.Argument(help="Name of the chapter; see `c2s chapters list`.")],
    profile: Annotated[str, typer.Option(help="Size of the run: smoke, laptop or paper.")] = "laptop",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME VALUE", help="Set a parameter; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results [default: out/NAME].")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing folder.")] = False,
) -> None:
    """Run a chapter; keep the executed notebook, its page, its figures and its results."""
    from c2s.chapters import run_chapter

    parameters: dict[str, str] = {}
    for pair in parameter or []:
        key, _, value = pair.partition("=")
        if key in parameters:
            raise typer.BadParameter(f"{key} is given twice; a list is one value: -p {key} a,b.", param_hint="-p")
        parameters[key] = value
    result = run_chapter(
        name, profile=profile, parameters=parameters, out=out, overwrite=overwrite, show_progress=True
    )
    typer.echo(str(result))
