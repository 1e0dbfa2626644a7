"""``c2s models``: which models are known by name, what they were trained for, and what training one would cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from c2s.models.presets import ModelPreset

app = typer.Typer(no_args_is_help=True, help="List and inspect models, and plan what training one costs.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_GIB = 2**30


@app.command("list")
def list_models(
    here: Annotated[bool, typer.Option("--here", help="Only those on this machine.")] = False,
    as_json: Json = False,
) -> None:
    """List the models known by name, and which are on this machine."""
    from c2s.models.presets import PRESETS

    rows = []
    for name, preset in PRESETS.items():
        place = _place(preset)
        if place or not here:
            rows.append(_facts(preset) | {"name": name, "here": place})
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = _table("NAME", "PARAMETERS", "CONTEXT", "GENES", "CELLS", "LICENCE", "HERE")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['n_parameters']:,}",
            _or_blank(row["context_length"]),
            _span(row["genes"]),
            _span(row["cells"]),
            row["licence"] or "see info",
            "yes" if row["here"] else "",
        )
    _print(table)
    present = sum(bool(row["here"]) for row in rows)
    print(
        f"\n{present} of {len(rows)} are on this machine. GENES (per cell) and CELLS (per prompt): as trained for."
    )
    print(
        "Any other causal language model: name its folder, or a downloaded hub id. Details: c2s models info NAME."
    )


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Short name or hub id.")], as_json: Json = False
) -> None:
    """Show what is known of a model, where each fact was read, and how to get it."""
    preset = _found(name)
    place = _place(preset)
    if as_json:
        print(json.dumps(_facts(preset) | {"name": preset.name, "here": place}, indent=2))
        return
    print(f"{preset.name}: {preset.hub_id} ({preset.architecture}, revision {preset.revision})")
    shown = {
        "licence": preset.licence,
        "parameters": f"{preset.n_parameters:,}",
        "trained from": preset.base,
        "context": preset.context_length and f"{preset.context_length:,} tokens",
        "genes per cell": _span(preset.genes),
        "genes per cell, several cells in a prompt": _span(preset.genes_multi),
        "cells per prompt": _span(preset.cells),
        "prompts": "those of the Cell2Sentence releases" if preset.prompt_style == "c2s" else "plain text",
        "tasks": "; ".join(preset.tasks),
    }
    for key, value in shown.items():
        print(f"  {key}: {value or 'not stated'}")
    for text in (preset.licence_note, preset.note):
        if text:
            print(f"  note: {text}")
    print("  sources:")
    for fact, source in preset.source.items():
        print(f"    {fact}: {source}")
    print(f"  here: {place}" if place else f"  not on this machine: hf download {preset.hub_id}")


@app.command("plan")
def plan(
    name: Annotated[str, typer.Argument(metavar="PRESET", help="Short name or hub id.")],
    task: Annotated[str, typer.Option(help="A run of the paper: pretraining, captioning, l1000-grpo, ...")],
    profile: Annotated[str, typer.Option(help="Whose settings: paper.")] = "paper",
    lora: Annotated[int | None, typer.Option(metavar="RANK", help="Train an adapter of this rank.")] = None,
    gpu: Annotated[str, typer.Option(help="a100-40gb, a100-80gb, h100, h200, b200 or tpu-v4.")] = "h100",
    gpus: Annotated[int | None, typer.Option(help="How many; by default as the paper states, or 1.")] = None,
    sharding: Annotated[str, typer.Option(help="ddp (whole copies) or fsdp (shards).")] = "ddp",
    precision: Annotated[str, typer.Option(help="mixed, bfloat16 or float32.")] = "mixed",
    attention: Annotated[str, typer.Option(help="eager, sdpa or flash_attention_2.")] = "flash_attention_2",
    checkpointing: Annotated[bool, typer.Option(help="Compute activations again instead of keeping them.")] = True,
    batch: Annotated[int, typer.Option(help="Sequences per GPU and forward pass.")] = 1,
    length: Annotated[int | None, typer.Option(help="Tokens of a sequence; by default as the run.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Tokens to train on; by default as the run.")] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the GPU's matrix rate reached (assumed).")] = 0.4,
    as_json: Json = False,
) -> None:
    """Say what memory, FLOPs and GPU hours a run of the paper needs with a model; needs no GPU and no weights."""
    from c2s.models.plan import plan as make_plan

    given = {
        "lora": lora, "gpu": gpu, "gpus": gpus, "sharding": sharding, "precision": precision,
        "attention": attention, "checkpointing": checkpointing, "batch": batch, "length": length,
        "tokens": tokens, "utilisation": utilisation,
    }  # fmt: skip
    made = make_plan(name, task, profile=profile, options=given)
    if as_json:
        print(json.dumps(made, indent=2))
        return
    model, run, device, memory, flops = (made[key] for key in ("model", "run", "device", "memory", "flops"))
    print(f"{run['title']} (section {run['section']}) with {model['name']}, {model['method']}")
    print(f"on {device['gpus']} x {device['gpu']}, {device['sharding']}, {device['precision']}\n")
    table = _table("WHAT", "HOW MUCH")
    rows = [
        ("parameters", f"{model['parameters']:,}"),
        ("trained", f"{model['trained']:,} ({model['trained'] / model['parameters']:.2%})"),
        ("tokens", f"{run['tokens']:,.0f} in {run['sequences']:,} sequences of {run['length']:,}"),
        ("optimizer steps", f"{run['steps']:,}"),
        *((f"memory per GPU: {what.replace('_', ' ')}", _gib(memory[what])) for what in _parts(memory)),
        ("memory per GPU: together", f"{_gib(memory['total'])} of {_gib(memory['room'])}"),
        ("inference: weights", _gib(made["inference"]["weights"])),
        ("inference: cache of one batch", _gib(made["inference"]["kv_cache"])),
        ("FLOPs per token, forward", f"{flops['forward_per_token']:.3g}"),
        ("FLOPs per token, training", f"{flops['training_per_token']:.3g}"),
        ("FLOPs", f"{flops['total']:.3g}"),
        ("GPU hours", f"{made['time']['gpu_hours']:,.2f}"),
        ("hours", f"{made['time']['hours']:,.2f}"),
    ]
    for row in rows:
        table.add_row(*row)
    _print(table)
    print("\n" + _verdict(memory, device["gpu"]))
    if run["length_note"]:
        print(f"Sequences are {run['length_note']}.")
    print("Stated by the paper: " + ", ".join(f"{k} {_plain(v)}" for k, v in run["stated"].items()) + ".")
    print("Assumed:")
    for text in made["assumptions"]:
        print(f"  {text}")


def _parts(memory: dict[str, Any]) -> list[str]:
    return [what for what in memory if what not in {"total", "room", "fits", "smallest_fsdp"} and memory[what]]


def _verdict(memory: dict[str, Any], gpu: str) -> str:
    smallest = memory["smallest_fsdp"]
    if memory["fits"]:
        return "It fits."
    if smallest is None:
        return f"It does not fit, nor on 1,024 {gpu} with fsdp: take a smaller --batch or --length, or --lora."
    return f"It does not fit. It would on {smallest} {gpu} with --sharding fsdp; --lora needs less."


def _found(name: str) -> ModelPreset:
    from c2s.errors import ModelError
    from c2s.models.presets import PRESETS, find_preset, suggest

    preset = find_preset(name)
    if preset is None:
        near = [n for n in suggest(name) if n in PRESETS]
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ModelError(f"no model is known as {name!r}.{hint}", fix="c2s models list shows the names.")
    return preset


def _facts(preset: ModelPreset) -> dict[str, Any]:
    return preset.model_dump() | {"architecture": preset.architecture}


def _place(preset: ModelPreset) -> str | None:
    """Return the folder of a model that was downloaded, weights included; None if it is not here."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "model.safetensors.index.json"):
        found = try_to_load_from_cache(preset.hub_id, file, revision=preset.revision)
        if isinstance(found, str):
            return found.rpartition("/")[0]
    return None


def _span(span: tuple[int, int] | None) -> str:
    if span is None:
        return ""
    low, high = span
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _or_blank(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _gib(size: int) -> str:
    return f"{size / _GIB:,.2f} GiB"


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Names are for copying: they are never broken.
        table.add_column(column, no_wrap=column in {"NAME", "WHAT"}, overflow="fold")
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console()
    # Nothing is cut in a pipe or a file.
    (console if console.is_terminal else Console(width=200)).print(table)
