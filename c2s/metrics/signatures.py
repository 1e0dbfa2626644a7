"""How active a set of genes is in each cell or sample: ssGSEA and the rank-based z-score (section 4.8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.errors import MetricError
from c2s.metrics.arrays import Floats

if TYPE_CHECKING:
    from anndata import AnnData


def ssgsea(
    expression: AnnData | pd.DataFrame,
    gene_sets: Mapping[str, Sequence[str]],
    *,
    weight: float = 0.0,
    min_genes: int = 1,
    threads: int = 1,
) -> pd.DataFrame:
    """Return single-sample enrichment scores by gseapy, with the paper's settings (section 4.8).

    Genes are ranked within each sample (``sample_norm_method="rank"``). With weight 0 the score is the sum over
    the ranking of how far the set's genes are ahead of the others, a number between about -n/2 and n/2 for n
    genes; higher is more active. Of equal values
    (the zeros of a cell, say) the gene that comes last in the table ranks higher, so that a score depends on the
    order of genes: keep it the same for all that is compared.

    Parameters
    ----------
    expression
        Samples x genes: AnnData (``X``), or a table with genes as columns.
    gene_sets
        Genes by name of the set; genes that are not in the table are left out.
    weight
        Exponent of the rank; 0 in the paper.
    min_genes
        Fewest genes of a set that must be in the table.
    threads
        Of gseapy.

    Returns
    -------
    pandas.DataFrame
        float64, samples x sets (in the order given). A sample of equal values has scores all the same, by the
        order of genes alone.

    Raises
    ------
    MetricError
        gseapy is not installed; there is no sample or set; a value is NaN; genes repeat; a set has fewer than
        `min_genes` genes in the table, or all of its genes.
    """
    try:
        import gseapy
    except ImportError as error:
        raise MetricError("the package gseapy is not installed.", fix="pip install 'c2s[metrics]'") from error
    table = _table(expression)
    sets = _sets_in(gene_sets, table.columns, min_genes)
    # Plain names: gseapy upper-cases some symbols, and sample names may repeat.
    plain = {gene: f"G{i}" for i, gene in enumerate(table.columns)}
    columns = pd.DataFrame(
        table.to_numpy(dtype=np.float64).T,
        index=list(plain.values()),
        columns=[f"s{i}" for i in range(len(table))],
    )
    found = gseapy.ssgsea(
        data=columns,
        gene_sets={f"g{i}": [plain[gene] for gene in genes] for i, genes in enumerate(sets.values())},
        outdir=None,
        sample_norm_method="rank",
        weight=weight,
        min_size=1,
        max_size=len(table.columns),
        permutation_num=0,
        no_plot=True,
        threads=threads,
        verbose=False,
    ).res2d
    scores = found.pivot(index="Name", columns="Term", values="ES").astype(np.float64)
    scores = scores.reindex(index=columns.columns, columns=[f"g{i}" for i in range(len(sets))])
    return pd.DataFrame(scores.to_numpy(), index=table.index, columns=list(sets))


def rank_zscore(expression: AnnData | pd.DataFrame, genes: Sequence[str], *, min_genes: int = 2) -> pd.DataFrame:
    """Return how high a set of genes ranks among the detected genes of each sample, as a z-score (section 4.8).

    Genes with a value above 0 are detected and ranked by it, the highest getting the largest rank and equal values
    their mean. The mean rank of the set is compared with that of the same number of genes drawn at random: the
    normal form of Wilcoxon's two-sample test, corrected for ties. With an interferon-stimulated set this is the
    paper's ISG z-score.

    Parameters
    ----------
    expression
        Samples x genes: AnnData (``X``, sparse stays sparse), or a table with genes as columns.
    genes
        The set; genes that are not in the table are left out.
    min_genes
        Samples with fewer detected genes of the set get NaN.

    Returns
    -------
    pandas.DataFrame
        One row per sample: ``z`` (higher is more active; about standard normal for a random set), ``p_value``
        (two-sided), ``n_set`` (detected genes of the set), ``n_detected``. z is NaN where fewer than `min_genes`
        of the set or no other gene are detected, or where all detected values are equal.

    Raises
    ------
    MetricError
        There is no sample, a value is NaN or negative, genes repeat, or none of the set is in the table.
    """
    from scipy import stats

    names, samples, matrix = _parts(expression)
    place = {gene: i for i, gene in enumerate(names)}
    wanted = [place[gene] for gene in dict.fromkeys(genes) if gene in place]
    if not wanted:
        raise MetricError(f"none of the {len(list(genes))} genes of the set is in the table.", fix=_NAMES)
    in_set = np.zeros(len(names), dtype=np.bool_)
    in_set[wanted] = True
    # A copy: its explicit zeros are taken out.
    csr = sp.csr_matrix(matrix, dtype=np.float64, copy=True)
    if len(csr.data) and csr.data.min() < 0:
        raise MetricError(
            f"{int((csr.data < 0).sum())} values are negative, so that 0 does not mean undetected.",
            fix="give counts or log1p values, not scaled ones.",
        )
    csr.sum_duplicates()
    csr.eliminate_zeros()
    rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
    ranks, ties = _average_ranks(rows, csr.data, csr.indptr)
    mine = in_set[csr.indices]
    n_rows = csr.shape[0]
    detected = np.diff(csr.indptr).astype(np.float64)
    n_set = np.bincount(rows, mine, n_rows)
    rank_sum = np.bincount(rows, ranks * mine, n_rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        others = detected - n_set
        spread = (detected + 1) - np.bincount(rows, ties, n_rows) / (detected * (detected - 1))
        variance = n_set * others / 12 * spread
        z = (rank_sum - n_set * (detected + 1) / 2) / np.sqrt(variance)
    # All values equal leaves a variance of 0, or what rounding makes of it.
    defined = (n_set >= max(min_genes, 1)) & (others > 0) & (spread > 1e-9)
    z = np.where(defined, z, np.nan)
    return pd.DataFrame(
        {
            "z": z,
            "p_value": 2 * stats.norm.sf(np.abs(z)),
            "n_set": n_set.astype(np.int64),
            "n_detected": detected.astype(np.int64),
        },
        index=samples,
    )


_NAMES = "check that both are symbols of the same kind and letter case."


def _average_ranks(rows: Any, values: Any, starts: Any) -> tuple[Floats, Floats]:
    """Return each value's mean rank in its row, and its share of the row's sum of t³ - t over ties."""
    order = np.lexsort((values, rows))
    new = np.ones(len(values), dtype=np.bool_)
    new[1:] = (rows[order][1:] != rows[order][:-1]) | (values[order][1:] != values[order][:-1])
    run = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    length = np.diff(np.append(first, len(values)))
    ranks, ties = np.empty(len(values)), np.empty(len(values))
    offset = np.asarray(starts)[:-1][rows[order]]
    ranks[order] = (first + (length + 1) / 2)[run] - offset
    ties[order] = (length.astype(np.float64) ** 2 - 1)[run]
    return ranks, ties


def _parts(expression: AnnData | pd.DataFrame) -> tuple[pd.Index, pd.Index, Any]:
    """Return gene names, sample names and the matrix, checked."""
    if isinstance(expression, pd.DataFrame):
        names, samples, matrix = expression.columns, expression.index, expression.to_numpy(dtype=np.float64)
    else:
        names, samples, matrix = expression.var_names, expression.obs_names, expression.X
    if not len(names) or not len(samples):
        raise MetricError(f"{len(samples)} samples and {len(names)} genes.", fix="give at least one of each.")
    if not names.is_unique:
        raise MetricError(
            f"the gene {names[names.duplicated()][0]!r} is there twice.",
            fix="make names unique, or sum them.",
        )
    values = matrix.data if sp.issparse(matrix) else np.asarray(matrix)
    if not np.isfinite(values).all():
        raise MetricError("the expression holds NaN or infinity.", fix="fill or leave out these genes.")
    return names, samples, matrix


def _table(expression: AnnData | pd.DataFrame) -> pd.DataFrame:
    names, samples, matrix = _parts(expression)
    dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    return pd.DataFrame(dense, index=samples, columns=names)


def _sets_in(gene_sets: Mapping[str, Sequence[str]], names: pd.Index, min_genes: int) -> dict[str, list[str]]:
    if not gene_sets:
        raise MetricError("no gene set.", fix="give at least one, {'name': [genes]}.")
    known = set(names)
    sets = {name: [gene for gene in dict.fromkeys(genes) if gene in known] for name, genes in gene_sets.items()}
    for name, genes in sets.items():
        if len(genes) < max(min_genes, 1):
            raise MetricError(f"{len(genes)} gene(s) of the set {name!r} are in the table.", fix=_NAMES)
        if len(genes) == len(known):
            raise MetricError(
                f"the set {name!r} is all {len(known)} genes of the table.",
                fix="give a smaller set.",
            )
    return sets
