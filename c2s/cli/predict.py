"""``c2s predict``: a trained task on the cells of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c2s.command_options import Layer, Normalise, Strip, Symbols, how_to_read
from c2s.errors import ConfigError


def predict(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN.h5ad", help="The cells to predict; or gene sets, IN.gmt.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.h5ad", help="The same cells with predictions in obs.")],
    model: Annotated[Path, typer.Option(help="Folder of a model that `c2s train` wrote.")],
    task: Annotated[str | None, typer.Option(help="The task; must be the model's.")] = None,
    threshold: Annotated[float, typer.Option(help="Write 'unassigned' below this probability.")] = 0.0,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 ...")] = "auto",
    tokens_per_batch: Annotated[int | None, typer.Option(help="Tokens of prompts that run together.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Parquet only: a Ray cluster, or 'auto' to find one."),
    ] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="With --ray: models held at the same time.")] = None,
    gpus: Annotated[float, typer.Option(min=0, help="With --ray: GPUs of each model.")] = 0,
) -> None:
    """Predict a task's answer for every cell of a file.

    OUT.h5ad (or .zarr) is IN.h5ad with three more columns of obs: c2s_LABEL, c2s_LABEL_probability and
    c2s_LABEL_entropy. A cell without expressed genes, or below the threshold, is 'unassigned'.

    A Parquet table of cell sentences (c2s transform), or a folder of them, is predicted in parts, into a folder; a
    stopped run goes on, and --ray spreads the parts over a cluster.
    """
    from c2s.data.foreign import holds_cells

    how = how_to_read(layer, symbols, strip, normalise)
    if source.suffix == ".parquet" or (source.is_dir() and not holds_cells(source)):
        if how:
            given = [f"--{name} was given, and {source} holds cell sentences, not cells" for name in how]
            raise ConfigError("c2s predict", given, fix="leave it out, or give the cells.")
        _table(
            context,
            source,
            target,
            model,
            task,
            threshold,
            device,
            dtype,
            tokens_per_batch,
            ray,
            actors,
            gpus,
            overwrite,
        )
        return
    only = {"--ray": ray, "--actors": actors, "--gpus": gpus or None}
    if given := [f"{name} was given" for name, value in only.items() if value is not None]:
        raise ConfigError(
            "c2s predict",
            [f"{text}, and {source} is no Parquet table of cell sentences" for text in given],
            fix=f"c2s transform {source} cells.parquet; c2s predict cells.parquet predictions/ "
            f"--ray {ray or 'auto'}",
        )
    from c2s.cli.outputs import beside
    from c2s.cli.trained import load_trained
    from c2s.data import read_with_original, write_cells
    from c2s.files import CELLS, check_target
    from c2s.inference.predict import UNASSIGNED, write_predictions
    from c2s.prediction import predict_cells
    from c2s.provenance import RunRecord
    from c2s.training.pipeline import reading_of_training

    run_path = beside(target, "run.json")
    check_target(target, overwrite=overwrite, suffixes=CELLS, inputs=[source])
    check_target(run_path, overwrite=overwrite)
    record = RunRecord.of_command(context, run_path).start()
    how = reading_of_training(model, source) | how
    record.config |= how
    # The user's own file comes back as it was, with the columns added: neither normalised nor filtered.
    original, cells = read_with_original(source, **how)
    trained, the_task = load_trained(model, task, device=device, dtype=dtype)
    record.config["task"] = the_task.name
    record.ran_with(trained.model)
    predictions = predict_cells(
        trained,
        the_task,
        cells,
        threshold=threshold,
        tokens_per_batch=tokens_per_batch,
        show_progress=True,
    )
    column = the_task.output_column
    write_predictions(original, predictions, column)
    write_cells(original, target, overwrite=overwrite)
    record.add_data("cells", source, cells=cells.n_obs)
    record.overwrite = overwrite
    record.finish()
    counts = original.obs[column].value_counts()
    shown = ", ".join(f"{label} {n}" for label, n in counts.head(8).items())
    unassigned = int(counts.get(UNASSIGNED, 0))
    typer.echo(f"{original.n_obs} cells, {unassigned} unassigned -> {target} (obs[{column!r}])")
    typer.echo(f"{shown}{' ...' if len(counts) > 8 else ''}")


def _table(
    context: typer.Context,
    source: Path,
    target: Path,
    model: Path,
    task: str | None,
    threshold: float,
    device: str,
    dtype: str,
    tokens_per_batch: int | None,
    ray: str | None,
    actors: int | None,
    gpus: float,
    overwrite: bool,
) -> None:
    """Predict a table of cell sentences, part by part."""
    from c2s.cli.trained import load_trained
    from c2s.distributed import predict_table
    from c2s.provenance import RunRecord

    record = RunRecord.of_command(context, target / "run.json").start()
    _, the_task = load_trained(model, task, device="cpu")
    record.config["task"] = the_task.name
    found = predict_table(
        model,
        source,
        target,
        task=the_task,
        address=ray,
        actors=actors,
        gpus=gpus,
        threshold=threshold,
        tokens_per_batch=tokens_per_batch,
        device=device,
        dtype=dtype,
        overwrite=overwrite,
    )
    if found.parts_done or not (target / "run.json").exists():
        record.add_data("table", source, rows=found.rows, parts_done=found.parts_done)
        record.finish()
    typer.echo(f"{found.rows} cells in {len(found.files)} parts, {found.parts_done} of them done now -> {target}")
