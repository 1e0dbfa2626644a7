"""What a trainer looks out for: a loss that climbs, memory that runs out, and where its record is also sent."""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c2s.errors import ConfigError

#: Steps whose mean loss is compared; single steps jump.
WINDOW = 20
#: Folder of TensorBoard's files, in the working folder and then in the model's.
TENSORBOARD_FOLDER = "tensorboard"


class DivergenceWatch:
    """Tells when the loss climbs and stays up.

    Parameters
    ----------
    nats
        How far the mean loss of `WINDOW` steps may be above the lowest such mean; None for any distance.
    losses
        Losses of the steps before, of a resumed run.
    """

    def __init__(self, nats: float | None, losses: Sequence[float] = ()) -> None:
        self.nats = nats
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._lowest = float("inf")
        for loss in losses:
            self.problem(loss)

    def problem(self, loss: float) -> str | None:
        """Take in the loss of a step; return what is wrong, or None."""
        self._last.append(loss)
        if len(self._last) < WINDOW:
            return None
        mean = sum(self._last) / WINDOW
        self._lowest = min(self._lowest, mean)
        if self.nats is None or mean - self._lowest <= self.nats:
            return None
        return f"the mean loss of {WINDOW} steps is {mean:.2f} and was {self._lowest:.2f}"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that memory ran out, on a GPU or on a CPU."""
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text


def check_reports(names: Sequence[str]) -> None:
    """Refuse to report to a tool that is not installed.

    Raises
    ------
    ConfigError
        Names the tools, and the command that installs them.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            "training configuration",
            [f"report_to names {name!r}, which is not installed" for name in missing],
            fix=f"python -m pip install {' '.join(missing)}, or leave report_to out.",
        )


def reporting_callbacks(trainer: Any) -> list[Any]:
    """Return those of a trainer's callbacks that send numbers somewhere; TensorBoard writes into its folder."""
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    wanted = tuple(get_reporting_integration_callbacks(list(trainer.args.report_to or ())))
    found = [
        callback for callback in trainer.callback_handler.callbacks if wanted and isinstance(callback, wanted)
    ]
    for callback in found:
        if hasattr(callback, "tb_writer") and "TENSORBOARD_LOGGING_DIR" not in os.environ:
            # One folder for the whole run, so that a resumed one draws on in the same curves.
            callback.logging_dir = str(Path(trainer.args.output_dir) / TENSORBOARD_FOLDER)
    return found
