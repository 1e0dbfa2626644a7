"""What a training run would need: memory, FLOPs, tokens and GPU hours, without a GPU and without weights.

Sections 4.3.5 and 4.6 say how the paper's runs were made (``paper_runs.yaml``); the models are presets, the
devices ``hardware.yaml``. Everything that is assumed and not known is listed with the plan.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from c2s.errors import ConfigError
from c2s.models.lora import LoraOptions
from c2s.models.presets import PRESETS, ModelPreset, find_preset, suggest
from c2s.options import problems_of

GIB = 2**30
#: Share of a device's memory left to the driver, the libraries' workspaces and fragmentation.
RESERVE = 0.08


class PlanOptions(BaseModel):
    """How a run is planned; what is None comes from the run.

    Attributes
    ----------
    lora
        Rank of an adapter; None trains all weights.
    gpu, gpus
        Device (``hardware.yaml``) and how many.
    sharding
        ``"ddp"``: every GPU holds everything; ``"fsdp"``: weights, gradients and optimizer are cut over the GPUs.
    precision
        ``"float32"``; ``"mixed"``: float32 weights computed with in bfloat16; ``"bfloat16"``: all in bfloat16, an
        adapter in float32.
    attention
        ``"eager"``, ``"sdpa"`` or ``"flash_attention_2"``.
    checkpointing
        Keep only each block's input while going forward.
    batch
        Sequences per GPU and forward pass; the rest of the run's batch is accumulated.
    length
        Tokens of a sequence.
    tokens
        Tokens to train on, instead of the run's.
    utilisation
        Share of the device's matrix rate that is reached, over all FLOPs executed. An assumption.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lora: int | None = Field(default=None, ge=1)
    gpu: str = "h100"
    gpus: int | None = Field(default=None, ge=1)
    sharding: Literal["ddp", "fsdp"] = "ddp"
    precision: Literal["float32", "mixed", "bfloat16"] = "mixed"
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "flash_attention_2"
    checkpointing: bool = True
    batch: int = Field(default=1, ge=1)
    length: int | None = Field(default=None, ge=2)
    tokens: float | None = Field(default=None, gt=0)
    utilisation: float = Field(default=0.4, gt=0, le=1)


class Assumed(BaseModel):
    """A number that is ours, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    why: str


class PaperRun(BaseModel):
    """A training run as the paper describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sft", "grpo"]
    title: str
    section: str
    stated: dict[str, float | str]
    assumed: dict[str, Assumed] = {}

    def number(self, name: str) -> float | None:
        """Return a number that is stated or assumed; None if it is neither."""
        value = self.stated.get(name)
        if value is None and name in self.assumed:
            value = self.assumed[name].value
        return None if value is None or isinstance(value, str) else float(value)


class Device(BaseModel):
    """An accelerator: memory in GiB, and the dense matrix rate its maker states in TFLOPS, by precision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_gib: float
    tflops: dict[Literal["bfloat16", "float32"], float]
    source: str


@cache
def paper_runs() -> dict[str, PaperRun]:
    """Return the runs of the paper by name."""
    return {name: PaperRun(**entry) for name, entry in _data("paper_runs.yaml").items()}


@cache
def devices() -> dict[str, Device]:
    """Return the accelerators to plan with, by name."""
    return {name: Device(**entry) for name, entry in _data("hardware.yaml").items()}


def _data(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(files("c2s.models").joinpath(name).read_text(encoding="utf-8"))
    return content


def plan(
    preset: str, task: str, *, profile: str = "paper", options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Plan a run of the paper with a model and a number of GPUs.

    Parameters
    ----------
    preset
        Short name or hub id of a model.
    task
        A run of `paper_runs`.
    profile
        Only ``"paper"``: the other profiles train on the spot, and need no plan.
    options
        See `PlanOptions`.

    Returns
    -------
    dict
        ``model``, ``run``, ``memory`` (bytes per GPU), ``flops``, ``time`` and ``assumptions``; plain values.

    Raises
    ------
    ConfigError
        A name or an option is wrong, or the paper does not say how long the run was and nor does `options`; all
        problems of the names and options are reported at once.
    ModelError
        The architecture cannot use sdpa attention.
    """
    found = find_preset(preset)
    problems = [] if found else [_unknown("preset", preset, PRESETS, suggest(preset))]
    if task not in paper_runs():
        problems.append(_unknown("task", task, paper_runs()))
    if profile != "paper":
        problems.append(f"profile {profile!r} has no plan, only 'paper' has")
    chosen = None
    try:
        chosen = PlanOptions(**(options or {}))
    except ValidationError as error:
        problems += problems_of(error)
    if chosen and chosen.gpu not in devices():
        problems.append(_unknown("gpu", chosen.gpu, devices()))
    elif chosen and _compute(chosen) not in devices()[chosen.gpu].tflops:
        problems.append(f"{chosen.gpu} states no rate for {_compute(chosen)}")
    if problems or found is None or chosen is None:
        fix = "`c2s models list` shows the presets, `c2s models plan --help` the options."
        raise ConfigError("plan", problems, fix=fix)
    return _planned(found, task, paper_runs()[task], chosen)


def _unknown(what: str, name: str, known: Mapping[str, Any], near: list[str] | None = None) -> str:
    close = near or difflib.get_close_matches(name, list(known), n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}" if close else ""
    return f"unknown {what} {name!r} (there are {', '.join(known)}){hint}"


def _compute(options: PlanOptions) -> Literal["bfloat16", "float32"]:
    return "float32" if options.precision == "float32" else "bfloat16"


def _planned(preset: ModelPreset, task: str, run: PaperRun, options: PlanOptions) -> dict[str, Any]:
    import torch

    from c2s.models import cost, shapes
    from c2s.models.devices import attention_for

    device = devices()[options.gpu]
    gpus = options.gpus or int(run.number("gpus") or 1)
    lora = None if options.lora is None else LoraOptions(rank=options.lora)
    work = _work(preset, task, run, options)
    config = shapes.preset_config(preset)
    if options.attention == "sdpa":
        attention_for("sdpa", config, device="cuda", dtype=torch.bfloat16)
    stored = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    compute = getattr(torch, _compute(options))
    if lora is not None and options.precision == "mixed":
        stored = torch.bfloat16  # frozen weights need no float32 copy; the adapter keeps one
    plain = shapes.empty_network(config, dtype=stored)
    parameters, length = shapes.count_parameters(plain), work["length"]
    ways: dict[str, Any] = {
        "attention": options.attention,
        "lora": lora,
        "checkpointing": options.checkpointing,
    }
    flops = cost.training_flops(plain, 1, length, **ways)
    network = plain if lora is None else cost.planned_adapter(plain, lora)
    whole = {
        "weights": cost.parameter_bytes(network),
        "gradients": cost.parameter_bytes(network, trainable=True),
        "optimizer": cost.optimizer_bytes(network),
        "activations": cost.activation_bytes(config, options.batch, length, dtype=compute, **ways),
        # autocast keeps a copy of the weights it computes with
        "copies": parameters * compute.itemsize if options.precision == "mixed" and lora is None else 0,
    }
    if run.kind == "grpo":
        group = options.batch * int(run.number("group") or 1)
        whole["reference"] = 0 if lora is not None else whole["weights"]
        whole["kv_cache"] = cost.kv_cache_bytes(config, group, length, itemsize=compute.itemsize)
    layer = whole["weights"] // (int(config.num_hidden_layers) + 1)
    memory = _per_gpu(whole, layer, gpus, options.sharding)
    total, room = sum(memory.values()), int(device.memory_gib * GIB * (1 - RESERVE))
    fitting = (2**n for n in range(11) if sum(_per_gpu(whole, layer, 2**n, "fsdp").values()) <= room)
    sequences = work["tokens"] / length
    executed = _executed(flops, run) * sequences
    hours = executed / (device.tflops[_compute(options)] * 1e12 * options.utilisation) / 3600
    return {
        "model": {
            "name": preset.name,
            "parameters": parameters,
            "trained": shapes.count_parameters(network, trainable=True),
            "method": "full" if lora is None else f"LoRA, rank {lora.rank}",
        },
        "run": {"task": task, "title": run.title, "section": run.section, "stated": dict(run.stated)} | work,
        "device": {"gpu": options.gpu, "gpus": gpus, "sharding": options.sharding, "precision": options.precision},
        "memory": memory
        | {"total": total, "room": room, "fits": total <= room, "smallest_fsdp": next(fitting, None)},
        "inference": {
            "weights": parameters * compute.itemsize,
            "kv_cache": cost.kv_cache_bytes(config, options.batch, length, itemsize=compute.itemsize),
        },
        "flops": {
            "forward_per_token": flops.forward / length,
            "training_per_token": flops.total / length,
            "total": executed,
        },
        "time": {"gpu_hours": hours, "hours": hours / gpus},
        "assumptions": _assumptions(run, options, device),
    }


def _per_gpu(whole: Mapping[str, int], layer: int, gpus: int, sharding: str) -> dict[str, int]:
    """Return the bytes on each GPU of what one GPU alone would hold.

    FSDP cuts all but activations and cache, and gathers two layers at a time (one computed, one on its way); DDP
    keeps everything, and buckets that are one more copy of the gradients.
    """
    own = {"activations", "kv_cache"}
    if sharding == "ddp" or gpus == 1:
        spare = whole["gradients"] if gpus > 1 else 0
        return {**whole, "copies": whole["copies"] + spare}
    cut = {name: size if name in own else size // gpus for name, size in whole.items()}
    return cut | {"copies": cut["copies"] + 2 * layer}


def _work(preset: ModelPreset, task: str, run: PaperRun, options: PlanOptions) -> dict[str, Any]:
    """Return length, tokens, sequences and steps of a run."""
    number = run.number
    context = preset.context_length or int(preset.config["max_position_embeddings"])
    wanted = (
        number("length") if run.kind == "sft" else (number("prompt_length") or 0) + (number("answer_length") or 0)
    )
    length = options.length or int(min(wanted or context, context))
    if length > context:
        raise ConfigError(
            "plan",
            [f"length {length} is more than the context of {preset.name}, {context}"],
            fix="give less (--length).",
        )
    batch = number("batch") or 1
    answers = (number("prompts") or 0) * (number("group") or 0) * (number("epochs") or 1)
    passes = (number("examples") or 0) * (number("epochs") or 1)
    sequences = (number("steps") or 0) * batch or (answers if run.kind == "grpo" else passes)
    tokens = options.tokens or number("tokens") or sequences * length
    if not tokens:
        raise ConfigError(
            f"plan of {task}",
            [f"section {run.section} does not say how many examples there were"],
            fix="give the number of tokens to train on (--tokens), e.g. cells x tokens per cell x epochs.",
        )
    shortened = f"cut to the context of {preset.name}" if (wanted or 0) > length and not options.length else None
    return {
        "length": length,
        "length_note": shortened,
        "tokens": float(tokens),
        "sequences": math.ceil(tokens / length),
        "steps": math.ceil(tokens / length / batch),
    }


def _executed(flops: Any, run: PaperRun) -> float:
    """Return the FLOPs of one sequence, generation and reference model included where there are any."""
    if run.kind == "sft":
        return float(flops.total)
    # An answer is written token by token behind a prompt that its group shares, then scored by the frozen model.
    prompt, answer = run.number("prompt_length") or 0, run.number("answer_length") or 1
    written = (answer + prompt / (run.number("group") or 1)) / (prompt + answer)
    scored = 0 if run.number("beta") == 0 else 1
    return float(flops.total + flops.forward * (written + scored))


def _assumptions(run: PaperRun, options: PlanOptions, device: Device) -> list[str]:
    said = [f"{name} {assumed.value:g}: {assumed.why}" for name, assumed in run.assumed.items()]
    said += [
        f"utilisation {options.utilisation:g} of {device.tflops[_compute(options)]:g} TFLOPS ({device.source})",
        f"{RESERVE:.0%} of the memory is left to the driver, workspaces and fragmentation",
        "FLOPs are those of matrix multiplications; a fused attention kernel skips masked pairs",
    ]
    if options.precision == "mixed":
        said.append("mixed precision: activations in bfloat16, float32 weights with a bfloat16 copy (LoRA: none)")
    if run.kind == "grpo":
        said += [
            "GRPO: answers behind a shared prompt, one pass of the frozen model, one update per answer",
            "GRPO: one group of answers per GPU in the cache while generating",
        ]
    return said
