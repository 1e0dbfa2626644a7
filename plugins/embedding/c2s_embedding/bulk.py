"""Single cells and pseudo-bulk samples, and whether their vectors find each other (section 4.6.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from c2s.embedders.matrices import check_cells, linear_expression
from c2s.errors import ConfigError, MatrixError, MetricError, ObsError
from c2s.metrics import Foscttm, Interval, bootstrap_groups, foscttm
from c2s.prompts import stable_hash
from c2s.splits import complete_column

if TYPE_CHECKING:
    from anndata import AnnData

#: What a pseudo-bulk sample is an aggregate over (section 4.6.4).
BY = ("donor_id", "cell_type", "batch")
#: Counts that a cell, or a sample, is scaled to.
_TOTAL = 1e4


def pseudo_bulk(adata: AnnData, *, by: Sequence[str] = BY, layer: str | None = None) -> AnnData:
    """Add up the cells of each group, then normalise and take log1p, as for a cell.

    Counts are summed, so that a cell counts by its depth, as in a bulk sample. Where there are only log1p values,
    their logarithm is undone and every cell counts alike.

    Parameters
    ----------
    adata
        Cells x genes.
    by
        Columns of ``obs``; cells that agree in all of them make a sample.
    layer
        Layer with counts to use instead of ``X``.

    Returns
    -------
    AnnData
        Samples x genes, sorted by the columns; ``X`` float32 CSR, log1p of 10,000 counts a sample; ``obs`` with
        the columns and ``n_cells``; ``var`` as of the cells. Where these have ``layers["counts"]``, so have the
        samples, summed. The cells' order changes nothing but rounding.

    Raises
    ------
    ObsError
        A column is missing or incomplete.
    ConfigError
        `by` is empty, or there is no such layer.
    MatrixError
        A value is NaN, infinite or negative, or all cells of a group are empty.
    """
    from anndata import AnnData

    codes, groups = _groups(adata.obs, by)
    onto = sp.csr_matrix((np.ones(adata.n_obs), (codes, np.arange(adata.n_obs))), (len(groups), adata.n_obs))
    sums = sp.csr_matrix(onto @ _linear(adata, layer))
    totals = np.asarray(sums.sum(axis=1)).ravel()
    if (empty := np.flatnonzero(totals <= 0)).size:
        raise MatrixError(
            f"all cells of {len(empty)} sample(s) are empty, first {groups.index[empty[0]]!r}.",
            fix="leave empty cells out (read_cells(min_genes=1)).",
        )
    values = sp.csr_matrix(sums.multiply((_TOTAL / totals)[:, None]))
    values.data = np.log1p(values.data).astype(np.float32)
    groups["n_cells"] = np.bincount(codes, minlength=len(groups))
    layers = {"counts": sp.csr_matrix(onto @ adata.layers["counts"])} if "counts" in adata.layers else None
    return AnnData(values, obs=groups, var=adata.var.copy(), layers=layers)


@dataclass(frozen=True, eq=False)
class BulkPairs:
    """Single cells and the pseudo-bulk samples they belong to.

    Attributes
    ----------
    cells
        The paired cells, as they were given, ``[pairs]``.
    bulk
        The samples.
    sample
        Row of `bulk` that each cell belongs to, int64 ``[pairs]``.
    by
        Columns that a sample agrees in.
    apart
        Whether the paired cells were kept out of their samples.
    left_out
        Groups with too few cells, and how many each has.
    """

    cells: AnnData
    bulk: AnnData
    sample: npt.NDArray[np.int64]
    by: tuple[str, ...]
    apart: bool
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        how = "kept out of" if self.apart else "counted in"
        return (
            f"{self.cells.n_obs} cells in {self.bulk.n_obs} samples by {', '.join(self.by)}; the cells are {how} "
            f"their samples; {len(self.left_out)} group(s) with too few cells left out"
        )

    def values(self, column: str) -> list[str]:
        """Return the value of one of the columns for each pair.

        Raises
        ------
        ObsError
            The samples do not agree in this column.
        """
        if column not in self.by:
            raise ObsError(f"samples are not by {column!r}.", fix=f"name one of {', '.join(self.by)}.")
        return [str(value) for value in self.bulk.obs[column].to_numpy()[self.sample]]


def bulk_pairs(
    adata: AnnData,
    *,
    by: Sequence[str] = BY,
    n_cells: int = 10,
    apart: bool = True,
    layer: str | None = None,
    seed: int = 0,
) -> BulkPairs:
    """Make pseudo-bulk samples and draw cells of each, ten in the paper, to pair with it (section 4.6.4).

    Parameters
    ----------
    adata
        Cells x genes, counts or log1p values.
    by
        Columns of ``obs``: donor, cell type and batch.
    n_cells
        Cells drawn from each group.
    apart
        Keep the drawn cells out of the sum, so that no cell finds itself in its sample; a group then needs twice
        `n_cells`. The paper does not say which it did.
    layer
        Layer with counts to sum instead of ``X``.
    seed
        Of the draw, which depends on the cells' ids and not on their order.

    Raises
    ------
    ObsError
        A column is missing or incomplete, cell ids are not unique, or fewer than two groups have enough cells.
    ConfigError
        `by` is empty, `n_cells` is below 1, or there is no such layer.
    MatrixError
        As `pseudo_bulk`.
    """
    if n_cells < 1:
        raise ConfigError("pseudo-bulk pairs", [f"n_cells={n_cells} is below 1"], fix="the paper draws 10.")
    if not adata.obs_names.is_unique:
        twice = adata.obs_names[adata.obs_names.duplicated()][0]
        raise ObsError(f"the cell id {twice!r} is there twice.", fix="adata.obs_names_make_unique().")
    codes, groups = _groups(adata.obs, by)
    sizes = np.bincount(codes, minlength=len(groups))
    needed = 2 * n_cells if apart else n_cells
    enough = np.flatnonzero(sizes >= needed)
    if len(enough) < 2:
        raise ObsError(
            f"{len(enough)} of {len(groups)} groups by {', '.join(by)} have {needed} cells; two are needed, and "
            f"the largest has {sizes.max()}.",
            fix="draw fewer cells (n_cells), group by fewer columns (by), or count the cells in (apart=False).",
        )
    names = adata.obs_names.astype(str)
    drawn: list[int] = []
    for code in enough:
        rows = sorted(np.flatnonzero(codes == code), key=lambda i: (stable_hash("bulk", names[i], seed), names[i]))
        drawn += [int(i) for i in rows[:n_cells]]
    summed = np.isin(codes, enough)
    if apart:
        summed[drawn] = False
    bulk = pseudo_bulk(adata[summed], by=by, layer=layer)
    left_out = {str(groups.index[i]): int(sizes[i]) for i in range(len(groups)) if sizes[i] < needed}
    # Both are sorted by group, and no group of the one is missing from the other.
    sample = np.repeat(np.arange(len(enough)), n_cells)
    return BulkPairs(adata[drawn].copy(), bulk, sample, tuple(by), apart, left_out)


@dataclass(frozen=True, eq=False)
class BulkIntegration:
    """How well cells and their samples find each other, see `bulk_integration`.

    Attributes
    ----------
    overall
        FOSCTTM among all samples, the paper's measure.
    within
        FOSCTTM among the samples of one value of a column (one cell type, so that only the donors differ), by
        value; values with one sample are left out. None if it was not asked for.
    donors
        The group that is resampled for each pair.
    """

    overall: Foscttm
    within: Mapping[str, Foscttm] | None
    donors: tuple[str, ...]

    def interval(self, *, n_bootstrap: int = 1000, seed: int = 0) -> Interval:
        """Return the overall value, with an interval from resampling whole groups (donors)."""
        return bootstrap_groups(self.overall.per_pair, self.donors, n_bootstrap=n_bootstrap, seed=seed)

    @property
    def within_value(self) -> float:
        """Mean over the pairs of `within`; NaN if there is none."""
        if not self.within:
            return float("nan")
        return float(np.concatenate([found.per_pair for found in self.within.values()]).mean())


def bulk_integration(
    pairs: BulkPairs,
    transform: Callable[[AnnData], npt.ArrayLike],
    *,
    within: str | None = "cell_type",
    resample: str | None = None,
    centred: bool = False,
) -> BulkIntegration:
    """Embed cells and samples alike and return how often another one is nearer than the true match, by cosine.

    Cells of one sample are no wrong matches for each other's sample.

    Parameters
    ----------
    pairs
        See `bulk_pairs`.
    transform
        Cells to vectors, ``AnnData -> [rows, dimensions]``: a fitted `c2s.Embedder`, or any function.
    within
        Column among whose values FOSCTTM is also taken; None leaves it out.
    resample
        Column whose values the interval resamples; default the first of the pairs' columns (donors).
    centred
        Take the mean of the cells from each cell and that of the samples from each sample. What all samples have
        in common against all cells (depth, above all) is then gone. The paper does not do this.

    Raises
    ------
    MetricError
        The vectors of cells and samples differ in their dimensions, hold NaN or have no length.
    ObsError
        The samples do not agree in `within` or `resample`.
    """
    return compare_vectors(
        pairs, transform(pairs.cells), transform(pairs.bulk), within=within, resample=resample, centred=centred
    )


def compare_vectors(
    pairs: BulkPairs,
    of_cells: npt.ArrayLike,
    of_bulk: npt.ArrayLike,
    *,
    within: str | None = "cell_type",
    resample: str | None = None,
    centred: bool = False,
) -> BulkIntegration:
    """Do what `bulk_integration` does with vectors that are there already."""
    cells, bulk = np.asarray(of_cells, dtype=np.float64), np.asarray(of_bulk, dtype=np.float64)
    if cells.ndim != 2 or bulk.ndim != 2 or cells.shape[1] != bulk.shape[1]:
        raise MetricError(
            f"the cells were embedded as {cells.shape}, the samples as {bulk.shape}.",
            fix="embed both with the same fitted embedder.",
        )
    if centred:
        cells, bulk = cells - cells.mean(axis=0), bulk - bulk.mean(axis=0)
    groups = [int(i) for i in pairs.sample]
    overall = foscttm(cells, bulk[pairs.sample], groups=groups)
    donors = tuple(pairs.values(resample or pairs.by[0]))
    found: dict[str, Foscttm] | None = None
    if within is not None:
        found = {}
        values = np.array(pairs.values(within))
        for value in np.unique(values):
            rows = np.flatnonzero(values == value)
            if len(np.unique(pairs.sample[rows])) > 1:
                found[str(value)] = foscttm(
                    cells[rows], bulk[pairs.sample[rows]], groups=[groups[i] for i in rows]
                )
    return BulkIntegration(overall, found, donors)


def foscttm_of_knowing(pairs: BulkPairs, *columns: str) -> float:
    """Return the FOSCTTM of someone who knows these columns of every cell and sample and nothing else.

    Who knows the cell type alone ties among the donors of that type: half of them count as nearer.

    Raises
    ------
    ObsError
        The samples do not agree in one of the columns.
    """
    known = pd.MultiIndex.from_arrays([pairs.values(column) for column in columns]).factorize()[0]
    one_hot = np.eye(int(known.max()) + 1)[known]
    return foscttm(one_hot, one_hot, groups=[int(i) for i in pairs.sample]).value


def _groups(obs: pd.DataFrame, by: Sequence[str]) -> tuple[npt.NDArray[np.int64], pd.DataFrame]:
    """Return the group of each cell and the groups, sorted by their values."""
    if not by:
        raise ConfigError("pseudo-bulk", ["no column to group by"], fix="give by=('donor_id', 'cell_type').")
    columns = {column: complete_column(obs, column).to_numpy() for column in by}
    keys = pd.DataFrame(columns).astype(str)
    groups = keys.drop_duplicates().sort_values(list(by)).reset_index(drop=True)
    codes: Any = pd.MultiIndex.from_frame(groups).get_indexer(pd.MultiIndex.from_frame(keys))
    groups.index = pd.Index(["|".join(row) for row in groups.itertuples(index=False)])
    return np.asarray(codes, dtype=np.int64), groups


def _linear(adata: AnnData, layer: str | None) -> sp.csr_matrix:
    """Return expression before the logarithm, float64 CSR."""
    from anndata import AnnData

    if layer is not None:
        if layer not in adata.layers:
            raise ConfigError(
                "pseudo-bulk",
                [f"there is no layer {layer!r}"],
                fix=f"name one of {', '.join(adata.layers) or 'none; leave it out'}.",
            )
        adata = AnnData(adata.layers[layer], obs=adata.obs, var=adata.var)
    check_cells(adata)
    return linear_expression(adata)
