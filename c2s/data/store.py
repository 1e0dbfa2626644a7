"""Where the files of datasets lie: in a mirror, found by checksum, or in the store folder."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from c2s.data.manifest import Manifest, ManifestFile
from c2s.data.mirror import find_in_mirror
from c2s.errors import DatasetError


class DatasetUnavailable(DatasetError):
    """A dataset is sound but cannot be had here; its fallbacks may be used."""


class Store:
    """Finds the files of datasets."""

    def paths(self, manifest: Manifest) -> dict[str, Path]:
        """Return the paths of all files of a dataset, by name."""
        return {file.name: self.find(manifest, file) for file in manifest.files}

    def path(self, name: str | os.PathLike[str] | Manifest, file: str | None = None) -> Path:
        """Return the path of one file of a dataset."""
        from c2s.data.catalogue import find_manifest

        manifest = name if isinstance(name, Manifest) else find_manifest(name)
        return self.find(manifest, manifest.file(file))

    def find(self, manifest: Manifest, file: ManifestFile) -> Path:
        """Return the path of a file."""
        if file.package is not None:
            return _in_package(manifest, file)
        if file.sha256 is None or file.bytes is None:
            raise DatasetUnavailable(f"{file.name} of dataset {manifest.name!r} is not here.", fix="use another.")
        try:
            return find_in_mirror(manifest.name, file.sha256, file.bytes)
        except DatasetError as error:
            raise DatasetUnavailable(error.problem, fix=error.fix) from error


def _in_package(manifest: Manifest, file: ManifestFile) -> Path:
    package, _, inside = str(file.package).partition(":")
    found = importlib.util.find_spec(package)
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / inside
        if path.is_file():
            return path
    raise DatasetUnavailable(
        f"dataset {manifest.name!r} comes with {package}, and the {package} here is without {manifest.name}.",
        fix=f"python -m pip install --force-reinstall {package}",
    )


def store() -> Store:
    """Return the store that the environment describes."""
    return Store()
