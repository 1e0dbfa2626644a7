"""The manifests that there are: those of this project, and those that plugins bring."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from c2s.data.manifest import CELL_LOADERS, Manifest, read_manifest
from c2s.errors import C2SError, C2SWarning, DatasetError, RegistryError

if TYPE_CHECKING:
    import os

    from anndata import AnnData

    from c2s.registry import Entry
    from c2s.tasks import Dataset


@dataclass(frozen=True)
class LoadManifest:
    """Loads the cells of a manifest; what a `c2s.Dataset` made from one calls.

    Attributes
    ----------
    manifest
        The manifest.
    """

    manifest: Manifest

    def __call__(self, *, strict: bool = False) -> AnnData:
        """Return the cells, log1p-normalised, with the standard columns.

        Parameters
        ----------
        strict
            Refuse the fallbacks.

        Raises
        ------
        DatasetError
            Neither it nor a fallback is available here, a file was refused, or it holds no cells.
        """
        from c2s.data.loaders import load_cells

        return load_cells(self.manifest, strict=strict)


@cache
def manifest_folder() -> Path:
    """Return the folder of the project's manifests: the checkout's, or the wheel's copy."""
    shipped = Path(__file__).parent / "_manifests"
    checkout = Path(__file__).resolve().parents[2] / "data_manifests"
    for folder in (shipped, checkout):
        if folder.is_dir():
            return folder
    raise DatasetError(
        "this installation of c2s holds no manifests.", fix="install c2s again, from a wheel or a full checkout."
    )


@cache
def shipped_names() -> tuple[str, ...]:
    """Return the names of the project's own manifests, sorted; none is read."""
    return tuple(sorted(path.stem for path in manifest_folder().glob("*.yaml")))


@cache
def _shipped(name: str) -> Manifest:
    return read_manifest(manifest_folder() / f"{name}.yaml")


def shipped_manifests() -> dict[str, Manifest]:
    """Return the project's own manifests, by name."""
    return {name: _shipped(name) for name in shipped_names()}


def manifests() -> dict[str, Manifest]:
    """Return every manifest, by name: the project's, then those of plugins.

    Raises
    ------
    ConfigError
        A manifest of the project breaks the schema.
    """
    found = shipped_manifests()
    for name, manifest in plugin_manifests().items():
        if name in found:
            warnings.warn(
                f"a plugin brings a manifest called {name!r}, which c2s has already; the plugin's is not used.",
                C2SWarning,
                stacklevel=2,
            )
        else:
            found[name] = manifest
    return found


def plugin_entries() -> list[Entry]:
    """Return what plugins have registered as datasets, with or without a manifest; nothing is imported."""
    from c2s.plugins import default_host

    return [entry for entry in default_host().datasets.entries() if entry.owner.plugin != "core"]


def plugin_manifests() -> dict[str, Manifest]:
    """Return the manifests of the datasets that plugins register; this imports those datasets."""
    from c2s.plugins import default_host

    found = {}
    for entry in plugin_entries():
        try:
            load = default_host().datasets.get(entry.name).load
        except C2SError as error:
            warnings.warn(f"dataset {entry.name!r} is left out: {error}", C2SWarning, stacklevel=2)
            continue
        if isinstance(load, LoadManifest):
            found[load.manifest.name] = load.manifest
    return found


def dataset_without_manifest(name: str) -> tuple[Dataset, str] | None:
    """Return a dataset that a plugin brings without a manifest, and the plugin's name; None for any other name."""
    from c2s.plugins import default_host

    if name in shipped_names():
        return None
    for entry in plugin_entries():
        if entry.name == name:
            dataset = default_host().datasets.get(name)
            return None if isinstance(dataset.load, LoadManifest) else (dataset, entry.owner.plugin)
    return None


def find_manifest(name: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of this name, or the one in a YAML file.

    Raises
    ------
    RegistryError
        There is none; close names are suggested.
    ConfigError
        It breaks the schema.
    """
    wanted = str(name)
    if wanted.endswith((".yaml", ".yml")):
        return read_manifest(Path(wanted))
    if wanted in shipped_names():
        return _shipped(wanted)
    brought = plugin_manifests()
    if wanted in brought:
        return brought[wanted]
    from c2s.registry import did_you_mean

    plain = dataset_without_manifest(wanted)
    if plain is not None:
        raise RegistryError(
            f"dataset {wanted!r} has no manifest: the plugin {plain[1]} makes or finds it itself.",
            fix=f"load it with c2s.load_dataset('{wanted}'); `c2s data info {wanted}` says what it is.",
        )
    known = sorted({*shipped_names(), *brought})
    raise RegistryError(
        f"unknown dataset {wanted!r}.{did_you_mean(wanted, known)}", fix="`c2s data list` shows what there is."
    )


def dataset_of_manifest(manifest: Manifest | str | os.PathLike[str]) -> Dataset:
    """Make a `c2s.Dataset` from a manifest; how a plugin registers its own.

    Parameters
    ----------
    manifest
        The manifest, or the path of its YAML file.

    Returns
    -------
    Dataset
        Its ``load`` finds, checks and reads the files. `manifests` and ``c2s data`` list it once it is
        registered.

    Raises
    ------
    ConfigError
        The file breaks the schema.
    """
    from c2s.tasks import Dataset

    known = manifest if isinstance(manifest, Manifest) else read_manifest(Path(manifest))
    donor = known.columns.get("donor_id")
    return Dataset(
        name=known.name,
        title=known.title,
        load=LoadManifest(known),
        citation=known.citation,
        licence=known.licence,
        label=known.label,
        donor="donor_id" if isinstance(donor, str) else None,
        simulated=known.simulated,
    )


def holds_cells(manifest: Manifest) -> bool:
    """Whether `load_dataset` can return cells for it."""
    return manifest.loader in CELL_LOADERS
