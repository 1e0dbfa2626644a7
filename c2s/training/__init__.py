"""Training: supervised fine-tuning, its configuration and record, and training a task from cells to a model."""

from __future__ import annotations

from c2s.training.batches import encode
from c2s.training.config import SFTConfig
from c2s.training.pipeline import TaskModel, TrainedTask, train_task
from c2s.training.pretrain import pretrain_corpus
from c2s.training.record import read_record
from c2s.training.sft import TrainResult, train_sft
from c2s.training.validation import validation_loss

__all__ = [
    "SFTConfig",
    "TaskModel",
    "TrainResult",
    "TrainedTask",
    "encode",
    "pretrain_corpus",
    "read_record",
    "train_sft",
    "train_task",
    "validation_loss",
]
