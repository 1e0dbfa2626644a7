"""Files of cells that claim what they do not hold: arrays far larger than the file, chunks that are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from c2s.errors import InputFileError

#: Bytes that an array may claim before its size on disk is looked at.
_HARMLESS = 64 << 20
#: The most that the compressors of HDF5 make of one byte (deflate: 1,032), with room to spare.
_RATIO = 2000


def refuse_false_claims(path: Path) -> None:
    """Refuse a file whose arrays cannot be what they say they are; nothing is read into memory.

    Whatever is not an ``.h5ad`` file or ``.zarr`` folder is left to the reader, which says so itself.

    Raises
    ------
    InputFileError
        An array of an ``.h5ad`` claims far more bytes than the file has, or a ``.zarr`` lacks chunks.
    """
    if path.is_dir():
        _zarr(path)
    elif path.is_file():
        _h5ad(path)


def _h5ad(path: Path) -> None:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError:
        return
    with file:
        found: list[tuple[str, int, int]] = []

        def visit(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and node.shape is not None:
                claimed = int(np.prod(node.shape, dtype=object)) * max(node.dtype.itemsize, 1)
                stored = int(node.id.get_storage_size())
                if claimed > _HARMLESS and claimed > _RATIO * max(stored, 1):
                    found.append((name, claimed, stored))

        try:
            file.visititems(visit)
        except (RuntimeError, OSError, KeyError):  # damaged: the reader says how
            return
    if found:
        name, claimed, stored = max(found, key=lambda item: item[1])
        raise InputFileError(
            f"{path}: the array {name} claims {claimed:,} bytes, but {stored:,} are stored; reading it would fill "
            "the memory with nothing.",
            fix="download or write the file again, and compare its checksum.",
        )


def _zarr(path: Path) -> None:
    import zarr

    try:
        root = zarr.open_group(str(path), mode="r")
    except Exception:  # no store, or a damaged one: the reader says how
        return
    places = ["X", *(f"layers/{name}" for name in (root["layers"].group_keys() if "layers" in root else ()))]
    lacking = []
    for place in places:
        matrix = root.get(place)
        if matrix is None or hasattr(matrix, "shape"):
            continue  # of a dense matrix, chunks without expression are not written
        for part in ("data", "indices"):
            # No chunk of these is all zero, so each must be there.
            if part in matrix and matrix[part].nchunks_initialized < matrix[part].nchunks:
                n = matrix[part].nchunks - matrix[part].nchunks_initialized
                lacking.append(f"{n} of the chunks of {place}/{part}")
    if lacking:
        raise InputFileError(
            f"{path} lacks {' and '.join(lacking)}; zarr would read zeros in their place.",
            fix="copy or write the whole folder again.",
        )
