"""``c2s prompts``: the templates of the twelve pretraining tasks, and what they look like with real cells."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c2s.command_options import Layer, Strip, Symbols, how_to_read

if TYPE_CHECKING:
    from rich.text import Text

    from c2s.corpus.previews import Preview

app = typer.Typer(no_args_is_help=True, help="Show the prompts of the twelve pretraining tasks.")

Templates = Annotated[Path | None, typer.Option(help="Folder of template files of your own.")]


@app.callback()
def prompts() -> None:
    """Show the prompts of the twelve pretraining tasks."""


@app.command("list")
def list_prompts(templates: Templates = None) -> None:
    """List the tasks of table 1: what each shows, what it wants, and how many phrasings there are."""
    from c2s.corpus import corpus_tasks

    rows = [("TASK", "KIND", "PHRASINGS", "INPUT", "TARGET")]
    for task in corpus_tasks(templates).values():
        rows.append((task.name, task.kind, str(len(task.templates)), task.input, task.target))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        typer.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]))


@app.command("show")
def show(
    task: Annotated[str, typer.Argument(metavar="TASK", help="One of the tasks of `c2s prompts list`.")],
    data: Annotated[str, typer.Option(help="A dataset, or a gene set collection: a name or a file.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STANDARD=COLUMN", help="Column of obs that holds a standard column, e.g. donor_id=patient."
        ),
    ] = None,
    constant: Annotated[
        list[str] | None,
        typer.Option(metavar="STANDARD=VALUE", help="The same for every cell, e.g. tissue=blood."),
    ] = None,
    genes: Annotated[int, typer.Option(min=1, help="Genes of a cell at most.")] = 20,
    cells: Annotated[int, typer.Option(min=1, help="Cells of a multi-cell example.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Which cells.")] = 0,
    templates: Templates = None,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
) -> None:
    """Print one filled example for each template of a task."""
    from c2s.corpus import preview

    columns: dict[str, Any] = dict(_pair(text) for text in column or ())
    columns |= {name: {"value": value} for name, value in map(_pair, constant or ())}
    found = preview(
        task,
        data,
        columns=columns,
        genes=genes,
        cells=(cells, cells),
        seed=seed,
        templates=str(templates) if templates else None,
        **how_to_read(layer, symbols, strip, "auto"),
    )
    from rich.console import Console

    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    for example in found:
        console.print(f"[bold]{example.template}[/bold]", markup=True)
        console.print(_coloured("PROMPT  ", example.prompt, example))
        console.print(_coloured("ANSWER  ", example.answer, example))
        console.print()


def _pair(text: str) -> tuple[str, str]:
    from c2s.errors import ConfigError

    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ConfigError(
            "c2s prompts show", [f"{text!r} is not NAME=VALUE"], fix="write --column donor_id=patient."
        )
    return name, value


def _coloured(head: str, body: str, example: Preview) -> Text:
    """Colour what was filled in: genes green, everything else that is known of the cells blue."""
    from rich.text import Text

    text = Text(head, style="dim") + Text(body, style="")
    for field, value in example.values.items():
        if value.strip():
            text.highlight_words([value.strip()], style="green" if field.startswith("genes ") else "cyan")
    return text
