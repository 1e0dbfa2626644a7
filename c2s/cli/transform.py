"""``c2s transform``: cells in, cell sentences out, chunk by chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from c2s.command_options import Layer, Normalise, Strip, Symbols, how_to_read


def transform(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Cells (.h5ad, .zarr, .h5 of 10x, .loom, .csv).")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .parquet file to write.")],
    genes: Annotated[int | None, typer.Option(help="Genes to keep of each cell [default: all].")] = None,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    tie_break: Annotated[str, typer.Option(help="Order of equal values: gene or random.")] = "gene",
    seed: Annotated[int, typer.Option(help="For random ties, and for the cells the model is scored on.")] = 0,
    uppercase: Annotated[bool, typer.Option("--uppercase", help="Upper-case the symbols.")] = False,
    normalise: Normalise = "auto",
    min_genes: Annotated[int, typer.Option(help="Leave out cells with fewer genes (reads all at once).")] = 0,
    min_cells: Annotated[int, typer.Option(help="Leave out genes in fewer cells (reads all at once).")] = 0,
    model: Annotated[bool, typer.Option(help="Fit the rank-expression model, for `c2s invert`.")] = True,
    chunk_size: Annotated[int | None, typer.Option(help="Cells per chunk; changes memory and speed only.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
) -> None:
    """Turn cells into cell sentences (section 4.2 of the paper).

    Beside OUT.parquet come OUT.rank-expression.json, the model that turns sentences back into expression, and
    OUT.run.json, which says how they were made.
    """
    from c2s.cli.outputs import beside
    from c2s.data import read_cells
    from c2s.errors import ConfigError
    from c2s.files import atomic_output, check_target
    from c2s.provenance import RunRecord
    from c2s.sentences import RankExpressionModel, SentenceStream
    from c2s.sentences.table import ParquetSink

    model_path, run_path = beside(target, "rank-expression.json"), beside(target, "run.json")
    check_target(target, overwrite=overwrite, suffixes=[".parquet"], inputs=[source])
    for path in (model_path, run_path) if model else (run_path,):
        check_target(path, overwrite=overwrite)
    if genes is not None and genes < 1:
        raise ConfigError("c2s transform", [f"--genes {genes} is below 1"], fix="pass --genes 200, say.")
    record = RunRecord.of_command(context, run_path).start()
    backed = not (min_genes or min_cells)
    adata = read_cells(
        source,
        **how_to_read(layer, symbols, strip, normalise),
        min_genes=min_genes,
        min_cells=min_cells,
        backed=backed,
    )
    expects: Literal["normalised", "any"] = "any" if normalise == "never" else "normalised"
    stream = SentenceStream(
        adata,
        top_k=genes,
        tie_break=tie_break,  # type: ignore[arg-type]
        seed=seed,
        uppercase=uppercase,
        expects=expects,
        chunk_size=chunk_size,
    )
    with atomic_output(target, overwrite=overwrite) as temporary:
        with ParquetSink(temporary, stream.schema) as sink:
            for batch in stream.batches(show_progress=True):
                sink.write(batch)
            provenance = stream.provenance()
            if model:
                fitted = RankExpressionModel.fit(
                    adata, top_k=genes, seed=seed, expects=expects, chunk_size=chunk_size
                )
                provenance["rank_expression_model"] = fitted.to_json()
            sink.finish(stream.vocabulary(), provenance)
        if model:
            fitted.save(model_path, overwrite=overwrite)
    told = {key: adata.uns["c2s"][key] for key in ("matrix_kind", "done")}
    record.add_data("cells", source, cells=stream.n_cells, **told)
    record.overwrite = overwrite
    record.finish()
    typer.echo(f"{stream.n_cells} cells ({adata.uns['c2s']['matrix_kind']}) -> {target}")
    if model:
        typer.echo(str(fitted))
