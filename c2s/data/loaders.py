"""From a manifest to what it describes: cells, tables, gene sets, interactions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from c2s.data.claims import refuse_false_claims
from c2s.data.manifest import STANDARD_COLUMNS, Constant, Manifest
from c2s.data.mirror import sum_of
from c2s.data.opened import obs_columns
from c2s.data.read import read_cells
from c2s.data.store import DatasetUnavailable, Store, store
from c2s.errors import C2SWarning, DatasetError, ObsError
from c2s.missing import missing_values

if TYPE_CHECKING:
    from anndata import AnnData


class FallbackWarning(C2SWarning):
    """Another dataset than the one asked for is used."""


# Every time, not once per process: what is loaded again is again not what was asked for. Appended, so that filters
# of the user come first.
warnings.filterwarnings("always", category=FallbackWarning, append=True)


@dataclass(frozen=True)
class CellsFile:
    """A file of cells and what to know before it is read; for readers that leave it on disk.

    Attributes
    ----------
    path
        The file or folder of cells, found and checked.
    name
        Name of the dataset, or the file's name without ending.
    study
        Id of the study.
    symbols, layer
        As for `c2s.data.read_cells`.
    columns
        Standard name to column of ``obs``, or to a `Constant`.
    manifest
        None for a file without one.
    """

    path: Path
    name: str
    study: str
    symbols: str | None = None
    layer: str | None = None
    columns: Mapping[str, str | Constant] = field(default_factory=dict)
    manifest: Manifest | None = None


def locate_cells(name_or_path: str | os.PathLike[str], *, strict: bool = False) -> CellsFile:
    """Find the file of a dataset, fetching it if needed, without reading the cells.

    Parameters
    ----------
    name_or_path
        Name of a dataset, path of a manifest, or path of a file or folder of cells. The columns of a
        file without a manifest are those of ``obs`` that have standard names.
    strict
        Refuse the fallbacks of the manifest.

    Raises
    ------
    DatasetError, RegistryError
        It is not available here, holds no cells in a file, or no manifest has this name.
    InputFileError
        There is no such file, or it is not what it says it is.
    """
    from c2s.data.catalogue import find_manifest
    from c2s.data.datasets import is_file

    path = Path(name_or_path)
    if is_file(path):
        columns = obs_columns(path)
        return CellsFile(path, path.stem, path.stem, columns={c: c for c in STANDARD_COLUMNS if c in columns})
    wanted = find_manifest(name_or_path)
    if wanted.loader not in _ANNDATA and (strict or not wanted.fallbacks):
        raise _no_cells_file(wanted)  # before anything is fetched
    manifest, found = available(wanted, strict=strict)
    if manifest.loader not in _ANNDATA:
        raise _no_cells_file(manifest)
    file = _cells_path(manifest, found)
    refuse_false_claims(file)
    return CellsFile(
        file,
        manifest.name,
        manifest.study,
        manifest.symbols,
        manifest.layer,
        dict(manifest.columns),
        manifest,
    )


def _no_cells_file(manifest: Manifest) -> DatasetError:
    return DatasetError(
        f"dataset {manifest.name!r} holds no .h5ad or .zarr file of cells (its loader is {manifest.loader}).",
        fix="name another; `c2s data list` shows what there is.",
    )


def available(
    manifest: Manifest, *, strict: bool = False, place: Store | None = None
) -> tuple[Manifest, dict[str, Path]]:
    """Return the manifest whose files are here or can be had, and their paths: this one, or a fallback.

    Parameters
    ----------
    manifest
        What is wanted.
    strict
        Refuse the fallbacks.
    place
        Where to look; default: the store of the environment.

    Warns
    -----
    FallbackWarning
        A fallback is used; the warning says which, and why. It is shown every time.

    Raises
    ------
    DatasetUnavailable
        Nothing of it is available; the reason is that of the dataset itself.
    DatasetError
        A file was refused, being corrupt or changed: no fallback hides that.
    """
    from c2s.data.catalogue import find_manifest

    place = place or store()
    try:
        return manifest, place.paths(manifest)
    except DatasetUnavailable as missing:
        if strict or not manifest.fallbacks:
            raise
        reason = missing
    for name in manifest.fallbacks:
        other = find_manifest(name)
        try:
            found = place.paths(other)
        except DatasetUnavailable:
            continue
        what = "simulated cells" if other.simulated else "another dataset"
        warnings.warn(
            f"dataset {manifest.name!r} is not available here; {name!r} ({other.title}) is used instead, which is "
            f"{what}. Reason: {reason.problem}",
            FallbackWarning,
            stacklevel=3,
        )
        return other, found
    raise reason


def load_cells(manifest: Manifest, *, strict: bool = False) -> AnnData:
    """Return the cells that a manifest describes.

    Parameters
    ----------
    manifest
        The manifest.
    strict
        Refuse its fallbacks.

    Returns
    -------
    AnnData
        Normalised, log1p, CSR float32 (L1000: level 3 values), with the standard columns; ``uns["c2s"]`` names the
        dataset (``source``), its sha256, and, where a fallback was used, what was asked for (``instead_of``).

    Warns
    -----
    C2SWarning
        A fallback is used, or the values are on another scale than the manifest says.

    Raises
    ------
    DatasetError
        It is not available here, was refused, or holds no cells.
    ObsError
        A column that the manifest names is missing, or a donor is.
    """
    return _read_cells(manifest, *available(manifest, strict=strict))


def _read_cells(wanted: Manifest, used: Manifest, paths: dict[str, Path]) -> AnnData:
    """Read cells whose files are here, and say so if they are not those that were wanted."""
    try:
        reader = CELL_READERS[used.loader]
    except KeyError:
        raise DatasetError(
            f"dataset {used.name!r} holds no cells (its loader is {used.loader}).",
            fix="c2s.data.load_manifest reads it.",
        ) from None
    adata = reader(used, paths)
    cells = used.with_role("cells")
    # A simulation has no file to compare with: its file's bytes depend on the libraries that wrote it.
    known = (cells.sha256 or sum_of(paths[cells.name])) if cells else None
    adata.uns["c2s"] |= {"source": used.name} | ({"sha256": known} if known else {})
    if used.simulated:
        adata.uns["c2s"]["simulated"] = True
    if used.name != wanted.name:
        adata.uns["c2s"]["instead_of"] = wanted.name
    _warn_of_another_scale(used, str(adata.uns["c2s"]["matrix_kind"]))
    set_standard_columns(adata.obs, used.columns, used.name)
    return adata


def _warn_of_another_scale(manifest: Manifest, found: str) -> None:
    """Say so if the values are counts and the manifest says otherwise, or the other way round."""
    if manifest.matrix in {"raw", "log1p_e", "log1p_10"} and (manifest.matrix == "raw") != (found == "counts"):
        warnings.warn(
            f"the manifest of {manifest.name!r} says that its matrix is {manifest.matrix}, but the values look "
            f"like {found}; they were read as {found}.",
            C2SWarning,
            stacklevel=4,
        )


def load_manifest(name: str | os.PathLike[str] | Manifest, *, strict: bool = False) -> Any:
    """Return what a manifest describes, whatever it is.

    Parameters
    ----------
    name
        Name of a dataset, path of a manifest, or a manifest.
    strict
        Refuse its fallbacks.

    Returns
    -------
    object
        `AnnData` for cells; a `pandas.DataFrame` for a table; a dict of these by role where there are several
        files; `GeneSets` for gene sets; a dict of paths by file name for what c2s does not read itself.

    Raises
    ------
    DatasetError, RegistryError
        It is not available here, was refused, or no manifest has this name.
    InputFileError
        A file is not what it says it is.
    """
    from c2s.data.catalogue import find_manifest, holds_cells

    manifest = name if isinstance(name, Manifest) else find_manifest(name)
    used, paths = available(manifest, strict=strict)
    if holds_cells(used):  # of the one that is used: a fallback may be of another kind
        return _read_cells(manifest, used, paths)
    return READERS[used.loader](used, paths)


def set_standard_columns(obs: pd.DataFrame, columns: Mapping[str, str | Constant], name: str) -> None:
    """Add the standard columns to `obs`, in place; the columns they come from stay.

    Raises
    ------
    ObsError
        A column is missing, or the donor of a cell is.
    """
    for standard, source in columns.items():
        if isinstance(source, Constant):
            obs[standard] = pd.Categorical([source.value] * len(obs))
            continue
        if source not in obs:
            raise ObsError(
                f"dataset {name!r} has no obs column {source!r}, which its manifest gives as {standard}.",
                fix=f"correct its manifest; the columns are {', '.join(map(str, obs.columns))}.",
            )
        missing = int(missing_values(obs[source]).sum())
        if missing and standard == "donor_id":
            first = obs.index[missing_values(obs[source]).to_numpy()][0]
            raise ObsError(
                f"the donor column {source!r} of dataset {name!r} is empty for {missing} of {len(obs)} "
                f"cells, first {str(first)!r}.",
                fix="leave those cells out, or name another column: a donor nobody knows may sit on both sides.",
            )
        if standard != source:
            obs[standard] = obs[source].to_numpy() if obs[source].dtype.kind in "iuf" else obs[source].copy()


def _cells_path(manifest: Manifest, paths: Mapping[str, Path]) -> Path:
    """Return the ``.h5ad`` file or ``.zarr`` folder; a packed one is unpacked in the store, once."""
    cells = manifest.with_role("cells")
    if cells is None:
        return next(iter(paths.values()))
    if manifest.loader != "zarr":
        return paths[cells.name]
    from c2s.data.archives import unpacked_zarr

    return unpacked_zarr(store(), manifest, cells, paths[cells.name])


def _anndata(manifest: Manifest, paths: Mapping[str, Path]) -> AnnData:
    path = _cells_path(manifest, paths)
    with warnings.catch_warnings():
        if manifest.matrix != "raw":  # then what the values are is no guess
            warnings.filterwarnings("ignore", message=".*which is a guess", category=C2SWarning)
        return read_cells(path, layer=manifest.layer, symbols=manifest.symbols)


def _gct(manifest: Manifest, paths: Mapping[str, Path]) -> AnnData:
    from c2s.data.formats import read_gct

    by_role = {file.role: paths[file.name] for file in manifest.files}
    adata = read_gct(by_role["cells"], by_role.get("samples"))
    adata.uns["c2s"] = {"matrix_kind": manifest.matrix, "done": "nothing"}
    return adata


def _table(manifest: Manifest, paths: Mapping[str, Path]) -> Any:
    from c2s.data.formats import read_table

    return _by_role(manifest, paths, read_table)


def _interactions(manifest: Manifest, paths: Mapping[str, Path]) -> pd.DataFrame:
    from c2s.data.formats import read_interactions

    return read_interactions({file.role: paths[file.name] for file in manifest.files})


def _gmt(manifest: Manifest, paths: Mapping[str, Path]) -> Any:
    from c2s.data.gene_sets import read_gmt

    return read_gmt(paths[manifest.file().name])


def _as_paths(manifest: Manifest, paths: Mapping[str, Path]) -> dict[str, Path]:
    return dict(paths)


def _parquet(manifest: Manifest, paths: Mapping[str, Path]) -> Any:
    return _by_role(manifest, paths, pd.read_parquet)


def _by_role(manifest: Manifest, paths: Mapping[str, Path], read: Callable[[Path], pd.DataFrame]) -> Any:
    """Read every file; return the only table, or a dict by role."""
    tables = {file.role: read(paths[file.name]) for file in manifest.files}
    return next(iter(tables.values())) if len(tables) == 1 else tables


#: Loader to the function that reads anything else.
READERS: dict[str, Callable[[Manifest, Mapping[str, Path]], Any]] = {
    "parquet": _parquet,
    "table": _table,
    "interactions": _interactions,
    "gmt": _gmt,
    "archive": _as_paths,
    "none": _as_paths,
}

#: Loaders of a file that can stay on disk.
_ANNDATA = ("h5ad", "zarr", "simulated")
#: Loader to the function that reads cells.
CELL_READERS: dict[str, Callable[[Manifest, Mapping[str, Path]], Any]] = {
    "h5ad": _anndata,
    "zarr": _anndata,
    "simulated": _anndata,
    "gct": _gct,
}
