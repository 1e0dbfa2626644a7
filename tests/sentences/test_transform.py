"""The transform against a naive one, and its options."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given, strategies as st

import c2s
from c2s.errors import C2SWarning, ConfigError, MatrixError, ObsError
from c2s.sentences import SentenceStream


def words(sentences: c2s.CellSentences) -> list[str]:
    return sentences.table["cell_sentence"].to_pylist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("top_k", [1, 5, 17, None])
@pytest.mark.parametrize("n_levels", [1, 3, 50, None])
def test_agrees_with_a_naive_sort(make_cells, reference, n_levels, top_k, dtype):
    adata = make_cells(n_genes=300, n_levels=n_levels, dtype=dtype)
    assert words(c2s.to_cell_sentences(adata, top_k=top_k)) == reference(adata, top_k)


@given(data=st.data())
def test_agrees_with_a_naive_sort_on_any_matrix(reference, data):
    n_genes = data.draw(st.integers(1, 90), "genes")
    levels = data.draw(st.lists(st.floats(2.0**-100, 2.0**100, width=32), min_size=1, max_size=6), "levels")
    seed = data.draw(st.integers(0, 10_000), "seed")
    rng = np.random.default_rng(seed)
    dense = rng.choice([0.0, 0.0, 0.5, *levels], (4, n_genes)).astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(dense))
    adata.var_names = [f"g{i}" for i in rng.permutation(n_genes)]
    adata.obs_names = list("abcd")
    top_k = data.draw(st.one_of(st.none(), st.integers(1, n_genes)), "top_k")
    with np.errstate(over="ignore"):
        assert words(c2s.to_cell_sentences(adata, top_k=top_k, expects="any")) == reference(adata, top_k)


def test_doubles_that_differ_beyond_single_precision_are_not_ties():
    values = np.array([[1.5, 1.5 + 1e-12, 1.5 - 1e-12]])
    adata = ad.AnnData(sp.csr_matrix(values), var=pd.DataFrame(index=["A", "B", "C"]))
    assert words(c2s.to_cell_sentences(adata)) == ["B A C"]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, np.float16])
def test_other_number_types_are_read(dtype):
    adata = ad.AnnData(np.array([[0, 1, 1], [1, 0, 0]], dtype), var=pd.DataFrame(index=["A", "B", "C"]))
    assert words(c2s.to_cell_sentences(adata, expects="any")) == ["B C", "A"]


def test_whole_numbers_beyond_single_precision_are_not_ties():
    values = np.array([[2**24, 2**24 + 1, 2**24 + 2]], np.int32)
    adata = ad.AnnData(values, var=pd.DataFrame(index=["A", "B", "C"]))
    assert words(c2s.to_cell_sentences(adata, expects="counts")) == ["C B A"]


def test_options_are_given_by_name(make_cells):
    with pytest.raises(TypeError, match="positional argument"):
        c2s.to_cell_sentences(make_cells(), 5)


def test_warnings_point_at_the_line_that_called(make_cells, tmp_path):
    adata = make_cells()
    adata.X = sp.csr_matrix(np.expm1(adata.X.toarray()) * (np.arange(60) != 1)[:, None])  # no logarithm; one empty
    with pytest.warns(C2SWarning) as caught:
        c2s.to_cell_sentences(adata, top_k=1000)
    told = [next(w for w in ("exceeds", "not log1p", "express no gene") if w in str(c.message)) for c in caught]
    assert told == ["exceeds", "not log1p", "express no gene"]
    assert {c.filename for c in caught} == {__file__}
    adata = make_cells()
    adata.X = sp.csc_matrix(adata.X)
    adata.write_h5ad(tmp_path / "by_gene.h5ad")
    backed = ad.read_h5ad(tmp_path / "by_gene.h5ad", backed="r")
    for call in (c2s.to_cell_sentences, c2s.RankExpressionModel.fit):
        with pytest.warns(C2SWarning, match="stored by gene") as caught:
            call(backed)
        assert [c.filename for c in caught] == [__file__]


def test_what_was_done_is_kept_with_the_sentences(make_cells):
    adata = make_cells()
    adata.var["symbol"] = [name.lower() for name in adata.var_names]
    adata.uns["c2s"] = {"source": "cells.h5ad", "matrix_kind": "counts"}
    options = {
        "top_k": 7,
        "tie_break": "random",
        "seed": 3,
        "uppercase": True,
        "symbols": "symbol",
        "expects": "any",
    }
    found = c2s.to_cell_sentences(adata, chunk_size=7, **options).provenance
    assert found.items() >= options.items()
    assert found["c2s_version"] == c2s.__version__
    assert (found["n_cells"], found["n_genes"], found["n_empty_cells"]) == (60, 40, 0)
    assert (found["source"], found["source_kind"], found["matrix_kind"]) == ("cells.h5ad", "counts", "log1p")
    assert found["layer"] is None
    assert found["normalised_on_read"] is None


def test_a_table_says_what_it_is(make_cells):
    adata = make_cells(n_cells=5)
    adata.obs["cell_type"] = pd.Categorical(["a", "b", None, "a", "b"])
    adata.obs["age"] = [1, 2, 3, 4, 5]
    adata.obs["mixed"] = ["x", 1, None, 2.5, "y"]
    sentences = c2s.to_cell_sentences(adata, top_k=3)
    table = sentences.table
    assert table.column_names[:3] == ["cell_id", "cell_sentence", "n_genes"]
    assert table.schema.field("cell_sentence").type == pa.string()
    assert table["cell_id"].to_pylist() == adata.obs_names.tolist()
    assert table["n_genes"].to_pylist() == [len(s.split()) for s in words(sentences)]
    assert table["cell_type"].to_pylist() == ["a", "b", None, "a", "b"]
    assert table["age"].to_pylist() == [1, 2, 3, 4, 5]
    assert table["mixed"].to_pylist() == ["x", "1", None, "2.5", "y"]
    assert sentences.genes == adata.var_names.tolist()
    assert sentences.provenance["top_k"] == 3
    assert sentences.provenance["n_cells"] == 5


def test_vocabulary_counts_the_cells_that_express_each_gene(make_cells):
    adata = make_cells(n_cells=50)
    vocabulary = c2s.to_cell_sentences(adata, top_k=2).vocabulary
    assert vocabulary["n_cells"].to_pylist() == np.asarray((adata.X > 0).sum(axis=0)).ravel().tolist()


def test_only_the_named_obs_columns_are_carried(make_cells):
    adata = make_cells(n_cells=3)
    adata.obs["a"], adata.obs["b"] = "x", "y"
    assert c2s.to_cell_sentences(adata, obs_columns=["b"]).table.column_names[3:] == ["b"]
    assert c2s.to_cell_sentences(adata, obs_columns=[]).table.column_names[3:] == []


def test_an_obs_column_with_a_reserved_name_is_carried_under_another(make_cells):
    adata = make_cells(n_cells=3)
    adata.obs["n_genes"] = [7, 8, 9]
    sentences = c2s.to_cell_sentences(adata)
    assert sentences.table["obs_n_genes"].to_pylist() == [7, 8, 9]
    assert sentences.provenance["renamed_obs_columns"] == {"n_genes": "obs_n_genes"}
    with pytest.raises(ObsError, match=r"'n_genes'.*rename"):
        c2s.to_cell_sentences(adata, obs_columns=["n_genes"])
    adata.obs["obs_n_genes"] = [1, 2, 3]
    table = c2s.to_cell_sentences(adata).table
    assert table["obs_n_genes"].to_pylist() == [1, 2, 3]
    assert table["obs_obs_n_genes"].to_pylist() == [7, 8, 9]


def test_columns_named_by_numbers_are_carried(make_cells):
    adata = make_cells(n_cells=3)
    adata.obs[7] = ["x", "y", "z"]
    assert c2s.to_cell_sentences(adata).table["7"].to_pylist() == ["x", "y", "z"]


def test_notes_of_another_program_are_left_alone(make_cells):
    adata = make_cells(n_cells=3)
    adata.uns["c2s"] = "not ours"
    assert c2s.to_cell_sentences(adata).provenance["source"] is None


def test_a_layer_can_be_read(make_cells, reference):
    adata = make_cells()
    other = make_cells(seed=5)
    adata.layers["other"] = other.X
    expected = other.copy()
    expected.var_names = adata.var_names
    assert words(c2s.to_cell_sentences(adata, layer="other")) == reference(expected, None)
    with pytest.raises(MatrixError, match="no layer 'gone'; there is other"):
        c2s.to_cell_sentences(adata, layer="gone")


def test_symbols_come_from_a_column_of_var(make_cells):
    adata = make_cells()
    by_name = words(c2s.to_cell_sentences(adata))
    adata.var["symbol"] = adata.var_names.to_numpy()
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    assert words(c2s.to_cell_sentences(adata, symbols="symbol")) == by_name


def test_more_genes_asked_for_than_there_are_warns_and_keeps_all(make_cells, reference):
    adata = make_cells()
    with pytest.warns(C2SWarning, match="top_k=1000 exceeds the 40 genes"):
        sentences = c2s.to_cell_sentences(adata, top_k=1000)
    assert words(sentences) == reference(adata, None)


def test_empty_cells_are_kept_counted_and_warned_of(make_cells):
    adata = make_cells(n_cells=6)
    adata.X = sp.csr_matrix(adata.X.toarray() * np.array([1, 0, 1, 0, 1, 1], np.float32)[:, None])
    with pytest.warns(C2SWarning, match="2 of 6 cells express no gene"):
        sentences = c2s.to_cell_sentences(adata)
    assert [i for i, s in enumerate(words(sentences)) if not s] == [1, 3]
    assert sentences.provenance["n_empty_cells"] == 2
    assert sentences.table["n_genes"].to_pylist()[1] == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": -3}, "top_k"),
        ({"top_k": 2.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"tie_break": "alphabet"}, "tie_break"),
        ({"expects": "tpm"}, "expects"),
        ({"chunk_size": 0}, "chunk_size"),
    ],
)
def test_options_out_of_range_are_named(make_cells, options, problem):
    with pytest.raises(ConfigError, match=problem):
        c2s.to_cell_sentences(make_cells(), **options)


def test_all_wrong_options_are_reported_at_once(make_cells):
    with pytest.raises(ConfigError) as caught:
        c2s.to_cell_sentences(make_cells(), top_k=0, tie_break="x", expects="y", chunk_size=-1)
    assert len(caught.value.problems) == 4


def test_progress_is_shown_when_asked_for(make_cells, capsys):
    c2s.to_cell_sentences(make_cells(), show_progress=False)
    assert capsys.readouterr().err == ""
    stream = SentenceStream(make_cells(), chunk_size=10)
    assert sum(batch.num_rows for batch in stream.batches(show_progress=True)) == stream.n_cells == 60


def test_a_bigger_chunk_than_arrow_offsets_allow_is_cut(make_cells):
    adata = make_cells()
    stream = SentenceStream(adata, chunk_size=2**31)
    longest = max(len(name.encode()) for name in adata.var_names) + 1
    assert stream._chunk * adata.n_vars * longest < 2**31


def test_one_thread_gives_what_many_give(make_cells, monkeypatch):
    adata = make_cells(n_cells=200)
    monkeypatch.setenv("C2S_THREADS", "3")
    many = c2s.to_cell_sentences(adata, chunk_size=7)
    monkeypatch.setenv("C2S_THREADS", "1")
    assert c2s.to_cell_sentences(adata, chunk_size=7).table.equals(many.table)


def test_the_matrix_is_left_as_it_was(make_cells):
    adata = make_cells()
    shuffled = adata.X[:, ::-1].copy()  # unsorted indices
    adata.X = sp.csr_matrix((shuffled.data, shuffled.indices, shuffled.indptr), shape=adata.shape)
    adata.X.has_sorted_indices = False
    before = adata.X.indices.copy(), adata.X.data.copy()
    c2s.to_cell_sentences(adata)
    np.testing.assert_array_equal(adata.X.indices, before[0])
    np.testing.assert_array_equal(adata.X.data, before[1])


def test_unsorted_and_duplicated_entries_are_summed(reference):
    indices, data = [2, 0, 2, 1, 0], [0.5, 1.2, 0.9, 0.3, 0.1]
    adata = ad.AnnData(
        sp.csr_matrix((data, indices, [0, 3, 5]), shape=(2, 3)), var=pd.DataFrame(index=list("ABC"))
    )
    # Row 0: A 1.2, C 0.5 + 0.9; row 1: B 0.3, A 0.1.
    assert words(c2s.to_cell_sentences(adata)) == ["C A", "B A"]
    assert c2s.to_cell_sentences(adata).vocabulary["n_cells"].to_pylist() == [2, 1, 1]
