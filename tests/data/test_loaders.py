"""What manifests describe is read: cells with standard columns, tables, gene sets, interactions, archives."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from loopback_site import sha256

import c2s
from c2s.data import locate_cells, read_abstracts
from c2s.data.archives import unpack
from c2s.data.catalogue import holds_cells, shipped_manifests
from c2s.data.formats import read_gct, read_interactions, read_table
from c2s.data.loaders import load_manifest, set_standard_columns
from c2s.data.manifest import STANDARD_COLUMNS, Constant
from c2s.data.store import DatasetUnavailable
from c2s.errors import C2SWarning, ConfigError, DatasetError, InputFileError, ObsError

#: Those whose files are in the mirror of real data.
MIRRORED = [
    name for name, m in shipped_manifests().items() if m.files and all(f.bytes or f.package for f in m.files)
]


@pytest.fixture
def told(manifest_file, tmp_path):
    """Write a manifest of local files, given as ``role=path`` or ``role=(name, bytes)``."""

    def make(loader, name="some_cells", files=None, **changes):
        listed = []
        for role, path in (files or {}).items():
            listed.append(
                {"name": path.name, "role": role, "urls": [path.as_uri()], "sha256": sha256(path.read_bytes())}
            )
        return manifest_file(name, loader=loader, files=listed, **changes)

    return make


@pytest.fixture(autouse=True)
def _store_of_this_test(tmp_path, monkeypatch):
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path / "home"))


def test_cells_have_the_standard_columns(told, counts, write, tmp_path):
    counts.obs["who"] = [1, 2, 3] * 20
    path = told(
        "h5ad",
        files={"cells": write(counts)},
        columns={"cell_type": "cell_type", "donor_id": "who", "tissue": {"value": "blood"}},
        study="a_study",
    )
    adata = c2s.load_dataset(path, label="cell_type")
    assert adata.obs["donor_id"].tolist() == counts.obs["who"].tolist()
    assert adata.obs["tissue"].tolist() == ["blood"] * 60
    assert adata.uns["c2s"]["source"] == "some_cells"
    assert adata.uns["c2s"]["sha256"] == sha256((tmp_path / "cells.h5ad").read_bytes())
    located = locate_cells(path)
    assert (located.name, located.study) == ("some_cells", "a_study")
    assert located.path == tmp_path / "home" / "some_cells" / "cells.h5ad"
    assert located.columns["tissue"] == Constant(value="blood")
    assert located.manifest.name == "some_cells"


def test_a_file_is_located_with_the_columns_it_has(counts, write):
    counts.obs["tissue"] = "blood"
    for name in ("cells.h5ad", "cells.zarr"):
        located = locate_cells(write(counts, name))
        assert located.columns == {"cell_type": "cell_type", "tissue": "tissue"}
        assert (located.name, located.study, located.manifest) == ("cells", "cells", None)
    with pytest.raises(InputFileError, match="there is no file"):
        locate_cells("gone.h5ad")


def test_a_scale_that_the_manifest_does_not_state_is_said(told, counts, write):
    path = told("h5ad", files={"cells": write(counts)}, matrix="log1p_e")
    with pytest.warns(C2SWarning, match="says that its matrix is log1p_e, but the values look like counts"):
        adata = c2s.load_dataset(path)
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(1), 1e4, rtol=1e-3)


def test_columns_that_are_not_there_or_not_full():
    obs = pd.DataFrame({"who": ["a", None, "b"], "n": [1, 2, 3]}, index=["c1", "c2", "c3"])
    with pytest.raises(ObsError, match=r"no obs column 'x'.*gives as tissue.*who, n"):
        set_standard_columns(obs, {"tissue": "x"}, "d")
    with pytest.raises(ObsError, match="'who' of dataset 'd' is empty for 1 of 3 cells, first 'c2'"):
        set_standard_columns(obs, {"donor_id": "who"}, "d")
    set_standard_columns(obs, {"batch": "n", "cell_type": "who"}, "d")
    assert obs["batch"].tolist() == [1, 2, 3]
    assert obs["cell_type"].isna().tolist() == [False, True, False]


def test_a_fallback_is_used_and_said(told, counts, write, monkeypatch, manifest_file):
    missing = manifest_file("missing", files=[{"name": "a.h5ad", "role": "cells", "sha256": "0" * 64}])
    with pytest.raises(DatasetUnavailable):
        c2s.load_dataset(missing)
    missing = manifest_file(
        "missing",
        files=[{"name": "a.h5ad", "role": "cells", "sha256": "0" * 64}],
        fallbacks=["pbmc_zheng_facs", "pbmc68k_reduced"],
    )
    monkeypatch.delenv("C2S_DATA_MIRROR", raising=False)
    with pytest.warns(C2SWarning, match="'missing' is not available here; 'pbmc68k_reduced' .* is used instead"):
        adata = c2s.load_dataset(missing)
    assert adata.uns["c2s"]["source"] == "pbmc68k_reduced"
    with pytest.warns(C2SWarning, match="is used instead"):
        located = locate_cells(missing)
    assert (located.name, located.layer, located.study) == ("pbmc68k_reduced", "raw", "zheng_2017")
    with pytest.raises(DatasetUnavailable, match="'missing' is not on this machine"):
        c2s.load_dataset(missing, strict=True)
    with pytest.raises(DatasetUnavailable, match="'missing'"):
        locate_cells(missing, strict=True)


def test_nothing_falls_back_from_a_corrupt_file(told, counts, write, tmp_path):
    path = told("h5ad", files={"cells": write(counts)}, fallbacks=["pbmc68k_reduced"])
    write(counts[:30].copy())
    with pytest.raises(DatasetError, match="corrupt or was changed"):
        c2s.load_dataset(path)


def test_a_simulated_dataset_is_made_once_and_says_so(manifest_file, monkeypatch, tmp_path):
    path = manifest_file(
        "made_up",
        loader="simulated",
        files=[],
        columns={"donor_id": "donor_id"},
        simulation={"function": "atlas", "arguments": {"n_cells": 40, "seed": 3}},
    )
    adata = c2s.load_dataset(path)
    assert adata.n_obs == 40
    assert adata.uns["c2s"]["simulated"]
    located = locate_cells(path)
    time = located.path.stat().st_mtime_ns
    again = c2s.load_dataset(path)
    assert located.path.stat().st_mtime_ns == time
    np.testing.assert_array_equal(adata.X.toarray(), again.X.toarray())
    other = {"function": "atlas", "arguments": {"n_cells": 40, "seed": 4}}
    path = manifest_file("made_up", loader="simulated", files=[], simulation=other)
    assert locate_cells(path).path != located.path
    nothing = manifest_file("made_up", loader="simulated", files=[], simulation={"function": "no_such"})
    with pytest.raises(DatasetUnavailable, match="is simulated by no_such"):
        c2s.load_dataset(nothing)


def test_loaders_of_everything_else(told, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,\n")
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"x\ty\n1\t2\n"))
    tables = load_manifest(told("table", files={"one": tmp_path / "a.csv", "two": tmp_path / "b.tsv.gz"}))
    assert tables["two"].to_dict("records") == [{"x": "1", "y": "2"}]
    assert tables["one"]["y"].isna().all()
    (tmp_path / "s.gmt").write_text("SET\tx\tCD3D\tCD3E\n")
    sets = load_manifest(told("gmt", files={"gene_sets": tmp_path / "s.gmt"}))
    assert sets["SET"] == ("CD3D", "CD3E")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "p.parquet")
    assert load_manifest(told("parquet", files={"t": tmp_path / "p.parquet"}))["a"].tolist() == [1]
    archive = load_manifest(told("archive", files={"archive": tmp_path / "a.csv"}))
    assert archive["a.csv"].name == "a.csv"
    with pytest.raises(DatasetError, match="holds no cells"):
        c2s.load_dataset(told("table", files={"one": tmp_path / "a.csv"}))
    with pytest.raises(DatasetError, match=r"holds no \.h5ad or \.zarr"):
        locate_cells(told("table", files={"one": tmp_path / "a.csv"}))


def test_interactions_have_genes(tmp_path):
    (tmp_path / "i.csv").write_text("partner_a,partner_b,source\nP1,cplx,a\nP2,P1,b\nP1,nobody,c\n")
    (tmp_path / "c.csv").write_text("complex_name,uniprot_1,uniprot_2\ncplx,P2,P3\n")
    (tmp_path / "g.csv").write_text("uniprot,hgnc_symbol\nP1,AAA\nP2,BBB\nP3,CCC\n")
    paths = {"interactions": tmp_path / "i.csv", "complexes": tmp_path / "c.csv", "genes": tmp_path / "g.csv"}
    table = read_interactions(paths)
    assert table["genes_a"].tolist() == [("AAA",), ("BBB",)]
    assert table["genes_b"].tolist() == [("BBB", "CCC"), ("AAA",)]
    (tmp_path / "p.tsv").write_text("symbol_a\tsymbol_b\nA\tB\n")
    assert read_interactions({"pairs": tmp_path / "p.tsv"})["genes_b"].tolist() == [("B",)]
    (tmp_path / "p.tsv").write_text("symbol_a\tsymbol_b\n\tB\nA\t\nC\tD\n")
    assert read_interactions({"pairs": tmp_path / "p.tsv"})["genes_a"].tolist() == [("C",)]
    (tmp_path / "p.tsv").write_text("symbol_a\tsymbol_b\n\tB\n")
    with pytest.raises(InputFileError, match="no pair in"):
        read_interactions({"pairs": tmp_path / "p.tsv"})
    with pytest.raises(InputFileError, match="need the role"):
        read_interactions({"genes": tmp_path / "g.csv"})
    with pytest.raises(InputFileError, match="lacks the column"):
        read_interactions({"pairs": tmp_path / "g.csv"})
    (tmp_path / "g.csv").write_text("uniprot,hgnc_symbol\nX,Y\n")
    with pytest.raises(InputFileError, match="no interaction"):
        read_interactions(paths)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"a,b\n1,2,3\n4,5,6,7\n", "cannot be read as a table"),
        (b"caf\xe9,b\n1,2\n", "cannot be read as a table"),
        (b"", "cannot be read as a table"),
    ],
)
def test_tables_that_are_none(tmp_path, content, says):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputFileError, match=says):
        read_table(tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:-20])
    with pytest.raises(InputFileError, match=says):
        read_table(tmp_path / "a.csv.gz")


GCT = (
    "#1.3\n2\t3\t1\t3\n"
    "id\tpr_gene_symbol\tw1\tw2\tw3\n"
    "rna_well\tna\tA01\tA02\tA03\n"
    "pert\tna\tDMSO\t-666\tdrug\n"
    "dose\tna\t-666\t1.5\t2\n"
    "p1\tCD3D\t1.0\t2.0\t3.0\n"
    "p2\tCD4\t4.0\t5.0\t6.5\n"
)


def test_a_gct_is_read(tmp_path):
    (tmp_path / "a.gct").write_text(GCT)
    (tmp_path / "a.map").write_text("rna_well\tPERT\tplate\nA03\tx\tP3\nA01\tx\tP1\n")
    adata = read_gct(tmp_path / "a.gct", tmp_path / "a.map")
    assert adata.X.tolist() == [[1.0, 4.0], [2.0, 5.0], [3.0, 6.5]]
    assert list(adata.var_names) == ["CD3D", "CD4"]
    assert adata.var["probe"].tolist() == ["p1", "p2"]
    assert adata.obs["dose"].tolist()[1:] == [1.5, 2.0]
    assert adata.obs["dose"].isna().tolist() == [True, False, False]
    assert adata.obs["pert"].tolist()[::2] == ["DMSO", "drug"]
    assert list(adata.obs.columns) == ["rna_well", "pert", "dose", "plate"]
    assert adata.obs["plate"].tolist()[::2] == ["P1", "P3"]
    adata.write_h5ad(tmp_path / "back.h5ad")
    assert ad.read_h5ad(tmp_path / "back.h5ad").obs["dose"].tolist()[2] == 2.0
    (tmp_path / "a.gct.gz").write_bytes(gzip.compress(GCT.encode()))
    assert read_gct(tmp_path / "a.gct.gz").shape == (3, 2)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda t: t.replace("#1.3", "#1.2"), "not GCT 1.3"),
        (lambda t: "", "not GCT 1.3"),
        (lambda t: t.replace("2\t3\t1\t3\n", "2\tx\n"), "four numbers"),
        (lambda t: t.rsplit("p2", 1)[0], "is cut off"),
        (lambda t: t.replace("\t6.5", ""), "line 8 has 4 fields instead of 5"),
        (lambda t: t.replace("6.5", "abc"), "no number"),
        (lambda t: t.replace("6.5", "inf"), "not finite"),
        (lambda t: t.replace("CD4", "CD3D"), "gene 'CD3D' twice"),
        (lambda t: t.replace("w2", "w1"), "a well twice"),
        (lambda t: t.replace("drug", "caf\xe9"), "UTF-8"),
    ],
)
def test_gct_files_that_are_broken(tmp_path, change, says):
    (tmp_path / "a.gct").write_bytes(change(GCT).encode("latin-1"))
    with pytest.raises(InputFileError, match=says):
        read_gct(tmp_path / "a.gct")


def test_wells_that_cannot_be_matched(tmp_path):
    (tmp_path / "a.gct").write_text(GCT)
    (tmp_path / "a.map").write_text("well\tplate\nA03\tP3\n")
    with pytest.raises(InputFileError, match="no column rna_well"):
        read_gct(tmp_path / "a.gct", tmp_path / "a.map")


def test_a_packed_zarr_is_unpacked_once(told, counts, write, tmp_path):
    folder = write(counts, "cells.zarr")
    with zipfile.ZipFile(tmp_path / "cells.zarr.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    manifest = told("zarr", files={"cells": tmp_path / "cells.zarr.zip"})
    assert c2s.load_dataset(manifest).shape == counts.shape
    assert locate_cells(manifest).path.name == "cells.zarr"
    (tmp_path / "x.txt").write_text("x")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.write(tmp_path / "x.txt", "x.txt")
    with pytest.raises(InputFileError, match="does not hold one zarr store"):
        c2s.load_dataset(told("zarr", files={"cells": tmp_path / "none.zip"}))


def tar_with(path, name, content=b"x"):
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "C:/out.txt", "..\\out.txt"])
def test_archives_that_leave_their_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    for path in (tmp_path / "a.zip", tar_with(tmp_path / "a.tar.gz", name)):
        with pytest.raises(InputFileError, match="leaves the folder"):
            unpack(path, tmp_path / "deep" / "out")
        assert not (tmp_path / "deep" / "out").exists()
    assert not (tmp_path / "out.txt").exists()


def test_archives_that_are_none_or_grow_without_measure(tmp_path):
    (tmp_path / "a.zip").write_text("nothing")
    with pytest.raises(InputFileError, match=r"neither a \.zip nor a \.tar"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(80 << 20))
    with pytest.raises(InputFileError, match="would grow from"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out")
    tar_with(tmp_path / "b.tar.gz", "a", bytes(1000) + np.random.default_rng(0).bytes(5000))
    (tmp_path / "b.tar.gz").write_bytes((tmp_path / "b.tar.gz").read_bytes()[:3000])
    with pytest.raises(InputFileError):
        unpack(tmp_path / "b.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_abstracts_by_collection(tmp_path, told):
    table = pd.DataFrame(
        {
            "dataset_id": ["d1", "d2", "d3"],
            "collection_id": ["c2", "c2", "c1"],
            "title": ["T2", "T2", "T1"],
            "doi": [None, None, "10.1/x"],
            "description": ["two", "two", "one"],
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    abstracts = read_abstracts(tmp_path / "t.parquet")
    assert abstracts.index.tolist() == ["c1", "c2"]
    assert abstracts.loc["c2"].tolist() == ["T2", None, "two"]
    table.loc[1, "description"] = "another"
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputFileError, match="two descriptions of collection c2"):
        read_abstracts(tmp_path / "t.parquet")
    table.drop(columns="doi").to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputFileError, match="lacks the column"):
        read_abstracts(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(InputFileError, match="cannot be read as a Parquet table"):
        read_abstracts(tmp_path / "t.parquet")


def test_simulation_arguments_are_checked(manifest_file):
    wrong = {"function": "atlas", "arguments": {"no_such_option": 1}}
    with pytest.raises(ConfigError, match="no_such_option"):
        c2s.load_dataset(manifest_file("made_up", loader="simulated", files=[], simulation=wrong))


@pytest.mark.mirror
@pytest.mark.parametrize("name", MIRRORED)
@pytest.mark.filterwarnings("error::c2s.errors.C2SWarning")
def test_every_dataset_of_the_mirror_loads_with_its_columns(mirror, name):
    assert len(MIRRORED) == 19
    manifest = shipped_manifests()[name]
    found = load_manifest(name, strict=True)
    if not holds_cells(manifest):
        assert len(found) > 0
        return
    assert set(manifest.columns) <= set(STANDARD_COLUMNS) & set(found.obs.columns)
    for standard in manifest.columns:
        assert found.obs[standard].notna().all(), standard
    assert found.uns["c2s"]["source"] == name
    assert found.obs[manifest.label].nunique() > 1
    if manifest.loader == "h5ad":
        kinds = {"raw": "counts", "log1p_e": "log1p"}
        assert found.uns["c2s"]["matrix_kind"] == kinds[manifest.matrix]
        located = locate_cells(name, strict=True)
        assert located.columns == manifest.columns
        sources = {column for column in located.columns.values() if isinstance(column, str)}
        assert sources & set(STANDARD_COLUMNS) <= set(locate_cells(located.path).columns)


@pytest.mark.mirror
def test_abstract_ids_are_those_of_collections(mirror):
    known = read_abstracts().index
    assert len(known) == 331
    stated = {
        name: manifest.columns["abstract_id"].value
        for name, manifest in shipped_manifests().items()
        if isinstance(manifest.columns.get("abstract_id"), Constant)
    }
    assert {"breast_wu2021", "immune_conde2022"} <= set(stated)
    assert set(stated.values()) <= set(known)


@pytest.mark.mirror
def test_the_real_plate_and_the_real_interactions(mirror):
    plate = c2s.load_dataset("l1000_a375")
    assert plate.shape == (371, 978)
    assert (plate.obs["pert_type"] == "ctl_vehicle").sum() == 22
    assert {"CD44", "TP53"} <= set(plate.var_names)
    assert len(load_manifest("cellphonedb")) == 2911
    pairs = load_manifest("biogrid")
    assert len(pairs) == 209_890  # 1,616 of the file's 211,506 have a partner without a symbol
    assert all(isinstance(gene, str) for genes in pairs["genes_a"] for gene in genes)
