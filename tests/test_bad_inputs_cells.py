"""Bad files, matrices, genes and sentences get the error class that names the kind of mistake, and a fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
"""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from bad_inputs import GENES, Case, cells, check_case, cli, h5ad, sentences, truncated, write

import c2s
from c2s import errors as e


def _nan():
    X = cells().X.toarray()
    X[3, 2] = np.nan
    return cells(X)


def _negative():
    X = cells().X.toarray()
    X[3, 2] = -1
    return cells(X)


COUNTS = np.random.default_rng(0).poisson(3, size=(12, 8)) + 1

CASES = [
    # --- files
    Case(
        "missing file",
        e.InputFileError,
        r"no file .*nowhere\.h5ad",
        "check the path",
        lambda d, m: c2s.read_cells(d / "nowhere.h5ad"),
    ),
    Case(
        "not an h5ad",
        e.InputFileError,
        r"a\.h5ad is not",
        "h5ad",
        lambda d, m: c2s.read_cells(write(d, "a.h5ad", "gene,cell\n")),
    ),
    Case(
        "truncated h5ad",
        e.InputFileError,
        r"in\.h5ad",
        "download or write it again",
        lambda d, m: c2s.read_cells(truncated(d)),
    ),
    Case(
        "empty file",
        e.InputFileError,
        "0 bytes",
        "write it again",
        lambda d, m: c2s.read_cells(write(d, "a.h5ad", "")),
    ),
    Case(
        "unknown format",
        e.InputFileError,
        r"a\.doc is not an .h5ad file",
        r"convert it to one of \.h5ad",
        lambda d, m: c2s.read_cells(write(d, "a.doc", "x")),
    ),
    Case(
        "folder that is no zarr",
        e.InputFileError,
        "not a zarr store",
        r"name a file of cells|\.h5ad, \.zarr",
        lambda d, m: c2s.read_cells(d),
    ),
    Case(
        "missing layer",
        e.MatrixError,
        "no layer 'counts'; it has none",
        "leave layer out",
        lambda d, m: c2s.read_cells(h5ad(d, cells()), layer="counts"),
    ),
    Case(
        "missing raw",
        e.MatrixError,
        "no raw",
        "leave layer out",
        lambda d, m: c2s.read_cells(h5ad(d, cells()), layer="raw"),
    ),
    Case(
        "unknown dataset",
        e.RegistryError,
        "'pbmc68k_reducd'",
        "pbmc68k_reduced",
        lambda d, m: c2s.load_dataset("pbmc68k_reducd"),
    ),
    # --- the matrix
    Case("NaN", e.MatrixError, r"cell3.*NaN|NaN.*cell3", ".", lambda d, m: c2s.to_cell_sentences(_nan())),
    Case(
        "negative", e.MatrixError, r"'cell3'.*negative", "layer", lambda d, m: c2s.to_cell_sentences(_negative())
    ),
    Case("NaN in a file", e.MatrixError, r"NaN", ".", lambda d, m: c2s.read_cells(h5ad(d, _nan()))),
    Case(
        "raw where normalised",
        e.MatrixError,
        "counts",
        r"read_cells.*log1p|expects",
        lambda d, m: c2s.to_cell_sentences(cells(COUNTS)),
    ),
    Case(
        "normalised where counts",
        e.MatrixError,
        "counts",
        "expects",
        lambda d, m: c2s.to_cell_sentences(cells(), expects="counts"),
    ),
    Case(
        "no cells",
        e.MatrixError,
        "no cells",
        "check how it was filtered",
        lambda d, m: c2s.to_cell_sentences(cells()[:0]),
    ),
    Case(
        "no genes",
        e.GeneError,
        "no genes",
        "filtered or transposed",
        lambda d, m: c2s.to_cell_sentences(cells()[:, []]),
    ),
    Case(
        "text for numbers",
        e.MatrixError,
        "not numbers",
        "astype",
        lambda d, m: c2s.to_cell_sentences(ad.AnnData(np.array([["a"]]), var=pd.DataFrame(index=["A"]))),
    ),
    Case(
        "every cell filtered away",
        e.MatrixError,
        "no cell or no gene passes",
        ".",
        lambda d, m: c2s.read_cells(h5ad(d, cells()), min_genes=100),
    ),
    # --- genes
    Case(
        "duplicate symbols",
        e.GeneError,
        "LYZ",
        "var_names_make_unique",
        lambda d, m: c2s.to_cell_sentences(cells(genes=[*GENES[:6], "LYZ", "NKG7"])),
    ),
    Case(
        "Ensembl ids",
        e.GeneError,
        "ENSG",
        "symbols=",
        lambda d, m: c2s.to_cell_sentences(cells(genes=[f"ENSG{i:011d}" for i in range(8)])),
    ),
    Case(
        "colliding upper case",
        e.GeneError,
        "Actb",
        "uppercase=False",
        lambda d, m: c2s.to_cell_sentences(cells(genes=["Actb", *GENES[:7]]), uppercase=True),
    ),
    Case(
        "space in a symbol",
        e.GeneError,
        "CD3 D",
        "replace spaces",
        lambda d, m: c2s.to_cell_sentences(cells(genes=["CD3 D", *GENES[:7]])),
    ),
    Case(
        "missing symbol column",
        e.GeneError,
        "no column 'symbol'",
        "name one of them",
        lambda d, m: c2s.to_cell_sentences(cells(), symbols="symbol"),
    ),
    # --- sentences
    Case(
        "K below one",
        e.ConfigError,
        "top_k must be .* got 0",
        "correct",
        lambda d, m: c2s.to_cell_sentences(cells(), top_k=0),
    ),
    Case(
        "unknown tie break",
        e.ConfigError,
        "'gene' or 'random', got 'first'",
        "correct",
        lambda d, m: c2s.to_cell_sentences(cells(), tie_break="first"),
    ),
    Case(
        "unknown obs column",
        e.ObsError,
        "no column 'organ'",
        "obs_columns",
        lambda d, m: c2s.to_cell_sentences(cells(), obs_columns=["organ"]),
    ),
    Case(
        "reserved obs column",
        e.ObsError,
        "n_genes|cell_sentence",
        "rename",
        lambda d, m: c2s.to_cell_sentences(cells(cell_sentence=["x"] * 12), obs_columns=["cell_sentence"]),
    ),
    Case("unknown cell id", e.ObsError, "'cell99'", ".", lambda d, m: sentences().select(["cell99"])),
    Case(
        "no sentence table",
        e.InputFileError,
        "no file",
        "c2s transform",
        lambda d, m: c2s.CellSentences.read_parquet(d / "a.parquet"),
    ),
    Case(
        "not a sentence table",
        e.SentenceError,
        ".",
        "c2s transform",
        lambda d, m: c2s.CellSentences.read_parquet(_plain_parquet(d)),
    ),
    Case(
        "fit on one cell",
        e.MatrixError,
        "no cell of the fit",
        "more cells",
        lambda d, m: c2s.RankExpressionModel.fit(cells()[:1]),
    ),
    Case(
        "broken rank model",
        e.SentenceError,
        r"m\.json",
        "fit it again",
        lambda d, m: c2s.RankExpressionModel.load(write(d, "m.json", "{}")),
    ),
    Case(
        "inverting an unknown file",
        e.InputFileError,
        "no file",
        "c2s transform",
        lambda d, m: cli("invert", d / "no.parquet", d / "o.h5ad"),
    ),
]


def _plain_parquet(folder: Path) -> Path:
    pd.DataFrame({"a": [1]}).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def test_every_case_has_a_name_of_its_own():
    assert len(CASES) >= 30
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_error_names_the_thing_and_the_fix_and_leaves_nothing_behind(case, tmp_path):
    check_case(case, tmp_path)


def test_an_empty_cell_is_counted_and_kept():
    X = cells().X.toarray()
    X[2] = 0
    with pytest.warns(e.C2SWarning, match=r"1 .*cell"):
        made = c2s.to_cell_sentences(cells(X))
    assert made.table["cell_sentence"][2].as_py() == ""
    assert made.provenance["n_empty_cells"] == 1


def test_a_sentence_longer_than_the_genes_holds_what_there_is():
    made = c2s.to_cell_sentences(cells(), top_k=1000)
    expressed = np.diff(cells().X.indptr)
    assert made.table["n_genes"].to_pylist() == expressed.tolist()
