"""``c2s evaluate``: how good a trained task is on cells it has not seen, next to baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c2s.command_options import Layer, Normalise, Strip, Symbols, how_to_read


def evaluate(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="Folder of a model that `c2s train` wrote.")],
    data: Annotated[str | None, typer.Option(help="A file or a name [default: the training data].")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results, predictions and the confusion matrix.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task; must be the model's.")] = None,
    part: Annotated[str, typer.Option(help="test, validation, or all (data not used for training).")] = "test",
    baselines: Annotated[
        str | None,
        typer.Option(help="Names separated by commas, or 'none' [default: the task's, for --part test]."),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Abstain below this probability.")] = 0.0,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
    n_bootstrap: Annotated[int, typer.Option(help="Resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the baselines.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing folder.")] = False,
) -> None:
    """Measure a trained model on held-out cells, with bootstrap intervals, next to baselines on the same cells.

    The most frequent answer is always among them.
    """
    from c2s.cli.fixes import fitted
    from c2s.cli.trained import load_trained
    from c2s.data import load_dataset
    from c2s.errors import ConfigError
    from c2s.files import check_target
    from c2s.plugins import default_host
    from c2s.prediction import evaluate_cells
    from c2s.provenance import RunRecord
    from c2s.results import ResultsTable

    if out is not None:
        check_target(out, overwrite=overwrite, inputs=[model])
    trained, the_task = load_trained(model, task, device=device, dtype=dtype)
    name = data or str(trained.data.get("name") or "")
    if not name:
        raise ConfigError("c2s evaluate", ["no data were named"], fix="pass --data FILE_OR_NAME.")
    host = default_host()
    how = trained.reading(name) | how_to_read(layer, symbols, strip, normalise)
    wanted = _baseline_names(baselines, the_task.baselines if part == "test" else ())
    record = None
    if out is not None:
        check_target(out, overwrite=overwrite, inputs=[name])
        record = RunRecord.of_command(
            context, out / "run.json", config={"data": name, "task": the_task.name, "baselines": wanted, **how}
        ).start()
        record.ran_with(trained.model)
    adata = load_dataset(name, **how)
    if record is not None:
        record.add_cells(name, adata)
    result = evaluate_cells(
        trained,
        the_task,
        adata,
        metrics=[host.metrics.get(metric) for metric in the_task.metrics],
        baselines=[host.baselines.get(baseline) for baseline in wanted],
        part=part,
        threshold=threshold,
        n_bootstrap=n_bootstrap,
        seed=seed,
        show_progress=True,
    )
    used = adata.uns.get("c2s", {})
    shown = f"{used['source']} (in place of {name})" if "instead_of" in used else name
    if out is not None and record is not None:  # before anything is printed, which may fail
        results = ResultsTable(the_task.title, source="c2s evaluate", inputs=record.data)
        result.save(
            out,
            overwrite=overwrite,
            results=result.fill(results, task=the_task.name, unit=f"examples, {part}", data=name),
        )
        record.overwrite = True
        record.finish()
    _print(result.table, f"{the_task.title}: {shown}, {part}, {len(result.predictions)} examples")
    typer.echo(fitted(result.note, {name for one in context.command.params for name in one.opts}))
    typer.echo(result.majority)
    for key, value in result.extra.items():
        typer.echo(f"{key}: {value:.4f}")
    if out is not None:
        typer.echo(f"results.json, predictions.parquet, confusion.csv -> {out}")


def _baseline_names(given: str | None, default: tuple[str, ...]) -> list[str]:
    if given is None:
        return list(default)
    return [] if given == "none" else [name.strip() for name in given.split(",") if name.strip()]


def _print(table: object, title: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table("predictor", "metric", "value", "95% interval", "n", title=escape(title))
    for row in table.itertuples():  # type: ignore[attr-defined]
        shown.add_row(
            escape(row.predictor), row.metric, f"{row.value:.4f}", f"{row.low:.3f}–{row.high:.3f}", str(row.n)
        )
    Console().print(shown)
