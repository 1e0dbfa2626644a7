"""``c2s embed`` and ``c2s embedding-report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def embed(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Cells (.h5ad, .zarr), or texts, one a line (.txt).")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT.h5ad", help="The cells with their vectors in obsm.")],
    model: Annotated[str, typer.Option(help="A model folder, a preset or a downloaded model.")],
    key: Annotated[str, typer.Option(help="Where the vectors go: obsm[KEY].")] = "X_c2s",
    template: Annotated[
        str | None, typer.Option(help="Prompt with {cell_sentence} and columns of obs; default as trained.")
    ] = None,
    genes: Annotated[int | None, typer.Option(help="Genes of a sentence at most; default as trained.")] = None,
    samples: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Embed samples of cells that share these columns.")
    ] = None,
    cells: Annotated[str, typer.Option(help="With --samples: fewest and most cells of a sample.")] = "5-20",
    layer: Annotated[str | None, typer.Option(help="Layer to read instead of X; 'raw' reads adata.raw.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Column of var with gene symbols.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="With --samples: who is dealt with whom.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 ...")] = "auto",
    tokens_per_batch: Annotated[int | None, typer.Option(help="Tokens that run together.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.h5ad, and obsm[KEY].")] = False,
) -> None:
    """Embed cells, samples or texts with a language model (section 4.6.3).

    OUT.h5ad is IN.h5ad with the mean last hidden state of each cell's prompt in obsm['X_c2s']. A run that was
    stopped goes on when the same command is given again. With --samples donor_id,tissue, or for a .txt, OUT.h5ad
    holds one row per sample or text.
    """
    from c2s.files import refuse_existing
    from c2s.provenance import RunRecord
    from c2s_embedding.files import embed_file, embed_samples_file, embed_texts_file

    run_path = target.with_suffix(".run.json")
    refuse_existing(run_path, overwrite=overwrite)
    config = {"model": model, "template": template, "genes": genes, "samples": samples, "key": key}
    record = RunRecord(run_path, config=config, seeds={"seed": seed}, overwrite=overwrite).start()
    place = {"device": device, "dtype": dtype}
    usual = {"tokens_per_batch": tokens_per_batch, "overwrite": overwrite, **place}
    if source.suffix == ".txt":
        found = embed_texts_file(source, target, model, **usual)  # type: ignore[arg-type]
        told = f"{found.n_obs} texts x {found.n_vars} dimensions -> {target}"
    elif samples is not None:
        columns = [column.strip() for column in samples.split(",") if column.strip()]
        found = embed_samples_file(
            source,
            target,
            model,
            within=columns,
            n_cells=_range(cells),
            template=template,
            top_k=genes,
            layer=layer,
            symbols=symbols,
            seed=seed,
            **usual,  # type: ignore[arg-type]
        )
        told = f"{found.n_obs} samples by {', '.join(columns)} x {found.n_vars} dimensions -> {target}"
    else:
        found = embed_file(
            source,
            target,
            model,
            key=key,
            template=template,
            top_k=genes,
            layer=layer,
            symbols=symbols,
            **usual,  # type: ignore[arg-type]
        )
        told = f"{found.n_obs} cells x {found.obsm[key].shape[1]} dimensions -> {target} (obsm[{key!r}])"
    record.add_data("source", source)
    record.finish()
    typer.echo(told)


def embedding_report(
    data: Annotated[str, typer.Argument(help="Name of a dataset, or a file of cells, with donors.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; must not exist.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Compare the vectors of this model; may be given several times.")
    ] = None,
    embedders: Annotated[str, typer.Option(help="Registered embedders, with commas.")] = "pca,hvg",
    label: Annotated[str, typer.Option(help="Column of obs with the cell type.")] = "cell_type",
    donor: Annotated[str, typer.Option(help="Column of obs with the donor.")] = "donor_id",
    batch: Annotated[str | None, typer.Option(help="Column of obs with the batch, if there is one.")] = None,
    genes: Annotated[int, typer.Option(help="Genes of a sentence at most.")] = 200,
    cells: Annotated[int, typer.Option(help="Cells drawn from each pseudo-bulk sample.")] = 10,
    max_cells: Annotated[int, typer.Option(help="Compare on so many cells of each half at most; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the halves, the draws and the fits.")] = 0,
    n_bootstrap: Annotated[int, typer.Option(min=1, help="Resamplings behind each interval.")] = 1000,
) -> None:
    """Compare embedders: labels carried to unseen donors, silhouettes, and cells finding their pseudo-bulk sample.

    Writes OUT/embeddings.csv, OUT/cells.parquet, OUT/pairs.parquet and OUT/run.json.
    """
    from c2s import default_host, load_dataset, load_model
    from c2s.files import atomic_output, refuse_existing
    from c2s.provenance import RunRecord
    from c2s_embedding.compare import compare_embedders
    from c2s_embedding.vectors import embed_cells

    refuse_existing(out)
    settings: dict[str, object] = {
        "embedders": embedders,
        "model": model or [],
        "label": label,
        "donor": donor,
        "batch": batch,
    }
    settings |= {"genes": genes, "cells": cells, "max_cells": max_cells, "n_bootstrap": n_bootstrap}
    record = RunRecord(config=settings, seeds={"seed": seed}).start()
    adata = load_dataset(data, label=label)
    record.add_cells(data, adata)
    host = default_host()
    chosen = {name: host.embedders.get(name) for name in map(str.strip, embedders.split(",")) if name}

    def read_by(name: str) -> object:
        loaded = load_model(name)
        return lambda train, seed: lambda cells: embed_cells(loaded, cells, top_k=genes)

    fits = {name: (lambda train, seed, e=e: e.fitted(train, seed=seed)) for name, e in chosen.items()}
    fits |= {Path(name).name: read_by(name) for name in model or []}  # type: ignore[misc]
    by = (donor, label, batch) if batch else (donor, label)
    report = compare_embedders(
        adata, fits, label=label, donor=donor, by=by, n_cells=cells, max_cells=max_cells, seed=seed
    )
    table = report.summary(n_bootstrap=n_bootstrap, seed=seed)
    with atomic_output(out) as temporary:
        temporary.mkdir()
        table.to_csv(temporary / "embeddings.csv", index=False)
        report.cells.to_parquet(temporary / "cells.parquet")
        report.pairs.to_parquet(temporary / "pairs.parquet")
        (temporary / "run.json").write_text(record.finish().to_json())
    typer.echo(report.note)
    typer.echo(table.round(4).to_string(index=False))


def _range(text: str) -> tuple[int, int]:
    from c2s.errors import ConfigError

    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise ConfigError("c2s embed", [f"--cells {text} is no range"], fix="write --cells 5-20.") from None
