"""Files as people have them and that could be misread: the right values, or a refusal that helps."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from layouts import GENES, counted_cells

import c2s
from c2s.corpus.source import CellReader
from c2s.errors import C2SError, C2SWarning

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:anndata")
RNG = np.random.default_rng(0)
CELLS = counted_cells(60)
X = CELLS.X.toarray().astype(int)
#: Genes of any number, with counts of uneven depth.
MANY = [*GENES, *(f"G{i}A" for i in range(400 - len(GENES)))]
DEEP = RNG.poisson(RNG.lognormal(0, 0.4, (200, 1)) * RNG.gamma(1, 1, 400)).astype(float)
NORMAL = DEEP / DEEP.sum(1, keepdims=True) * 1e4


def h5ad(folder: Path, matrix, names=GENES, **var) -> Path:
    frame = pd.DataFrame(var, index=list(names))
    adata = ad.AnnData(sp.csr_matrix(np.asarray(matrix, np.float64)), var=frame)
    adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    adata.write_h5ad(folder / "cells.h5ad")
    return folder / "cells.h5ad"


def table(folder: Path, rows, columns, matrix, name="cells.csv") -> Path:
    lines = [",".join(["", *columns]), *(",".join([r, *map(str, v)]) for r, v in zip(rows, matrix, strict=True))]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def words_of(counts, names) -> list[str]:
    """The sentence of each cell, by hand."""
    order = [sorted(np.flatnonzero(row), key=lambda i, row=row: (-row[i], names[i].encode())) for row in counts]
    return [" ".join(names[i] for i in places) for places in order]


def read(path: Path, **how) -> list[str]:
    """Read in every way; all must agree."""
    cells = c2s.read_cells(path, **how)
    told = c2s.to_cell_sentences(cells).table["cell_sentence"].to_pylist()
    backed = c2s.to_cell_sentences(c2s.read_cells(path, **how, backed=True)).table["cell_sentence"].to_pylist()
    assert backed == told
    totals = np.expm1(cells.X.toarray().astype(np.float64)).sum(1)
    np.testing.assert_allclose(totals[totals > 0], 1e4, rtol=1e-3)
    return told


MALARIA = [f"PBANKA_{i * 100 + 101:07d}" for i in range(40)]
WELLS = [f"P{i // 12}_A{i % 12 + 1}" for i in range(60)]
ODD_IDS = [f"SC{26103 + i // 20}_{i % 8 + 1}#{i * 3}" for i in range(60)]
TAGS = {
    "counters": ["__no_feature", "N_unmapped", "unmapped"],
    "AbSeq": ["CD3:UCHT1|CD3E|AHS0231|pAbO", "SampleTag01_hs|stAbO"],
    "suffixes": ["CD3_prot", "CD4-ADT", "CD45RA_PROT", "anti_human_CD3", "anti-human_CD4"],
    "guides": ["sgTP53_1", "sgNTC", "non-targeting"],
    "ERCC": ["ERCC92_ERCC-00002", "GRCh38_ERCC-00004"],
}


@pytest.mark.parametrize("kind", TAGS)
def test_what_is_no_gene_leads_no_sentence(kind, tmp_path):
    tags = TAGS[kind]
    path = h5ad(tmp_path, np.c_[X, RNG.poisson(900, (60, len(tags)))], [*GENES, *tags])
    with pytest.warns(C2SWarning, match=f"{len(tags)} of {40 + len(tags)} features"):
        assert read(path) == words_of(X, GENES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("rows", "columns", "turned"),
    [
        (ODD_IDS, MALARIA, False),
        (WELLS, GENES, False),
        (WELLS, GENES, True),
        ([f"x{i}" for i in range(60)], [f"Gm{i}" for i in range(40)], False),
        (list(CELLS.obs_names), [f"Rv{i:04d}" for i in range(40)], True),
    ],
)
def test_a_table_is_turned_only_where_its_genes_are_rows(rows, columns, turned, tmp_path):
    written = (columns, rows, X.T) if turned else (rows, columns, X)
    assert read(table(tmp_path, *written)) == words_of(X, columns)


def test_columns_of_numbers_about_cells_are_no_genes(tmp_path):
    more = np.c_[X, X.sum(1), RNG.integers(0, 9, 60), RNG.integers(1, 99, 60)]
    path = table(tmp_path, CELLS.obs_names, [*GENES, "n_counts", "leiden", "fov"], more)
    with pytest.warns(C2SWarning, match=r"3 column\(s\) of numbers .* n_counts, leiden, fov"):
        assert read(path) == words_of(X, GENES)
    lengths = table(tmp_path, GENES, ["Length", *CELLS.obs_names], np.c_[np.full(40, 1500), X.T], "turned.csv")
    with pytest.warns(C2SWarning, match="Length"):
        assert read(lengths) == words_of(X, GENES)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([",".join([f"cell{i}", *map(str, row)]) for i, row in enumerate(X)], "first line holds numbers"),
        ([f"{gene},{n}" for gene, n in zip(GENES, X[0], strict=True)], "first line holds numbers"),
        ([",A,B,A", "c1,x,1,y", "c2,x,2,y"], "two columns of one name"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(lines, says, tmp_path):
    (tmp_path / "cells.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(C2SError, match=says):
        c2s.read_cells(tmp_path / "cells.csv")


def test_semicolons_with_decimal_points(tmp_path):
    lines = [";".join(["", *GENES]), *(";".join([f"cell{i}", *map(str, row / 1)]) for i, row in enumerate(X))]
    (tmp_path / "cells.csv").write_text("\n".join(lines) + "\n")
    assert read(tmp_path / "cells.csv") == words_of(X, GENES)


@pytest.mark.filterwarnings("ignore:.*which is a guess")
@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.log2(1 + DEEP).astype(np.float32), "log2 of counts"),
        (np.log2(1 + RNG.binomial(DEEP.astype(int), 0.05)).astype(np.float32), "log2 of counts"),
        (DEEP * (1 + 1e-7), "counts"),
        (np.expm1(np.log1p(NORMAL).astype(np.float32)) * (DEEP.sum(1, keepdims=True) / 1e4), "counts"),
        (DEEP / DEEP.sum(1, keepdims=True), "shares"),
        (DEEP / DEEP.sum(1, keepdims=True) * 100, "shares"),
        (NORMAL * 100, "normalised"),
    ],
)
def test_what_the_values_are(values, kind, tmp_path):
    found = c2s.read_cells(h5ad(tmp_path, values, MANY))
    assert found.uns["c2s"]["matrix_kind"] == kind
    totals = np.expm1(found.X.toarray().astype(np.float64)).sum(1)
    np.testing.assert_allclose(totals[totals > 0], 1e6 if kind == "normalised" else 1e4, rtol=1e-3)


@pytest.mark.parametrize(
    "other", [np.log1p(DEEP), np.log1p(NORMAL * 100), np.log2(1 + NORMAL * 100)], ids=["counts", "CPM", "log2 CPM"]
)
def test_logarithms_of_different_totals_are_of_two_kinds(other, tmp_path):
    values = np.log1p(NORMAL)
    values[100:] = other[100:]
    with pytest.raises(C2SError, match="holds cells of two kinds"):
        c2s.read_cells(h5ad(tmp_path, values, MANY))


def test_totals_without_the_highest_genes_are_warned_of(tmp_path):
    kept = NORMAL.copy()
    kept[150:, 0] += 4e4 * RNG.uniform(0.5, 1, 50)  # haemoglobin, left out of the total
    with pytest.warns(C2SWarning, match=r"guess: .*log1p of cells that add up to 10,000 and 16"):
        c2s.read_cells(h5ad(tmp_path, np.log1p(kept), MANY))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([f"b'{gene}'" for gene in GENES], r"names in quotes \(first \"b'"),
        ([f'"{gene}"' for gene in GENES], "names in quotes"),
        ([f"{gene}__chr7" for gene in GENES], "joined with positions"),
        ([f"{gene}|{i}" for i, gene in enumerate(GENES)], "joined with positions or numbers"),
    ],
)
def test_names_that_are_no_symbols(names, says, tmp_path):
    with pytest.raises(C2SError, match=says):
        c2s.read_cells(h5ad(tmp_path, X, names))


def test_symbols_of_several_ids_get_numbers(tmp_path):
    names = [*GENES[:-1], GENES[0]]
    path = h5ad(tmp_path, X, [f"ENSG{i:011d}" for i in range(40)], gene_symbols=names)
    with pytest.warns(C2SWarning, match="1 symbols in var"):
        assert read(path, symbols="gene_symbols") == words_of(X, [*GENES[:-1], f"{GENES[0]}-1"])


@pytest.mark.parametrize(
    "var",
    [
        {"feature_type": ["gene"] * 30 + ["pseudogene"] * 10},
        {"modality": ["RNA"] * 40},
        {"feature_types": ["Gene Expression"] * 40},
    ],
)
def test_genes_of_any_biotype_stay(var, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", C2SWarning)
        assert read(h5ad(tmp_path, X, **var)) == words_of(X, GENES)


def test_names_of_worms_are_left_alone(tmp_path):
    names = [f"Y{i // 2}C9A.{i % 2 + 1}" for i in range(38)] + ["adt-1", "adt-2"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", C2SWarning)
        assert read(h5ad(tmp_path, X, names)) == words_of(X, names)


def test_a_layer_called_raw(tmp_path):
    adata = ad.AnnData(RNG.normal(size=X.shape), layers={"raw": X.astype(float)})
    adata.var_names, adata.obs_names = GENES, [f"cell{i}" for i in range(60)]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert read(tmp_path / "cells.h5ad", layer="raw") == words_of(X, GENES)


def test_muon_is_named(tmp_path):
    with h5py.File(tmp_path / "x.h5mu", "w") as file:
        file.attrs["encoding-type"] = "MuData"
        for group in ("mod/prot", "mod/rna", "obs", "var"):
            file.create_group(group)
    with pytest.raises(C2SError, match="is MuData, of the modalities prot, rna"):
        c2s.read_cells(tmp_path / "x.h5mu")


def test_doubles_are_ranked_alike_in_memory_and_on_disk(tmp_path):
    logs = np.log1p(X / X.sum(1, keepdims=True) * 1e4)
    logs[:, 0] = logs[:, 1] * (1 - 1e-9)  # equal in single precision
    path = h5ad(tmp_path, logs)
    told = [
        c2s.to_cell_sentences(c2s.read_cells(path, backed=how)).table["cell_sentence"] for how in (False, True)
    ]
    assert told[0].equals(told[1])
    reader = CellReader(path)
    assert reader.rows(0, 60).data.dtype == np.float32
    reader.close()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Set\td\tadt-1\tpmp-3\tdaf-2\n", "adt-1 pmp-3 daf-2"),
        ('Set\td\t"ACTB"\t"B2M"\n', "ACTB B2M"),
        ("Set\td\tACTB, .5\tB2M,1\n", "ACTB B2M"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_genes_of_a_set(text, sentence, tmp_path):
    (tmp_path / "sets.gmt").write_text(text)
    cells = c2s.read_cells(tmp_path / "sets.gmt")
    assert c2s.to_cell_sentences(cells).table["cell_sentence"].to_pylist() == [sentence]


def test_genes_in_one_field_are_refused_and_a_set_without_description_is_pointed_out(tmp_path):
    (tmp_path / "sets.gmt").write_text("A\td\tACTB,B2M,CD3D\nB\td\tLYZ;CD4\n")
    with pytest.raises(C2SError, match=r"line 1 has several genes in one field, 'ACTB,B2M,CD3D'; line 2"):
        c2s.read_cells(tmp_path / "sets.gmt")
    (tmp_path / "one.gmt").write_text("A\tACTB\tB2M\tCD3D\n")
    with pytest.warns(C2SWarning, match="'ACTB', are taken for descriptions, though they look like genes"):
        c2s.read_cells(tmp_path / "one.gmt")
