"""The per-step record of a training run: JSON lines, one per step and one per evaluation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from c2s.errors import TrainingError


class TrainingRecord:
    """Appends to ``train.jsonl``; every line is on disk before the next step begins.

    The line of a step holds ``step``, ``epoch``, ``loss``, ``learning_rate``, ``grad_norm``, ``tokens`` and
    ``seconds``; an evaluation's holds ``step`` and ``evaluation``.

    Parameters
    ----------
    path
        The file.
    up_to
        Keep the lines of steps up to this one and cut off the rest, so that a resumed run repeats none; None keeps
        nothing.
    """

    def __init__(self, path: Path, *, up_to: int | None = None) -> None:
        kept = [] if up_to is None else [line for line in read_record(path) if line["step"] <= up_to]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)
        self.path, self.lines = path, kept

    def add(self, line: dict[str, Any]) -> None:
        """Append one line."""
        self.lines.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of evaluations."""
        return [line for line in self.lines if "evaluation" in line]


def read_record(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the lines of a record; a last line that was cut off by a kill is left out.

    Raises
    ------
    TrainingError
        The file is missing, or a line other than the last is not JSON.
    """
    place = Path(path)
    try:
        texts = place.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise TrainingError(f"the record {place} cannot be read: {error.strerror}.", fix="train again.") from None
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json.loads(text))
        except ValueError:
            if number == len(texts):
                break
            raise TrainingError(
                f"line {number} of {place} is not JSON.", fix="train again without resume."
            ) from None
    return lines
