"""The working folder of a run: what it was told, its checkpoints, and where a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.errors import C2SError, TrainingError
from c2s.files import atomic_output
from c2s.models.loading import LanguageModel
from c2s.training.config import BOOKKEEPING, SFTConfig
from c2s.training.record import TrainingRecord

if TYPE_CHECKING:
    import pyarrow as pa

SETTINGS_FILE = "settings.json"
BEST_FILE = "best.json"


@dataclass(frozen=True)
class Start:
    """Where a run begins: a checkpoint and its step, and the best score until then."""

    checkpoint: Path | None = None
    step: int | None = None
    best: tuple[float, int] | None = None


def run_settings(
    model: LanguageModel, examples: pa.Table, validation: pa.Table | None, config: SFTConfig, steps: int
) -> dict[str, Any]:
    """Return all that decides what a run computes."""
    return {
        "config": config.model_dump(mode="json"),
        "steps": steps,
        "examples": examples.num_rows,
        "data": table_checksum(examples),
        "validation": None if validation is None else table_checksum(validation),
        "model": model.name if model.path is None else str(model.path),
        "weights": weights_checksum(model),
    }


def table_checksum(table: pa.Table, columns: Sequence[str] = ("example_id", "prompt", "answer")) -> str:
    """Return a checksum of these columns, of those the table has; it does not depend on how they are chunked."""
    kept = table.select([c for c in columns if c in table.column_names])
    digest = hashlib.blake2b(digest_size=16)
    for batch in kept.replace_schema_metadata(None).combine_chunks().to_batches(max_chunksize=65536):
        digest.update(memoryview(batch.serialize()))
    return digest.hexdigest()


def weights_checksum(model: LanguageModel) -> str:
    """Hash the names, shapes and first values of all weights; enough to tell two models apart, at any size."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, weight in model.model.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.flatten()[:256].detach().to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()


def prepare_place(place: Path, settings: Mapping[str, Any], *, resume: bool) -> Start:
    """Make the working folder of a new run, or find where an old one stopped."""
    if place.exists():
        if not resume:
            raise TrainingError(
                f"an unfinished run is in {place}.",
                fix="pass resume=True (--resume) to go on with it, or remove that folder.",
            )
        if (place / SETTINGS_FILE).exists():
            same_settings(settings, place / SETTINGS_FILE)
            if checkpoint_steps(place):
                return newest_start(place)
        shutil.rmtree(place)  # killed before its first checkpoint
    with atomic_output(place) as temporary:
        temporary.mkdir()
        (temporary / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return Start()


def begin(place: Path, settings: Mapping[str, Any], *, resume: bool, rank: int) -> Start:
    """Let the first process prepare the working folder, and the others find it."""
    from accelerate.state import PartialState
    from accelerate.utils import broadcast_object_list

    problem: C2SError | None = None
    if rank == 0:
        try:
            start = prepare_place(place, settings, resume=resume)
        except C2SError as error:
            problem = error
    if PartialState().num_processes > 1:  # the others end too, with the reason
        told = [None if problem is None else (problem.problem, problem.fix)]
        broadcast_object_list(told, from_process=0)
        if rank and told[0] is not None:
            raise TrainingError(told[0][0], fix=told[0][1])
    if problem is not None:
        raise problem
    return start if rank == 0 else newest_start(place)


def newest_start(place: Path) -> Start:
    """Return where the newest checkpoint of a working folder begins; the beginning where there is none."""
    found = checkpoint_steps(place)
    if not found:
        return Start()
    checkpoint = place / f"checkpoint-{found[-1]}"
    best = json.loads((checkpoint / BEST_FILE).read_text(encoding="utf-8"))
    return Start(checkpoint, found[-1], (best["score"], best["step"]) if best else None)


def same_settings(settings: Mapping[str, Any], file: Path) -> None:
    """Refuse to resume a run that had other settings, and say which."""
    try:
        before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TrainingError(
            f"{file.parent} exists but was not written by a training run that can be resumed.",
            fix="choose another folder for the output.",
        ) from None
    old, new = before.get("config", {}), settings["config"]
    changed = [
        f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted({*old, *new} - BOOKKEEPING)
        if old.get(key) != new.get(key)
    ]
    said = {
        "data": "the examples",
        "validation": "the validation examples",
        "weights": "the model's first weights",
    }
    changed += [f"{text} are not the same" for key, text in said.items() if before.get(key) != settings[key]]
    if changed:
        raise TrainingError(
            f"the run in {file.parent} had other settings: {'; '.join(changed)}.",
            fix="resume with the settings it had, or write to another folder.",
        )


def out_of_patience(record: TrainingRecord, best: tuple[float, int] | None, patience: int | None) -> bool:
    """Whether `patience` evaluations in a row did not beat the best score."""
    if patience is None or best is None:
        return False
    late: int = sum(line["step"] > best[1] for line in record.evaluations)
    return late >= patience


def checkpoint_steps(place: Path) -> list[int]:
    """Return the steps of the whole checkpoints in a folder, ascending."""
    names = [p.name.removeprefix("checkpoint-") for p in place.glob("checkpoint-*") if (p / BEST_FILE).exists()]
    return sorted(int(name) for name in names if name.isdigit())
