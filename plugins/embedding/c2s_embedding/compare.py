"""Embedders side by side on unseen donors: each half of the donors is tested by what was fitted on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2s.errors import ConfigError, MetricError, ObsError
from c2s.metrics import Interval, percentile_interval
from c2s.prompts import stable_hash
from c2s.splits import assign_units, complete_column, split_problems, warn_of
from c2s_embedding.bulk import BulkPairs, bulk_pairs, compare_vectors
from c2s_embedding.structure import separation
from c2s_embedding.transfer import Distance, label_transfer

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.tasks import Transform

#: ``(training cells, seed) -> Transform``.
Fit = Callable[["AnnData", int], "Transform"]
#: Every measure, and whether higher is better.
MEASURES = {
    "accuracy": True,
    "macro_f1": True,
    "silhouette_label": True,
    "silhouette_batch": True,
    "foscttm": False,
    "foscttm_centred": False,
    "foscttm_within_type": False,
}


def donor_halves(obs: pd.DataFrame, *, donor: str = "donor_id", seed: int = 0) -> tuple[list[str], list[str]]:
    """Deal donors into two halves of about as many cells; return the cell ids of each.

    Raises
    ------
    ObsError
        There is no such column, it is incomplete, or it has one value.
    """
    donors = complete_column(obs, donor)
    sizes = {str(name): int(n) for name, n in donors.value_counts().items()}
    if len(sizes) < 2:
        raise ObsError(
            f"column {donor!r} has one value: no donor is left to test on.",
            fix="give cells of two donors or more.",
        )
    part = donors.map(assign_units(sizes, {"train": 0.5, "test": 0.5}, salt=donor, seed=seed))
    return part.index[part == "train"].tolist(), part.index[part == "test"].tolist()


@dataclass(frozen=True, eq=False)
class EmbeddingReport:
    """What came out for each cell and each pair; `summary` says it in numbers.

    Attributes
    ----------
    cells
        One row per embedder and cell: ``embedder``, ``cell_id``, ``half``, ``donor``, ``label``, ``predicted``,
        ``silhouette_label``, ``silhouette_batch``.
    pairs
        One row per embedder and pair: ``embedder``, ``cell_id``, ``half``, ``donor``, ``label``, ``foscttm``,
        ``foscttm_centred`` (each side less its mean; NaN if nothing is left),
        ``foscttm_within_type`` (NaN where a type has one sample).
    note
        How the cells were split, and how many pairs there are.
    """

    cells: pd.DataFrame
    pairs: pd.DataFrame
    note: str

    @property
    def embedders(self) -> list[str]:
        """Names, in the order in which they were compared."""
        return list(dict.fromkeys(self.cells["embedder"]))

    def value(self, embedder: str, measure: str) -> float:
        """Return one measure of one embedder."""
        return float(self._draws(embedder, measure, None)[0])

    def interval(self, embedder: str, measure: str, *, n_bootstrap: int = 1000, seed: int = 0) -> Interval:
        """Return a measure with its percentile interval, from resampling donors."""
        chosen = self._resamples(n_bootstrap, seed)
        draws = self._draws(embedder, measure, chosen)
        return Interval(self.value(embedder, measure), *percentile_interval(draws))

    def difference(
        self, first: str, second: str, measure: str, *, n_bootstrap: int = 1000, seed: int = 0
    ) -> Interval:
        """Return the first embedder's measure less the second's, on the same resampled donors."""
        chosen = self._resamples(n_bootstrap, seed)
        draws = self._draws(first, measure, chosen) - self._draws(second, measure, chosen)
        return Interval(self.value(first, measure) - self.value(second, measure), *percentile_interval(draws))

    def summary(self, *, n_bootstrap: int = 1000, seed: int = 0) -> pd.DataFrame:
        """Return ``embedder``, ``measure``, ``value``, ``low``, ``high`` and ``n`` (cells or pairs), by measure.

        Raises
        ------
        MetricError
            `n_bootstrap` is below 1.
        """
        rows = []
        for measure in MEASURES:
            frame = self._frame(measure)
            for name in self.embedders:
                found = self.interval(name, measure, n_bootstrap=n_bootstrap, seed=seed)
                n = int((frame["embedder"] == name).sum())
                rows.append((name, measure, found.value, found.low, found.high, n))
        return pd.DataFrame(rows, columns=["embedder", "measure", "value", "low", "high", "n"])

    @property
    def donors(self) -> list[str]:
        """The donors, sorted."""
        return sorted(set(self.cells["donor"]))

    def _frame(self, measure: str) -> pd.DataFrame:
        if measure not in MEASURES:
            raise MetricError(f"unknown measure {measure!r}.", fix=f"choose one of {', '.join(MEASURES)}.")
        return self.pairs if measure.startswith("foscttm") else self.cells

    def _resamples(self, n_bootstrap: int, seed: int) -> npt.NDArray[np.int64]:
        """Return how often each donor is drawn, ``[resamples, donors]``."""
        if n_bootstrap < 1:
            raise MetricError(f"n_bootstrap is {n_bootstrap}.", fix="pass at least 1; 1000 is usual.")
        n = len(self.donors)
        return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_bootstrap)

    def _draws(self, embedder: str, measure: str, chosen: npt.NDArray[np.int64] | None) -> npt.NDArray[np.float64]:
        """Return the measure on each resample of donors; of all donors once for None."""
        frame = self._frame(measure)
        mine = frame[frame["embedder"] == embedder]
        if mine.empty:
            raise MetricError(
                f"there is no embedder {embedder!r}.", fix=f"choose one of {', '.join(self.embedders)}."
            )
        donors = pd.Categorical(mine["donor"], categories=self.donors).codes
        weights = np.ones((1, len(self.donors)), dtype=np.int64) if chosen is None else chosen
        if measure == "macro_f1":
            return _macro_f1(mine, donors, weights)
        column = (mine["predicted"] == mine["label"]) if measure == "accuracy" else mine[measure]
        values = np.asarray(column, dtype=np.float64)
        return _means(values, donors, mine["label"], measure == "silhouette_batch", weights)


def _means(
    values: npt.NDArray[np.float64],
    donors: npt.NDArray[Any],
    labels: pd.Series,
    per_type: bool,
    weights: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return weighted means of values, NaN left out; per type first, then over types, where that is asked for."""
    known = ~np.isnan(values)
    types = labels.factorize(sort=True)[0] if per_type else np.zeros(len(values), dtype=np.int64)
    shape = (weights.shape[1], int(types.max()) + 1)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (donors[known], types[known]), values[known])
    np.add.at(counts, (donors[known], types[known]), 1)
    total, n = weights @ sums, weights @ counts
    means = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    there = ~np.isnan(means)
    result: npt.NDArray[np.float64] = np.where(there, means, 0).sum(axis=1) / np.where(
        there.any(axis=1), there.sum(axis=1), np.nan
    )
    return result


def _macro_f1(
    frame: pd.DataFrame, donors: npt.NDArray[Any], weights: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return F1 averaged over the types that occur, from counts per donor."""
    names = sorted({*frame["label"], *frame["predicted"]})
    true = pd.Categorical(frame["label"], categories=names).codes
    given = pd.Categorical(frame["predicted"], categories=names).codes
    hits, occurs = (np.zeros((weights.shape[1], len(names))) for _ in range(2))
    np.add.at(hits, (donors[true == given], true[true == given]), 1)
    np.add.at(occurs, (donors, true), 1)
    np.add.at(occurs, (donors, given), 1)
    hit, occur = weights @ hits, weights @ occurs
    f1: npt.NDArray[np.float64] = (2 * hit / np.maximum(occur, 1)).sum(axis=1) / (occur > 0).sum(axis=1)
    return f1


def compare_embedders(
    adata: AnnData,
    fits: Mapping[str, Fit],
    *,
    label: str = "cell_type",
    donor: str = "donor_id",
    by: Sequence[str] | None = None,
    n_cells: int = 10,
    apart: bool = True,
    layer: str | None = None,
    k: int = 15,
    metric: Distance = "cosine",
    max_cells: int = 0,
    seed: int = 0,
) -> EmbeddingReport:
    """Compare embedders on cells of donors that they were not fitted on.

    The donors are dealt into two halves. Each embedder is fitted on one half and tested on the other, and the
    other way round, so that every cell is tested once. Labels come from the half that was fitted on.

    Parameters
    ----------
    adata
        Cells x genes, log1p values.
    fits
        By name: ``(training cells, seed) -> Transform``.
    label, donor
        Columns of ``obs``.
    by, n_cells, apart, layer
        As for `c2s_embedding.bulk_pairs`; `by` defaults to `donor` and `label`, and must hold both.
    k, metric
        As for `c2s_embedding.label_transfer`.
    max_cells
        Fit and test on so many cells of each half at most, 0 for all; the pairs are drawn from all.
    seed
        Of the halves, the draws and the fits.

    Raises
    ------
    ConfigError
        There is nothing to compare, or `by` lacks a column.
    ObsError
        A column is missing or incomplete, there is one donor, or too few groups have enough cells.
    C2SError
        As the embedders raise.
    """
    groups = tuple(by or (donor, label))
    problems = [f"by lacks {column!r}" for column in (donor, label) if column not in groups]
    if not fits:
        problems.append("no embedder")
    if problems:
        raise ConfigError("comparison of embedders", problems, fix="give embedders, and by=(donor, label, ...).")
    labels = complete_column(adata.obs, label)
    halves = donor_halves(adata.obs, donor=donor, seed=seed)
    cells: list[pd.DataFrame] = []
    paired: list[pd.DataFrame] = []
    notes = []
    for half, (train_ids, test_ids) in enumerate([halves, halves[::-1]]):
        warn_of(split_problems({"train": labels[train_ids], "test": labels[test_ids]}, unit=donor))
        train, whole = (adata[ids] for ids in (train_ids, test_ids))
        pairs = bulk_pairs(whole, by=groups, n_cells=n_cells, apart=apart, layer=layer, seed=seed)
        train, test = (_some(part, max_cells, seed) for part in (train, whole))
        notes.append(f"{train.n_obs} cells to fit, {test.n_obs} to test; {pairs}")
        for name, fit in fits.items():
            transform = fit(train, seed)
            cells.append(_test_cells(name, transform, train, test, label, donor, k, metric).assign(half=half))
            paired.append(_pairs(name, transform, pairs, label, donor).assign(half=half))
    note = f"Two halves of the donors by {donor!r}, each tested by what was fitted on the other. " + "; ".join(
        f"half {i}: {text}" for i, text in enumerate(notes, 1)
    )
    return EmbeddingReport(pd.concat(cells, ignore_index=True), pd.concat(paired, ignore_index=True), note + ".")


def _some(adata: AnnData, most: int, seed: int) -> AnnData:
    """Return at most so many cells, drawn by their ids, in their order."""
    if not most or adata.n_obs <= most:
        return adata.copy()
    names = adata.obs_names.astype(str)
    order = sorted(range(adata.n_obs), key=lambda i: (stable_hash("some", names[i], seed), names[i]))
    return adata[sorted(order[:most])].copy()


def _pairs(name: str, transform: Transform, pairs: BulkPairs, label: str, donor: str) -> pd.DataFrame:
    vectors = transform(pairs.cells), transform(pairs.bulk)
    found = compare_vectors(pairs, *vectors, within=label, resample=donor)
    try:
        centred = compare_vectors(pairs, *vectors, within=None, resample=donor, centred=True).overall.per_pair
    except MetricError:
        # Vectors that are all the same have nothing left.
        centred = np.full(len(pairs.sample), np.nan)
    types = np.array(pairs.values(label))
    within = np.full(len(types), np.nan)
    for value, one in (found.within or {}).items():
        within[types == value] = one.per_pair
    return pd.DataFrame(
        {
            "embedder": name,
            "cell_id": pairs.cells.obs_names.astype(str),
            "donor": pairs.values(donor),
            "label": types,
            "foscttm": found.overall.per_pair,
            "foscttm_centred": centred,
            "foscttm_within_type": within,
        }
    )


def _test_cells(
    name: str,
    transform: Transform,
    train: AnnData,
    test: AnnData,
    label: str,
    donor: str,
    k: int,
    metric: Distance,
) -> pd.DataFrame:
    known, asked = transform(train), transform(test)
    labels, donors = (complete_column(test.obs, column).tolist() for column in (label, donor))
    answers = complete_column(train.obs, label).tolist()
    apart = separation(asked, labels, donors)
    return pd.DataFrame(
        {
            "embedder": name,
            "cell_id": test.obs_names.astype(str),
            "donor": donors,
            "label": labels,
            "predicted": label_transfer(known, answers, asked, k=k, metric=metric),
            "silhouette_label": apart.label,
            "silhouette_batch": apart.batch,
        }
    )
