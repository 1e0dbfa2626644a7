"""Cells by name: those that a manifest describes, those that a plugin registers, and files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from c2s.data.catalogue import LoadManifest, dataset_of_manifest, find_manifest, shipped_names
from c2s.data.read import Normalise, read_cells
from c2s.errors import DatasetError, ObsError
from c2s.tasks import Dataset

if TYPE_CHECKING:
    from anndata import AnnData


def __getattr__(name: str) -> Dataset:
    """Make the dataset of a manifest of the project: what `c2s.builtin` registers as ``datasets:NAME``."""
    if name not in shipped_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    dataset = dataset_of_manifest(find_manifest(name))
    globals()[name] = dataset
    return dataset


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    label: str | None = None,
    layer: str | None = None,
    symbols: str | None = None,
    strip: Sequence[str] = (),
    normalise: Normalise = "auto",
    strict: bool = False,
) -> AnnData:
    """Return the cells of a named dataset, or of a file.

    Parameters
    ----------
    name_or_path
        Name of a dataset (``"pbmc68k_reduced"``; ``c2s data list`` shows all), path of a manifest (``.yaml``), or
        path of a file or folder of cells, of any format that `read_cells` takes.
    label
        Column of ``obs`` that must be there.
    layer, symbols, strip, normalise
        As for `read_cells`; for a file only.
    strict
        Fail when the dataset itself is not available, instead of using the fallbacks of its manifest (with a
        warning that names what was used).

    Returns
    -------
    AnnData
        ``X`` is log1p of normalised counts, CSR float32. A dataset with a manifest has the standard columns that
        the manifest maps.

    Raises
    ------
    DatasetError, RegistryError
        The dataset is not available here, or no dataset has this name.
    ConfigError
        A manifest breaks the schema.
    InputFileError
        The file cannot be read.
    ObsError
        There is no column `label`, or a donor column is incomplete.
    """
    path = Path(name_or_path)
    if is_file(path):
        adata = read_cells(path, layer=layer, symbols=symbols, strip=strip, normalise=normalise)
    else:
        from c2s.plugins import default_host

        given = {"layer": layer, "symbols": symbols, "strip": strip, "normalise": normalise != "auto"}
        if wrong := [f"{name} (--{name})" for name, value in given.items() if value]:
            raise DatasetError(
                f"{', '.join(wrong)} is for files; dataset {str(name_or_path)!r} knows its own.",
                fix="leave it out, or name the file.",
            )
        if path.suffix in {".yaml", ".yml"}:
            dataset = dataset_of_manifest(path)
        else:
            dataset = default_host().datasets.get(str(name_or_path))
        load = dataset.load
        adata = load(strict=strict) if isinstance(load, LoadManifest) else load()
    if label is not None and label not in adata.obs:
        raise ObsError(
            f"{name_or_path} has no obs column {label!r}; it has "
            f"{', '.join(map(str, adata.obs.columns)) or 'none'}.",
            fix="name one of them as the label (--label).",
        )
    return adata


def is_file(path: Path) -> bool:
    """Whether a name stands for a file of cells rather than for a dataset or a manifest."""
    if path.suffix in {".yaml", ".yml"}:
        return False
    return bool(path.suffix) or path.exists() or len(path.parts) > 1
