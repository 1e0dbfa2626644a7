"""How real generated cells are: against real cells of the same conditions, and against the training cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from c2s import RankExpressionModel, parse_sentences, to_cell_sentences
from c2s.errors import C2SWarning, MetricError
from c2s.metrics import bootstrap_mean, distance_per_condition, frechet_distance, median_bandwidth, mmd
from c2s.metrics.distributions import MULTIPLES
from c2s_generation.conditions import condition_table, described_rows
from c2s_generation.markers import marker_genes, presence, recovery

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.tasks import Embedder, Transform

Floats = npt.NDArray[np.float64]
#: Conditions with fewer cells than this on either side have no distance between clouds.
LEAST_CELLS = 5
#: A cell that shares this much of the genes it has together with a training cell (Jaccard) is a near copy.
NEAR_COPY = 0.9
#: Measures, and whether more is better; None where the value of real cells is what to come near to.
MEASURES: Mapping[str, bool | None] = {
    "overlap": True,
    "overlap with the nearest": True,
    "scFID": False,
    "MMD": False,
    "markers recovered": True,
    "markers present": True,
    "spread": None,
    "same as another": None,
    "copies of training cells": None,
    "near copies": None,
    "likeness to the nearest training cell": None,
    "unknown words": False,
    "repeated words": False,
}


@dataclass(frozen=True)
class CellTexts:
    """Cells as sentences, with the condition of each.

    Attributes
    ----------
    sentences
        Genes in descending expression.
    conditions
        What `Yardstick` calls the conditions, one per cell: ``cell type : B cell``.
    """

    sentences: tuple[str, ...]
    conditions: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.sentences) != len(self.conditions) or not self.sentences:
            raise MetricError(
                f"{len(self.sentences)} cells have {len(self.conditions)} conditions.",
                fix="give one condition per cell, and at least one cell.",
            )

    @classmethod
    def of(cls, adata: AnnData, conditions: Sequence[str], *, top_k: int | None = None) -> CellTexts:
        """Read cells: those that `generate_cells` wrote keep their sentences, others are made into sentences."""
        known = described_rows(condition_table(adata.obs, conditions))
        if "cell_sentence" in adata.obs:
            texts = adata.obs["cell_sentence"].astype(str).tolist()
        else:
            texts = to_cell_sentences(adata, top_k=top_k, obs_columns=[]).table["cell_sentence"].to_pylist()
        return cls(tuple(texts), tuple(known))


class Yardstick:
    """Real cells to compare generated ones with.

    Real cells are read as their sentences too, so that what a sentence loses is not counted against generated
    cells: resampled real cells then show what the best possible value is.

    Parameters
    ----------
    train
        Training cells (normalised): the embedder and the markers are learned from them, and copies sought among
        them.
    real
        Real cells that were not trained on, to compare with.
    conditions
        Columns of both; none compares all cells with all.
    embedder
        A `c2s.Embedder`, e.g. ``default_host().embedders.get("pca")``; the paper takes scGPT.
    top_k
        Genes per sentence.
    n_references
        Real cells that each generated cell's overlap is averaged over.
    n_markers
        Markers per condition.
    seed
        Of the embedder, of drawn references and of intervals.
    n_bootstrap
        Resamples behind each interval.
    embedder_options
        Options of the embedder.

    Raises
    ------
    C2SError
        From reading conditions, from the fit of the inverse or of the embedder.
    """

    def __init__(
        self,
        train: AnnData,
        real: AnnData,
        conditions: Sequence[str],
        *,
        embedder: Embedder,
        top_k: int | None,
        n_references: int = 10,
        n_markers: int = 10,
        n_bootstrap: int = 200,
        seed: int = 0,
        embedder_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.genes = [str(gene) for gene in train.var_names]
        self.n_references, self.n_bootstrap, self.seed = n_references, n_bootstrap, seed
        self.train = CellTexts.of(train, conditions, top_k=top_k)
        self.real = CellTexts.of(real, conditions, top_k=top_k)
        self.inverse = RankExpressionModel.fit(train, top_k=top_k)
        restored = self.inverse.invert(self.train.sentences, self.genes)
        self.transform: Transform = embedder.fitted(restored, seed=seed, **(embedder_options or {}))
        self._train_has = self.members(self.train)
        self._real_has = self.members(self.real)
        self._real_vectors = self.vectors(self.real)
        middle = median_bandwidth(self._real_vectors, self._real_vectors, seed=seed) or 1.0
        self._bandwidths = [multiple * middle for multiple in MULTIPLES]
        self.markers = marker_genes(restored, self.train.conditions, n_markers)

    def members(self, cells: CellTexts) -> sp.csr_matrix:
        """Return which genes each cell names, int32 CSR ``[cells, genes]``; other words are left out."""
        parsed = parse_sentences(cells.sentences, self.genes)
        ones = np.ones(len(parsed.indices), dtype=np.int32)
        return sp.csr_matrix((ones, parsed.indices, parsed.indptr), shape=(len(parsed), len(self.genes)))

    def vectors(self, cells: CellTexts) -> Floats:
        """Embed cells by way of the inverse, float64 ``[cells, dimensions]``; a cell without a gene is refused."""
        return np.asarray(self.transform(self.inverse.invert(cells.sentences, self.genes)), dtype=np.float64)

    def measure(self, cells: CellTexts) -> pd.DataFrame:
        """Measure cells.

        Parameters
        ----------
        cells
            Generated ones; or real ones, for a value to compare with.

        Returns
        -------
        pandas.DataFrame
            One row per measure, in the order of `MEASURES`: ``measure, value, low, high, n``. The interval is over
            cells; of scFID, MMD and markers over conditions, without width where there is one. NaN where a measure
            is not defined (too few cells).

        Raises
        ------
        MetricError
            A condition is not among the real cells.
        """
        strangers = sorted(set(cells.conditions) - set(self.real.conditions))
        if strangers:
            raise MetricError(
                f"{len(strangers)} condition(s) of the cells are not among the real ones, first {strangers[0]!r}.",
                fix=f"compare conditions that both have, e.g. {self.real.conditions[0]!r}.",
            )
        has = self.members(cells)
        parsed = parse_sentences(cells.sentences, self.genes)
        words = np.maximum(parsed.n_words, 1)
        likeness = _highest_jaccard(has, self._train_has)
        known = set(self.train.sentences)
        counts = pd.Series(cells.sentences).value_counts()
        mean, nearest = self._overlaps(cells, has)
        per_cell: dict[str, Any] = {
            "overlap": mean,
            "overlap with the nearest": nearest,
            "spread": self._spread(cells, has),
            "same as another": [float(counts[text] > 1) for text in cells.sentences],
            "copies of training cells": [float(text in known) for text in cells.sentences],
            "near copies": (likeness >= NEAR_COPY).astype(float),
            "likeness to the nearest training cell": likeness,
            "unknown words": (parsed.n_unknown + parsed.n_malformed) / words,
            "repeated words": parsed.n_duplicate / words,
        }
        rows = {name: (self._interval(values), len(values)) for name, values in per_cell.items()}
        readable = np.flatnonzero(np.diff(has.indptr) > 0)
        rows |= self._distances(cells, readable)
        rows |= self._markers(cells, has, readable)
        return pd.DataFrame(
            [
                {"measure": name, "value": i[0], "low": i[1], "high": i[2], "n": n}
                for name in MEASURES
                for i, n in [rows[name]]
            ]
        )

    def _interval(self, values: npt.ArrayLike) -> tuple[float, float, float]:
        array = np.asarray(values, dtype=np.float64)
        array = array[~np.isnan(array)]
        if not len(array):
            return (np.nan, np.nan, np.nan)
        found = bootstrap_mean(array, n_bootstrap=self.n_bootstrap, seed=self.seed)
        return (found.value, found.low, found.high)

    def _overlaps(self, cells: CellTexts, has: sp.csr_matrix) -> tuple[Floats, Floats]:
        """Return the mean overlap (section 4.4) with drawn real cells of the condition, and the highest."""
        mean, nearest = np.empty(len(cells.sentences)), np.empty(len(cells.sentences))
        sizes = np.maximum(np.diff(self._real_has.indptr), 1)
        rng = np.random.default_rng(self.seed)
        for condition, places in _by_condition(cells.conditions).items():
            real = np.flatnonzero(np.array(self.real.conditions) == condition)
            overlap = (has[places] @ self._real_has[real].T).toarray() / sizes[real]
            if len(real) > self.n_references:
                drawn = np.array([rng.permutation(len(real))[: self.n_references] for _ in places])
                mean[places] = np.take_along_axis(overlap, drawn, axis=1).mean(axis=1)
            else:
                mean[places] = overlap.mean(axis=1)
            nearest[places] = overlap.max(axis=1)
        return mean, nearest

    def _spread(self, cells: CellTexts, has: sp.csr_matrix) -> Floats:
        """Return each cell's mean Jaccard distance to the others of its condition; NaN for one alone."""
        spread = np.full(len(cells.sentences), np.nan)
        for places in _by_condition(cells.conditions).values():
            if len(places) > 1:
                likeness = _jaccard(has[places], has[places])
                spread[places] = 1 - (likeness.sum(axis=1) - likeness.diagonal()) / (len(places) - 1)
        return spread

    def _distances(self, cells: CellTexts, readable: npt.NDArray[np.int64]) -> dict[str, tuple[Any, int]]:
        ours = pd.Series([cells.conditions[i] for i in readable])
        theirs = pd.Series(self.real.conditions)
        counts = pd.concat([ours.value_counts(), theirs.value_counts()], axis=1, keys=["ours", "theirs"])
        enough = set(counts.index[(counts >= LEAST_CELLS).all(axis=1)])
        undefined = ((np.nan, np.nan, np.nan), 0)
        if not enough:
            return {"scFID": undefined, "MMD": undefined}
        chosen, compared = np.flatnonzero(ours.isin(enough)), np.flatnonzero(theirs.isin(enough))
        kept = CellTexts(
            tuple(cells.sentences[readable[i]] for i in chosen),
            tuple(cells.conditions[readable[i]] for i in chosen),
        )
        x, y = self._real_vectors[compared], self.vectors(kept)
        found: dict[str, tuple[Any, int]] = {}
        distances: dict[str, Callable[[Floats, Floats], float]] = {
            "scFID": lambda a, b: frechet_distance(a, b, warn=False),
            "MMD": lambda a, b: mmd(a, b, bandwidths=self._bandwidths),
        }
        for name, distance in distances.items():
            per = distance_per_condition(
                distance, x, y, theirs.iloc[compared].tolist(), kept.conditions, n_bootstrap=self.n_bootstrap
            )
            found[name] = ((per.mean.value, per.mean.low, per.mean.high), len(per.table))
        return found

    def _markers(
        self, cells: CellTexts, has: sp.csr_matrix, readable: npt.NDArray[np.int64]
    ) -> dict[str, tuple[Any, int]]:
        sentences = [cells.sentences[i] for i in readable]
        conditions = [cells.conditions[i] for i in readable]
        undefined = ((np.nan, np.nan, np.nan), 0)
        if not self.markers or not sentences:
            return {"markers recovered": undefined, "markers present": undefined}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", C2SWarning)
            found = recovery(self.inverse.invert(sentences, self.genes), conditions, self.markers)
        there = presence(has, self.genes, cells.conditions, self.markers)
        return {
            "markers recovered": (self._interval(list(found.values())), len(found)),
            "markers present": (self._interval(list(there.values())), len(there)),
        }


def _by_condition(conditions: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    listed = np.array(conditions)
    return {str(c): np.flatnonzero(listed == c).astype(np.int64) for c in sorted(set(conditions))}


def _jaccard(x: sp.csr_matrix, y: sp.csr_matrix) -> Floats:
    shared = (x @ y.T).toarray()
    sizes = np.diff(x.indptr)[:, None] + np.diff(y.indptr)[None]
    return np.asarray(shared / np.maximum(sizes - shared, 1), dtype=np.float64)


def _highest_jaccard(x: sp.csr_matrix, y: sp.csr_matrix, rows: int = 512) -> Floats:
    """Return each cell's highest Jaccard index with a cell of `y`, block by block."""
    return np.concatenate([_jaccard(x[i : i + rows], y).max(axis=1) for i in range(0, x.shape[0], rows)])
