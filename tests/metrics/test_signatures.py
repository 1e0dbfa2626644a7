"""ssGSEA against gseapy and a direct loop; the rank-based z-score against SciPy's rank-sum test."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats
from hypothesis import given, strategies as st

from c2s.errors import MetricError
from c2s.metrics import rank_zscore, ssgsea

SETS = {"b": ["g1", "g7", "g30", "absent"], "a": ["g5", "g20", "g20"]}


def cells(n=8, genes=40, seed=0):
    counts = np.random.default_rng(seed).poisson(1.0, (n, genes)).astype(float)
    return pd.DataFrame(counts, columns=[f"g{i}" for i in range(genes)], index=["same"] * n)


def enrichment(row, members):
    """Add up how far the set is ahead, from the highest gene to the lowest; of ties the last gene first."""
    order = np.argsort(row, kind="stable")[::-1]
    hits = misses = total = 0.0
    for gene in order:
        if gene in members:
            hits += 1 / len(members)
        else:
            misses += 1 / (len(row) - len(members))
        total += hits - misses
    return total


@pytest.mark.parametrize("genes", [40, 1500])
def test_ssgsea_is_the_loop(genes):
    table = cells(genes=genes)
    got = ssgsea(table, SETS)
    assert got.columns.tolist() == ["b", "a"] and got.index.tolist() == ["same"] * 8
    for name, members in (("b", {1, 7, 30}), ("a", {5, 20})):
        expected = [enrichment(row, members) for row in table.to_numpy()]
        assert got[name].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_ssgsea_is_what_gseapy_says_with_the_settings_of_the_paper():
    gseapy = pytest.importorskip("gseapy")
    table = pd.DataFrame(np.random.default_rng(1).normal(size=(5, 60)), columns=[f"G{i}" for i in range(60)])
    sets = {"one": [f"G{i}" for i in range(20)], "two": [f"G{i}" for i in range(30, 50)]}
    for weight in (0.0, 0.25):
        theirs = gseapy.ssgsea(
            data=table.T, gene_sets=sets, outdir=None, sample_norm_method="rank", weight=weight, min_size=15,
            permutation_num=0, no_plot=True, threads=1,
        ).res2d.pivot(index="Name", columns="Term", values="ES").astype(float)  # fmt: skip
        got = ssgsea(table, sets, weight=weight)
        assert got.to_numpy() == pytest.approx(theirs.sort_index().to_numpy(), rel=1e-6)


def test_names_in_any_letter_case_are_kept_apart():
    table = cells(genes=4).set_axis(["A", "a", "B", "b"], axis=1)
    got = ssgsea(table, {"small": ["a"], "BIG": ["A"]})
    assert got["small"].tolist() == pytest.approx([enrichment(row, {1}) for row in table.to_numpy()], rel=1e-6)
    assert got["BIG"].tolist() == pytest.approx([enrichment(row, {0}) for row in table.to_numpy()], rel=1e-6)


def test_ssgsea_reads_sparse_cells():
    table = cells(seed=2)
    adata = ad.AnnData(sp.csr_matrix(table.to_numpy()), var=pd.DataFrame(index=table.columns))
    got = ssgsea(adata, SETS)
    assert got.to_numpy() == pytest.approx(ssgsea(table, SETS).to_numpy())
    assert got.index.tolist() == adata.obs_names.tolist()


@given(st.integers(0, 10**6), st.integers(3, 30), st.integers(1, 6))
def test_zscore_is_the_rank_sum_test(seed, genes, level):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.poisson(level, (4, genes)), columns=[f"g{i}" for i in range(genes)])
    members = [f"g{i}" for i in rng.choice(genes, max(1, genes // 3), replace=False)]
    got = rank_zscore(table, [*members, "absent"], min_genes=1)
    for (_, row), found in zip(table.iterrows(), got.itertuples()):
        there = row[row > 0]
        inside, outside = there[there.index.isin(members)], there[~there.index.isin(members)]
        assert (found.n_set, found.n_detected) == (len(inside), len(there))
        if not len(inside) or not len(outside) or there.nunique() == 1:
            assert np.isnan(found.z) and np.isnan(found.p_value)
            continue
        test = scipy.stats.mannwhitneyu(inside, outside, use_continuity=False, method="asymptotic")
        mean = len(inside) * len(outside) / 2
        assert found.p_value == pytest.approx(test.pvalue, rel=1e-6)
        assert np.sign(round(found.z, 9)) == np.sign(test.statistic - mean)
        assert abs(found.z) == pytest.approx(scipy.stats.norm.isf(test.pvalue / 2), rel=1e-6, abs=1e-9)
        if there.nunique() == len(there):
            assert found.z == pytest.approx(scipy.stats.ranksums(inside, outside).statistic, rel=1e-6, abs=1e-9)


def test_zscore_of_sparse_cells_with_explicit_zeros_and_empty_ones():
    matrix = sp.csr_matrix(np.array([[0.0, 1, 2, 3], [0, 0, 0, 0], [4, 3, 2, 1]]))
    matrix.data[0] = 0
    adata = ad.AnnData(matrix, var=pd.DataFrame(index=list("ABCD")))
    got = rank_zscore(adata, ["A", "D"], min_genes=1)
    assert got["n_detected"].tolist() == [2, 0, 4] and got["n_set"].tolist() == [1, 0, 2]
    assert got["z"].iloc[0] == pytest.approx(1.0) and np.isnan(got["z"].iloc[1]) and got["z"].iloc[2] == 0
    assert matrix.nnz == 7, "the cells given are left as they are"
    assert np.isnan(rank_zscore(adata, ["A", "D"])["z"].iloc[0]), "one gene of the set is no mean by default"


def test_higher_expression_is_a_higher_score():
    table = cells(50, seed=3)
    raised = table.copy()
    raised[["g1", "g7", "g30"]] += 5
    assert (ssgsea(raised, SETS)["b"].to_numpy() > ssgsea(table, SETS)["b"].to_numpy()).all()
    assert rank_zscore(raised, SETS["b"])["z"].min() > 1.5


def test_what_they_are_not_defined_for():
    table = cells()
    with pytest.raises(MetricError, match="is all 2 genes"):
        ssgsea(table[["g1", "g2"]], {"all": ["g1", "g2"]})
    with pytest.raises(MetricError, match="'g1' is there twice"):
        rank_zscore(pd.concat([table, table[["g1"]]], axis=1), ["g1"])
