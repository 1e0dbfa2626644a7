"""Rewards of a model's answers, while it trains and afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from c2s.errors import TrainingError
from c2s.training.generators import isolated_generators
from c2s.training.grpo_config import GRPOConfig
from c2s.training.rewards import RewardLike, WeightedReward, as_rewards, score_answers, total_reward
from c2s.training.validation import Evaluate

if TYPE_CHECKING:
    import pyarrow as pa

    from c2s.models.loading import LanguageModel


def reward_evaluation(
    model: LanguageModel,
    examples: pa.Table,
    rewards: RewardLike | Sequence[RewardLike],
    *,
    max_answer_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Answer each example once and return its rewards.

    Parameters
    ----------
    model
        The model.
    examples
        As for `train_grpo`.
    rewards
        What to measure.
    max_answer_tokens, temperature, top_p, seed
        Of the draws; an example's draw depends on the seed, its prompt and its id alone.

    Returns
    -------
    dict
        float64 ``[examples]`` for each reward by name, NaN where it does not apply, and their weighted sum as
        ``"reward"``.
    """
    from c2s.inference import generate

    wanted = as_rewards(rewards)
    columns = {name: examples[name].to_pylist() for name in examples.column_names}
    answers = generate(
        model,
        columns["prompt"],
        max_new_tokens=max_answer_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        request_ids=columns["example_id"],
    )
    values = score_answers(wanted, columns["prompt"], answers, columns)
    return {weighted.name: values[:, i] for i, weighted in enumerate(wanted)} | {
        "reward": total_reward(values, wanted)
    }


def joined_reward_evaluation(
    model: LanguageModel,
    validation: pa.Table | None,
    rewards: Sequence[WeightedReward],
    config: GRPOConfig,
    evaluate: Evaluate | None,
) -> Callable[[], dict[str, float]] | None:
    """Join the rewards on the validation examples and the handed-in evaluation into one function."""
    if validation is None and evaluate is None:
        return None

    def run() -> dict[str, float]:
        numbers: dict[str, float] = {}
        with isolated_generators():
            if validation is not None:
                values = reward_evaluation(
                    model,
                    validation,
                    rewards,
                    max_answer_tokens=config.max_answer_tokens,
                    temperature=config.temperature,
                    top_p=config.top_p,
                    seed=config.seed,
                )
                numbers = {
                    name if name == "reward" else f"reward/{name}": float(np.nanmean(each))
                    for name, each in values.items()
                    if not np.isnan(each).all()
                }
                numbers["score"] = numbers["reward"]
            if evaluate is not None:
                model.model.eval()
                numbers |= {key: float(value) for key, value in evaluate(model).items()}
        if "score" not in numbers:
            raise TrainingError(
                f"evaluate returned {', '.join(numbers) or 'nothing'}, but no 'score'.",
                fix="return a mapping with 'score', higher for better models.",
            )
        return numbers

    return run
