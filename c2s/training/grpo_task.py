"""From a model that was fine-tuned on a task to one that was trained on the task's rewards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from c2s.errors import ConfigError
from c2s.training.grpo import GRPOResult, train_grpo
from c2s.training.grpo_config import GRPOConfig
from c2s.training.pipeline import GENES_FILE, SPLIT_FILE, TASK_FILE, TaskModel
from c2s.training.rewards import RewardLike

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.models.loading import LanguageModel
    from c2s.sentences import CellSentences
    from c2s.tasks import Task


def train_task_grpo(
    trained: TaskModel,
    task: Task,
    data: AnnData | CellSentences,
    *,
    rewards: RewardLike | Sequence[RewardLike],
    out: str | os.PathLike[str],
    config: GRPOConfig | None = None,
    validation_cells: int = 64,
    resume: bool = False,
    show_progress: bool = True,
) -> GRPOResult:
    """Train a task's model on rewards of its answers, on the cells it was fine-tuned on.

    Parameters
    ----------
    trained
        What `train_task` made; its prompts, genes per cell and split are kept. Its weights are trained in place.
    task
        The same task.
    data
        The cells it was fine-tuned on. Answers are drawn for those of the training part.
    rewards, out, config, resume, show_progress
        As for `train_grpo`. The folder is again one that `TaskModel.load` reads; it has no calibration, which
        belonged to the weights before.
    validation_cells
        Most cells of the validation part that are answered at each evaluation, by whose rewards the best weights
        are kept; 0 keeps the last weights.

    Returns
    -------
    GRPOResult

    Raises
    ------
    ConfigError
        The model's split was not kept.
    ObsError
        These are not the data it was fine-tuned on.
    C2SError
        Whatever `train_grpo` raises.
    """
    from c2s.sentences import CellSentences, to_cell_sentences

    if trained.seen is None:
        raise ConfigError(
            f"model {trained.path}",
            [f"it has no {SPLIT_FILE} that says by their genes which cells it was fine-tuned on"],
            fix="train it with this version: c2s train sft.",
        )
    source = Path(trained.path)
    if isinstance(data, CellSentences):
        sentences = data
    else:
        sentences = to_cell_sentences(data, top_k=trained.top_k, show_progress=show_progress)
    here = trained.seen.look(data)
    cells = trained.seen.cells_of(here, "train")
    train = task.examples(sentences.select(cells), trained.templates, seed=trained.seed)
    has_held_out = trained.seen.split.sizes["validation"] > 0
    held = trained.seen.cells_of(here, "validation") if has_held_out else []
    chosen = np.sort(np.random.default_rng(trained.seed).permutation(len(held))[:validation_cells])
    validation = None
    if len(chosen):
        validation = task.examples(
            sentences.select([held[i] for i in chosen]), trained.templates, seed=trained.seed
        )

    def also_write(model: LanguageModel, folder: Path) -> None:
        for name in (TASK_FILE, SPLIT_FILE, GENES_FILE):
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)

    return train_grpo(
        trained.model,
        train,
        rewards=rewards,
        out=out,
        config=config,
        validation=validation,
        resume=resume,
        show_progress=show_progress,
        also_write=also_write,
    )
