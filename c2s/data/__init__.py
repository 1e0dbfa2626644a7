"""Cells from files and by name: manifests, the store, reading, recognising, normalising."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "CellsFile": "c2s.data.loaders",
    "Constant": "c2s.data.manifest",
    "FileReport": "c2s.data.check",
    "check_file": "c2s.data.check",
    "DatasetUnavailable": "c2s.data.store",
    "Manifest": "c2s.data.manifest",
    "ManifestFile": "c2s.data.manifest",
    "MatrixKind": "c2s.sentences.matrix_kind",
    "STANDARD_COLUMNS": "c2s.data.manifest",
    "Store": "c2s.data.store",
    "cells_checksum": "c2s.data.checksums",
    "dataset_of_manifest": "c2s.data.catalogue",
    "find_manifest": "c2s.data.catalogue",
    "GeneSets": "c2s.data.gene_sets",
    "read_gmt": "c2s.data.gene_sets",
    "load_dataset": "c2s.data.datasets",
    "load_manifest": "c2s.data.loaders",
    "locate_cells": "c2s.data.loaders",
    "manifests": "c2s.data.catalogue",
    "matrix_kind": "c2s.sentences.matrix_kind",
    "read_abstracts": "c2s.data.collections",
    "read_cells": "c2s.data.read",
    "read_with_original": "c2s.data.write",
    "write_cells": "c2s.data.write",
    "read_manifest": "c2s.data.manifest",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use, so that ``c2s data list`` reads no matrix code."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    from c2s.data.catalogue import (
        dataset_of_manifest as dataset_of_manifest,
        find_manifest as find_manifest,
        manifests as manifests,
    )
    from c2s.data.check import FileReport as FileReport, check_file as check_file
    from c2s.data.checksums import cells_checksum as cells_checksum
    from c2s.data.collections import read_abstracts as read_abstracts
    from c2s.data.datasets import load_dataset as load_dataset
    from c2s.data.gene_sets import GeneSets as GeneSets, read_gmt as read_gmt
    from c2s.data.loaders import (
        CellsFile as CellsFile,
        load_manifest as load_manifest,
        locate_cells as locate_cells,
    )
    from c2s.data.manifest import (
        STANDARD_COLUMNS as STANDARD_COLUMNS,
        Constant as Constant,
        Manifest as Manifest,
        ManifestFile as ManifestFile,
        read_manifest as read_manifest,
    )
    from c2s.data.read import read_cells as read_cells
    from c2s.data.store import (
        DatasetUnavailable as DatasetUnavailable,
        Store as Store,
    )
    from c2s.data.write import read_with_original as read_with_original, write_cells as write_cells
    from c2s.sentences.matrix_kind import (
        MatrixKind as MatrixKind,
        matrix_kind as matrix_kind,
    )
