"""Answers written to a file as they come, so that a run that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from c2s.errors import ConfigError, InputFileError, OutputError, PromptError
from c2s.files import atomic_output
from c2s.inference.batching import as_texts
from c2s.inference.constrain import Constraint
from c2s.inference.sampling import Sampling
from c2s.inference.stopping import check_stop
from c2s.progress import progress

if TYPE_CHECKING:
    import pyarrow as pa

    from c2s.models import LanguageModel

#: Requests whose answers are written together; what a kill loses at most.
EVERY = 256
_FORMAT = "c2s answers 1"


class Writes(Protocol):
    """Answers prompts; what `generate_to` calls, part by part."""

    def __call__(self, prompts: Sequence[str], request_ids: Sequence[str]) -> list[str]:
        """Return one answer per prompt."""


def generate_to(
    path: str | os.PathLike[str],
    model: LanguageModel,
    requests: Mapping[str, str] | pa.Table,
    *,
    constraint: Constraint | None = None,
    every: int = EVERY,
    tokens_per_batch: int | None = None,
    show_progress: bool = True,
    **settings: Any,
) -> Path:
    """Answer requests and write each answer down, going on with what an earlier, interrupted call wrote.

    An answer depends on its prompt, its id and the settings alone, so a file that was written in two goes holds
    what one go would have written, though perhaps in another order.

    Parameters
    ----------
    path
        ``NAME.jsonl``: one line per answer behind a first line with the settings. Any other name is a folder of
        Parquet parts with ``settings.json``.
    model
        A causal language model and its tokenizer.
    requests
        Prompts by id, or a table with the columns ``example_id`` and ``prompt``.
    constraint
        As for `generate`.
    every
        Requests whose answers are written together.
    tokens_per_batch, show_progress
        As for `generate`; they change no answer.
    **settings
        The other settings of `generate`: temperature, seed, max_new_tokens ...

    Returns
    -------
    pathlib.Path
        `path`, which holds every answer; read it with `read_answers`.

    Raises
    ------
    OutputError
        The file holds answers of another model or of other settings (the message shows the difference), or of
        requests that are not among these.
    InputFileError
        The file is something else.
    ConfigError
        A setting is out of range or unknown.
    """
    from c2s.inference.generate import generate

    sampling = sampling_of(settings)

    def write(prompts: Sequence[str], request_ids: Sequence[str]) -> list[str]:
        return generate(
            model,
            prompts,
            request_ids=request_ids,
            constraint=constraint,
            tokens_per_batch=tokens_per_batch,
            **sampling.as_json(),
        )

    identity = {"model": fingerprint(model), "engine": "transformers"}
    return write_answers(path, write, requests, sampling, constraint, identity, every, show_progress)


def sampling_of(settings: Mapping[str, Any]) -> Sampling:
    """Return the settings of keyword arguments; raise `ConfigError` for one that does not exist."""
    unknown = sorted(set(settings) - set(Sampling.__dataclass_fields__))
    if unknown:
        raise ConfigError(
            "generation",
            [f"there is no setting {name!r}" for name in unknown],
            fix=f"the settings are {', '.join(Sampling.__dataclass_fields__)}.",
        )
    return Sampling(**settings)


def write_answers(
    path: str | os.PathLike[str],
    write: Writes,
    requests: Mapping[str, str] | pa.Table,
    sampling: Sampling,
    constraint: Constraint | None,
    identity: Mapping[str, str],
    every: int,
    show_progress: bool,
) -> Path:
    """Do what `generate_to` does with any function that answers prompts."""
    wanted = _checked_requests(requests)
    check_stop(sampling.stop, constraint)
    if every < 1:
        raise ConfigError("generation", [f"every is {every}, not at least 1"], fix="leave it out, or pass 256.")
    what = None if constraint is None else constraint.as_json()
    settings = {
        "format": _FORMAT,
        **identity,
        **sampling.as_json(),
        # A vocabulary may be long, and its hash tells as much.
        "constraint": None if what is None else f"{what['kind']} {_digest(json.dumps(what, sort_keys=True))}",
    }
    store = _Lines(Path(path)) if Path(path).suffix == ".jsonl" else _Parts(Path(path))
    done = store.open(settings)
    strange = sorted(set(done) - set(wanted))
    if strange:
        raise OutputError(
            f"{path} holds {len(strange)} answer(s) to requests that are not among these, first {strange[0]!r}.",
            fix="write to another path, or pass the requests it was begun with.",
        )
    changed = [i for i, prompt in done.items() if prompt != _digest(wanted[i])]
    if changed:
        raise OutputError(
            f"{path} holds {len(changed)} answer(s) to other prompts of the same id, first {changed[0]!r}.",
            fix="write to another path, or pass the requests it was begun with.",
        )
    waiting = [i for i in wanted if i not in done]
    with progress("generating", len(wanted), enabled=show_progress) as advance:
        advance(len(done))
        for start in range(0, len(waiting), every):
            ids = waiting[start : start + every]
            prompts = [wanted[i] for i in ids]
            answers = write(prompts, ids)
            store.append([(i, _digest(p), a) for i, p, a in zip(ids, prompts, answers, strict=True)])
            advance(len(ids))
    return Path(path)


def read_answers(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the answers of a file that `generate_to` wrote, by id; also while it is still being written.

    Raises
    ------
    InputFileError
        The file is missing or something else.
    """
    place = Path(path)
    if not place.exists():
        raise InputFileError(f"there is no file {place}.", fix="generate_to(path, model, requests) writes it.")
    store = _Lines(place) if place.suffix == ".jsonl" else _Parts(place)
    return {i: answer for i, _, answer in store.read()[1]}


def fingerprint(model: LanguageModel) -> str:
    """Return a hash of a model's family, its tokenizer and its weights (their sums, and some of their values)."""
    parts = [model.model.config.model_type, str(model.model.dtype)]
    parts.append(_digest(json.dumps(sorted(model.tokenizer.get_vocab().items()))))
    for name, tensor in sorted(model.model.state_dict().items()):
        flat = tensor.detach().flatten()
        some = flat[:: max(1, flat.numel() // 64)][:64].to("cpu", torch.float64).numpy()
        # The sum notices a change that the drawn values missed.
        parts.append(
            f"{name} {tuple(tensor.shape)} {some.tobytes().hex()} {float(flat.sum(dtype=torch.float64)):.9g}"
        )
    return _digest("\n".join(parts))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _checked_requests(requests: Mapping[str, str] | pa.Table) -> dict[str, str]:
    if isinstance(requests, Mapping):
        ids, prompts = list(requests), as_texts(list(requests.values()))
    else:
        missing = [name for name in ("example_id", "prompt") if name not in requests.column_names]
        if missing:
            raise PromptError(
                f"the requests have no column {missing[0]!r}.",
                fix="pass a table with example_id and prompt, or a dictionary of prompts by id.",
            )
        ids, prompts = requests["example_id"].to_pylist(), as_texts(requests["prompt"])
    wrong = [i for i in ids if not isinstance(i, str)]
    if wrong or len(set(ids)) < len(ids):
        which = wrong[0] if wrong else next(i for n, i in enumerate(ids) if i in set(ids[:n]))
        raise PromptError(
            f"the request id {which!r} is {'not a text' if wrong else 'given more than once'}.",
            fix="give every request an id of its own.",
        )
    return dict(zip(ids, prompts, strict=True))


def _refuse_other(path: Path, found: Any, settings: dict[str, Any]) -> None:
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise InputFileError(f"{path} was not written by generate_to.", fix="write to another path.")
    differing = [
        f"{name} was {found.get(name)!r}, is {settings.get(name)!r}"
        for name in sorted({*found, *settings})
        if found.get(name) != settings.get(name)
    ]
    if differing:
        other = "model" if any(d.startswith("model ") for d in differing) else "run"
        raise OutputError(
            f"{path} holds answers of another {other}: {'; '.join(differing)}.",
            fix="write to another path, or use the model and settings it was begun with.",
        )


Row = tuple[str, str, str]  # id, hash of the prompt, answer


class _Lines:
    """One JSON line per answer. A line that was cut off by a kill is taken away before the next is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Any, list[Row], int]:
        """Return the settings, the answers, and how many bytes of the file are whole lines."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        try:
            lines = [json.loads(line) for line in content[:whole].splitlines()]
            head, rows = (lines[0] if lines else None), [(x["id"], x["prompt"], x["answer"]) for x in lines[1:]]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputFileError(
                f"{self.path} is not a file of answers: {type(error).__name__}.", fix="write to another path."
            ) from error
        return head, rows, whole

    def open(self, settings: dict[str, Any]) -> dict[str, str]:
        if not self.path.exists():
            with atomic_output(self.path) as temporary:
                temporary.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        head, rows, whole = self.read()
        _refuse_other(self.path, head, settings)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)
        return {i: prompt for i, prompt, _ in rows}

    def append(self, rows: Sequence[Row]) -> None:
        lines = [json.dumps({"id": i, "prompt": p, "answer": a}, ensure_ascii=False) + "\n" for i, p, a in rows]
        with self.path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())


class _Parts:
    """A folder of Parquet files, each of which is there whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[Any, list[Row], int]:
        """Return the settings, the answers, and the number of the next part."""
        import pyarrow.parquet as pq

        if not (self.path / "settings.json").is_file():
            raise InputFileError(f"{self.path} was not written by generate_to.", fix="write to another path.")
        head = json.loads((self.path / "settings.json").read_text(encoding="utf-8"))
        rows: list[Row] = []
        parts = sorted(self.path.glob("part-*.parquet"))
        for part in parts:
            table = pq.read_table(part)
            rows += zip(*(table[name].to_pylist() for name in ("id", "prompt", "answer")), strict=True)
        # By the highest number, not by how many there are: somebody may have taken a part away.
        numbers = [int(found[1]) for part in parts if (found := re.fullmatch(r"part-(\d+)", part.stem))]
        return head, rows, max(numbers, default=-1) + 1

    def open(self, settings: dict[str, Any]) -> dict[str, str]:
        if not self.path.exists():
            with atomic_output(self.path) as temporary:
                temporary.mkdir()
                (temporary / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        head, rows, self.next = self.read()
        _refuse_other(self.path, head, settings)
        return {i: prompt for i, prompt, _ in rows}

    def append(self, rows: Sequence[Row]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(("id", "prompt", "answer"), zip(*rows, strict=True), strict=True))
        with atomic_output(self.path / f"part-{self.next:06d}.parquet") as temporary:
            pq.write_table(
                pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()}), temporary
            )
        self.next += 1
