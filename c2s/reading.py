"""Whatever makes a file unreadable, at the start or in the middle of it, named with the way out."""

from __future__ import annotations

import os
from types import TracebackType

from c2s.errors import C2SError, InputFileError

#: Filters of HDF5 that h5py does not bring and the package hdf5plugin does, by their registered numbers.
_FILTERS = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "Zstandard (FCIDECOMP)",
}


class reading:
    """Turn what a damaged or foreign file makes its readers raise into an `InputFileError` that names it.

    Parameters
    ----------
    path
        The file, or its name.
    what
        What it was expected to hold.
    """

    def __init__(self, path: str | os.PathLike[str], what: str = "AnnData") -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, C2SError | MemoryError | NameError | ImportError):
            return
        reason = " ".join((str(error).strip() or type(error).__name__).split())[:200]
        if isinstance(error, PermissionError):
            raise InputFileError(
                f"{self.path} may not be read ({reason}).", fix="ask for the permission, or copy the file."
            ) from error
        if isinstance(error, BlockingIOError) or "unable to lock file" in reason:
            raise InputFileError(
                f"{self.path} is locked: another program is writing to it, or its disk knows no locks.",
                fix="close it there, or copy the file; without locks: HDF5_USE_FILE_LOCKING=FALSE.",
            ) from error
        if "filter" in reason and "not found" in reason:  # HDF5 found no plugin for a filter
            raise InputFileError(
                f"{self.path} is compressed in a way that h5py cannot undo by itself.",
                fix="python -m pip install hdf5plugin",
            ) from error
        raise InputFileError(
            f"{self.path} cannot be read as {self.what}, being truncated, damaged or of other layout ({reason}).",
            fix="download or write it again, and compare its checksum.",
        ) from error


def refuse_missing_filters(path: str | os.PathLike[str], filters: dict[int, str]) -> None:
    """Refuse a file whose arrays need HDF5 filters that are not here; the package hdf5plugin is tried first.

    Parameters
    ----------
    path
        The file.
    filters
        Number of each filter that is used, and an array that uses it.

    Raises
    ------
    InputFileError
        A filter is missing; the array and the package are named.
    """
    import contextlib

    from h5py import h5z

    if not all(h5z.filter_avail(number) for number in filters):
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401 -- registers its filters
    for number, array in filters.items():
        if not h5z.filter_avail(number):
            name = _FILTERS.get(number, "not known to c2s")
            raise InputFileError(
                f"{path}: the array {array} is compressed with the HDF5 filter {number} ({name}), "
                "which is not installed here.",
                fix="python -m pip install hdf5plugin",
            )
