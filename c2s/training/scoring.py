"""What a task's validation examples say of a model while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from c2s.models.loading import LanguageModel
from c2s.prompts import stable_hash
from c2s.tasks import Metric, Task

if TYPE_CHECKING:
    from c2s.inference import Calibration


class AnswerScoring:
    """The task's metrics of answers that are generated, greedily, for some validation examples.

    Parameters
    ----------
    examples
        Validation examples.
    metrics
        The first one's headline value is the score; where lower is better, its negative.
    task
        Reads the answers.
    most
        How many examples are answered: always the same ones, whatever their order.
    """

    def __init__(self, examples: pa.Table, metrics: Sequence[Metric], task: Task, most: int) -> None:
        order = np.argsort([stable_hash("evaluated", name) for name in examples["example_id"].to_pylist()])
        self.examples = examples.take(np.sort(order[:most]))
        self.metrics, self.task = tuple(metrics), task

    def __call__(self, model: LanguageModel) -> dict[str, float]:
        """Answer the examples, and measure the answers."""
        from c2s.inference.predict import predict_examples

        answered = predict_examples(
            model, self.examples, parse=self.task.parse, max_new_tokens=self.task.longest_answer
        )
        predictions = answered["prediction"].to_pylist()
        columns = {name: self.examples[name].to_pylist() for name in self.examples.column_names}
        references = columns.pop("answer")
        numbers: dict[str, float] = {}
        for metric in self.metrics:
            numbers |= metric.function(predictions, references, **columns)
        first = self.metrics[0]
        sign = 1.0 if first.higher_is_better else -1.0
        return {"score": sign * numbers[first.name], **numbers}


class CandidateScoring:
    """Accuracy of the most probable candidate on the validation examples; called during training."""

    def __init__(self, examples: pa.Table, candidates: Sequence[str]) -> None:
        self.prompts: list[str] = examples["prompt"].to_pylist()
        self.candidates = list(candidates)
        place = {label: i for i, label in enumerate(self.candidates)}
        # A label that no training cell had cannot be chosen: it counts as wrong, and is left out of calibration.
        self.truth = np.array([place.get(answer, -1) for answer in examples["answer"].to_pylist()])

    def __call__(self, model: LanguageModel) -> dict[str, float]:
        """Score the candidates of every example."""
        log_probs = self._score(model)
        known = self.truth >= 0
        accuracy = float((log_probs.argmax(axis=1) == self.truth).mean())
        top = log_probs.max(axis=1, keepdims=True)
        normalised = log_probs - top - np.log(np.exp(log_probs - top).sum(axis=1, keepdims=True))
        nll = float(-normalised[known, self.truth[known]].mean()) if known.any() else float("inf")
        # Few validation cells make ties of accuracy common; the likelihood breaks them, and no more than that.
        tie_break = min(nll, 100.0) / 100.0 / (2 * len(self.truth))
        return {"score": accuracy - tie_break, "accuracy": accuracy, "nll": min(nll, 1e6)}

    def calibrate(self, model: LanguageModel) -> Calibration | None:
        """Fit the temperature on the validation examples."""
        from c2s.inference import Calibration

        known = self.truth >= 0
        if not known.any() or len(self.candidates) < 2:
            return None
        return Calibration.fit(self._score(model)[known], self.truth[known])

    def _score(self, model: LanguageModel) -> np.ndarray[Any, np.dtype[np.float64]]:
        from c2s.inference import score

        return score(model, self.prompts, self.candidates).log_probs
