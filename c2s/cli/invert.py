"""``c2s invert``: cell sentences in, expression out, row group by row group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from c2s.sentences import CellSentences, RankExpressionModel


def invert(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Sentences: what `c2s transform` wrote (.parquet).")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .h5ad file to write.")],
    model: Annotated[
        Path | None, typer.Option(help="Rank-expression model (.json) [default: the one inside IN].")
    ] = None,
    chunk_size: Annotated[int, typer.Option(min=1, help="Cells per chunk; changes memory only.")] = 16384,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
) -> None:
    """Turn cell sentences back into expression, by the linear model on log10 rank."""
    from c2s.cli.outputs import beside
    from c2s.errors import SentenceError
    from c2s.files import atomic_output, check_target
    from c2s.provenance import RunRecord
    from c2s.sentences import CellSentences, RankExpressionModel

    run_path = beside(target, "run.json")
    check_target(target, overwrite=overwrite, suffixes=[".h5ad"], inputs=[source])
    check_target(run_path, overwrite=overwrite)
    record = RunRecord.of_command(context, run_path, overwrite=overwrite).start()
    sentences = CellSentences.read_parquet(source)
    if model is not None:
        fitted = RankExpressionModel.load(model)
        record.add_data("model", model)
    elif "rank_expression_model" in sentences.provenance:
        record.config["model"] = f"the one inside {source}"
        fitted = RankExpressionModel.from_json(sentences.provenance["rank_expression_model"], where=str(source))
    else:
        raise SentenceError(
            f"{source} was made without a rank-expression model.",
            fix="run `c2s transform` again, which fits one, or name one with --model.",
        )
    with atomic_output(target, overwrite=overwrite) as temporary:
        report = write_inverse(temporary, sentences, fitted, chunk_size)
    record.add_data("sentences", source)
    record.finish()
    left_out = report["n_unknown"] + report["n_duplicate"] + report["n_malformed"]
    typer.echo(
        f"{report['n_sentences']} sentences -> {target}; {left_out} of {report['n_words']} words left out "
        f"({report['n_unknown']} unknown, {report['n_duplicate']} repeated, {report['n_malformed']} malformed)"
    )


def write_inverse(
    path: Path, sentences: CellSentences, model: RankExpressionModel, chunk_size: int
) -> dict[str, int]:
    """Write the expression of `sentences` as an ``.h5ad``, a chunk at a time; return the counts of words."""
    import h5py
    from anndata import AnnData
    from anndata.io import sparse_dataset, write_elem

    from c2s.progress import progress
    from c2s.sentences.table import storable

    report: dict[str, int] = {}
    genes = sentences.genes
    with h5py.File(path, "w") as file, progress("cells", len(sentences)) as advance:
        for start in range(0, max(1, len(sentences)), chunk_size):
            texts = sentences.table["cell_sentence"].slice(start, chunk_size)
            chunk = model.invert(texts, genes)
            if start == 0:
                write_elem(file, "/", AnnData(obs=storable(sentences.obs, "obs"), var=chunk.var))
                write_elem(file, "X", chunk.X)
            else:
                sparse_dataset(file["X"]).append(chunk.X)
            for key, value in chunk.uns["c2s"]["inverse"].items():
                if isinstance(value, int):
                    report[key] = report.get(key, 0) + value
            advance(len(texts))
        notes = {"inverse": {**report, "model": model.to_json()}, "scale": model.scale}
        write_elem(file, "uns", {"c2s": notes})
    return report
