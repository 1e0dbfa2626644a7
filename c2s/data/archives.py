"""Packed datasets: unpacked once per content, beside one another and never half."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from c2s.data.mirror import sum_of
from c2s.data.records import read_record, unchanged
from c2s.errors import InputFileError
from c2s.files import atomic_output

if TYPE_CHECKING:
    from c2s.data.manifest import Manifest, ManifestFile
    from c2s.data.store import Store

#: Unpacked bytes per packed byte that no honest file reaches, and bytes that nobody needs to be asked about.
MOST_GROWTH, HARMLESS = 500, 64 << 20
#: Within the folder of an unpacked archive: the sha256 of the archive, and what it held.
_MARKER, _CONTENT = "archive.sha256", "content"


def unpacked(place: Store, manifest: Manifest, file: ManifestFile, path: Path) -> Path:
    """Return the folder with what an archive of a dataset holds, unpacking it if that was not done.

    The folder appears whole, with the checksum of the archive in it: another archive of this name is unpacked
    again, and what an interrupted unpacking has left is never used. Of several processes one unpacks.

    Parameters
    ----------
    place
        The store; the folder lies in it, also for an archive of the mirror.
    manifest, file
        Which dataset, and which of its files.
    path
        Where the archive lies, found and checked.

    Raises
    ------
    InputFileError
        It is no archive, is damaged, or is not to be unpacked; see `unpack`.
    DatasetError
        The store folder cannot be written.
    """
    final = place.place(manifest, file)
    folder = final.with_name(f"{file.name}.unpacked")
    record = read_record(path) if file.sha256 is None and path == final else None
    known = record["sha256"] if record and unchanged(record, path, record["sha256"]) else None
    wanted = file.sha256 or known or sum_of(path)
    if _holds(folder, wanted):
        return folder / _CONTENT
    with place.alone(folder):
        if not _holds(folder, wanted):  # another process was quicker
            for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # of one that was killed: the lock is ours
                shutil.rmtree(left, ignore_errors=True)
            with atomic_output(folder, overwrite=True) as temporary:
                temporary.mkdir()
                unpack(path, temporary / _CONTENT)
                (temporary / _MARKER).write_text(f"{wanted}\n", encoding="ascii")
    return folder / _CONTENT


def unpacked_zarr(place: Store, manifest: Manifest, file: ManifestFile, path: Path) -> Path:
    """Return the zarr store that an archive holds, at its top or in a folder there; arguments as for `unpacked`.

    Raises
    ------
    InputFileError
        It does not hold one zarr store, or cannot be unpacked.
    DatasetError
        The store folder cannot be written.
    """
    content = unpacked(place, manifest, file, path)
    stores = [
        folder
        for folder in (content, *sorted(content.iterdir()))
        if folder.is_dir() and any((folder / name).exists() for name in (".zgroup", ".zattrs", "zarr.json"))
    ]
    if len(stores) != 1 and content not in stores:
        raise InputFileError(f"{path} does not hold one zarr store.", fix="check its manifest.")
    return stores[0]


def _holds(folder: Path, sha256: str) -> bool:
    """Whether a folder is what an archive with this sum holds, whole."""
    try:
        return (folder / _MARKER).read_text(encoding="ascii").strip() == sha256
    except (OSError, UnicodeDecodeError):
        return False


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a ``.zip`` or ``.tar``, recognised by its content, into a new folder; return the folder.

    Raises
    ------
    InputFileError
        It is no archive, is damaged, holds a path that leaves the folder, or grows beyond all measure.
    OutputError
        The folder exists.
    """
    try:
        with atomic_output(folder) as temporary:
            temporary.mkdir()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    _refuse(path, [(i.filename, i.file_size) for i in archive.infolist()])
                    archive.extractall(temporary)
            elif tarfile.is_tarfile(path):
                with tarfile.open(path) as packed:
                    _refuse(path, [(m.name, m.size) for m in packed.getmembers()])
                    packed.extractall(temporary, filter="data")
            else:
                raise InputFileError(f"{path} is neither a .zip nor a .tar archive.", fix="check its manifest.")
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise InputFileError(f"{path} cannot be unpacked ({error}).", fix="fetch it again.") from error
    return folder


def _refuse(path: Path, members: Sequence[tuple[str, int]]) -> None:
    for name, _ in members:
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in name.partition("/")[0]:
            raise InputFileError(
                f"{path} holds the path {name!r}, which leaves the folder it is unpacked into.",
                fix="do not use this archive.",
            )
    size = sum(size for _, size in members)
    if size > max(MOST_GROWTH * path.stat().st_size, HARMLESS):
        raise InputFileError(
            f"{path} would grow from {path.stat().st_size:,} to {size:,} bytes.", fix="do not use this archive."
        )
