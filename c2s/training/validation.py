"""Scores of a model while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s.errors import TrainingError
from c2s.models.loading import LanguageModel
from c2s.training.batches import IGNORED, Collator
from c2s.training.config import SFTConfig
from c2s.training.generators import isolated_generators

if TYPE_CHECKING:
    import pyarrow as pa

#: Scores a model during training: a mapping with ``"score"``, higher for better models.
Evaluate = Callable[[LanguageModel], Mapping[str, float]]


def joined_evaluation(
    model: LanguageModel, config: SFTConfig, validation: pa.Table | None, evaluate: Evaluate | None
) -> Callable[[], dict[str, float]] | None:
    """Join the validation loss and the handed-in evaluation into one function."""
    if validation is None and evaluate is None:
        return None

    def run() -> dict[str, float]:
        import torch

        model.model.eval()
        numbers: dict[str, float] = {}
        # Whatever an evaluation draws, training goes on as if it had not been there.
        with isolated_generators(), torch.no_grad():
            if validation is not None:
                numbers["loss"] = validation_loss(
                    model, validation, loss=config.loss, batch_size=config.batch_size
                )
                numbers["score"] = -numbers["loss"]
            if evaluate is not None:
                numbers |= {key: float(value) for key, value in evaluate(model).items()}
        if "score" not in numbers:
            raise TrainingError(
                f"evaluate returned {', '.join(numbers) or 'nothing'}, but no 'score'.",
                fix="return a mapping with 'score', higher for better models.",
            )
        return numbers

    return run


def validation_loss(
    model: LanguageModel, examples: pa.Table, *, loss: Any = "answer", batch_size: int = 16
) -> float:
    """Return the mean next-token loss over all labels of `examples`, without augmentation."""
    import torch

    from c2s.training.trainer import next_token_loss

    collate = Collator(
        examples, model.tokenizer, augment=None, loss=loss, seed=0, context_length=model.context_length
    )
    total, count = 0.0, 0
    with torch.no_grad():
        for first in range(0, examples.num_rows, batch_size):
            rows = range(first, min(first + batch_size, examples.num_rows))
            batch = collate([{"example": row, "epoch": 0} for row in rows])
            labels = batch["labels"].to(model.device)
            total += float(next_token_loss(model.model, batch["input_ids"].to(model.device), labels, 1))
            count += int((labels != IGNORED).sum())
    return total / count


def example_losses(
    model: LanguageModel, examples: pa.Table, *, loss: Any = "answer", batch_size: int = 16
) -> npt.NDArray[np.float64]:
    """Return each example's mean next-token loss over its own labels, in nats, float64 of shape (examples,).

    Examples of like length share a forward pass; which ones changes no value but by rounding.
    """
    import torch

    from c2s.inference.batching import evaluating
    from c2s.training.trainer import label_losses

    collate = Collator(
        examples, model.tokenizer, augment=None, loss=loss, seed=0, context_length=model.context_length
    )
    result = np.empty(examples.num_rows, dtype=np.float64)
    texts = zip(examples["prompt"].to_pylist(), examples["answer"].to_pylist(), strict=True)
    order = np.argsort([len(prompt) + len(answer) for prompt, answer in texts], kind="stable")
    with evaluating(model) as network, torch.no_grad():
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            batch = collate([{"example": int(row), "epoch": 0} for row in rows])
            values, wanted = label_losses(
                network, batch["input_ids"].to(model.device), batch["labels"].to(model.device)
            )
            sums = torch.zeros(len(rows), dtype=torch.float64, device=values.device)
            sums.index_add_(0, wanted.nonzero()[:, 0], values.double())
            result[rows] = (sums / wanted.sum(1)).cpu().numpy()
    return result
