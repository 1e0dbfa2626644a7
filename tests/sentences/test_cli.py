"""``c2s transform`` and ``c2s invert``."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

import c2s
from c2s.cli import main


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def counts_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(0.8, (70, 50)).astype(np.float32)))
    adata.var_names = [f"GENE{i}" for i in range(50)]
    adata.obs_names = [f"cell{i}" for i in range(70)]
    adata.obs["cell_type"] = ["a", "b"] * 35
    adata.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def test_there_and_back(counts_file, tmp_path, capsys):
    out, back = tmp_path / "out.parquet", tmp_path / "back.h5ad"
    assert run("transform", counts_file, out, "--genes", 12, "--chunk-size", 9) == 0
    cells = c2s.read_cells(counts_file)
    sentences = c2s.CellSentences.read_parquet(out)
    assert sentences.table.equals(c2s.to_cell_sentences(cells, top_k=12).table)
    model = c2s.RankExpressionModel.load(tmp_path / "out.rank-expression.json")
    assert model.slope == pytest.approx(c2s.RankExpressionModel.fit(cells, top_k=12).slope, rel=1e-5)
    record = json.loads((tmp_path / "out.run.json").read_text())
    assert record["config"]["genes"] == 12
    assert record["data"][0]["sha256"]
    printed = capsys.readouterr()
    assert "70 cells (counts)" in printed.out
    assert repr(model) in printed.out

    out.rename(tmp_path / "moved.parquet")  # the file alone is enough
    (tmp_path / "out.rank-expression.json").unlink()
    assert run("invert", tmp_path / "moved.parquet", back, "--chunk-size", 16) == 0
    found = ad.read_h5ad(back)
    expected = model.invert(sentences)
    assert (found.X != expected.X).nnz == 0
    assert found.obs["cell_type"].tolist() == ["a", "b"] * 35
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    assert found.var_names.tolist() == expected.var_names.tolist()
    report = found.uns["c2s"]["inverse"]
    assert report["n_words"] == sum(sentences.table["n_genes"].to_pylist())
    assert "0 of " in capsys.readouterr().out


def test_zarr_uppercase_random_ties_and_filters(counts_file, tmp_path):
    cells = ad.read_h5ad(counts_file)
    cells.var_names = [name.lower() for name in cells.var_names]
    with pytest.warns(UserWarning, match="zarr"):
        cells.write_zarr(tmp_path / "in.zarr")
    out = tmp_path / "out.parquet"
    options = ("--uppercase", "--tie-break", "random", "--seed", 3, "--min-genes", 20, "--min-cells", 5)
    assert run("transform", tmp_path / "in.zarr", out, *options) == 0
    read = c2s.read_cells(tmp_path / "in.zarr", min_genes=20, min_cells=5)
    expected = c2s.to_cell_sentences(read, uppercase=True, tie_break="random", seed=3)
    assert 0 < len(expected) < 70
    assert c2s.CellSentences.read_parquet(out).table.equals(expected.table)


def test_without_a_model(counts_file, tmp_path, capsys):
    out = tmp_path / "out.parquet"
    assert run("transform", counts_file, out, "--no-model", "--normalise", "never") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5ad", "out.parquet", "out.run.json"]
    assert run("invert", out, tmp_path / "back.h5ad") == 2
    assert "without a rank-expression model" in capsys.readouterr().err
    model = c2s.RankExpressionModel(-1.0, 3.0, 0.9, 0.9, 1, 1, 1, 1).save(tmp_path / "model.json")
    assert run("invert", out, tmp_path / "back.h5ad", "--model", model) == 0
    assert ad.read_h5ad(tmp_path / "back.h5ad").X.max() == pytest.approx(3.0)


def test_existing_outputs_are_kept_unless_told_otherwise(counts_file, tmp_path, capsys):
    out = tmp_path / "out.parquet"
    out.write_text("precious")
    assert run("transform", counts_file, out) == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run("transform", counts_file, out, "--overwrite") == 0
    assert run("transform", counts_file, out, "--overwrite") == 0
    back = tmp_path / "back.h5ad"
    assert run("invert", out, back) == 0
    assert run("invert", out, back) == 2
    assert run("invert", out, back, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.h5ad", "out.parquet"], "there is no file"),
        (["in.h5ad", "out.parquet", "--genes", "0"], "--genes 0 is below 1"),
        (["in.h5ad", "out.parquet", "--layer", "x"], "has no layer 'x'"),
        (["in.h5ad", "out.parquet", "--symbols", "x"], "var of in.h5ad has no column 'x'"),
        (["in.h5ad", "out.parquet", "--normalise", "x"], "normalise must be one of"),
        (["in.h5ad", "out.parquet", "--tie-break", "x"], "tie_break must be"),
        (["in.h5ad", "out.parquet", "--min-genes", "1000"], "passes the filter"),
    ],
)
def test_errors_end_with_code_2_and_leave_nothing(counts_file, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run("transform", *arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Error: ")
    assert message in printed
    assert "Fix: " in printed
    assert [p.name for p in tmp_path.iterdir()] == ["in.h5ad"]


def test_nothing_half_written_is_left_when_a_late_cell_is_bad(counts_file, tmp_path, capsys):
    cells = ad.read_h5ad(counts_file)
    cells.X = cells.X * 0.5
    cells.X.data[-1] = np.nan
    bad = tmp_path / "bad.h5ad"
    cells.write_h5ad(bad)
    assert run("transform", bad, tmp_path / "out.parquet", "--chunk-size", 5) == 2
    assert "cell 'cell69'" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.h5ad", "in.h5ad"]


def test_no_cells_to_invert(counts_file, tmp_path):
    sentences = c2s.to_cell_sentences(c2s.read_cells(counts_file)).select([])
    path = sentences.write_parquet(tmp_path / "none.parquet")
    model = c2s.RankExpressionModel(-1.0, 3.0, 0.9, 0.9, 1, 1, 1, 1).save(tmp_path / "model.json")
    assert run("invert", path, tmp_path / "back.h5ad", "--model", model) == 0
    assert ad.read_h5ad(tmp_path / "back.h5ad").shape == (0, 50)
