"""Find a file by its checksum in the folder that ``C2S_DATA_MIRROR`` names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from c2s.errors import DatasetError

MIRROR = "C2S_DATA_MIRROR"


def mirror_folder() -> Path | None:
    """Return the mirror, or None where none is set.

    Raises
    ------
    DatasetError
        The variable names something that is no folder.
    """
    stated = os.environ.get(MIRROR)
    if not stated:
        return None
    folder = Path(stated)
    if not folder.is_dir():
        raise DatasetError(
            f"{MIRROR} names {folder}, which is no folder.", fix=f"set {MIRROR} to the mirror's folder."
        )
    return folder


def find_in_mirror(folder: Path, sha256: str, size: int | None) -> tuple[Path | None, list[Path]]:
    """Return the file with this content, whatever it is called.

    Only files of the right size are read (where it is known), and each is read once per process.

    Parameters
    ----------
    folder
        The mirror, searched with its subfolders.
    sha256, size
        Checksum (hexadecimal) and size in bytes.

    Returns
    -------
    pathlib.Path or None
        The file.
    list of pathlib.Path
        Without it: files that have its size but not its content.
    """
    others = []
    for path in _files(folder):
        if size is not None and path.stat().st_size != size:
            continue
        if sum_of(path) == sha256:
            return path, []
        others.append(path)
    return None, others if size is not None else []


def by_size(folder: Path) -> dict[int, list[Path]]:
    """Return the files of the mirror by their size in bytes; none is read."""
    found: dict[int, list[Path]] = {}
    for path in _files(folder):
        found.setdefault(path.stat().st_size, []).append(path)
    return found


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def sum_of(path: Path) -> str:
    """Return the sha256 of a file; one that has not changed is read once per process."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Read a file; size and time are arguments so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
