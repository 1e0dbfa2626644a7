"""Packed datasets are unpacked once per content, whole or not at all; no name decides how a file is read."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
import zipfile

import pandas as pd
import pytest

import c2s
from c2s.data import archives, load_manifest, locate_cells, read_cells, read_gmt
from c2s.data.formats import read_gct, read_table
from c2s.data.mirror import MIRROR
from c2s.errors import C2SWarning, InputFileError

GCT = "#1.3\n1\t2\t1\t1\nid\tpr_gene_symbol\tw1\tw2\nrna_well\tna\tA01\tA02\np1\tCD3D\t1.0\t2.0\n"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(MIRROR, raising=False)
    return tmp_path / "home"


@pytest.fixture
def pack(tmp_path, write, counts):
    """Pack the first n cells as zarr; the top of the archive is the store's folder, or the store itself."""

    def to_zip(n=60, *, at_top=False, name="cells.zarr.zip"):
        folder = write(counts[:n].copy(), f"{n}.zarr")
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in folder.rglob("*"):
                archive.write(path, path.relative_to(folder if at_top else folder.parent))
        return tmp_path / name

    return to_zip


@pytest.fixture
def told(manifest_file):
    def make(loader, files, **changes):
        listed = [
            {"name": name, "role": role, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} | changes
            for role, (name, path) in files.items()
        ]
        return manifest_file("some_cells", loader=loader, files=listed)

    return make


def packed(told, path, **changes):
    return told("zarr", {"cells": ("cells.zarr.zip", path)}, urls=[path.as_uri()], **changes)


@pytest.mark.parametrize("at_top", [False, True])
def test_a_changed_archive_is_unpacked_again(told, pack, home, at_top):
    manifest = packed(told, path := pack(60, at_top=at_top))
    assert c2s.load_dataset(manifest).n_obs == 60
    folder = home / "some_cells" / "cells.zarr.zip.unpacked"
    marker = folder / "archive.sha256"
    assert marker.read_text().strip() == hashlib.sha256(path.read_bytes()).hexdigest()
    before = marker.stat().st_mtime_ns
    assert c2s.load_dataset(manifest).n_obs == 60
    assert marker.stat().st_mtime_ns == before
    (home / "some_cells" / "cells.zarr.zip").unlink()
    assert c2s.load_dataset(packed(told, pack(30, at_top=at_top))).n_obs == 30


def test_an_archive_without_a_stated_sum_is_tied_to_what_came(told, pack, home):
    unstated = {"sha256": None, "sha256_reason": "nobody states one"}
    manifest = packed(told, pack(60), **unstated)
    with pytest.warns(C2SWarning, match="nobody states a checksum"):
        assert c2s.load_dataset(manifest).n_obs == 60
    pack(30)
    (home / "some_cells" / "cells.zarr.zip").unlink()
    for left in (home / "some_cells").glob(".*.json"):
        left.unlink()
    with pytest.warns(C2SWarning, match="nobody states a checksum"):
        assert c2s.load_dataset(manifest).n_obs == 30


def test_what_an_interrupted_unpacking_left_is_never_used(told, pack, home):
    manifest = packed(told, pack(60))
    folder = home / "some_cells" / "cells.zarr.zip.unpacked"
    half = folder / "content" / "60.zarr"
    half.mkdir(parents=True)
    (half / ".zgroup").write_text('{"zarr_format": 2}')
    killed = home / "some_cells" / f".{folder.name}.abc.tmp"
    killed.mkdir()
    assert c2s.load_dataset(manifest).n_obs == 60
    assert not killed.exists()
    (folder / "archive.sha256").write_text("0" * 64)
    (half / "X" / "data").rename(half / "X" / "gone")
    assert c2s.load_dataset(manifest).n_obs == 60


def test_an_unpacking_that_fails_leaves_nothing(told, pack, home, monkeypatch):
    manifest = packed(told, pack(60))

    def broken(path, folder):
        folder.mkdir()
        (folder / ".zgroup").write_text("{}")
        raise InputFileError("the archive ends too early.", fix="fetch it again.")

    with monkeypatch.context() as patch:
        patch.setattr(archives, "unpack", broken)
        with pytest.raises(InputFileError, match="too early"):
            locate_cells(manifest)
    assert [path.name for path in (home / "some_cells").iterdir() if "unpacked" in path.name] == []
    assert c2s.load_dataset(manifest).n_obs == 60


def test_of_several_one_unpacks(told, pack, monkeypatch):
    manifest = packed(told, pack(60))
    calls, real = [], archives.unpack

    def slowly(path, folder):
        calls.append(path)
        time.sleep(0.3)
        return real(path, folder)

    monkeypatch.setattr(archives, "unpack", slowly)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(str(locate_cells(manifest).path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 3 and len(set(found)) == 1


@pytest.fixture
def mirrored(tmp_path, monkeypatch):
    """Put a file into a mirror under a name that says something else about it."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv(MIRROR, str(folder))

    def put(content, name):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return put


SET, COMMAS, TABS = "SET\tx\tCD3D\tCD3E\n", 'a,b\n1,"2,5"\n', "a\tb\n1\t2,5\n"


@pytest.mark.parametrize("name", ["renamed.bin", "renamed.csv", "renamed.gmt.gz", "renamed.h5ad", "renamed"])
def test_a_file_of_the_mirror_is_read_by_what_it_is(told, mirrored, name):
    for declared, content in [
        ("sets.gmt", SET.encode()),
        ("sets.gmt.gz", gzip.compress(SET.encode())),
    ]:
        manifest = told("gmt", {"gene_sets": (declared, mirrored(content, name))})
        assert load_manifest(manifest)["SET"] == ("CD3D", "CD3E")
    for declared, content in [
        ("t.csv", COMMAS.encode()),
        ("t.tsv", TABS.encode()),
        ("t.csv.gz", gzip.compress(COMMAS.encode())),
        ("t.tsv.gz", gzip.compress(TABS.encode())),
    ]:
        manifest = told("table", {"t": (declared, mirrored(content, name))})
        assert load_manifest(manifest).to_dict("records") == [{"a": "1", "b": "2,5"}]


def test_wells_and_interactions_of_a_mirror_that_renames(told, mirrored):
    files = {
        "cells": ("a.gct", mirrored(gzip.compress(GCT.encode()), "1.csv")),
        "samples": ("a.map", mirrored("rna_well\tplate\nA01\tP1\nA02\tP2\n", "2.csv")),
    }
    assert c2s.load_dataset(told("gct", files)).obs["plate"].tolist() == ["P1", "P2"]
    files = {
        "interactions": ("i.csv", mirrored("partner_a,partner_b\nP1,P2\n", "3.tsv")),
        "complexes": ("c.csv", mirrored("complex_name,uniprot_1\nx,P2\n", "4.gz")),
        "genes": ("g.csv", mirrored("uniprot,hgnc_symbol\nP1,A\nP2,B\n", "5.txt")),
    }
    assert load_manifest(told("interactions", files))["genes_b"].tolist() == [("B",)]


def test_cells_and_archives_of_a_mirror_that_renames(told, mirrored, write, counts, pack):
    for name in ("renamed.gmt", "renamed.csv.gz"):
        manifest = told("h5ad", {"cells": ("a.h5ad", mirrored(write(counts).read_bytes(), name))})
        assert c2s.load_dataset(manifest).n_obs == 60
    manifest = told("zarr", {"cells": ("a.zarr.zip", mirrored(pack(30).read_bytes(), "renamed.h5ad"))})
    assert c2s.load_dataset(manifest).n_obs == 30
    pd.DataFrame({"a": [1]}).to_parquet(path := write(counts).with_name("t"))
    assert load_manifest(told("parquet", {"t": ("t.parquet", mirrored(path.read_bytes(), "x.csv"))}))["a"][0] == 1


def test_tables_of_one_column_and_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffname\na, b\nc\n".encode())
    assert read_table(tmp_path / "a").to_dict("list") == {"name": ["a, b", "c"]}


def test_text_that_unpacks_to_far_more_than_text(tmp_path, monkeypatch):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(80 << 20)))
    for read in (read_gmt, read_gct, read_table):
        with pytest.raises(InputFileError, match="unpacks to more than"):
            read(tmp_path / "bomb.gz")
    (tmp_path / "bomb.gmt").write_bytes((tmp_path / "bomb.gz").read_bytes())
    with pytest.raises(InputFileError, match="unpacks to more than"):
        read_cells(tmp_path / "bomb.gmt")
