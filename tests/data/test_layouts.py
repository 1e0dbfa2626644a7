"""The same cells in every layout: the same sentences, values, answers and refusals, whoever reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import layouts
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from bad_inputs import cli
from hypothesis import assume, given, settings, strategies as st
from layouts import COUNTS, LAYERS, counted_cells, log_normalised

import c2s
from c2s.corpus.ranks import rank_rows
from c2s.corpus.source import CellReader
from c2s.errors import C2SError
from c2s.sentences import SentenceStream

pytestmark = pytest.mark.filterwarnings("ignore")

EVERY: Mapping[str, tuple[str, layouts.Write, str | None]] = {k: (*v, None) for k, v in COUNTS.items()} | LAYERS
#: One of each reader, for what takes longer.
SOME = ("today", "0.6", "0.7", "SeuratDisk", "nullable", "categorical names", "float16", "zarr 3", "CSC")
FOREIGN = ("Cell Ranger 3", "matrix.mtx.gz", "loom", "csv with labels", "genes x cells")


def sentences(table: pa.Table) -> pa.Table:
    return table.select(["cell_id", "cell_sentence", "n_genes"])


def streamed(adata: ad.AnnData) -> pa.Table:
    stream = SentenceStream(adata, chunk_size=16)
    return pa.Table.from_batches(list(stream.batches()), stream.schema)


def ranked(path: Path, layer: str | None = None) -> pa.Table:
    """Read as a corpus does."""
    reader = CellReader(path, layer)
    try:
        order, n_kept = rank_rows(reader, 0, reader.n_cells, reader.n_genes)
        names = np.array(reader.words.names.to_pylist())[reader.words.by_rank]
        ends = np.cumsum(n_kept)
        texts = [" ".join(names[order[end - n : end]]) for end, n in zip(ends, n_kept, strict=True)]
        ids = reader.ids(0, reader.n_cells)
        for column in reader.column_names:
            assert len(reader.column(column).texts(0, reader.n_cells)) == reader.n_cells
        return pa.table({"cell_id": ids, "cell_sentence": texts, "n_genes": pa.array(n_kept, pa.int32())})
    finally:
        reader.close()


#: Everything that reads a file of cells, down to its sentences.
READERS: Mapping[str, Callable[[Path, str | None], pa.Table]] = {
    "memory": lambda path, layer: c2s.to_cell_sentences(c2s.read_cells(path, layer=layer)).table,
    "backed": lambda path, layer: streamed(c2s.read_cells(path, layer=layer, backed=True)),
    "dataset": lambda path, layer: c2s.to_cell_sentences(c2s.load_dataset(path, layer=layer)).table,
    "corpus": ranked,
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> ad.AnnData:
    """What reading any of the files gives."""
    path = COUNTS["today"][1](counted_cells(), tmp_path_factory.mktemp("expected") / "cells.h5ad")
    found = c2s.read_cells(path)
    np.testing.assert_allclose(found.X.toarray(), log_normalised(counted_cells()).X.toarray(), rtol=1e-6)
    return found


@pytest.mark.parametrize("layout", EVERY)
def test_every_reader_gives_the_same_sentences_and_values(layout, expected, tmp_path):
    name, write, layer = EVERY[layout]
    path = write(counted_cells(), tmp_path / name)
    told = sentences(c2s.to_cell_sentences(expected).table)
    for reader, read in READERS.items():
        assert sentences(read(path, layer)).equals(told), reader
    found = c2s.read_cells(path, layer=layer)
    assert found.var_names.tolist() == expected.var_names.tolist()
    assert found.X.dtype == np.float32
    np.testing.assert_allclose(found.X.toarray(), expected.X.toarray(), rtol=1e-6)
    backed = c2s.read_cells(path, layer=layer, backed=True)
    for notes in (found.uns["c2s"], backed.uns["c2s"]):
        assert {k: notes[k] for k in ("matrix_kind", "done", "scale")} == {
            k: expected.uns["c2s"][k] for k in ("matrix_kind", "done", "scale")
        }
    slopes = [c2s.RankExpressionModel.fit(cells).slope for cells in (expected, backed)]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-5)
    for column in set(expected.obs) & set(found.obs):
        for cells in (found, backed):
            assert cells.obs[column].astype(str).tolist() == expected.obs[column].astype(str).tolist()


# --- commands


@pytest.fixture(scope="module")
def model(expected, tmp_path_factory) -> Path:
    from c2s.models import TinyConfig
    from c2s.training import SFTConfig, train_task

    host = c2s.default_host()
    task = host.tasks.get("annotation")()
    out = tmp_path_factory.mktemp("trained") / "model"
    train_task(
        expected,
        task,
        host.prompts.get(task.prompts),
        out=out,
        config=SFTConfig(max_steps=3, batch_size=8),
        tiny=TinyConfig(layers=1, hidden_size=16, heads=1),
        top_k=6,
        show_progress=False,
    )
    return out


@pytest.fixture(scope="module")
def answers(expected, model, tmp_path_factory) -> tuple[pd.DataFrame, np.ndarray]:
    """Predictions and vectors of the cells in memory."""
    folder = tmp_path_factory.mktemp("answers")
    path = COUNTS["today"][1](counted_cells(), folder / "cells.h5ad")
    return predicted(path, model, folder, None)


def predicted(path: Path, model: Path, folder: Path, layer: str | None) -> tuple[pd.DataFrame, np.ndarray]:
    how = ("--layer", layer) if layer else ()
    cli("predict", path, folder / "predicted.h5ad", "--model", model, *how)
    cli("embed", path, folder / "embedded.h5ad", "--model", model, "--genes", 6, *how)
    columns = ["c2s_cell_type", "c2s_cell_type_probability"]
    return ad.read_h5ad(folder / "predicted.h5ad").obs[columns], ad.read_h5ad(folder / "embedded.h5ad").obsm[
        "X_c2s"
    ]


@pytest.mark.parametrize("layout", [*SOME, *FOREIGN, *LAYERS])
def test_commands_give_the_same_answers_and_write_the_cells_again(
    layout, expected, model, answers, tmp_path, capsys
):
    name, write, layer = EVERY[layout]
    path = write(counted_cells(), tmp_path / name)
    how = ("--layer", layer) if layer else ()
    cli("transform", path, tmp_path / "out.parquet", *how)
    table = c2s.CellSentences.read_parquet(tmp_path / "out.parquet").table
    assert sentences(table).equals(sentences(c2s.to_cell_sentences(expected).table))
    predictions, vectors = predicted(path, model, tmp_path, layer)
    assert predictions["c2s_cell_type"].tolist() == answers[0]["c2s_cell_type"].tolist()
    np.testing.assert_allclose(
        predictions["c2s_cell_type_probability"], answers[0]["c2s_cell_type_probability"], atol=1e-5
    )
    np.testing.assert_allclose(vectors, answers[1], atol=1e-5)
    written = ad.read_h5ad(tmp_path / "predicted.h5ad")
    if layer is None:  # the cells come back as they were, neither normalised nor filtered
        assert (sp.csr_matrix(written.X) != counted_cells().X).nnz == 0
    capsys.readouterr()
    if "cell_type" in written.obs:
        cli("labels", path, *how)
        assert re.search(r"cell_type +│ 2 .*yes", capsys.readouterr().out)


@pytest.mark.parametrize("layout", ["0.6", "nullable", "zarr 3", "loom", "csv with labels", "raw"])
def test_training_sees_the_same_cells(layout, model, tmp_path):
    name, write, layer = EVERY[layout]
    path = write(counted_cells(), tmp_path / name)
    how = ("--layer", layer) if layer else ()
    shape = ("--option", "layers=1", "--option", "hidden_size=16", "--option", "heads=1", "--genes", 6)
    data = ("--task", "annotation", "--data", path, "--max-steps", 1, "--option", "eval_examples=0")
    cli("train", "sft", *data, "--out", tmp_path / "model", *shape, *how)
    known = [(folder / "genes.txt").read_text() for folder in (model, tmp_path / "model")]
    assert known[0] == known[1]


@pytest.mark.parametrize(
    "layout", ["0.6", "SeuratDisk", "categorical names", "zarr 2", "CSC", "loom", "raw of 0.6"]
)
def test_a_corpus_is_the_same(layout, tmp_path):
    """Whole builds: the examples of all parts, whatever file the cells came in."""
    from c2s.corpus import build_corpus, make_spec, open_corpus

    made = {}
    for key in ("today", layout):
        name, write, layer = EVERY[key]
        (folder := tmp_path / key).mkdir()
        dataset = {"name": "cells", "path": str(write(counted_cells(), folder / name)), "layer": layer}
        spec = make_spec(
            datasets=[dataset],
            tasks={"cell-type-annotation": 1, "single-cell-language-modeling": 1},
            genes=(5, 20),
        )
        build_corpus(spec, folder / "corpus", show_progress=False)
        corpus = open_corpus(folder / "corpus")
        files = [file for part in corpus.parts for file in corpus.files(part)]
        made[key] = [pq.read_table(file).to_pylist() for file in files]
    assert made["today"] == made[layout]
    assert sum(map(len, made[layout])) > 100


# --- refusals


def value(row: int, what: float) -> Callable[[ad.AnnData], None]:
    def change(adata: ad.AnnData) -> None:
        dense = adata.X.toarray().astype(np.float64)
        dense[row, 3] = what
        adata.X = sp.csr_matrix(dense)

    return change


def names(change: Callable[[int, str], str]) -> Callable[[ad.AnnData], None]:
    def rename(adata: ad.AnnData) -> None:
        adata.var_names = [change(i, name) for i, name in enumerate(adata.var_names)]
        adata.var["gene_ids"] = adata.var_names.to_numpy()

    return rename


def some_logs(adata: ad.AnnData) -> None:
    dense = adata.X.toarray()
    dense[::2] = log_normalised(adata).X.toarray()[::2]
    adata.X = sp.csr_matrix(dense)


def one_of_another_kind(adata: ad.AnnData) -> None:
    dense = log_normalised(adata).X.toarray()
    dense[150] = adata.X.toarray()[150]
    adata.X = sp.csr_matrix(dense)


def scaled(adata: ad.AnnData) -> None:
    dense = log_normalised(adata).X.toarray()
    adata.X = sp.csr_matrix((dense - dense.mean(0)) / dense.std(0).clip(0.1))


def barcode(i: int, name: str) -> str:
    return "ACGTACGTACG" + "".join("ACGT"[i >> place & 3] for place in (0, 2, 4)) + "-1"


#: What is wrong, and what every reader says of it in every layout, but for the name of the file.
REFUSALS: Mapping[str, tuple[Callable[[ad.AnnData], Any], str]] = {
    "NaN": (value(5, np.nan), r"cell 'AAACCTGAG005-1' \(row 5\) has a value that is NaN in X"),
    "infinite": (value(5, np.inf), r"cell 'AAACCTGAG005-1' \(row 5\) has a value that is infinite in X"),
    "negative count": (value(5, -1), r"cell 'AAACCTGAG005-1' \(row 5\) holds -1 among counts in X"),
    "negative count that no sample holds": (
        value(150, -1),
        r"cell 'AAACCTGAG150-1' \(row 150\) holds -1 among counts",
    ),
    "scaled": (scaled, r"FILE holds scaled values \(\d+% of the values that are not 0 are negative\)"),
    "two kinds": (some_logs, r"FILE holds cells of two kinds: .*'AAACCTGAG001-1'.* hold whole numbers.* log1p"),
    "a cell of another kind": (
        one_of_another_kind,
        r"cell 'AAACCTGAG150-1' \(row 150\) of X holds counts.*hold log1p",
    ),
    "Ensembl ids": (names(lambda i, n: f"ENSG{i:011d}"), r"40 of 40 names in var_names of FILE are Ensembl ids"),
    "row numbers": (names(lambda i, n: str(i)), r"40 of 40 names in var_names of FILE are numbers"),
    "barcodes": (names(barcode), r"40 of 40 names in var_names of FILE are cell barcodes"),
    "genomic ranges": (
        names(lambda i, n: f"chr1:{i}000100-{i}000900"),
        r"40 of 40 names in var_names of FILE are genomic ranges",
    ),
    "white space": (names(lambda i, n: "CD3 D" if i == 2 else n), r"'CD3 D' in var_names of FILE .* white space"),
    "unseen space": (names(lambda i, n: "CD3\u200bD" if i == 2 else n), r"'CD3\\u200bD' in var_names of FILE"),
    "empty name": (names(lambda i, n: "" if i == 2 else n), r"'' in var_names of FILE is empty"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_every_reader_refuses_alike_in_every_layout(what, tmp_path):
    change, says = REFUSALS[what]
    bad = counted_cells(200 if "150" in says else 70)
    change(bad)
    told = {}
    for layout in ("today", "0.6", "0.7 dense", "zarr 3", "CSC", "matrix.mtx.gz", "loom", "genes x cells"):
        if (layout, what) in {("0.6", "unseen space"), ("genes x cells", "barcodes")}:
            continue  # anndata 0.6 could not write such names; and two sides of barcodes tell nothing
        name, write, _ = EVERY[layout]
        (folder := tmp_path / layout).mkdir()
        path = write(bad, folder / name)
        for reader, read in READERS.items():
            with pytest.raises(C2SError) as caught:
                read(path, None)
            text = str(caught.value).replace(str(path), "FILE").replace(path.name, "FILE")
            # What tells the kinds apart stands in obs, where the layout has one.
            told[layout, reader] = type(caught.value), re.sub(r"; obs\['cell_type'\] tells them apart", "", text)
    assert len(set(told.values())) == 1, told
    assert re.search(says, next(iter(told.values()))[1], re.DOTALL)


# --- any matrix


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    """Counts or their logarithms of a few cells, as they are, and in a random layout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(3, 30)), draw(st.integers(3, len(layouts.GENES)))
    counts = rng.poisson(rng.gamma(0.5, 2.0, (1, m)) * rng.uniform(0.2, 3.0, (n, 1)))
    kind = draw(st.sampled_from(["counts", "log1p", "log2", "zeros"]))
    if kind == "zeros":
        return np.zeros((n, m)), "float32"
    if kind == "counts":
        return counts, draw(st.sampled_from(["float32", "float64", "int32", "uint16", "int64"]))
    logs = np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4)
    return logs / (np.log(2) if kind == "log2" else 1), draw(st.sampled_from(["float32", "float64", "float16"]))


STORED: Mapping[str, Callable[[Any], Any]] = {
    "dense": lambda x: x.toarray(),
    "CSR": lambda x: x,
    "CSC": lambda x: x.tocsc(),
    "unsorted": layouts.unsorted,
    "explicit zeros": layouts.explicit_zeros,
}


@settings(max_examples=30)
@given(matrices(), st.sampled_from([*STORED]), st.sampled_from(["today", "0.7", "zarr", "loom", "csv"]))
def test_any_matrix_is_read_alike_from_any_layout(tmp_path_factory, matrix, stored, layout):
    dense, dtype = matrix
    assume(dense.any() or stored != "explicit zeros")  # of chunks of nothing but zeros zarr stores none
    values = dense.astype(dtype).astype(np.float64)  # what the narrower type holds is what was measured
    whole = ad.AnnData(
        sp.csr_matrix(values),
        obs=pd.DataFrame(index=[f"cell{i}" for i in range(len(dense))]),
        var=pd.DataFrame({"gene_ids": layouts.GENES[: dense.shape[1]]}, index=layouts.GENES[: dense.shape[1]]),
    )
    folder = tmp_path_factory.mktemp("any")
    first = whole.copy()
    first.write_h5ad(folder / "first.h5ad")
    expected = c2s.read_cells(folder / "first.h5ad")
    table = sentences(c2s.to_cell_sentences(expected, expects="any").table)

    def changed(x: Any) -> Any:
        made = STORED[stored](x)
        return made if dtype == "float16" else made.astype(dtype)

    write, name = {
        "today": (layouts.with_matrix(changed), "cells.h5ad"),
        "0.7": (layouts.by_hand(changed), "cells.h5ad"),
        "zarr": (layouts.zarr_store(2 + len(dense) % 2, changed), "cells.zarr"),
        "loom": (layouts.loom, "cells.loom"),
        "csv": (layouts.table(), "cells.csv"),
    }[layout]
    path = write(whole, folder / name)
    found = c2s.read_cells(path)
    np.testing.assert_allclose(found.X.toarray(), expected.X.toarray(), rtol=1e-6)
    assert found.uns["c2s"]["matrix_kind"] == expected.uns["c2s"]["matrix_kind"]
    backed = c2s.read_cells(path, backed=True)
    for adata in (found, backed):
        assert sentences(c2s.to_cell_sentences(adata, expects="any").table).equals(table)
    assert ranked(path)["cell_sentence"].to_pylist() == table["cell_sentence"].to_pylist()
