"""``c2s train grpo``: train a fine-tuned model on rewards of its own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from c2s.command_options import Layer, Normalise, Strip, Symbols, how_to_read
from c2s.errors import ConfigError


def grpo(
    context: typer.Context,
    model: Annotated[Path, typer.Option(help="Folder that `c2s train sft` wrote.")],
    data: Annotated[str, typer.Option(help="What it was fine-tuned on: a file or the name of a dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for the trained model.")],
    rewards: Annotated[
        str | None, typer.Option(help="Names with weights, exact_match:1,overlap:0.5; default the task's own.")
    ] = None,
    paper: Annotated[
        Literal["qa", "dong", "l1000"] | None,
        typer.Option(help="Begin with the settings of this run of the paper."),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps; default one pass.")] = None,
    group_size: Annotated[int | None, typer.Option(help="Answers per prompt.")] = None,
    prompts_per_step: Annotated[int | None, typer.Option(help="Prompts per step.")] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the divergence from the model as it is.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    max_answer_tokens: Annotated[int | None, typer.Option(help="Longest answer; default the task's.")] = None,
    validation_cells: Annotated[int, typer.Option(min=0, help="Cells answered at each evaluation.")] = 64,
    stop_on: Annotated[
        list[str] | None, typer.Option(help="Guard that stops the run: signal, length or kl; may be given again.")
    ] = None,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the prompts' order and the draws.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Any other option of GRPO.")
    ] = None,
) -> None:
    """Draw answers for the training cells, reward them, and make the better ones more likely (section 4.5.2)."""
    from c2s.cli.trained import load_trained
    from c2s.data import load_dataset
    from c2s.files import RESUME, check_target
    from c2s.plugins import default_host
    from c2s.provenance import RunRecord
    from c2s.training.grpo_config import GRPOConfig
    from c2s.training.grpo_task import train_task_grpo
    from c2s.training.rewards import resolve_rewards

    if not resume:
        check_target(out, fix=RESUME)
    flags = {
        "max_steps": max_steps,
        "group_size": group_size,
        "prompts_per_step": prompts_per_step,
        "beta": beta,
        "learning_rate": learning_rate,
        "max_answer_tokens": max_answer_tokens,
        "stop_on": tuple(stop_on) if stop_on else None,
        "seed": seed,
    }
    given = {key: value for key, value in flags.items() if value is not None} | _options(option or [])
    # What is trained needs float32; a base under new adapters does not.
    trained, task = load_trained(model, None, device=device, dtype="auto" if "lora_rank" in given else "float32")
    given.setdefault("max_answer_tokens", task.longest_answer)
    config = GRPOConfig.paper(paper, **given) if paper else GRPOConfig.of(given)
    names = rewards or ",".join(task.rewards)
    if not names:
        raise ConfigError(
            "--rewards", [f"task {task.name!r} names none"], fix="--rewards exact_match, for example."
        )
    wanted = resolve_rewards(names, default_host().rewards)
    training = config.model_dump(mode="json")
    settings: dict[str, Any] = {"rewards": {w.name: w.weight for w in wanted}, "training": training}
    settings |= {name: training[name] for name in flags}
    with RunRecord.of_command(context, out / "run.json", config=settings) as record:
        how = trained.reading(data) | how_to_read(layer, symbols, strip, normalise)
        record.config |= how
        cells = load_dataset(data, label=trained.options.get("label"), **how)
        result = train_task_grpo(
            trained,
            task,
            cells,
            rewards=wanted,
            out=out,
            config=config,
            validation_cells=validation_cells,
            resume=resume,
        )
        record.add_cells(data, cells)
        record.ran_with(result.model)
    stopped = f", stopped by the guard {result.stopped_by}" if result.stopped_by else ""
    typer.echo(f"Trained {result.steps} steps{stopped}.")
    typer.echo(f"Reward of the answers drawn: {result.rewards[0]:.3f} -> {result.rewards[-1]:.3f}.")
    scored = [line["evaluation"]["reward"] for line in result.history if "reward" in line.get("evaluation", {})]
    if scored and not result.best_step:
        typer.echo(f"On validation cells: {scored[0]:.3f} before, and never better: the first weights were kept.")
    elif scored:
        typer.echo(
            f"On validation cells: {scored[0]:.3f} before, {result.best_score:.3f} after step {result.best_step}, "
            "whose weights were kept."
        )
    typer.echo(f"Model: {result.path}")
    typer.echo(f"Next: {task.next_command(str(result.path), cells.obs)}")


def _options(pairs: list[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs; whether GRPO knows the names, its configuration says."""
    import yaml

    bad = [pair for pair in pairs if "=" not in pair or pair.startswith("=")]
    if bad:
        raise ConfigError(
            "--option", [f"{pair!r} is not NAME=VALUE" for pair in bad], fix="--option temperature=0.9"
        )
    read = {}
    for name, _, value in (pair.partition("=") for pair in pairs):
        try:
            read[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            bad.append(f"{name}={value}")
    if bad:
        raise ConfigError(
            "--option", [f"{pair!r} is not readable" for pair in bad], fix="--option temperature=0.9"
        )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()}
