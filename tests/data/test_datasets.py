"""Datasets by name: the bundled one, those of the mirror, and files."""

from __future__ import annotations

import hashlib
import shutil
import socket
from types import SimpleNamespace

import numpy as np
import pytest

import c2s
from c2s.data import datasets as by_name, manifests
from c2s.data.catalogue import dataset_of_manifest, holds_cells
from c2s.data.mirror import MIRROR, _sha256, find_in_mirror
from c2s.data.store import DatasetUnavailable
from c2s.errors import DatasetError, InputFileError, ObsError, RegistryError

#: Cells that the bundled file or the mirror of real data has.
MIRRORED = (
    "pbmc68k_reduced",
    "pbmc_zheng_facs",
    "pbmc3k",
    "liver_he2020",
    "breast_wu2021",
    "tcell_wu2020",
    "kang_ifnb",
    "kang_control",
    "gbm_panobinostat",
    "jurkat_datlinger",
)


@pytest.fixture
def a_mirror(tmp_path, monkeypatch, counts, write):
    """A mirror that holds one file under another name, in a subfolder, and one of the same size."""
    folder = tmp_path / "mirror"
    (folder / "deep" / "deeper").mkdir(parents=True)
    content = write(counts).read_bytes()
    (folder / "deep" / "deeper" / "renamed.bin").write_bytes(content)
    (folder / "deep" / "a-decoy.h5ad").write_bytes(bytes(len(content)))
    (folder / "notes.txt").write_text("nothing")
    monkeypatch.setenv(MIRROR, str(folder))
    return folder, hashlib.sha256(content).hexdigest(), len(content)


def test_a_file_is_found_by_its_content_whatever_its_name(a_mirror):
    folder, sha256, size = a_mirror
    target = folder / "deep" / "deeper" / "renamed.bin"
    assert find_in_mirror(folder, sha256, size) == (target, [])
    assert find_in_mirror(folder, sha256, None) == (target, [])


def test_a_dataset_of_the_mirror_is_read_and_normalised(a_mirror, counts, manifest_file):
    _, sha256, size = a_mirror
    path = manifest_file(
        "some_cells", files=[{"name": "a.h5ad", "role": "cells", "sha256": sha256, "bytes": size}]
    )
    adata = dataset_of_manifest(path).load()
    assert adata.shape == counts.shape
    assert adata.uns["c2s"]["source"] == "some_cells"
    assert adata.uns["c2s"]["sha256"] == sha256
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(1), 1e4, rtol=1e-3)


def test_only_files_of_the_right_size_are_read_and_once(a_mirror, monkeypatch):
    folder, sha256, size = a_mirror
    _sha256.cache_clear()
    read = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda f, n: read.append(f.name) or real(f, n))
    for _ in range(3):
        find_in_mirror(folder, sha256, size)
    assert sorted(name.rsplit("/", 1)[1] for name in read) == ["a-decoy.h5ad", "renamed.bin"]


def test_what_a_mirror_lacks(a_mirror, manifest_file, monkeypatch, tmp_path):
    folder, sha256, size = a_mirror
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path / "home"))

    def load(sha256, size):
        file = {"name": "a.h5ad", "role": "cells", "sha256": sha256, "bytes": size}
        return c2s.load_dataset(manifest_file("x", files=[file]))

    with pytest.raises(DatasetUnavailable, match=r"'x' is not on this machine: a.h5ad is not") as caught:
        load("0" * 64, 17)
    assert "17 bytes" in caught.value.fix
    target = folder / "deep" / "deeper" / "renamed.bin"
    target.write_bytes(target.read_bytes()[:-1] + b"!")
    with pytest.raises(DatasetUnavailable, match="has its size but not its content"):
        load(sha256, size)
    monkeypatch.setenv(MIRROR, str(tmp_path / "gone"))
    with pytest.raises(DatasetError, match="is no folder"):
        load(sha256, size)
    monkeypatch.delenv(MIRROR)
    with pytest.raises(DatasetUnavailable, match="C2S_DATA_MIRROR is not set") as caught:
        load(sha256, size)
    assert MIRROR in caught.value.fix


def test_pbmc68k_reduced_needs_no_network(monkeypatch):
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    adata = c2s.load_dataset("pbmc68k_reduced", label="cell_type")
    assert adata.shape == (700, 765)
    assert adata.X.min() >= 0
    assert adata.obs["cell_type"].nunique() == 10
    assert adata.obs["cell_type"].tolist() == adata.obs["bulk_labels"].tolist()
    assert adata.uns["c2s"]["matrix_kind"] == "log1p"
    assert len(c2s.to_cell_sentences(adata, top_k=100)) == 700


def test_a_scanpy_without_the_file_is_said_so(monkeypatch, tmp_path):
    elsewhere = SimpleNamespace(origin=str(tmp_path / "scanpy" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: elsewhere)
    with pytest.raises(DatasetError, match="without pbmc68k_reduced"):
        c2s.load_dataset("pbmc68k_reduced")


def test_files_and_folders_are_read_by_path(counts, write, tmp_path, monkeypatch):
    path = write(counts)
    assert c2s.load_dataset(path, label="cell_type").n_obs == 60
    with pytest.raises(ObsError, match="no obs column 'tissue'; it has cell_type"):
        c2s.load_dataset(path, label="tissue")
    with pytest.raises(InputFileError, match="no file"):
        c2s.load_dataset("gone.h5ad")
    with pytest.raises(InputFileError, match="no file"):
        c2s.load_dataset("some/where/else")
    shutil.copy(path, tmp_path / "noending")
    monkeypatch.chdir(tmp_path)
    assert c2s.load_dataset("noending").n_obs == 60


def test_names_are_looked_up_in_the_registry():
    with pytest.raises(RegistryError, match="pbmc68k_reduced"):
        c2s.load_dataset("pbmc68k_reducd")
    with pytest.raises(DatasetError, match=r"layer \(--layer\) is for files"):
        c2s.load_dataset("pbmc68k_reduced", layer="raw")


def test_every_manifest_with_cells_is_a_registered_dataset():
    registry = c2s.default_host().datasets
    own = [entry.name for entry in registry.entries() if entry.owner.plugin == "core"]
    assert sorted(own) == sorted(name for name, manifest in manifests().items() if holds_cells(manifest))
    assert all(registry.get(name) is getattr(by_name, name) for name in own)
    assert registry.get("breast_wu2021").label == "celltype_major"
    assert registry.get("kang_control").donor == "donor_id"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = by_name.nothing


def test_every_dataset_says_what_a_page_must_say():
    for name in MIRRORED:
        dataset = c2s.default_host().datasets.get(name)
        assert dataset.title
        assert dataset.citation
        assert dataset.licence
        assert not dataset.simulated


@pytest.mark.mirror
@pytest.mark.parametrize("name", MIRRORED)
def test_the_mirrored_datasets_are_what_their_titles_say(mirror, name):
    dataset = c2s.default_host().datasets.get(name)
    adata = dataset.load()
    n_cells, n_genes = adata.shape
    assert f"{n_cells:,} cells" in dataset.title
    assert f"{n_genes:,} genes" in dataset.title
    assert adata.obs[dataset.label].notna().all()
    assert dataset.donor is None or dataset.donor in adata.obs
    assert adata.X.dtype == np.float32
    fitted = c2s.RankExpressionModel.fit(adata, top_k=200)
    assert 0.4 < fitted.r2_test < 1


@pytest.mark.mirror
def test_the_facs_set_keeps_its_split(mirror):
    assert set(c2s.load_dataset("pbmc_zheng_facs").obs["split"]) == {"train", "test"}
