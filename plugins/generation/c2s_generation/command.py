"""``c2s generate``: cells of given conditions, written by a trained model into an ``.h5ad`` file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c2s.command_options import Layer, Normalise, Strip, Symbols, how_to_read

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s import RankExpressionModel
    from c2s.provenance import RunRecord
    from c2s.training import TaskModel
    from c2s_generation.cells import GenerationTask


def generate(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="OUT.h5ad", help="The cells that are written.")],
    model: Annotated[Path, typer.Option(help="Folder of a model trained on a task of generation.")],
    n: Annotated[int, typer.Option(help="Cells of the condition; samples, for a task of samples.")] = 100,
    cell_type: Annotated[str | None, typer.Option(help="Condition cell_type; of a sample, with commas.")] = None,
    tissue: Annotated[str | None, typer.Option(help="Condition tissue.")] = None,
    abstract: Annotated[
        str | None, typer.Option(help="Condition abstract: a text, or a file that holds it.")
    ] = None,
    condition: Annotated[
        list[str] | None, typer.Option("--condition", metavar="NAME=VALUE", help="Any condition of the model.")
    ] = None,
    cells: Annotated[
        int | None, typer.Option(help="Cells per sample, for a task of samples; 5 if not given.")
    ] = None,
    genes: Annotated[int | None, typer.Option(help="Genes per cell; default as trained.")] = None,
    temperature: Annotated[float, typer.Option(help="0: the likeliest gene each time; 1: as learned.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest genes that hold this share.")] = 1.0,
    free: Annotated[bool, typer.Option("--free", help="Let the model write any word, and any number.")] = False,
    data: Annotated[
        str | None,
        typer.Option(help="The training data, for genes and expression; default those it was trained on."),
    ] = None,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
    inverse: Annotated[
        Path | None, typer.Option(help="A rank-expression model (c2s transform), instead of the training data.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.h5ad.")] = False,
) -> None:
    """Write cells of given conditions.

    Answers are kept in OUT.answers.jsonl while they come. A run that was stopped goes on from there when the same
    command is given again; when OUT.h5ad is whole, they are removed.
    """
    from c2s.data import write_cells
    from c2s.errors import ConfigError
    from c2s.files import CELLS, check_target
    from c2s.provenance import RunRecord
    from c2s_generation.writing import Wanted, generate_cells

    how = how_to_read(layer, symbols, strip, normalise)
    if inverse is not None and how:
        raise ConfigError(
            "c2s generate",
            [f"--{name} is given, but --inverse reads no cells" for name in how],
            fix="leave it out, or give the cells with --data.",
        )
    if data is not None and inverse is not None:
        raise ConfigError(
            "c2s generate",
            ["--data and --inverse are both given, but genes and expression come from one of them"],
            fix="leave out --data to use the fitted model, or --inverse to fit one on the data.",
        )
    run_path, partial = target.with_suffix(".run.json"), target.with_suffix(".answers.jsonl")
    check_target(target, overwrite=overwrite, suffixes=CELLS, inputs=[data] if data else [])
    check_target(run_path, overwrite=overwrite)
    named = {"cell_type": cell_type, "tissue": tissue, "abstract": abstract}
    conditions = _conditions(condition or [], (), **named)
    settings = {"conditions": conditions, "constrained": not free}
    record = RunRecord.of_command(context, run_path, config=settings, overwrite=overwrite).start()
    trained, task = _load(model, device)
    record.ran_with(trained.model)
    used = [model, inverse, trained.data.get("name")]
    check_target(target, overwrite=overwrite, inputs=[path for path in used if path])
    conditions = _conditions(condition or [], task.conditions, **named)
    record.config["genes"] = trained.top_k if genes is None else genes
    record.config["cells"] = per_sample = _cells_per_sample(task, cells)
    fitted, names, asked = _expression(trained, task, data, how, inverse, conditions, record)
    record.config["conditions"] = asked
    target.parent.mkdir(parents=True, exist_ok=True)  # for the answers so far
    written = generate_cells(
        trained,
        task,
        [Wanted(asked, n=n) if per_sample is None else Wanted(asked, n=n, n_cells=per_sample)],
        inverse=fitted,
        genes=names,
        n_genes=genes,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        constrained=not free,
        partial=partial,
        show_progress=True,
    )
    write_cells(written, target, overwrite=overwrite)
    record.finish()
    for path in [partial, *target.parent.glob(f"{target.stem}.answers.cell*.jsonl")]:
        path.unlink(missing_ok=True)
    words = max(int(written.obs["n_words"].sum()), 1)
    typer.echo(f"{written.n_obs} cells of {written.n_vars} genes -> {target}; they are generated, not measured.")
    typer.echo(
        f"Of {words} words {written.obs['n_unknown'].sum()} are no gene of the training cells and "
        f"{written.obs['n_repeated'].sum()} are repeated."
    )


def _conditions(pairs: list[str], known: Sequence[str] = (), **named: str | None) -> dict[str, str]:
    """Gather the conditions; an abstract may be in a file, and a name that is known may hold equal signs."""
    from c2s.errors import ConfigError

    found = {name: value for name, value in named.items() if value is not None}
    # Path.is_file raises where a text is too long for the name of a file.
    if "abstract" in found and os.path.isfile(found["abstract"]):  # noqa: PTH113
        found["abstract"] = " ".join(Path(found["abstract"]).read_text(encoding="utf-8").split())
    problems = []
    for pair in pairs:
        begins = max((name for name in known if pair.startswith(f"{name}=")), key=len, default="")
        name, equals, value = (begins, "=", pair[len(begins) + 1 :].strip()) if begins else _parted(pair)
        if not (name and equals and value):
            problems.append(f"{pair!r} is not NAME=VALUE")
        elif name in found:
            problems.append(f"the condition {name!r} is given twice")
        else:
            found[name] = value
    if problems:
        raise ConfigError("--condition", problems, fix="--condition cell_type='B cell' --condition tissue=blood")
    return found


def _parted(pair: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in pair.partition("="))


def _load(folder: Path, device: str) -> tuple[TaskModel, GenerationTask]:
    from c2s import default_host
    from c2s.errors import ModelError
    from c2s.training import TaskModel
    from c2s_generation.cells import GenerationTask

    trained = TaskModel.load(folder, device=device)
    host = default_host()
    found = host.tasks.get(trained.task_name) if trained.task_name in host.tasks.names() else None
    if found is None or not issubclass(found, GenerationTask):
        raise ModelError(
            f"the model {folder} was trained on {trained.task_name!r}, which does not write cells.",
            fix="train one: c2s train sft --task conditional-cell-generation --data DATA --model tiny --out DIR",
        )
    task = found.from_options(trained.options)
    assert isinstance(task, GenerationTask)
    return trained, task


def _cells_per_sample(task: GenerationTask, cells: int | None) -> int | None:
    """Return how many cells a sample gets; None where the task, or the list of its cells, says it."""
    from c2s.errors import ConfigError
    from c2s_generation.samples import SampleTask

    if isinstance(task, SampleTask) and not task.told_per_cell:
        return 5 if cells is None else cells
    if cells is None:
        return None
    if isinstance(task, SampleTask):
        listed = " and ".join(task.conditions)
        problem = (
            f"--cells is given, but a model of {task.name!r} writes one cell for each {listed} that is listed"
        )
        fix = f"leave out --cells and list as many as you want, e.g. --condition {task.conditions[0]}='A, B, B'."
    else:
        problem = f"--cells is given, but a model of {task.name!r} writes single cells, not samples"
        fix = "leave out --cells; --n says how many cells are written."
    raise ConfigError("c2s generate", [problem], fix=fix)


def _expression(
    trained: TaskModel,
    task: GenerationTask,
    data: str | None,
    how: dict[str, Any],
    inverse: Path | None,
    conditions: dict[str, str],
    record: RunRecord,
) -> tuple[RankExpressionModel, list[str] | None, dict[str, str | list[str]]]:
    """Return what makes expression of ranks, the genes of the result, and the conditions (see `_asked`).

    Fitted on the model's training cells, or on other cells that were asked for, unless a fitted model is given:
    then genes are those of the model.
    """
    import warnings

    from c2s import RankExpressionModel, load_dataset, to_cell_sentences
    from c2s.errors import C2SError, C2SWarning, ConfigError, ObsError
    from c2s.prediction import known_words

    if inverse is not None:
        record.add_data("inverse", inverse)
        return RankExpressionModel.load(inverse), None, _asked(task, conditions, {}, {})
    name = data or str(trained.data.get("name") or "")
    fix = "pass --data DATA, or --inverse FILE (c2s transform writes one)."
    if not name:
        raise ConfigError("c2s generate", ["the model does not say what it was trained on"], fix=fix)
    how = trained.reading(name) | how
    record.config |= how
    try:
        adata = load_dataset(name, **how)
    except C2SError as error:
        raise ConfigError(
            "c2s generate", [f"the training data {name} are not to be had: {error.problem.rstrip('.')}"], fix=fix
        ) from error
    record.add_cells(name, adata)
    sentences = to_cell_sentences(adata, top_k=trained.top_k)
    known_words(sentences, trained.genes, then="tell little of what the model writes")
    seen = adata
    try:
        if trained.seen is not None:
            seen = adata[trained.seen.cells_of(adata, "train", name=name)]
    except ObsError as error:
        if data is None:
            raise ConfigError("c2s generate", [error.problem.rstrip(".")], fix=fix) from error
        warnings.warn(
            f"{error.problem} The expression of what is written is fitted on all of their cells.",
            C2SWarning,
            stacklevel=2,
        )
    asked = _asked(task, conditions, _values(adata, task.conditions), _values(seen, task.conditions))
    return RankExpressionModel.fit(seen, top_k=trained.top_k), [str(gene) for gene in adata.var_names], asked


def _values(cells: AnnData, columns: Sequence[str]) -> dict[str, set[str]]:
    """Return the values of each column that is there, with single spaces."""
    return {c: set(cells.obs[c].astype(str).str.split().str.join(" ")) for c in columns if c in cells.obs}


def _asked(
    task: GenerationTask,
    conditions: dict[str, str],
    named: Mapping[str, set[str]],
    seen: Mapping[str, set[str]],
) -> dict[str, str | list[str]]:
    """Return the conditions, those told per cell as lists; warn of each value that the model has not seen.

    Parameters
    ----------
    task
        Says which conditions there are, and whether they are told per cell.
    conditions
        As they were given.
    named, seen
        Values in all cells, and in the training cells, by column; without a column where nothing is known of it.
    """
    import warnings

    from c2s.errors import C2SWarning
    from c2s_generation.conditions import split_values
    from c2s_generation.samples import SampleTask

    asked: dict[str, str | list[str]] = dict(conditions)
    per_cell = isinstance(task, SampleTask) and task.told_per_cell
    for column in (c for c in task.conditions if c in conditions):
        values = [" ".join(conditions[column].split())]
        if per_cell:
            asked[column] = values = split_values(conditions[column], named.get(column, ()))
        problems = []
        if column in seen:
            known = sorted(seen[column])
            examples = f"{', '.join(known[:8])}{' ...' if len(known) > 8 else ''}"
            problems = [
                f"the model has seen no cell with {column} {value!r}: what it writes is a guess. "
                f"It knows {examples}."
                for value in dict.fromkeys(values)
                if value not in seen[column]
            ]
        elif per_cell and len(values) > 1:
            problems = [
                f"{column} is read as {len(values)} cells, split at each comma. Give the training data (--data) "
                "where a name holds a comma: names that are in it are kept whole."
            ]
        for problem in problems:
            warnings.warn(problem, C2SWarning, stacklevel=2)
    return asked
