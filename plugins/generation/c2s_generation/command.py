"""``c2s generate``: cells of given conditions, written by a trained model into an ``.h5ad`` file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from c2s import RankExpressionModel
    from c2s.provenance import RunRecord
    from c2s.training import TaskModel
    from c2s_generation.cells import GenerationTask


def generate(
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
    cells: Annotated[int, typer.Option(help="Cells per sample, for a task of samples.")] = 5,
    genes: Annotated[int | None, typer.Option(help="Genes per cell; default as trained.")] = None,
    temperature: Annotated[float, typer.Option(help="0: the likeliest gene each time; 1: as learned.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest genes that hold this share.")] = 1.0,
    free: Annotated[bool, typer.Option("--free", help="Let the model write any word, and any number.")] = False,
    data: Annotated[
        str | None,
        typer.Option(help="The training data, for genes and expression; default those it was trained on."),
    ] = None,
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
    from c2s.errors import ConfigError
    from c2s.files import atomic_output, refuse_existing
    from c2s.provenance import RunRecord
    from c2s_generation.writing import Wanted, generate_cells

    if target.suffix != ".h5ad":
        raise ConfigError("c2s generate", [f"{target} does not end in .h5ad"], fix="name the output OUT.h5ad.")
    run_path, partial = target.with_suffix(".run.json"), target.with_suffix(".answers.jsonl")
    for path in (target, run_path):
        refuse_existing(path, overwrite=overwrite)
    conditions = _conditions(condition or [], cell_type=cell_type, tissue=tissue, abstract=abstract)
    settings = {"model": str(model), "conditions": conditions, "n": n, "genes": genes, "temperature": temperature}
    settings |= {"top_p": top_p, "constrained": not free}
    record = RunRecord(run_path, config=settings, seeds={"seed": seed}, overwrite=overwrite).start()
    trained, task = _load(model, device)
    fitted, names = _expression(trained, task, data, inverse, conditions, record)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = generate_cells(
        trained,
        task,
        [Wanted(conditions, n=n, n_cells=cells)],
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
    with atomic_output(target, overwrite=overwrite) as temporary:
        written.write_h5ad(temporary)
    record.finish()
    for path in [partial, *target.parent.glob(f"{target.stem}.answers.cell*.jsonl")]:
        path.unlink(missing_ok=True)
    words = max(int(written.obs["n_words"].sum()), 1)
    typer.echo(f"{written.n_obs} cells of {written.n_vars} genes -> {target}; they are generated, not measured.")
    typer.echo(
        f"Of {words} words {written.obs['n_unknown'].sum()} are no gene of the training cells and "
        f"{written.obs['n_repeated'].sum()} are repeated."
    )


def _conditions(pairs: list[str], **named: str | None) -> dict[str, str]:
    """Gather the conditions; an abstract may be in a file."""
    from c2s.errors import ConfigError

    found = {name: value for name, value in named.items() if value is not None}
    # Path.is_file raises where a text is too long for the name of a file.
    if "abstract" in found and os.path.isfile(found["abstract"]):  # noqa: PTH113
        found["abstract"] = " ".join(Path(found["abstract"]).read_text(encoding="utf-8").split())
    problems = []
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            problems.append(f"{pair!r} is not NAME=VALUE")
        elif name in found:
            problems.append(f"the condition {name!r} is given twice")
        else:
            found[name] = value
    if problems:
        raise ConfigError("--condition", problems, fix="--condition cell_type='B cell' --condition tissue=blood")
    return found


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


def _expression(
    trained: TaskModel,
    task: GenerationTask,
    data: str | None,
    inverse: Path | None,
    conditions: dict[str, str],
    record: RunRecord,
) -> tuple[RankExpressionModel, list[str] | None]:
    """Return what makes expression of ranks, and the genes of the result.

    Fitted on the model's training cells, unless a fitted model is given: then genes are those of the model.
    """
    import warnings

    from c2s import RankExpressionModel, load_dataset
    from c2s.errors import C2SError, C2SWarning, ConfigError

    if inverse is not None:
        record.add_data("inverse", inverse)
        return RankExpressionModel.load(inverse), None
    name = data or str(trained.data.get("name") or "")
    fix = "pass --data DATA, or --inverse FILE (c2s transform writes one)."
    if not name:
        raise ConfigError("c2s generate", ["the model does not say what it was trained on"], fix=fix)
    try:
        adata = load_dataset(name)
    except C2SError as error:
        raise ConfigError(
            "c2s generate", [f"the training data {name} are not to be had: {error.problem.rstrip('.')}"], fix=fix
        ) from error
    record.add_cells(name, adata)
    cells = set(trained.split.ids("train")) if trained.split else set()
    known = [i for i, cell in enumerate(adata.obs_names.astype(str)) if cell in cells]
    seen = adata[known] if known else adata
    for column in task.conditions:
        values = set(seen.obs[column].astype(str).str.split().str.join(" ")) if column in seen.obs else set()
        asked = {" ".join(part.split()) for part in conditions.get(column, "").split(",")}
        asked |= {" ".join(conditions.get(column, "").split())}
        if column in conditions and not asked & values:
            warnings.warn(
                f"the model has seen no cell with {column} {conditions[column]!r}: what it writes is a guess. It "
                f"knows {', '.join(sorted(values)[:8])}{' ...' if len(values) > 8 else ''}.",
                C2SWarning,
                stacklevel=2,
            )
    return RankExpressionModel.fit(seen, top_k=trained.top_k), [str(gene) for gene in adata.var_names]
