"""How good one answer is, for reinforcement learning (section 4.5.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2s import RankExpressionModel, Reward
from c2s.errors import ConfigError
from c2s_generation.answers import cells_of

if TYPE_CHECKING:
    from c2s.tasks import Transform

#: Lowest value of `embedding_reward`, in units of its scale.
_WORST = -10.0


def cell_overlap_f1(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give the F1 between the genes written and those of the real cell, repeats counting as wrong.

    Overlap alone (section 4.4) is a recall, and grows with the length of the answer. Of a sample, cells are
    compared in order, and one too many or too few counts 0. None where the truth is unknown: the reward does not
    apply.
    """
    return [_mean_over_cells(given, truth, _f1) for given, truth in zip(answers, answer, strict=True)]


def cell_rank_distance(
    prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
) -> list[float | None]:
    """Give minus the Bray-Curtis distance of expression between the cell written and the real one, in [-1, 0].

    Expression falls with the logarithm of the rank, as in the inverse of section 4.2, so that the first genes
    weigh most and their order counts. A repeated word is a gene that no cell has. None where the truth is unknown.
    """
    pairs = zip(answers, answer, strict=True)
    values = [_mean_over_cells(given, truth, lambda a, b: 1 - _bray_curtis(a, b)) for given, truth in pairs]
    return [None if value is None else value - 1 for value in values]


def _mean_over_cells(
    given: str, truth: str | None, likeness: Callable[[list[str], list[str]], float]
) -> float | None:
    """Average a likeness in [0, 1] over cells in order; a cell without a partner is like nothing."""
    true, written = cells_of(truth), cells_of(given)
    if not true:
        return None
    pairs = zip(written, true, strict=False)
    return sum(likeness(a, b) for a, b in pairs) / max(len(true), len(written))


def _f1(written: list[str], true: list[str]) -> float:
    return 2 * len(set(written) & set(true)) / (len(written) + len(true))


def _bray_curtis(written: list[str], true: list[str]) -> float:
    longest = max(len(written), len(true))
    expression = 1 - np.log(np.arange(1, longest + 1)) / np.log(longest + 1)
    first: dict[str, float] = {}
    apart = 0.0
    for word, value in zip(written, expression, strict=False):
        apart += value * (word in first)
        first.setdefault(word, value)
    second = dict(zip(true, expression, strict=False))
    apart += sum(abs(first.get(gene, 0.0) - second.get(gene, 0.0)) for gene in {*first, *second})
    return float(apart / (expression[: len(written)].sum() + expression[: len(true)].sum()))


def embedding_reward(
    transform: Transform,
    inverse: RankExpressionModel,
    genes: Sequence[str],
    *,
    scale: float = 1.0,
    name: str = "cell_embedding",
) -> Reward:
    """Make the reward of section 4.6.9: minus the mean squared error to the real cell in an embedding.

    Parameters
    ----------
    transform
        A fitted `c2s.Embedder`; the paper takes scGPT.
    inverse
        Makes expression of the genes written, and of the real cell's sentence.
    genes
        The genes that the embedder knows.
    scale
        What the error is divided by; the error between two random real cells makes rewards comparable.
    name
        Name of the reward.

    Returns
    -------
    Reward
        In [-10, 0]; -10 for an answer without a known gene. Only for answers of one cell.

    Raises
    ------
    ConfigError
        The scale is not positive.
    """
    if not 0 < scale < np.inf:
        raise ConfigError("embedding_reward", [f"scale is {scale}"], fix="pass a positive number.")
    known = set(genes)

    def vectors(texts: Sequence[str]) -> npt.NDArray[np.float64]:
        return np.asarray(transform(inverse.invert(list(texts), list(genes))), dtype=np.float64)

    def reward(
        prompts: Sequence[str], answers: Sequence[str], *, answer: Sequence[str | None], **columns: object
    ) -> list[float | None]:
        values: list[float | None] = [None if truth is None else _WORST for truth in answer]
        pairs = [
            (i, given, truth)
            for i, (given, truth) in enumerate(zip(answers, answer, strict=True))
            if truth is not None and known.intersection(given.split())
        ]
        if pairs:
            places, written, true = zip(*pairs, strict=True)
            errors = ((vectors(written) - vectors(true)) ** 2).mean(axis=1)
            for i, error in zip(places, errors, strict=True):
                values[i] = max(_WORST, -float(error) / scale)
        return values

    return Reward(name, reward, range=(_WORST, 0.0))


OVERLAP_F1 = Reward("cell_overlap_f1", cell_overlap_f1)
RANK_DISTANCE = Reward("cell_rank_distance", cell_rank_distance, range=(-1.0, 0.0))
