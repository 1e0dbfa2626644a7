"""The model folder and the task that a command was given, checked against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from c2s.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from c2s.tasks import Task
    from c2s.training import TaskModel


def load_trained(
    folder: Path, task: str | None, *, device: str = "auto", dtype: str = "auto"
) -> tuple[TaskModel, Task]:
    """Load a model folder and make the task it was trained on.

    Raises
    ------
    ConfigError
        `task` is not the task the model was trained on.
    ModelError
        The folder holds no trained task, or its task comes from a plugin that is not installed.
    """
    from c2s.errors import RegistryError
    from c2s.plugins import default_host
    from c2s.training import TaskModel

    trained = TaskModel.load(folder, device=device, dtype=dtype)
    if task is not None and task != trained.task_name:
        raise ConfigError(
            f"model {folder}",
            [f"it was trained on task {trained.task_name!r}, not on {task!r}"],
            fix=f"name the task {trained.task_name} (--task {trained.task_name}), or give another model.",
        )
    try:
        found = default_host().tasks.get(trained.task_name)
    except RegistryError as error:
        raise ModelError(
            f"model {folder} was trained on task {trained.task_name!r}, which no installed plugin provides.",
            fix="pip install the plugin that it was trained with; `c2s plugins list` shows what is installed.",
        ) from error
    return trained, found.from_options(trained.options)
