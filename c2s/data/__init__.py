"""Cells from files and by name: manifests, the store, reading, recognising, normalising."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from c2s.data.catalogue import (
        dataset_of_manifest as dataset_of_manifest,
        find_manifest as find_manifest,
        manifests as manifests,
    )
    from c2s.data.collections import read_abstracts as read_abstracts
    from c2s.data.datasets import load_dataset as load_dataset
    from c2s.data.loaders import CellsFile as CellsFile, load_manifest as load_manifest, locate_cells as locate_cells
    from c2s.data.manifest import (
        STANDARD_COLUMNS as STANDARD_COLUMNS,
        Constant as Constant,
        Manifest as Manifest,
        ManifestFile as ManifestFile,
        read_manifest as read_manifest,
    )
    from c2s.data.read import read_cells as read_cells
    from c2s.data.store import DatasetUnavailable as DatasetUnavailable, Store as Store, store as store
    from c2s.sentences.matrix_kind import MatrixKind as MatrixKind, matrix_kind as matrix_kind
