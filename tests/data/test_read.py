"""Reading files: what is found, what is done, what is refused."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import c2s
from c2s.errors import C2SWarning, ConfigError, GeneError, InputFileError, MatrixError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:anndata")


@pytest.fixture
def logged(counts) -> ad.AnnData:
    """Normalise as every tutorial does."""
    adata = counts.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata


def same(found: ad.AnnData, expected: ad.AnnData) -> bool:
    return np.allclose(found.X.toarray(), expected.X.toarray(), rtol=1e-5)


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()])
def test_counts_are_normalised_and_logarithmised(counts, logged, write, layout, name):
    stored = counts.copy()
    stored.X = layout(counts.X)
    found = c2s.read_cells(write(stored, name))
    assert same(found, logged)
    assert sp.isspmatrix_csr(found.X)
    assert found.X.dtype == np.float32
    assert found.uns["c2s"]["source"] == name
    assert found.uns["c2s"]["matrix_kind"] == "counts"
    assert found.uns["c2s"]["done"] == "normalise_total 10000"


def test_what_is_log1p_already_is_left(logged, write):
    found = c2s.read_cells(write(logged))
    assert same(found, logged)
    assert found.uns["c2s"]["done"] == "nothing"
    assert same(c2s.read_cells(write(found, "again.h5ad")), logged)


@pytest.mark.parametrize("base", [2, 10])
@pytest.mark.parametrize("backed", [False, True])
def test_other_logarithms_are_brought_to_the_natural_one(logged, write, base, backed):
    stored = logged.copy()
    stored.X.data /= np.float32(np.log(base))
    found = c2s.read_cells(write(stored), backed=backed)
    assert found.uns["c2s"]["matrix_kind"] == f"log{base}"
    if not backed:
        assert same(found, logged)
    slope = c2s.RankExpressionModel.fit(logged).slope
    assert c2s.RankExpressionModel.fit(found).slope == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("backed", [False, True])
def test_normalised_values_are_logarithmised(counts, logged, write, backed):
    stored = counts.copy()
    sc.pp.normalize_total(stored, target_sum=1e4)
    found = c2s.read_cells(write(stored), backed=backed)
    assert found.uns["c2s"]["matrix_kind"] == "normalised"
    assert c2s.RankExpressionModel.fit(found).slope == pytest.approx(
        c2s.RankExpressionModel.fit(logged).slope, rel=1e-5
    )


def test_normalisation_can_be_forced_or_forbidden(counts, logged, write):
    path = write(counts)
    assert same(c2s.read_cells(path, normalise="never"), counts)
    assert same(c2s.read_cells(path, normalise="always"), logged)
    twice = c2s.read_cells(write(logged, "logged.h5ad"), normalise="always")
    assert not same(twice, logged)
    other = c2s.read_cells(path, target_sum=100)
    np.testing.assert_allclose(np.expm1(other.X.toarray()).sum(1), 100, rtol=1e-4)


def test_cells_and_genes_can_be_left_out(counts, write):
    path = write(counts)
    assert c2s.read_cells(path).shape == counts.shape  # by default none
    n_genes = np.asarray((counts.X > 0).sum(1)).ravel()
    found = c2s.read_cells(path, min_genes=40)
    assert found.obs_names.tolist() == counts.obs_names[n_genes >= 40].tolist()
    assert found.uns["c2s"]["n_cells_left_out"] == (n_genes < 40).sum() > 0
    n_cells = np.asarray((counts.X > 0).sum(0)).ravel()
    found = c2s.read_cells(path, min_cells=30)
    assert found.var_names.tolist() == counts.var_names[n_cells >= 30].tolist()
    assert found.uns["c2s"]["n_genes_left_out"] == (n_cells < 30).sum() > 0
    share = counts.X[:, :4].sum(1).A1 / counts.X.sum(1).A1
    found = c2s.read_cells(path, max_mitochondrial=0.05)
    assert found.obs_names.tolist() == counts.obs_names[share <= 0.05].tolist()
    with pytest.raises(MatrixError, match=r"no cell or no gene passes the filter .of 60 cells x 80 genes"):
        c2s.read_cells(path, min_genes=1000)


def test_a_mitochondrial_share_needs_counts(logged, write):
    with pytest.raises(MatrixError, match="needs counts"):
        c2s.read_cells(write(logged), max_mitochondrial=0.1)


def test_empty_cells_are_kept_and_warned_of(counts, write):
    counts.X = sp.csr_matrix(counts.X.toarray() * (np.arange(60) != 7)[:, None])
    with pytest.warns(C2SWarning, match="1 of 60 cells express no gene"):
        assert c2s.read_cells(write(counts)).n_obs == 60


def test_a_layer_or_raw_can_be_read(counts, logged, write):
    stored = logged.copy()
    stored.raw = logged
    stored.X = sp.csr_matrix(logged.X.toarray() - 1)
    stored.layers["counts"] = counts.X
    path = write(stored)
    for backed in (False, True):
        for layer, kind in (("counts", "counts"), ("raw", "log1p")):
            found = c2s.read_cells(path, layer=layer, backed=backed)
            assert found.uns["c2s"]["matrix_kind"] == kind
            assert c2s.to_cell_sentences(found).table.equals(c2s.to_cell_sentences(logged).table)
        with pytest.raises(MatrixError, match=r"layer 'gone'|no layers/gone"):
            c2s.read_cells(path, layer="gone", backed=backed)
    with pytest.raises(MatrixError, match="has no raw"):
        c2s.read_cells(write(counts, "other.h5ad"), layer="raw")
    with pytest.raises(MatrixError, match="has no raw"):
        c2s.read_cells(write(counts, "other.h5ad"), layer="raw", backed=True)


def test_scaled_values_are_refused_with_the_layer_to_use(logged, write):
    stored = logged.copy()
    stored.X = logged.X.toarray() - logged.X.toarray().mean(0)
    with pytest.raises(MatrixError, match="scaled values") as caught:
        c2s.read_cells(write(stored))
    assert "before sc.pp.scale" in caught.value.fix
    stored.layers["lognorm"] = logged.X
    for name in ("layered.h5ad", "layered.zarr"):
        with pytest.raises(MatrixError) as caught:
            c2s.read_cells(write(stored, name))
        assert "layer='lognorm'" in caught.value.fix
    stored.raw = logged
    with pytest.raises(MatrixError) as caught:
        c2s.read_cells(write(stored, "raw.h5ad"))
    assert "layer='raw'" in caught.value.fix


def test_symbols_become_the_names(counts, write):
    counts.var["symbol"] = counts.var_names.to_numpy()
    counts.var_names = [f"ENSG{i:011d}" for i in range(80)]
    path = write(counts)
    for backed in (False, True):
        found = c2s.read_cells(path, symbols="symbol", backed=backed)
        assert found.var_names.tolist() == counts.var["symbol"].tolist()
        assert found.var["original_name"].tolist() == counts.var_names.tolist()
    with pytest.raises(GeneError, match="no column 'name'; it has symbol"):
        c2s.read_cells(path, symbols="name")


def test_duplicated_entries_are_summed(counts, write):
    matrix = sp.csr_matrix(([1.0, 2.0, 3.0], [1, 1, 0], [0, 3]), shape=(1, 2))
    adata = ad.AnnData(matrix, var=pd.DataFrame(index=["A", "B"]))
    found = c2s.read_cells(write(adata), normalise="never")
    assert found.X.toarray().tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.nan, "has a value that is NaN in X"),
        (np.inf, "has a value that is infinite in X"),
        (-1.0, "holds -1 among counts in X, and no count is negative"),
    ],
)
def test_impossible_values_name_the_cell(counts, write, value, says, backed):
    """Also where no sampled cell has one, and before anything is normalised."""
    values = np.vstack([counts.X.toarray()] * 10)
    values[209, 3] = value
    many = ad.AnnData(sp.csr_matrix(values), var=counts.var)
    with pytest.raises(MatrixError, match=rf"cell '209' .row 209. {says}"):
        c2s.to_cell_sentences(c2s.read_cells(write(many), backed=backed))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"normalise": "maybe"}, "normalise"),
        ({"target_sum": 0}, "target_sum"),
        ({"min_genes": -1}, "negative"),
        ({"min_cells": -1}, "negative"),
        ({"max_mitochondrial": 5}, "share"),
        ({"backed": True, "min_genes": 3}, "cannot be filtered"),
    ],
)
def test_options_out_of_range(counts, write, options, problem):
    with pytest.raises(ConfigError, match=problem):
        c2s.read_cells(write(counts), **options)


@pytest.mark.parametrize("backed", [False, True])
class TestFilesThatCannotBeRead:
    def test_missing(self, tmp_path, backed):
        with pytest.raises(InputFileError, match="there is no file"):
            c2s.read_cells(tmp_path / "gone.h5ad", backed=backed)

    def test_empty(self, tmp_path, backed):
        (tmp_path / "a.h5ad").touch()
        with pytest.raises(InputFileError, match="is empty"):
            c2s.read_cells(tmp_path / "a.h5ad", backed=backed)

    def test_another_format(self, tmp_path, backed):
        (tmp_path / "a.h5ad").write_text("gene,cell\nA,1\n")
        with pytest.raises(InputFileError, match=r"is not an .h5ad file"):
            c2s.read_cells(tmp_path / "a.h5ad", backed=backed)

    def test_a_folder(self, tmp_path, backed):
        with pytest.raises(InputFileError, match="is a folder, but not a zarr store"):
            c2s.read_cells(tmp_path, backed=backed)

    @pytest.mark.parametrize("keep", [20, 2000, 0.5, 0.98])
    def test_truncated(self, counts, write, backed, keep):
        path = write(counts)
        content = path.read_bytes()
        path.write_bytes(content[: keep if keep > 1 else int(len(content) * keep)])
        with pytest.raises(InputFileError, match="truncated, damaged"):
            c2s.read_cells(path, backed=backed)

    def test_hdf5_that_is_no_anndata(self, tmp_path, backed):
        import h5py

        with h5py.File(tmp_path / "a.h5ad", "w") as file:
            file["numbers"] = [1, 2, 3]
        with pytest.raises((InputFileError, MatrixError)) as caught:
            c2s.read_cells(tmp_path / "a.h5ad", backed=backed)
        assert caught.value.fix

    def test_a_zarr_store_that_is_no_anndata(self, tmp_path, backed):
        import zarr

        zarr.open_group(tmp_path / "a.zarr", mode="w").create_group("numbers")
        with pytest.raises((InputFileError, MatrixError)) as caught:
            c2s.read_cells(tmp_path / "a.zarr", backed=backed)
        assert caught.value.fix

    def test_without_a_matrix(self, counts, write, backed):
        path = write(ad.AnnData(obs=counts.obs, var=counts.var))
        with pytest.raises(MatrixError, match=r"no matrix X|has no X"):
            c2s.read_cells(path, backed=backed)


def test_only_the_layer_that_is_read_is_taken_out(counts, write):
    counts.layers["counts"] = counts.X.copy()
    counts.uns["counts"], counts.obsm["counts"] = {"of": "a run"}, np.ones((counts.n_obs, 2))
    found = c2s.read_cells(write(counts), layer="counts")
    assert "counts" in found.uns
    assert found.obsm["counts"].shape == (counts.n_obs, 2)
    assert "counts" not in found.layers


def test_a_missing_symbol_is_no_gene_called_nan(counts, write):
    counts.var["symbol"] = [f"GRCh38_G{i}" for i in range(counts.n_vars - 1)] + [np.nan]
    with pytest.raises(GeneError, match=r"1 gene\(s\) in var\['symbol'\].* have no symbol"):
        c2s.read_cells(write(counts), symbols="symbol", strip=["genome"])


@pytest.mark.parametrize("values", [pd.array([1, None], "Int64"), pd.array([True, None], "boolean")])
def test_nullable_columns_of_genes_break_no_message(counts, write, values):
    counts.var["extra"] = values.take(np.arange(counts.n_vars) % 2)
    counts.var_names = [str(i) for i in range(counts.n_vars)]
    with pytest.raises(GeneError, match=r"are numbers \(of rows"):
        c2s.read_cells(write(counts))


@pytest.mark.parametrize("backed", [False, True])
def test_a_layer_is_never_the_way_out_of_itself(counts, write, backed):
    dense = counts.X.toarray()
    counts.layers["a b"] = dense - dense.mean(0)
    counts.raw = counts.copy()
    counts.X = counts.layers["a b"].copy()
    path = write(counts)
    for layer, other in ((None, "raw"), ("a b", "raw")):
        with pytest.raises(MatrixError, match=rf"\(--layer {other}\)"):
            c2s.read_cells(path, layer=layer, backed=backed)
    scaled = counts.copy()
    scaled.raw = scaled.copy()
    scaled.layers["a b"] = dense
    with pytest.raises(MatrixError, match=r"layer='a b' \(--layer 'a b'\)"):
        c2s.read_cells(write(scaled, "scaled.h5ad"), layer="raw", backed=backed)


def test_options_for_cells_are_refused_for_gene_sets(tmp_path):
    (tmp_path / "sets.gmt").write_text("A\tfirst\tCD3D\tCD8A\nB\tsecond\tLYZ\tMS4A1\n")
    with pytest.raises(ConfigError, match=r"symbols='nope' is for cells.*min_genes=2 is for cells.*--symbols"):
        c2s.read_cells(tmp_path / "sets.gmt", symbols="nope", min_genes=2)


def test_text_columns_of_a_table_stay_apart_from_genes(tmp_path):
    rows = "cell,CD3D,LYZ,kept,type\na,1,2,True,B\nb,3,0,False,T\n"
    (tmp_path / "cells.csv").write_text(rows)
    found = c2s.read_cells(tmp_path / "cells.csv")
    assert found.var_names.tolist() == ["CD3D", "LYZ"]
    assert found.obs["kept"].astype(str).tolist() == ["True", "False"]
    (tmp_path / "twice.csv").write_text(rows.replace("kept", "type"))
    with pytest.raises(InputFileError, match="two columns of one name"):
        c2s.read_cells(tmp_path / "twice.csv")


def test_a_file_that_is_missing_is_no_unknown_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("missing.h5", "missing.mtx", "missing.txt.gz", "missing.gmt"):
        with pytest.raises(InputFileError, match="there is no"):
            c2s.load_dataset(name)


def test_ids_are_no_column(counts, write):
    from c2s.data.opened import obs_columns

    counts.obs.index.name = "donor_id"
    assert obs_columns(write(counts)) == list(map(str, counts.obs.columns))
