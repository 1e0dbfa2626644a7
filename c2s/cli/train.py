"""``c2s train``: train a language model on a task."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from c2s.cli.grpo import grpo
from c2s.command_options import Donor, Layer, Normalise, Strip, Symbols, how_to_read

if TYPE_CHECKING:
    from c2s.tasks import Task

app = typer.Typer(help="Train a language model on a task.", no_args_is_help=True)
app.command("grpo")(grpo)


@app.callback()
def train() -> None:
    """Train a language model on a task."""


@app.command("sft")
def sft(
    context: typer.Context,
    task: Annotated[str, typer.Option(help="Registered task; see `c2s plugins list`.")],
    data: Annotated[str, typer.Option(help="A file of cells, or of gene sets (.gmt), or the name of a dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for the trained model.")],
    model: Annotated[str, typer.Option(help="tiny, a preset, a folder, or a downloaded hub id.")] = "tiny",
    label: Annotated[str | None, typer.Option(help="Column of obs to learn.")] = None,
    donor: Donor = None,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
    profile: Annotated[str, typer.Option(help="Defaults to start from: smoke, laptop or paper.")] = "laptop",
    genes: Annotated[int | None, typer.Option(min=1, help="Genes per cell (K).")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training cells.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    gene_dropout: Annotated[float | None, typer.Option(help="Share of genes left out of each prompt.")] = None,
    loss: Annotated[Literal["answer", "full"] | None, typer.Option(help="Learn the answer, or the text.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many evaluations without gain.")] = None,
    lora_rank: Annotated[int | None, typer.Option(min=1, help="Train adapters of this rank (LoRA).")] = None,
    report_to: Annotated[
        list[str] | None, typer.Option(help="Also tensorboard, trackio or wandb; may be given again.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of split, templates, first weights and order.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Any option of task, training or tiny model."),
    ] = None,
) -> None:
    """Fine-tune a model on the training cells and keep the weights best on the validation cells."""
    from c2s.data import load_dataset
    from c2s.errors import ConfigError
    from c2s.files import RESUME, check_target
    from c2s.models import TinyConfig
    from c2s.plugins import default_host
    from c2s.provenance import RunRecord
    from c2s.training.config import SFTConfig
    from c2s.training.pipeline import train_task

    if not resume:
        check_target(out, fix=RESUME)  # before the data are read
    host = default_host()
    task_class: type[Task] = host.tasks.get(task)
    flags = {
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "gene_dropout": gene_dropout,
        "loss": loss,
        "patience": patience,
        "lora_rank": lora_rank,
        "report_to": report_to,
        "seed": seed,
    }
    chosen = _profile(task_class, profile) | {key: value for key, value in flags.items() if value is not None}
    by_owner = _sort_options(task_class, option or [])
    if (epochs is not None or "epochs" in by_owner["training"]) and max_steps is None:
        chosen.pop("max_steps", None)  # the profile's number of steps would override the epochs asked for
    if by_owner["tiny"] and model != "tiny":
        shapes = [f"{name} is a matter of the tiny model, and --model is {model}" for name in by_owner["tiny"]]
        raise ConfigError("--option", shapes, fix="leave it out: a model that is loaded has its shape.")
    named = {"label": label, "donor": donor}
    made = task_class.from_options(by_owner["task"] | {k: v for k, v in named.items() if v is not None})
    how = how_to_read(layer, symbols, strip, normalise)
    top_k = genes if genes is not None else chosen.pop("top_k", None)
    chosen.pop("top_k", None)
    shape = {key: chosen.pop(key) for key in list(chosen) if key in TinyConfig.model_fields}
    config = SFTConfig.of(chosen | by_owner["training"])
    tiny = TinyConfig.of(**shape | by_owner["tiny"]) if model == "tiny" else None
    training = config.model_dump(mode="json")
    settings: dict[str, Any] = {
        "options": made.options(),
        "training": training,
        "tiny": tiny.model_dump(mode="json") if tiny else None,
    }
    settings |= {"top_k": top_k, "label": made.options().get("label", label)}
    settings |= {name: training[name] for name in flags}
    main = os.environ.get("RANK", "0") == "0"
    with RunRecord.of_command(context, out / "run.json" if main else None, config=settings) as record:
        cells = load_dataset(data, label=label, **how)
        trained = train_task(
            cells,
            made,
            host.prompts.get(made.prompts),
            out=out,
            model=model,
            config=config,
            tiny=tiny,
            top_k=top_k,
            seed=seed,
            metrics=[host.metrics.get(name) for name in made.metrics] if config.eval_examples else (),
            data_name=data,
            reading=how,
            device=device,
            resume=resume,
        )
        record.add_cells(data, cells, sentences=trained.task_model.data["checksum"])
        record.config |= dict.fromkeys(("genes", "top_k"), trained.task_model.top_k)
        record.ran_with(trained.model)
    if main:
        _report(trained, made)


@app.command("pretrain")
def pretrain(
    context: typer.Context,
    corpus: Annotated[Path, typer.Option(help="Folder that `c2s corpus build` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the trained model.")],
    model: Annotated[str, typer.Option(help="tiny, a preset, a folder, or a downloaded hub id.")] = "tiny",
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps; default one pass.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step and process.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    loss: Annotated[Literal["answer", "full"], typer.Option(help="Learn the answer, or the text.")] = "full",
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be given again.")] = None,
    buffer_size: Annotated[int, typer.Option(min=0, help="Examples that are shuffled together.")] = 10_000,
    validation_examples: Annotated[int, typer.Option(min=0, help="Of each task, at an evaluation.")] = 8,
    too_long: Annotated[
        Literal["skip", "error"] | None, typer.Option(help="What to do with an example longer than the context.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of first weights and order.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Any option of training or tiny model."),
    ] = None,
) -> None:
    """Train on a corpus, streamed from its shards; under torchrun each process reads a share of its own."""
    from c2s.files import RESUME, check_target
    from c2s.models import TinyConfig
    from c2s.provenance import RunRecord
    from c2s.training.pretrain import DEFAULTS, pretrain_corpus

    if not resume:
        check_target(out, fix=RESUME)
    more = _sort_options(None, option or [])
    flags = {"max_steps": max_steps, "batch_size": batch_size, "learning_rate": learning_rate}
    given = {key: value for key, value in flags.items() if value is not None}
    config = type(DEFAULTS).of(DEFAULTS.model_dump() | given | {"loss": loss, "seed": seed} | more["training"])
    tiny = TinyConfig.of(**more["tiny"]) if more["tiny"] else None
    training = config.model_dump(mode="json")
    settings: dict[str, Any] = {"training": training, "tiny": tiny.model_dump(mode="json") if tiny else None}
    settings |= {name: training[name] for name in flags}
    main = os.environ.get("RANK", "0") == "0"
    with RunRecord.of_command(context, out / "run.json" if main else None, config=settings) as record:
        trained = pretrain_corpus(
            corpus,
            out=out,
            model=model,
            config=config,
            tiny=tiny,
            tasks=task,
            buffer_size=buffer_size,
            validation_examples=validation_examples,
            too_long=too_long,
            device=device,
            resume=resume,
        )
        record.add_corpus(corpus)
        record.ran_with(trained.model)
    if not main:
        return
    last = next(line for line in reversed(trained.history) if "loss" in line)
    typer.echo(
        f"Trained {trained.steps} steps; first loss {trained.losses[0]:.3f}, last loss {trained.losses[-1]:.3f}."
    )
    read = [line for line in trained.history if "padded_tokens" in line]
    tokens, padded, seconds = (sum(line[key] for line in read) for key in ("tokens", "padded_tokens", "seconds"))
    if seconds:
        rate = f"{tokens / seconds:,.0f} tokens/s in {seconds:.0f} s of steps"
        typer.echo(f"{rate}; {1 - tokens / padded:.0%} padding.")
    if last["too_long"]:
        typer.echo(f"{last['too_long']} examples did not fit the context and were left out.")
    scored = [line["evaluation"] for line in trained.history if "evaluation" in line]
    for name in sorted(key for key in scored[-1] if key.startswith("loss/")) if scored else ():
        typer.echo(f"  validation {name.removeprefix('loss/')}: {scored[0][name]:.3f} -> {scored[-1][name]:.3f}")
    typer.echo(f"Model: {trained.path}")


def _profile(task_class: type[Task], profile: str) -> dict[str, Any]:
    """Return the defaults of a profile."""
    from c2s.errors import ConfigError

    if profile not in task_class.profiles:
        raise ConfigError(
            f"task {task_class.name!r}",
            [f"it has no profile {profile!r}"],
            fix=f"choose one of {', '.join(task_class.profiles)}.",
        )
    return dict(task_class.profiles[profile])


def _sort_options(task_class: type[Task] | None, pairs: list[str]) -> dict[str, dict[str, Any]]:
    """Give each ``NAME=VALUE`` to whom it belongs: the task, the training or the tiny model.

    Raises
    ------
    ConfigError
        A pair is malformed, or nobody knows the name; all problems are named at once.
    """
    import dataclasses

    import yaml

    from c2s.errors import ConfigError
    from c2s.models import TinyConfig
    from c2s.training.config import SFTConfig

    known = {
        "task": [f.name for f in dataclasses.fields(task_class)] if task_class else [],
        "training": list(SFTConfig.model_fields),
        "tiny": list(TinyConfig.model_fields),
    }
    sorted_options: dict[str, dict[str, Any]] = {owner: {} for owner in known}
    problems = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        owner = next((o for o, names in known.items() if name in names), None)
        if not equals or not name:
            problems.append(f"{pair!r} is not NAME=VALUE")
        elif owner is None:
            problems.append(f"unknown option {name!r}")
        elif name == "seed" and owner == "training":
            problems.append("seed has a flag of its own, --seed, which the split and the first weights follow too")
        elif owner == "task":
            sorted_options[owner][name] = _task_value(value)
        else:
            try:
                sorted_options[owner][name] = yaml.safe_load(value)
            except yaml.YAMLError:
                problems.append(f"the value of {pair!r} is not readable")
    if problems:
        described = "; ".join(f"{owner}: {', '.join(names)}" for owner, names in known.items() if names)
        raise ConfigError("--option", problems, fix=f"the options are {described}.")
    return sorted_options


def _task_value(value: str) -> Any:
    """Read a task option: numbers, true, false and null as such, all else as text."""
    import yaml

    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    return read if isinstance(read, bool | int | float | list) or read is None else value


def _report(trained: Any, task: Task) -> None:
    """Print what was made and what to do with it."""
    training, task_model = trained.training, trained.task_model
    typer.echo(trained.split.note)
    typer.echo(f"Trained {training.steps} steps{', stopped early' if training.stopped_early else ''}.")
    if training.best_step is not None:
        best = next(
            line["evaluation"]
            for line in training.history
            if line["step"] == training.best_step and "evaluation" in line
        )
        shown = ", ".join(f"{key} {value:.3f}" for key, value in best.items() if key != "score")
        typer.echo(f"Best on the validation cells after step {training.best_step}: {shown}.")
    if task_model.calibration is not None:
        found = task_model.calibration
        typer.echo(
            f"Calibrated: temperature {found.temperature:.2f}, calibration error {found.ece_before:.3f} -> "
            f"{found.ece_after:.3f} on {found.n} validation cells."
        )
    typer.echo(f"Model: {trained.path}")
    seen = trained.sentences.select(trained.split.ids("train")).obs
    typer.echo(f"Next: {task.next_command(str(trained.path), seen)}")
