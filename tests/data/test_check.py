"""`c2s check` says what is in a file, what would be refused, and options that do mend it."""

from __future__ import annotations

import json
import shlex

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from layouts import counted_cells

import c2s
from c2s.cli import main
from c2s.data import check_file

GENES = ["ACTB", "B2M", "GAPDH", "MALAT1", "FTL", *(f"GENE{i}" for i in range(25))]


@pytest.fixture
def cells() -> ad.AnnData:
    """Counts of forty cells with all kinds of columns."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(["B cell", "T cell"] * 19 + ["unknown"] * 2),
            "Patient ID": [f"p{i % 4}" for i in range(40)],
            "library_id": ["l1", "l2"] * 20,
            "barcode": [f"b{i}" for i in range(40)],
            "percent_mito": rng.random(40),
            "species": "human",
        },
        index=[f"c{i}" for i in range(40)],
    )
    counts = rng.poisson(3.0, (40, 30)) * rng.integers(1, 4, (40, 1))
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=pd.DataFrame(index=GENES))


def test_a_file_that_is_ready(cells, write):
    cells.X[7] = 0
    report = check_file(write(cells))
    assert (report.ready, report.problems, report.options) == (True, (), "")
    assert (report.n_cells, report.n_features, report.n_genes, report.n_empty_cells) == (40, 30, 30, 1)
    assert (report.values, report.scale) == ("counts", "log1p of counts scaled to 10000 a cell")
    assert report.organism == "human"
    assert report.genes_per_cell == np.median((cells.X.toarray() > 0).sum(1))
    assert report.of_role("label") == ["cell_type"]
    assert report.of_role("donor") == ["Patient ID"]
    assert report.of_role("batch") == ["library_id"]
    assert report.of_role("measurement") == ["percent_mito"]
    assert report.of_role("constant") == ["species"]
    (label,) = (column for column in report.columns if column.name == "cell_type")
    assert (label.values, label.missing, set(label.examples)) == (2, 2, {"B cell", "T cell"})
    assert any("1 of 40 cells express no gene" in remark for remark in report.remarks)


def test_each_problem_is_named_and_its_options_mend_it(cells, write, tmp_path, monkeypatch):
    logged = cells.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    logged.var = pd.DataFrame({"feature_name": GENES}, index=[f"ENSG{i:011d}" for i in range(30)])
    scaled = logged.copy()
    scaled.raw = logged
    sc.pp.scale(scaled)
    path = write(scaled)
    report = check_file(path)
    assert [problem.options for problem in report.problems] == ["--symbols feature_name", "--layer raw"]
    assert "Ensembl ids" in report.problems[0].problem
    assert "scaled values" in report.problems[1].problem
    assert (report.ready, report.options) == (True, "--symbols feature_name --layer raw")
    with_options = check_file(path, symbols="feature_name", layer="raw")
    assert (with_options.ready, with_options.problems) == (True, ())
    # The commands that are shown run as they are, and read the right values.
    monkeypatch.chdir(tmp_path)
    transform = shlex.split(report.commands[0])
    with pytest.raises(SystemExit) as done:
        main(transform[1:])
    assert done.value.code == 0
    found = c2s.CellSentences.read_parquet("sentences.parquet")
    expected = c2s.to_cell_sentences(c2s.read_cells(path, symbols="feature_name", layer="raw"), top_k=200)
    assert found.table["cell_sentence"].equals(expected.table["cell_sentence"])
    assert report.commands[1] == (
        f"c2s train sft --task annotation --data {shlex.quote(str(path))} --label cell_type --donor 'Patient ID' "
        "--symbols feature_name --layer raw --out my-model"
    )


def test_what_no_option_mends_is_not_ready(cells, write, tmp_path):
    mixed = cells.copy()
    dense = mixed.X.toarray()
    dense[:20] = np.log1p(dense[:20] / dense[:20].sum(1, keepdims=True) * 1e4)
    mixed.X = sp.csr_matrix(dense)
    many = ad.concat([cells] * 5, index_unique="-")
    dense = many.X.toarray()
    dense[109, 3] = -1
    many.X = sp.csr_matrix(dense)
    (tmp_path / "page.h5ad").write_text("<!DOCTYPE html>")
    for path, says in (
        (write(mixed, "mixed.h5ad"), "cells of two kinds"),
        (write(many, "many.h5ad"), "holds -1 among counts"),
        (tmp_path / "page.h5ad", "is a web page"),
        (tmp_path / "gone.h5ad", "there is no file"),
    ):
        report = check_file(path)
        assert not report.ready
        assert says in report.problems[-1].problem
        assert report.problems[-1].fix and not report.problems[-1].options
        assert report.commands == []
        assert "is not ready" in str(report)


def test_other_modalities_mouse_genes_and_gene_sets(cells, write, tmp_path):
    both = ad.AnnData(
        sp.hstack([cells.X, sp.csr_matrix(np.ones((40, 2), np.float32))]).tocsr(),
        var=pd.DataFrame(
            {"feature_types": ["Gene Expression"] * 30 + ["Antibody Capture"] * 2},
            index=[*(name.capitalize() for name in GENES), "CD3", "CD4"],
        ),
    )
    report = check_file(write(both))
    assert (report.organism, report.modalities, report.n_genes) == ("mouse", {"'Antibody Capture'": 2}, 30)
    (tmp_path / "sets.gmt").write_text("A\tx\tCD3D\tLYZ\nB\ty\tCD3E\tMS4A1\tCD79A\n")
    sets = check_file(tmp_path / "sets.gmt")
    assert (sets.holds, sets.ready, sets.n_cells, sets.n_genes) == ("gene sets", True, 2, 5)


def test_the_command_prints_lines_or_json_and_its_exit_code_tells(cells, write, capsys):
    path = write(cells)
    with pytest.raises(SystemExit) as done:
        main(["check", str(path)])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert "donors    Patient ID (4)" in shown
    assert f"c2s transform {shlex.quote(str(path))} sentences.parquet --genes 200" in shown
    cells.var_names = [str(i) for i in range(30)]
    path = write(cells)
    with pytest.raises(SystemExit) as done:
        main(["check", str(path), "--json"])
    assert done.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert "numbers" in told["problems"][0]["problem"]
    assert (told["ready"], told["commands"]) == (False, [])


def test_measurements_are_no_labels_and_cell_types_come_first(tmp_path):
    rng = np.random.default_rng(0)
    cells = counted_cells(400)
    cells.obs["cluster"] = [str(i % 7) for i in range(400)]
    cells.obs["n_features"] = rng.integers(400, 460, 400)
    cells.obs["score"] = rng.uniform(size=400).round(2)
    cells.obs["major celltype"] = cells.obs["cell_type"].astype(str)
    cells.obs = cells.obs[["n_features", "score", "cluster", "major celltype", "cell_type", "donor_id"]]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    report = check_file(tmp_path / "cells.h5ad")
    assert report.of_role("label") == ["cell_type", "major celltype", "cluster"]
    assert report.of_role("measurement") == ["n_features", "score"]
    assert "--label cell_type --donor donor_id" in report.commands[1]
