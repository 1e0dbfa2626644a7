"""Find a file by its checksum in the folder that ``C2S_DATA_MIRROR`` names."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from c2s.errors import DatasetError

MIRROR = "C2S_DATA_MIRROR"


def find_in_mirror(name: str, sha256: str, size: int) -> Path:
    """Return the file with this content, whatever it is called.

    Only files of the right size are read, and each is read once per process.

    Parameters
    ----------
    name
        Name of the dataset, for the message.
    sha256, size
        Checksum (hexadecimal) and size in bytes.

    Raises
    ------
    DatasetError
        The variable is not set, its folder does not exist, or no file has this content.
    """
    stated = os.environ.get(MIRROR)
    if not stated:
        raise DatasetError(
            f"dataset {name!r} is not on this machine, and {MIRROR} is not set.",
            fix=f"set {MIRROR} to a folder that holds, under any name, the file with sha256 {sha256[:16]}….",
        )
    folder = Path(stated)
    if not folder.is_dir():
        raise DatasetError(
            f"{MIRROR} names {folder}, which is no folder.", fix=f"set {MIRROR} to the mirror's folder."
        )
    damaged = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        stat = path.stat()
        if stat.st_size != size:
            continue
        if _sha256(path, stat.st_size, stat.st_mtime_ns) == sha256:
            return path
        damaged.append(path)
    also = f" ({damaged[0]} has its size but not its content)" if damaged else ""
    raise DatasetError(
        f"no file in {folder} is dataset {name!r}{also}.",
        fix=f"put the file of {size} bytes with sha256 {sha256[:16]}… there, under any name.",
    )


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Return the checksum of a file; size and time are arguments so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
