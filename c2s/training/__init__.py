"""Training: supervised fine-tuning, its configuration and record, and training a task from cells to a model."""

from __future__ import annotations

from c2s.training.batches import encode
from c2s.training.config import SFTConfig
from c2s.training.grpo import GRPOResult, train_grpo
from c2s.training.grpo_config import GRPOConfig
from c2s.training.pipeline import TaskModel, TrainedTask, train_task
from c2s.training.pretrain import pretrain_corpus
from c2s.training.record import read_record
from c2s.training.reward_evaluation import reward_evaluation
from c2s.training.rewards import WeightedReward, resolve_rewards, score_answers
from c2s.training.seen import SeenCells
from c2s.training.sft import TrainResult, train_sft
from c2s.training.validation import validation_loss

__all__ = [
    "GRPOConfig",
    "GRPOResult",
    "SFTConfig",
    "SeenCells",
    "TaskModel",
    "TrainResult",
    "TrainedTask",
    "WeightedReward",
    "encode",
    "pretrain_corpus",
    "read_record",
    "resolve_rewards",
    "reward_evaluation",
    "score_answers",
    "train_grpo",
    "train_sft",
    "train_task",
    "validation_loss",
]
