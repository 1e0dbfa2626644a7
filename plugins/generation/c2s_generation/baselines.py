"""Cells without a language model: real ones drawn again, the mean ranking of a condition, genes drawn one by one.

All are functions of the training cells' sentences. A test cell lends its conditions, never its genes. Where no
training cell has its conditions (they were held out), those that share most of them stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2s import Baseline
from c2s.errors import PluginError
from c2s.prompts import stable_hash
from c2s_generation.conditions import condition_table

if TYPE_CHECKING:
    from anndata import AnnData


def resampled_cells(
    train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0, conditions: Sequence[str] = ()
) -> list[str]:
    """Answer with a training cell of the same conditions, drawn at random: a ceiling, since the cell is real."""
    drawn = []
    for name, rows in zip(test.obs_names, _rows_of(train, answers, test, conditions), strict=True):
        drawn.append(answers[rows[stable_hash("resampled", name, seed) % len(rows)]])
    return drawn


def mean_ranking(
    train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0, conditions: Sequence[str] = ()
) -> list[str]:
    """Answer with the genes of the best mean rank among the training cells of the same conditions.

    A gene that a cell does not list counts as behind its last one. As many genes as such a cell has in the median;
    of equals the first by symbol. All test cells of a condition get the same answer.
    """
    made: dict[bytes, str] = {}
    result = []
    for rows in _rows_of(train, answers, test, conditions):
        if rows.tobytes() not in made:
            genes, ranks = _ranks([answers[i] for i in rows])
            behind = ranks.max() + 1
            mean = np.where(ranks > 0, ranks, behind).mean(axis=0)
            length = int(np.median((ranks > 0).sum(axis=1)))
            made[rows.tobytes()] = " ".join(genes[i] for i in np.lexsort((genes, mean))[:length])
        result.append(made[rows.tobytes()])
    return result


def independent_genes(
    train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0, conditions: Sequence[str] = ()
) -> list[str]:
    """Draw the rank of each gene from a training cell of its own, and sort: right gene by gene, but not together.

    What a real cell has beyond this is how genes go together.
    """
    made: dict[bytes, tuple[npt.NDArray[np.str_], npt.NDArray[np.int64]]] = {}
    result = []
    for name, rows in zip(test.obs_names, _rows_of(train, answers, test, conditions), strict=True):
        if rows.tobytes() not in made:
            made[rows.tobytes()] = _ranks([answers[i] for i in rows])
        genes, ranks = made[rows.tobytes()]
        rng = np.random.default_rng(stable_hash("independent", name, seed))
        drawn = ranks[rng.integers(len(ranks), size=ranks.shape[1]), np.arange(ranks.shape[1])]
        length = int((ranks[rng.integers(len(ranks))] > 0).sum())
        order = np.lexsort((rng.random(len(drawn)), drawn))
        result.append(" ".join([genes[i] for i in order if drawn[i]][:length]))
    return result


def _rows_of(
    train: AnnData, answers: Sequence[str], test: AnnData, conditions: Sequence[str]
) -> list[npt.NDArray[np.int64]]:
    """Return, per test cell, the training cells that share most of its conditions."""
    if not len(answers) or len(answers) != train.n_obs:
        raise PluginError(
            f"{train.n_obs} training cells have {len(answers)} answers.",
            fix="give one sentence per training cell.",
        )
    known = condition_table(train.obs, conditions).to_numpy(str).reshape(train.n_obs, -1)
    asked = condition_table(test.obs, conditions).to_numpy(str).reshape(test.n_obs, -1)
    found: dict[tuple[str, ...], npt.NDArray[np.int64]] = {}
    for row in {tuple(row) for row in asked}:
        shared = (known == np.array(row)).sum(axis=1) if row else np.zeros(len(known))
        found[row] = np.flatnonzero(shared == shared.max()).astype(np.int64)
    return [found[tuple(row)] for row in asked]


def _ranks(sentences: Sequence[str]) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.int64]]:
    """Return the genes of these sentences, sorted, and their ranks ``[cells, genes]`` from 1; 0 where absent."""
    lists = [sentence.split() for sentence in sentences]
    genes = sorted({gene for words in lists for gene in words})
    place = {gene: i for i, gene in enumerate(genes)}
    ranks = np.zeros((len(lists), len(genes)), dtype=np.int64)
    for row, words in zip(ranks, lists, strict=True):
        row[[place[gene] for gene in words]] = np.arange(1, len(words) + 1)
    return np.array(genes), ranks


_TYPE = ("cell_type",)
RESAMPLED = Baseline("resampled_cell", resampled_cells)
MEAN = Baseline("mean_ranking", mean_ranking)
INDEPENDENT = Baseline("independent_genes", independent_genes)
RESAMPLED_OF_TYPE = Baseline("resampled_cell_of_type", partial(resampled_cells, conditions=_TYPE))
MEAN_OF_TYPE = Baseline("mean_ranking_of_type", partial(mean_ranking, conditions=_TYPE))
INDEPENDENT_OF_TYPE = Baseline("independent_genes_of_type", partial(independent_genes, conditions=_TYPE))
