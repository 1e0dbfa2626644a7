"""`CellSentences`: select, write, read, hand on."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import c2s
from c2s.errors import InputFileError, ObsError, OutputError, SentenceError
from c2s.sentences import table as table_module


@pytest.fixture
def sentences(make_cells) -> c2s.CellSentences:
    adata = make_cells(20)
    adata.obs["cell_type"] = pd.Categorical(["a", "b"] * 10)
    return c2s.to_cell_sentences(adata, top_k=4)


def test_parquet_keeps_table_vocabulary_and_provenance(sentences, tmp_path):
    path = sentences.write_parquet(tmp_path / "new" / "cells.parquet")
    read = c2s.CellSentences.read_parquet(path)
    assert read.table.equals(sentences.table)
    assert read.vocabulary.equals(sentences.vocabulary)
    assert read.provenance == sentences.provenance
    assert pq.read_table(path).column_names == sentences.table.column_names  # a plain Parquet file to others


def test_large_tables_get_several_row_groups(sentences, tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "_ROW_GROUP_BYTES", 500)
    batches = c2s.CellSentences(
        pa.Table.from_batches(sentences.table.to_batches(max_chunksize=3)), sentences.vocabulary, {}
    )
    path = batches.write_parquet(tmp_path / "cells.parquet")
    assert 1 < pq.ParquetFile(path).num_row_groups < 7
    assert c2s.CellSentences.read_parquet(path).table.equals(sentences.table)


def test_an_existing_file_is_not_overwritten_unasked(sentences, tmp_path):
    path = sentences.write_parquet(tmp_path / "cells.parquet")
    with pytest.raises(OutputError, match="exists already"):
        sentences.write_parquet(path)
    sentences.write_parquet(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["cells.parquet"]


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(InputFileError, match="no file"):
        c2s.CellSentences.read_parquet(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(InputFileError, match="not a readable Parquet file"):
        c2s.CellSentences.read_parquet(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(SentenceError, match="without the vocabulary"):
        c2s.CellSentences.read_parquet(tmp_path / "other.parquet")


def test_a_truncated_file_is_refused(sentences, tmp_path):
    path = sentences.write_parquet(tmp_path / "cells.parquet")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputFileError, match="not a readable Parquet file"):
        c2s.CellSentences.read_parquet(path)


def test_select_keeps_the_order_asked_for(sentences):
    chosen = sentences.select(["cell-0-7", "cell-0-2", "cell-0-7"])
    assert chosen.table["cell_id"].to_pylist() == ["cell-0-7", "cell-0-2", "cell-0-7"]
    rows = sentences.table["cell_sentence"].to_pylist()
    assert chosen.table["cell_sentence"].to_pylist() == [rows[7], rows[2], rows[7]]
    assert len(sentences.select([])) == 0
    with pytest.raises(ObsError, match=r"2 cell id.s. are not in these sentences: 'x', 'y'"):
        sentences.select(["cell-0-7", "x", "y"])


def test_the_first_five_unknown_cells_are_named(sentences):
    with pytest.raises(ObsError) as caught:
        sentences.select(["cell-0-7", *(f"x{i}" for i in range(7))])
    assert "7 cell id(s) are not in these sentences: 'x0', 'x1', 'x2', 'x3', 'x4'." in str(caught.value)


def test_sentences_of_no_cell_can_be_shown_and_nothing_can_be_put_in_their_place(sentences):
    none = sentences.select([])
    assert repr(none) == "CellSentences(0 cells of 0 genes on average, vocabulary of 40)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        none.table = sentences.table


def test_several_columns_with_reserved_names_are_all_carried(make_cells):
    adata = make_cells(2)
    adata.obs["cell_sentence"] = ["x", "y"]
    adata.obs["n_genes"] = [1, 2]
    adata.obs["obs_cell_sentence"] = ["a", "b"]
    found = c2s.to_cell_sentences(adata)
    assert found.table["obs_obs_cell_sentence"].to_pylist() == ["x", "y"]
    assert found.table["obs_cell_sentence"].to_pylist() == ["a", "b"]
    assert found.table["obs_n_genes"].to_pylist() == [1, 2]


def test_obs_is_the_table_without_its_sentences(sentences):
    obs = sentences.obs
    assert obs.index.name == "cell_id"
    assert obs.columns.tolist() == ["n_genes", "cell_type"]
    assert obs.loc["cell-0-3", "cell_type"] == "b"
    assert len(sentences) == len(obs) == 20
    assert repr(sentences) == "CellSentences(20 cells of 4 genes on average, vocabulary of 40)"


def test_datasets_share_the_table(sentences):
    datasets = pytest.importorskip("datasets")
    dataset = sentences.to_dataset()
    assert isinstance(dataset, datasets.Dataset)
    assert dataset["cell_sentence"][:3] == sentences.table["cell_sentence"].to_pylist()[:3]


def test_a_table_without_its_columns_is_refused(sentences):
    with pytest.raises(SentenceError, match="lacks n_genes"):
        c2s.CellSentences(sentences.table.drop_columns(["n_genes"]), sentences.vocabulary, {})
    with pytest.raises(SentenceError, match="gene and n_cells"):
        c2s.CellSentences(sentences.table, pa.table({"gene": ["A"]}), {})


def test_string_dtypes_and_dates_of_obs(make_cells):
    adata = make_cells(2)
    adata.obs["pandas_string"] = pd.array(["x", None], dtype="string")
    adata.obs["when"] = pd.to_datetime(["2020-01-01", "2021-02-03"])
    adata.obs["flag"] = [True, False]
    adata.obs["nothing"] = [None, None]
    adata.obs["lists"] = [[1], [2, 3]]
    table = c2s.to_cell_sentences(adata).table
    assert table["pandas_string"].to_pylist() == ["x", None]
    assert table.schema.field("pandas_string").type == pa.string()
    assert str(table["when"][1].as_py()) == "2021-02-03 00:00:00"
    assert table["flag"].to_pylist() == [True, False]
    assert table["nothing"].to_pylist() == [None, None]
    assert table["lists"].to_pylist() == ["[1]", "[2, 3]"]
