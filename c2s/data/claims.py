"""Files of cells that claim what they do not hold: arrays far larger than the file, chunks that are missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c2s.errors import InputFileError
from c2s.reading import refuse_missing_filters

#: Bytes that the arrays of a file may claim in all before their size on disk is looked at.
_HARMLESS = 64 << 20
#: The most that the compressors of HDF5 (deflate: 1,032) and of zarr (zstd: 32,768) make of one byte.
_H5AD_RATIO, _ZARR_RATIO = 2000, 40_000
#: Files of a zarr array that are no chunks.
_ABOUT = {".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"}


@dataclass(frozen=True)
class _Claim:
    """One array.

    Attributes
    ----------
    name, shape
        As in the file.
    itemsize
        Bytes of a value.
    place
        What to ask for its size on disk by.
    """

    name: str
    shape: tuple[int, ...]
    itemsize: int
    place: Any

    @property
    def claimed(self) -> int:
        return math.prod(self.shape) * self.itemsize


def refuse_false_claims(path: Path) -> None:
    """Refuse a file whose arrays cannot be what they say they are; nothing is read into memory.

    Every array counts, wherever it is: ``X``, ``layers``, ``raw/X``, the parts of sparse matrices, the columns of
    ``obs`` and ``var`` with their codes, ``obsm``, ``uns``. Arrays whose claims cannot be filled by their bytes on
    disk are added up, so that many small ones are no way around. The shapes that sparse matrices state are
    compared with their parts, since readers allocate by them.

    Whatever is not an ``.h5ad`` file or ``.zarr`` folder is left to the reader, which says so itself.

    Raises
    ------
    InputFileError
        The arrays claim far more bytes than the file has, a sparse matrix states another shape than its parts
        have, an array lies in another file, or a ``.zarr`` lacks chunks.
    """
    if path.is_dir():
        _zarr(path)
    elif path.is_file():
        _h5ad(path)


def _h5ad(path: Path) -> None:
    import h5py

    claims: list[_Claim] = []
    groups: list[tuple[str, Any]] = []
    elsewhere: list[str] = []
    filters: dict[int, str] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Group):
            groups.append((name, node))
        elif isinstance(node, h5py.Dataset) and node.shape is not None:
            if node.is_virtual or node.external:
                elsewhere.append(name)
            claims.append(_Claim(name, node.shape, max(node.dtype.itemsize, 1), node))
            settings = node.id.get_create_plist()
            for place in range(settings.get_nfilters()):
                filters.setdefault(int(settings.get_filter(place)[0]), name)

    def visit_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            elsewhere.append(name)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            file.visititems_links(visit_link)
            refuse_missing_filters(path, filters)
            if not elsewhere:
                _refuse_empty(path, claims, _H5AD_RATIO, lambda node: int(node.id.get_storage_size()), {})
                _refuse_shapes(path, groups)
    except (RuntimeError, OSError, KeyError):  # no HDF5, or damaged: the reader says how
        return
    if elsewhere:
        raise InputFileError(
            f"{path}: the array {elsewhere[0]} lies in another file, which nobody has checked.",
            fix="write the file again, with all arrays in it: anndata.read_h5ad(...).write_h5ad(...).",
        )


def _zarr(path: Path) -> None:
    import zarr

    try:
        root = zarr.open_group(str(path), mode="r")
        members = sorted(root.members(max_depth=None), key=lambda member: member[0])
        arrays = {name: node for name, node in members if isinstance(node, zarr.Array)}
    except Exception:  # no store, or a damaged one: the reader says how
        return
    groups = [(name, node) for name, node in members if isinstance(node, zarr.Group)]
    claims, missing, stored = [], {}, {}
    for name, node in arrays.items():
        size, each = max(int(getattr(node.dtype, "itemsize", 1)), 1), node.shards or node.chunks
        # Counted on disk: zarr itself would go through all the chunks that are claimed.
        files = [file for file in (path / name).rglob("*") if file.name not in _ABOUT and file.is_file()]
        missing[name] = math.prod(-(-n // max(c, 1)) for n, c in zip(node.shape, each, strict=True)) - len(files)
        stored[name] = sum(file.stat().st_size for file in files)
        claims.append(_Claim(name, tuple(node.shape), size, name))
    _refuse_lacking(path, groups, arrays, missing)
    lengths = {f"{table}/": int(arrays[ids].shape[0]) for table, ids in _ids(groups) if ids in arrays}
    _refuse_empty(path, claims, _ZARR_RATIO, stored.__getitem__, lengths)
    _refuse_shapes(path, groups)


def _refuse_empty(
    path: Path, claims: list[_Claim], ratio: int, stored_of: Callable[[Any], int], lengths: Mapping[str, int]
) -> None:
    """Refuse arrays that claim, together, more than is harmless and more than what is stored can be.

    `lengths` gives, by folder, how long the columns in it may be without a byte: zarr stores no chunk of a column
    whose values are all alike, but it stores the ids of the rows.
    """
    if sum(claim.claimed for claim in claims) <= _HARMLESS:
        return
    empty: list[tuple[_Claim, int]] = []
    for claim in claims:
        stored = stored_of(claim.place)
        alike = any(claim.name.startswith(f) and claim.shape == (n,) for f, n in lengths.items())
        of_ids = claim.itemsize > 8  # text, so the ids themselves: they cannot all be alike
        if claim.claimed > ratio * stored and (of_ids or not alike):
            empty.append((claim, stored))
    if sum(claim.claimed for claim, _ in empty) > _HARMLESS:
        claim, stored = max(empty, key=lambda item: item[0].claimed)
        more = f" (and {len(empty) - 1} more arrays likewise)" if len(empty) > 1 else ""
        raise InputFileError(
            f"{path}: the array {claim.name} claims {claim.claimed:,} bytes, but {stored:,} are stored{more}; "
            "reading it would fill the memory with nothing.",
            fix="download or write the file again, and compare its checksum.",
        )


def _text(node: Any, *names: str) -> str:
    """Return the first of these attributes that a group has, as text."""
    found = next((node.attrs[name] for name in names if name in node.attrs), "")
    return found.decode() if isinstance(found, bytes) else str(found)


def _sparse_axis(node: Any) -> int | None:
    """Return which axis `indptr` counts, if a group is a sparse matrix as anndata writes one, now or at first."""
    encoding = _text(node, "encoding-type", "h5sparse_format").removesuffix("_matrix")
    return {"csr": 0, "csc": 1}.get(encoding) if {"data", "indices", "indptr"} <= set(node) else None


def _ids(groups: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Return the tables among the groups, and where each has the ids of its rows."""
    return [
        (name, f"{name}/{_text(node, '_index')}")
        for name, node in groups
        if _text(node, "encoding-type") == "dataframe"
    ]


def _refuse_shapes(path: Path, groups: list[tuple[str, Any]]) -> None:
    """Refuse a sparse matrix whose parts do not make one of the shape it states: readers allocate by the shape."""
    for name, node in groups:
        axis = _sparse_axis(node)
        if axis is None:
            continue
        data, indices, indptr = parts = [node[part] for part in ("data", "indices", "indptr")]
        try:
            shape = [int(n) for n in node.attrs.get("shape", node.attrs.get("h5sparse_shape", ()))]
        except (TypeError, ValueError):
            shape = []
        if len(shape) != 2 or any(len(getattr(part, "shape", ())) != 1 for part in parts):
            raise InputFileError(
                f"{path}: {name} calls itself a sparse matrix and does not have the parts of one.",
                fix="write it again, e.g. with anndata.",
            )
        wanted = shape[axis] + 1
        problem = ""
        if indptr.shape[0] != wanted:
            problem = f"{name}/indptr has {indptr.shape[0]:,} values, where a shape of {shape} needs {wanted:,}"
        elif data.shape != indices.shape:
            problem = f"{name} has {data.shape[0]:,} values but {indices.shape[0]:,} indices"
        elif (int(indptr[0]), int(indptr[-1])) != (0, data.shape[0]):
            ends = f"{int(indptr[0]):,} to {int(indptr[-1]):,}"
            problem = f"{name}/indptr goes from {ends}, but {data.shape[0]:,} values are there"
        if problem:
            raise InputFileError(
                f"{path}: the parts of a sparse matrix do not belong together: {problem}.",
                fix="download or write the file again, and compare its checksum.",
            )


def _refuse_lacking(
    path: Path, groups: list[tuple[str, Any]], arrays: Mapping[str, Any], missing: Mapping[str, int]
) -> None:
    """Refuse a zarr store that has lost chunks which are never all zero: of sparse matrices, and of ids."""
    needed = [ids for _, ids in _ids(groups)]
    for name, node in groups:
        if _sparse_axis(node) is not None and any(getattr(arrays.get(f"{name}/data"), "shape", ())):
            needed += [f"{name}/{part}" for part in ("data", "indices", "indptr")]
    lacking = [f"{missing[name]} of the chunks of {name}" for name in needed if missing.get(name, 0) > 0]
    if lacking:
        raise InputFileError(
            f"{path} lacks {' and '.join(lacking)}; zarr would read zeros in their place.",
            fix="copy or write the whole folder again.",
        )
