"""``c2s scaling``: train and measure models of many sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train and measure models of many sizes (section 4.4).")

Grid = Annotated[Path, typer.Argument(metavar="GRID.yaml", help="What is trained and measured; see grids/.")]


@app.callback()
def scaling() -> None:
    """Train and measure models of many sizes (section 4.4)."""


@app.command("run")
def run(
    context: typer.Context,
    grid: Grid,
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped grid goes on in it.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Run a grid: results.json, runs.csv, fits.csv, scaling.svg and results.parquet (every sample)."""
    import matplotlib as mpl

    from c2s.files import atomic_output
    from c2s.provenance import RunRecord
    from c2s.results import FILE
    from c2s.scaling import fit_results, load_grid, run_grid, tidy_results
    from c2s.scaling.figure import scaling_figure

    given = load_grid(grid)
    record = RunRecord.of_command(
        context, out.with_name(f"{out.resolve().name}.run.json"), config=given.model_dump(mode="json")
    )
    record.seeds["seeds"] = list(given.seeds)
    with record:
        results = run_grid(given, out, device=device)
        data = record.add_corpus(results.corpus)
        fits = fit_results(results)
        with atomic_output(out / "fits.csv", overwrite=True) as temporary:
            fits.to_csv(temporary, index=False)
        tidy_results(results, fits, inputs=record.data, data=data).to_json(out / FILE)
        mpl.use("agg")
        with atomic_output(out / "scaling.svg", overwrite=True) as temporary:
            scaling_figure(results).savefig(temporary)
    shown = fits.assign(exponent=[f"{r.exponent:.3f} ({r.low:.3f} to {r.high:.3f})" for r in fits.itertuples()])
    columns = ["way", "task", "metric", "first", "last", "exponent", "monotone", "n"]
    typer.echo(shown[columns].to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    typer.echo(
        f"Results: {out / FILE}, {out / 'results.parquet'}, {out / 'runs.csv'}, {out / 'fits.csv'}, "
        f"{out / 'scaling.svg'}"
    )


@app.command("plan")
def plan(
    grid: Grid,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sample; default the context, the most it can be.")
    ] = None,
) -> None:
    """Say what a grid would take: runs, tokens and operations; nothing is trained or read."""
    from c2s.scaling import load_grid, plan_grid

    table = plan_grid(load_grid(grid), tokens_per_sample=tokens)
    shown = table.assign(
        parameters=[f"{n / 1e6:,.2f} M" for n in table["parameters"]],
        tokens=[f"{n:,}" for n in table["tokens"]],
        flops=[f"{n:.2e}" for n in table["flops"]],
    )
    typer.echo(shown.to_string(index=False))
    typer.echo(f"{len(table)} runs, {table['tokens'].sum():,} tokens, {table['flops'].sum():.2e} operations.")
