"""``c2s predict``: a trained task on the cells of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    source: Annotated[Path, typer.Argument(metavar="IN.h5ad", help="The cells to predict; or gene sets, IN.gmt.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.h5ad", help="The same cells with predictions in obs.")],
    model: Annotated[Path, typer.Option(help="Folder of a model that `c2s train` wrote.")],
    task: Annotated[str | None, typer.Option(help="The task; must be the model's.")] = None,
    threshold: Annotated[float, typer.Option(help="Write 'unassigned' below this probability.")] = 0.0,
    layer: Annotated[str | None, typer.Option(help="Layer to read instead of X; 'raw' reads adata.raw.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Column of var with gene symbols.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 ...")] = "auto",
    tokens_per_batch: Annotated[int | None, typer.Option(help="Tokens of prompts that run together.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.h5ad.")] = False,
) -> None:
    """Predict a task's answer for every cell of a file.

    OUT.h5ad is IN.h5ad with three more columns of obs: c2s_LABEL, c2s_LABEL_probability and c2s_LABEL_entropy.
    A cell without expressed genes, or below the threshold, is 'unassigned'.
    """
    import anndata as ad

    from c2s.cli.outputs import beside
    from c2s.cli.trained import load_trained
    from c2s.data import read_cells
    from c2s.data.gene_sets import is_gmt
    from c2s.files import atomic_output, refuse_existing
    from c2s.inference.predict import UNASSIGNED, write_predictions
    from c2s.prediction import predict_cells
    from c2s.provenance import RunRecord

    run_path = beside(target, "run.json")
    for path in (target, run_path):
        refuse_existing(path, overwrite=overwrite)
    record = RunRecord(run_path, config={"model": str(model), "task": task, "threshold": threshold}).start()
    cells = read_cells(source, layer=layer, symbols=symbols)
    trained, the_task = load_trained(model, task, device=device, dtype=dtype)
    predictions = predict_cells(
        trained,
        the_task,
        cells,
        threshold=threshold,
        tokens_per_batch=tokens_per_batch,
        show_progress=True,
    )
    # The user's own file comes back as it was, with the columns added: neither normalised nor filtered.
    # Gene sets have no such file, and come back as the table they were read into.
    if is_gmt(source):
        original = cells
    else:
        original = ad.read_zarr(source) if source.is_dir() else ad.read_h5ad(source)
    original.obs_names = original.obs_names.astype(str)
    column = the_task.output_column
    write_predictions(original, predictions, column)
    with atomic_output(target, overwrite=overwrite) as temporary:
        original.write_h5ad(temporary)
    record.add_data("cells", source)
    record.overwrite = overwrite
    record.finish()
    counts = original.obs[column].value_counts()
    shown = ", ".join(f"{label} {n}" for label, n in counts.head(8).items())
    unassigned = int(counts.get(UNASSIGNED, 0))
    typer.echo(f"{original.n_obs} cells, {unassigned} unassigned -> {target} (obs[{column!r}])")
    typer.echo(f"{shown}{' ...' if len(counts) > 8 else ''}")
