"""``c2s embed`` and ``c2s embedding-report``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from c2s.command_options import Layer, Normalise, Strip, Symbols, how_to_read


def embed(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="Cells (.h5ad, .zarr, .h5 of 10x, .loom, .csv), or texts, one a line (.txt)."
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT.h5ad", help="The cells with their vectors in obsm.")],
    model: Annotated[str, typer.Option(help="A model folder, a preset or a downloaded model.")],
    key: Annotated[str | None, typer.Option(help="Where the vectors go: obsm[KEY]; default X_c2s.")] = None,
    template: Annotated[
        str | None, typer.Option(help="Prompt with {cell_sentence} and columns of obs; default as trained.")
    ] = None,
    genes: Annotated[
        int | None, typer.Option(min=1, help="Genes of a sentence at most; default as trained.")
    ] = None,
    samples: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Embed samples of cells that share these columns.")
    ] = None,
    cells: Annotated[
        str | None, typer.Option(help="With --samples: fewest and most cells of a sample; default 5-20.")
    ] = None,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
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
    from c2s.files import CELLS, check_target

    texts = source.suffix == ".txt"
    of_cells: dict[str, object] = {"--key": key}
    how = how_to_read(layer, symbols, strip, normalise)
    of_both: dict[str, object] = {"--template": template, "--genes": genes}
    of_both |= {f"--{name}": value for name, value in how.items()}
    if texts:
        _refuse("texts", of_cells | of_both | {"--samples": samples, "--cells": cells})
    elif samples is not None:
        _refuse("samples, whose vectors are X", of_cells)
    else:
        _refuse("single cells", {"--cells": cells})
    run_path = target.with_suffix(".run.json")
    check_target(target, overwrite=overwrite, suffixes=CELLS, inputs=[source])
    check_target(run_path, overwrite=overwrite)

    # What follows takes seconds to import.
    from c2s.provenance import RunRecord
    from c2s.training.pipeline import reading_of_training
    from c2s_embedding.files import embed_file, embed_samples_file, embed_texts_file

    how = how if texts else reading_of_training(model, source) | how
    key = key or "X_c2s"
    if samples is not None:
        cells = cells or "5-20"
    record = RunRecord.of_command(
        context, run_path, config={"key": key, "cells": cells, **how}, overwrite=overwrite
    ).start()
    place = {"device": device, "dtype": dtype}
    usual = {"tokens_per_batch": tokens_per_batch, "overwrite": overwrite, "record": record, **place}
    if texts:
        found = embed_texts_file(source, target, model, **usual)  # type: ignore[arg-type]
        told = f"{found.n_obs} texts x {found.n_vars} dimensions -> {target}"
    elif samples is not None:
        from c2s.splits import column_names

        columns = list(column_names(samples))
        found = embed_samples_file(
            source,
            target,
            model,
            within=columns,
            n_cells=_range(str(cells)),
            template=template,
            top_k=genes,
            reading=how,
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
            reading=how,
            **usual,  # type: ignore[arg-type]
        )
        told = f"{found.n_obs} cells x {found.obsm[key].shape[1]} dimensions -> {target} (obsm[{key!r}])"
    record.add_data("source", source)
    record.finish()
    typer.echo(told)


def embedding_report(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="Name of a dataset, or a file of cells, with donors.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables; must not exist.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Compare the vectors of this model; may be given several times.")
    ] = None,
    embedders: Annotated[str, typer.Option(help="Registered embedders, with commas.")] = "pca,hvg",
    label: Annotated[str, typer.Option(help="Column of obs with the cell type.")] = "cell_type",
    donor: Annotated[str, typer.Option(help="Column of obs with the donor.")] = "donor_id",
    batch: Annotated[str | None, typer.Option(help="Column of obs with the batch, if there is one.")] = None,
    genes: Annotated[
        int | None, typer.Option(min=1, help="Genes of a sentence at most; default as trained.")
    ] = None,
    cells: Annotated[int, typer.Option(help="Cells drawn from each pseudo-bulk sample.")] = 10,
    max_cells: Annotated[int, typer.Option(help="Compare on so many cells of each half at most; 0 for all.")] = 0,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the halves, the draws and the fits.")] = 0,
    n_bootstrap: Annotated[int, typer.Option(min=1, help="Resamplings behind each interval.")] = 1000,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="EMBEDDER.NAME=VALUE", help="Option of an embedder: scgpt.model=FOLDER."),
    ] = None,
) -> None:
    """Compare embedders: labels carried to unseen donors, silhouettes, and cells finding their pseudo-bulk sample.

    Writes OUT/results.json, OUT/cells.parquet, OUT/pairs.parquet and OUT/run.json.
    """
    from c2s import default_host, load_dataset
    from c2s.errors import ConfigError
    from c2s.files import atomic_output, check_target, short_names
    from c2s.provenance import RunRecord
    from c2s.results import FILE, ResultsTable
    from c2s_embedding.bulk import pseudo_bulk
    from c2s_embedding.compare import compare_embedders
    from c2s_embedding.files import Reader

    check_target(out, fix="choose another folder (--out).")
    wanted = [name for name in map(str.strip, embedders.split(",")) if name]
    # An embedder and a folder of its name are two things.
    models = [f"./{name}" if name in wanted else name for name in model or []]
    places = [*wanted, *(os.path.realpath(name) for name in models)]
    if twice := [name for i, name in enumerate([*wanted, *models]) if places[i] in places[:i]]:
        raise ConfigError(
            "c2s embedding-report", [f"{name!r} is given twice" for name in twice], fix="leave one out."
        )
    shown = short_names([*wanted, *models])
    options = _embedder_options(option or [], wanted)
    record = RunRecord.of_command(context).start()
    adata = load_dataset(data, label=label, **how_to_read(layer, symbols, strip, normalise))
    record.add_cells(data, adata)
    host = default_host()
    chosen = {name: host.embedders.get(name) for name in wanted}
    by = (donor, label, batch) if batch else (donor, label)
    readers = {shown[name]: Reader(name, top_k=genes) for name in models}
    if readers:
        samples = pseudo_bulk(adata, by=by)
        record.config["wordings"] = {name: one.settle(adata, samples).wording for name, one in readers.items()}
        record.config["genes"] = {name: one.genes for name, one in readers.items()}
        record.config["models"] = {shown[name]: name for name in models}

    def fit_by(name: str) -> Any:
        return lambda train, seed: chosen[name].fitted(train, seed=seed, **options[name])

    def read_by(name: str) -> Any:
        return lambda train, seed: readers[name]

    fits = {name: fit_by(name) for name in chosen} | {name: read_by(name) for name in readers}
    report = compare_embedders(
        adata, fits, label=label, donor=donor, by=by, n_cells=cells, max_cells=max_cells, seed=seed
    )
    table = report.summary(n_bootstrap=n_bootstrap, seed=seed)
    results = ResultsTable("Embedders side by side", source="c2s embedding-report", inputs=record.data)
    for embedder, measure, value, low, high, n in table.itertuples(index=False):
        unit = "pairs" if str(measure).startswith("foscttm") else "cells"
        numbers = {"low": low, "high": high, "n": n}
        results.add(measure, value, predictor=embedder, unit=unit, data=data, note=report.note, **numbers)
    with atomic_output(out) as temporary:
        temporary.mkdir()
        results.to_json(temporary / FILE)
        report.cells.to_parquet(temporary / "cells.parquet")
        report.pairs.to_parquet(temporary / "pairs.parquet")
        (temporary / "run.json").write_text(record.finish().to_json())
    typer.echo(report.note)
    typer.echo(table.round(4).to_string(index=False))


def _refuse(what: str, given: Mapping[str, object]) -> None:
    """Refuse options that have no meaning here, rather than ignore them."""
    from c2s.errors import ConfigError

    problems = [f"{name} has no meaning for {what}" for name, value in given.items() if value is not None]
    if problems:
        raise ConfigError("c2s embed", problems, fix="leave it out; `c2s embed --help` says what it is for.")


def _embedder_options(pairs: list[str], embedders: list[str]) -> dict[str, dict[str, Any]]:
    """Read ``EMBEDDER.NAME=VALUE`` pairs; whether an embedder knows the name, it says itself."""
    import yaml

    from c2s.errors import ConfigError

    options: dict[str, dict[str, Any]] = {name: {} for name in embedders}
    problems = []
    for pair in pairs:
        place, equals, value = pair.partition("=")
        embedder, dot, name = place.partition(".")
        if not equals or not dot or not name:
            problems.append(f"{pair!r} is not EMBEDDER.NAME=VALUE")
        elif embedder not in options:
            problems.append(f"{embedder!r} is none of the embedders that are compared")
        else:
            try:
                options[embedder][name] = yaml.safe_load(value)
            except yaml.YAMLError:
                problems.append(f"the value of {pair!r} is not readable")
    if problems:
        raise ConfigError("--option", problems, fix="--embedders pca,scgpt --option scgpt.model=FOLDER")
    return options


def _range(text: str) -> tuple[int, int]:
    from c2s.errors import ConfigError

    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise ConfigError("c2s embed", [f"--cells {text} is no range"], fix="write --cells 5-20.") from None
