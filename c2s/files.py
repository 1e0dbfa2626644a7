"""Outputs appear whole or not at all: written to a temporary name, then moved into place."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from c2s.errors import OutputError

#: Endings of files of cells that are written.
CELLS = (".h5ad", ".zarr")
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def atomic_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place if the block succeeds.

    Works for a file or a folder: whatever the block creates at the temporary path is moved. If the block
    fails, for any reason including Ctrl-C, the temporary is removed and `path` is left as it was.

    Parameters
    ----------
    path
        Final place of the output. Parent folders are created.
    overwrite
        Replace an existing output instead of refusing.

    Yields
    ------
    pathlib.Path
        The temporary path; it keeps the suffixes of `path` and does not exist yet.

    Raises
    ------
    OutputError
        `path` exists and `overwrite` is false, the disk is full, or the folder cannot be written.
    """
    # A link stays one, and what it leads to is written.
    final = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    refuse_existing(final, overwrite=overwrite)
    with _named(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent))
    try:
        temporary = holder / final.name
        with _named(final):
            yield temporary
            if temporary.exists():
                _replace(temporary, final, holder)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


#: The ways out where an output exists: of one that is written at once, and of a run that can be gone on with.
OVERWRITE = "choose another path, or pass overwrite=True (--overwrite)."
RESUME = "choose another path, or go on with a run that was stopped: resume=True (--resume)."


def refuse_existing(path: Path, *, overwrite: bool = False, fix: str = OVERWRITE) -> None:
    """Raise `OutputError` if `path` exists and may not be replaced; call it before long work."""
    if path.exists() and not overwrite:
        raise OutputError(f"the output {path} exists already.", fix=fix)


def check_target(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    suffixes: Sequence[str] = (),
    inputs: Sequence[str | os.PathLike[str]] = (),
    fix: str = OVERWRITE,
) -> None:
    """Find out whether an output can be written, before the work that makes it.

    Parameters
    ----------
    path
        The output.
    overwrite
        Whether it may be there already.
    suffixes
        What its name may end in, where the name tells the format.
    inputs
        What it is made of, and must not be.
    fix
        The way out where it exists.

    Raises
    ------
    OutputError
        The name is of another format, the output is one of the inputs, exists, or its folder cannot be written.
    """
    final = Path(path)
    if suffixes and final.suffix not in suffixes:
        raise OutputError(
            f"the output {final} does not end in {' or '.join(suffixes)}, which is what is written.",
            fix=f"name it {final.stem or 'out'}{suffixes[0]}.",
        )
    for source in inputs:
        if final.exists() and Path(source).exists() and final.samefile(source):
            raise OutputError(
                f"the output {final} is the input {source}, which would be lost.", fix="name another output."
            )
    refuse_existing(final, overwrite=overwrite, fix=fix)
    target = Path(os.path.realpath(final)) if final.is_symlink() else final
    with _named(target):
        # Where folders are still to be made, the first that is there must let them.
        there = next(folder for folder in (target.parent, *target.parent.absolute().parents) if folder.exists())
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=there):
            pass


def _replace(temporary: Path, final: Path, holder: Path) -> None:
    """Move `temporary` to `final`; an older `final` is set aside first, so that a crash loses neither."""
    if final.is_dir():
        final.replace(holder / "previous")
    temporary.replace(final)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"the disk is full while writing {path}; nothing was left behind.",
                fix="free some space, or write to another disk.",
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}:
            raise OutputError(
                f"cannot write {path}: {error.strerror}.", fix="choose a folder you may write to."
            ) from error
        raise
