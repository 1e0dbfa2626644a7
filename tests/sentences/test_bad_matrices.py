"""Every way a matrix or its genes can be wrong is a named error that says how to mend it."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import c2s
from c2s.errors import GeneError, MatrixError, ObsError
from c2s.sentences.matrix import matrix_of, raw_chunks


def with_value(adata: ad.AnnData, value: float, row: int = 7) -> ad.AnnData:
    adata = adata.copy()
    adata.X.data[adata.X.indptr[row]] = value
    return adata


@pytest.mark.parametrize("chunk_size", [3, None])
@pytest.mark.parametrize(
    ("value", "what", "fix"),
    [
        (np.nan, "NaN", "set it to 0 in the file"),
        (np.inf, "infinite", "log of 0"),
        (-np.inf, "infinite", "log of 0"),
        (-0.25, "negative", "adata.raw"),
    ],
)
def test_impossible_values_name_the_cell(make_cells, value, what, fix, chunk_size):
    with pytest.raises(MatrixError, match=f"cell 'cell-0-7' .row 7. has a value that is {what}") as caught:
        c2s.to_cell_sentences(with_value(make_cells(), value), chunk_size=chunk_size)
    assert fix in caught.value.fix


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_impossible_values_stop_the_fit_too(make_cells, value):
    with pytest.raises(MatrixError, match="cell 'cell-0-7'"):
        c2s.RankExpressionModel.fit(with_value(make_cells(), value))


def test_raw_counts_where_normalised_values_are_expected(make_cells):
    adata = make_cells()
    adata.X.data = np.ceil(adata.X.data)
    with pytest.raises(MatrixError, match="raw counts") as caught:
        c2s.to_cell_sentences(adata)
    assert "c2s.read_cells" in caught.value.fix
    assert "normalize_total" in caught.value.fix
    counted = c2s.to_cell_sentences(adata, expects="counts")
    assert counted.table.equals(c2s.to_cell_sentences(adata, expects="any").table)
    with pytest.raises(MatrixError, match="raw counts"):
        c2s.RankExpressionModel.fit(adata)


def test_normalised_values_where_counts_are_expected(make_cells):
    adata = make_cells()
    adata.X.data = np.ceil(adata.X.data)
    adata.X.data[-1] = 0.5
    with pytest.raises(MatrixError, match="cell 'cell-0-59' has a value that is not a whole number"):
        c2s.to_cell_sentences(adata, expects="counts", chunk_size=7)


@pytest.mark.parametrize("chunk_size", [None, 9])
def test_one_fraction_anywhere_is_enough_to_be_no_counts(make_cells, chunk_size):
    adata = make_cells()
    adata.X.data = np.ceil(adata.X.data)
    adata.X.data[-1] = 0.5
    assert len(c2s.to_cell_sentences(adata, chunk_size=chunk_size)) == 60


def test_no_cells_no_genes_no_matrix(make_cells):
    with pytest.raises(MatrixError, match="no cells"):
        c2s.to_cell_sentences(make_cells()[:0].copy())
    with pytest.raises(GeneError, match="no genes"):
        c2s.to_cell_sentences(make_cells()[:, :0].copy())
    with pytest.raises(MatrixError, match="no matrix X"):
        c2s.to_cell_sentences(ad.AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["B"])))


def test_text_is_no_expression(make_cells):
    adata = make_cells(2, 2)
    adata.layers["words"] = np.array([["a", "b"], ["c", "d"]], dtype=object)
    with pytest.raises(MatrixError, match="not numbers"):
        c2s.to_cell_sentences(adata, layer="words")


def test_a_broken_csr_structure_is_refused(make_cells):
    adata = make_cells()
    adata.X.indptr[3] = 10_000_000
    with pytest.raises(MatrixError, match="indptr is broken"):
        c2s.to_cell_sentences(adata)


@pytest.mark.parametrize(
    "indptr",
    [[1, 2, 4, 6], [0, 4, 2, 6], [0, 2, 4, 7], [0, 2, 4], [0, 2, 4, 6, 6]],
    ids=lambda v: "".join(map(str, v)),
)
def test_each_way_an_indptr_can_be_broken_is_refused(indptr):
    matrix = sp.csr_matrix(np.tile([0.5, 0.25], (3, 1)))
    adata = ad.AnnData(matrix, var=pd.DataFrame(index=["A", "B"]))
    assert c2s.to_cell_sentences(adata).table["cell_sentence"].to_pylist() == ["A B"] * 3
    adata.X.indptr = np.array(indptr, np.int32)
    with pytest.raises(MatrixError, match="indptr is broken"):
        list(raw_chunks(adata, None, 10))


def test_values_of_a_layer_are_refused_by_its_name(make_cells):
    adata = make_cells()
    adata.layers["scaled"] = adata.X - adata.X.multiply(2)
    with pytest.raises(MatrixError, match=r"negative .-0.7\d+. in layer 'scaled'"):
        c2s.to_cell_sentences(adata, layer="scaled")


def test_matrix_of_says_which_layers_there_are(make_cells):
    with pytest.raises(MatrixError, match="no layer 'x'; there is none"):
        matrix_of(make_cells(), "x")


def test_ensembl_ids_name_the_column_with_symbols(make_cells):
    adata = make_cells(3, 4)
    adata.var["feature_name"] = adata.var_names.to_numpy()
    adata.var_names = ["ENSG00000187608", "ENSG00000175756.12", "ENSMUSG00000051951", "ENSDARG00000000001"]
    with pytest.raises(GeneError, match="4 of 4 names in var_names are Ensembl ids") as caught:
        c2s.to_cell_sentences(adata)
    assert "symbols='feature_name'" in caught.value.fix
    assert len(c2s.to_cell_sentences(adata, symbols="feature_name")) == 3
    del adata.var["feature_name"]
    with pytest.raises(GeneError) as caught:
        c2s.to_cell_sentences(adata)
    assert "symbols='COLUMN'" in caught.value.fix


@pytest.mark.parametrize(
    ("columns", "proposed"),
    [
        (["gene_name", "symbol"], "symbol"),
        (["gene_short_name", "Gene_Symbols", "biotype"], "Gene_Symbols"),
        (["biotype"], "COLUMN"),
        (["chromosome", "my_names"], "my_names"),
    ],
)
def test_the_likeliest_column_of_symbols_is_proposed(make_cells, columns, proposed):
    adata = make_cells(3, 4)
    for column in columns:
        adata.var[column] = (
            ["A", "B", "C", "D"] if column not in ("biotype", "chromosome") else ["1", "1", "2", "X"]
        )
    adata.var_names = [f"ENSG{i:011d}" for i in range(4)]
    with pytest.raises(GeneError) as caught:
        c2s.to_cell_sentences(adata)
    assert f"symbols={proposed!r}" in caught.value.fix


def test_half_of_the_names_may_be_ensembl_ids(make_cells):
    adata = make_cells(3, 4)
    adata.var_names = ["ENSG00000187608", "ENSG00000187609", "CD3D", "LYZ"]
    assert len(c2s.to_cell_sentences(adata).genes) == 4
    adata.var_names = ["ENSG00000187608", "ENSG00000187609", "ENSG00000187610", "LYZ"]
    with pytest.raises(GeneError, match="3 of 4 names"):
        c2s.to_cell_sentences(adata)


@pytest.mark.parametrize(("n_bad", "message"), [(5, "'G4 x' in var_names"), (7, "'G4 x' and 2 more in var_names")])
def test_five_of_many_wrong_symbols_are_shown(make_cells, n_bad, message):
    adata = make_cells(3, 9)
    adata.var_names = [f"G{i} x" if i < n_bad else f"G{i}" for i in range(9)]
    with pytest.raises(GeneError, match=message):
        c2s.to_cell_sentences(adata)


def test_five_of_many_colliding_symbols_are_shown(make_cells):
    adata = make_cells(3, 14)
    adata.var_names = [f"{letter}{i}" for i in range(7) for letter in "gG"]
    with pytest.raises(GeneError, match="makes 7 group") as caught:
        c2s.to_cell_sentences(adata, uppercase=True)
    assert [f"G{i} = g{i}" in str(caught.value) for i in range(7)] == [True] * 5 + [False] * 2


def test_a_few_genes_that_have_only_an_ensembl_id_are_words(make_cells):
    adata = make_cells(3, 5)
    adata.var_names = ["ENSG00000187608", "ENSG00000187609", "CD3D", "LYZ", "NKG7"]
    assert "ENSG00000187608" in c2s.to_cell_sentences(adata).genes


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["A", "B", "A", "B", "C"], "2 gene symbol.s. occur more than once.*'A', 'B'"),
        (["A", "B B", "C", "D", "E"], "'B B' in var_names is empty or holds white space"),
        (["A", "", "C", "D", "E"], "'' in var_names is empty"),
        (["A", "B\t", "C\n", "D", "E"], "empty or holds white space"),
    ],
)
def test_symbols_that_make_no_words(make_cells, names, match):
    adata = make_cells(3, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata warns of what is tested here
        adata.var_names = names
    with pytest.raises(GeneError, match=match):
        c2s.to_cell_sentences(adata)


def test_missing_symbols_are_counted(make_cells):
    adata = make_cells(3, 4)
    adata.var["symbol"] = ["A", None, np.nan, "D"]
    with pytest.raises(GeneError, match=r"2 gene.s. in var\['symbol'\] have no symbol, first that at 1"):
        c2s.to_cell_sentences(adata, symbols="symbol")
    with pytest.raises(GeneError, match="no column 'name'; it has symbol"):
        c2s.to_cell_sentences(adata, symbols="name")


def test_too_many_columns_suggest_a_transposed_matrix(make_cells, monkeypatch):
    monkeypatch.setattr(c2s.sentences.symbols, "_MAX_GENES", 10)
    with pytest.raises(GeneError, match="40 genes are too many") as caught:
        c2s.to_cell_sentences(make_cells())
    assert "adata.T" in caught.value.fix
    # One below the limit is not too many.
    monkeypatch.setattr(c2s.sentences.symbols, "_MAX_GENES", 41)
    assert len(c2s.to_cell_sentences(make_cells())) == 60


def test_cells_that_share_an_id(make_cells):
    adata = make_cells(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata warns of what is tested here
        adata.obs_names = ["a", "b", "b", "c"]
    with pytest.raises(ObsError, match=r"1 cell id.s. occur more than once in obs_names, first 'b'") as caught:
        c2s.to_cell_sentences(adata)
    assert "obs_names_make_unique" in caught.value.fix


def test_a_missing_obs_column_is_named(make_cells):
    adata = make_cells(3)
    adata.obs["tissue"] = "blood"
    with pytest.raises(ObsError, match="no column 'cell_type'; it has tissue"):
        c2s.to_cell_sentences(adata, obs_columns=["cell_type"])


def test_integer_sparse_of_any_width_is_checked(make_cells):
    adata = ad.AnnData(sp.csr_matrix(np.array([[1, -2], [0, 3]], np.int16)), var=pd.DataFrame(index=["A", "B"]))
    with pytest.raises(MatrixError, match="negative"):
        c2s.to_cell_sentences(adata, expects="any")
