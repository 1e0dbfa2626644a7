"""The manifests of this project, and those that plugins bring."""

from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from c2s.data.catalogue import (
    dataset_of_manifest,
    dataset_without_manifest,
    find_manifest,
    holds_cells,
    manifest_folder,
    manifests,
    shipped_manifests,
    shipped_names,
)
from c2s.data.loaders import FallbackWarning, available, load_manifest
from c2s.data.manifest import read_manifest
from c2s.data.store import DatasetUnavailable, Store
from c2s.errors import C2SWarning, RegistryError
from c2s.hookspecs import hookimpl
from c2s.plugins import PluginHost

ROOT = Path(__file__).parents[2]
ALL = shipped_manifests()


def test_every_manifest_of_the_repository_is_sound():
    assert manifest_folder() == ROOT / "data_manifests"
    assert len(ALL) == len(list((ROOT / "data_manifests").glob("*.yaml"))) == 43
    assert list(ALL) == list(shipped_names())


@pytest.mark.parametrize("name", ALL)
def test_fallbacks_and_overlaps_lead_somewhere(name):
    manifest = ALL[name]
    assert set(manifest.fallbacks) | set(manifest.overlaps) <= set(ALL)
    for other in manifest.fallbacks:
        kinds = {holds_cells(manifest) or manifest.loader == "none", holds_cells(ALL[other])}
        assert len(kinds) == 1 or manifest.loader in {"none", ALL[other].loader, "archive"}
        assert name not in ALL[other].fallbacks
    if holds_cells(manifest):
        for other in manifest.overlaps:
            assert name in ALL[other].overlaps
            assert ALL[other].study == manifest.study
    # A fallback that is another one's fallback would be tried twice at best, and for ever at worst.
    seen, left = set(), list(manifest.fallbacks)
    while left:
        current = left.pop()
        assert current != name
        if current not in seen:
            seen.add(current)
            left += ALL[current].fallbacks


#: Collections of thousands of datasets, of which one names those it wants; nothing stands for all of them.
PORTALS = {"cellxgene_discover", "human_cell_atlas"}


def of_cells(manifest):
    """Whether a dataset has cells, read by c2s or converted by its user."""
    own = {"pancreas_baron2016", "cosmx_liver", "tumours_combes2022", "waga_gse130346"}
    return holds_cells(manifest) or manifest.matrix == "level3" or manifest.name in own


@pytest.mark.parametrize("name", [name for name, manifest in ALL.items() if of_cells(manifest)])
def test_whoever_has_nothing_gets_cells_that_come_with_c2s_and_is_told(name, tmp_path, monkeypatch):
    """The last fallback is bundled or simulated, so a dataset of cells never ends in nothing, nor in silence."""
    manifest = ALL[name]
    last = ALL[manifest.fallbacks[-1]] if manifest.fallbacks else manifest
    assert last.simulated or all(file.package for file in last.files)
    kinds = ["simulated" if ALL[n].simulated else "real" for n in manifest.fallbacks]
    assert kinds == sorted(kinds)  # simulated cells only where no real ones are left
    monkeypatch.setattr("c2s.data.simulated_files.simulated_file", lambda place, m: tmp_path / f"{m.name}.h5ad")
    bare = Store(tmp_path / "home", offline=True, show_progress=False)
    if not manifest.fallbacks:
        assert available(manifest, place=bare)[0] is manifest
        return
    told = f"dataset '{name}' is not available here; '.*' .* is used instead.* Reason: "
    with pytest.warns(FallbackWarning, match=told) as said:
        used, _ = available(manifest, place=bare)
    assert used.simulated == ("simulated cells" in str(said[0].message))
    assert used.name in manifest.fallbacks
    with pytest.raises(DatasetUnavailable):
        available(manifest, strict=True, place=bare)


def test_every_manifest_has_cells_or_is_known_to_have_none():
    without = {name for name, manifest in ALL.items() if not of_cells(manifest)} - PORTALS
    assert {ALL[name].loader for name in without} <= {"interactions", "gmt", "table", "parquet", "archive", "none"}
    assert {name for name in without if ALL[name].loader in {"archive", "none"}} == {
        "biogrid_latest",
        "matrixdb_core",
    }


def test_a_fallback_is_told_of_every_time(tmp_path, monkeypatch):
    program = """
import c2s
for _ in range(2):
    found = c2s.load_dataset("pbmc3k")
    print(found.uns["c2s"]["source"], found.uns["c2s"]["instead_of"], found.n_obs)
"""
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("C2S_OFFLINE", "1")
    monkeypatch.delenv("C2S_DATA_MIRROR", raising=False)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["pbmc68k_reduced pbmc3k 700"] * 2
    assert done.stderr.count("dataset 'pbmc3k' is not available here; 'pbmc68k_reduced'") == 2


def test_no_manifest_promises_what_a_mirror_cannot_do():
    """A mirror is searched by checksum: where none is stated, the note must not send anybody there."""
    for manifest in ALL.values():
        if any(file.sha256 is None and not file.urls and file.package is None for file in manifest.files):
            note = str(manifest.note)
            assert "mirror" not in note or "A mirror is searched by checksum, so it cannot" in note, manifest.name
            assert "store" in note or f"c2s data info {manifest.name}" in note


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["l1000_gse92742", "l1000_gse70138"])
def test_a_fallback_of_another_kind_is_read_as_what_it_is(name, mirror, monkeypatch):
    monkeypatch.setenv("C2S_OFFLINE", "1")
    with pytest.warns(C2SWarning, match="l1000_a375"):
        wells = load_manifest(name)
    assert wells.uns["c2s"]["source"] == "l1000_a375"
    assert wells.n_obs == 371


def test_the_example_of_the_page_is_sound(tmp_path):
    page = (ROOT / "data_manifests" / "README.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "my_cells.yaml"
    path.write_text(example.replace("…64 hexadecimal digits…", "0" * 64))
    manifest = read_manifest(path)
    assert manifest.columns["donor_id"] == "patient"
    assert set(manifest.fallbacks) <= set(ALL)


def test_no_two_manifests_share_a_file():
    sums = [file.sha256 for manifest in ALL.values() for file in manifest.files if file.sha256]
    assert len(sums) == len(set(sums))


def test_a_name_is_found_or_a_close_one_suggested(manifest_file):
    assert find_manifest("pbmc3k").name == "pbmc3k"
    assert find_manifest(manifest_file("my_cells")).name == "my_cells"
    with pytest.raises(RegistryError, match="Did you mean 'pbmc3k'"):
        find_manifest("pbmc3")


def host_with(monkeypatch, **targets):
    """A host with a plugin that registers these datasets."""
    module = types.ModuleType("some_plugin")

    @hookimpl
    def c2s_register_datasets(register):
        for name, target in targets.items():
            register(name, target)

    module.c2s_register_datasets = c2s_register_datasets
    monkeypatch.setitem(__import__("sys").modules, "some_plugin", module)
    host = PluginHost([EntryPoint("some", "some_plugin", "c2s")]).load()
    assert not host.problems
    monkeypatch.setattr("c2s.plugins.default_host", lambda: host)
    return host


def test_a_plugin_brings_a_manifest(monkeypatch, manifest_file):
    path = manifest_file("my_cells", label="kind", columns={"donor_id": "patient"})
    dataset = dataset_of_manifest(path)
    assert (dataset.name, dataset.label, dataset.donor, dataset.simulated) == (
        "my_cells",
        "kind",
        "donor_id",
        False,
    )
    plain = dataset.__class__("plain", "no manifest", lambda: None)
    host = host_with(monkeypatch, my_cells=dataset, plain=plain, gone="no_such_module:X")
    assert host.datasets.get("my_cells") is dataset
    with pytest.warns(C2SWarning, match="'gone' is left out"):
        found = manifests()
    assert found["my_cells"].title == "Some cells"
    assert len(found) == len(ALL) + 1
    with pytest.warns(C2SWarning, match="'gone' is left out"):
        assert find_manifest("my_cells") is found["my_cells"]


def test_a_dataset_of_a_plugin_without_a_manifest_is_not_called_unknown(monkeypatch, manifest_file):
    made = dataset_of_manifest(manifest_file("my_cells")).__class__("plain", "made by hand", lambda: None)
    host_with(monkeypatch, plain=made, my_cells=dataset_of_manifest(manifest_file("my_cells")))
    assert dataset_without_manifest("plain") == (made, "some")
    for other in ("my_cells", "pbmc3k", "nothing"):
        assert dataset_without_manifest(other) is None
    with pytest.raises(RegistryError, match="'plain' has no manifest: the plugin some makes") as caught:
        find_manifest("plain")
    assert "c2s data info plain" in caught.value.fix


def test_a_plugin_cannot_replace_a_manifest(monkeypatch, tmp_path):
    """The registry refuses a name of cells; of what it does not hold, the project's own counts."""
    content = yaml.safe_load((manifest_folder() / "biogrid.yaml").read_text())
    path = tmp_path / "biogrid.yaml"
    path.write_text(yaml.safe_dump(content | {"title": "another"}))
    host_with(monkeypatch, biogrid=dataset_of_manifest(path))
    with pytest.warns(C2SWarning, match="a plugin brings a manifest called 'biogrid'"):
        assert manifests()["biogrid"].title == ALL["biogrid"].title


def test_an_installation_without_manifests_says_so(monkeypatch):
    from c2s.data import catalogue
    from c2s.errors import DatasetError

    monkeypatch.setattr(catalogue, "__file__", "/nowhere/at/all/c2s/data/catalogue.py")
    with pytest.raises(DatasetError, match="holds no manifests"):
        manifest_folder.__wrapped__()
