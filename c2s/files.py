"""Outputs appear whole or not at all: written to a temporary name, then moved into place."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from c2s.errors import OutputError

#: Endings of files of cells that are written.
CELLS = (".h5ad", ".zarr")
#: One of these is in every folder that is written as a whole.
_MADE_HERE = {"run.json", "results.json", ".zgroup", "zarr.json"}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
_DATA_ENDINGS = {".h5ad", ".zarr", ".h5", ".h5mu", ".loom", ".gmt", ".csv", ".tsv", ".mtx", ".parquet", ".txt"}


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
        holder = Path(tempfile.mkdtemp(prefix=f".{final.name[:40]}.", suffix=".tmp", dir=final.parent))
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
    with _named(final, every=True):
        _check_target(final, overwrite, inputs, fix)


def _check_target(final: Path, overwrite: bool, inputs: Sequence[str | os.PathLike[str]], fix: str) -> None:
    exists = final.exists()
    for source in (Path(given) for given in inputs if exists and Path(given).exists()):
        if final.samefile(source) or source.resolve().is_relative_to(final.resolve()):
            holds = "is" if final.samefile(source) else "holds"
            raise OutputError(
                f"the output {final} {holds} the input {source}, which would be lost.", fix="name another output."
            )
    held = {path.name for path in final.iterdir()} if overwrite and final.is_dir() else set()
    if held and not held & _MADE_HERE:
        raise OutputError(
            f"the folder {final} holds other files than a run leaves, which would be lost.",
            fix="name another folder, or empty this one.",
        )
    refuse_existing(final, overwrite=overwrite, fix=fix)
    target = Path(os.path.realpath(final)) if final.is_symlink() else final
    # Where folders are still to be made, the first that is there must let them.
    there = next(folder for folder in (target.parent, *target.parent.absolute().parents) if folder.exists())
    with tempfile.TemporaryDirectory(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=there):
        pass


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Shorten names and paths as far as they stay apart, for figures, tables and files.

    Parameters
    ----------
    names
        Names of datasets or models, or paths; each is a key of the result once.

    Returns
    -------
    dict
        By name: the file's name without the ending of a data file; with as many of its folders as tell it from
        the others, or the ending; and with a number where nothing does. They stay apart with ``-`` for ``/`` and
        ``_``, too, so that files can be named after them.

    Examples
    --------
    >>> short_names(["pbmc.h5ad", "a/model", "b/model"])
    {'pbmc.h5ad': 'pbmc', 'a/model': 'a/model', 'b/model': 'b/model'}
    """
    found = {name: _shorter(name) for name in names}
    chosen = {name: forms.pop(0) for name, forms in found.items()}
    while clashing := [name for name in chosen if _count(chosen, name) > 1 and found[name]]:
        for name in clashing:
            chosen[name] = found[name].pop(0)
    for name in reversed(chosen):
        while _count(chosen, name) > 1:
            chosen[name] += "-2"
    return chosen


def _count(chosen: Mapping[str, str], name: str) -> int:
    # As names of files, where some systems do not tell case apart.
    forms = {key: re.sub("[/_]", "-", form).casefold() for key, form in chosen.items()}
    return list(forms.values()).count(forms[name])


def _shorter(name: str) -> list[str]:
    """Return the short forms of a name, shortest first."""
    parts = [part for part in Path(name).parts if part not in {"/", ".", ".."}] or [name]
    longer = ["/".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    ending = Path(parts[-1]).suffix
    return [*(form.removesuffix(ending) for form in longer), *longer] if ending in _DATA_ENDINGS else longer


def _replace(temporary: Path, final: Path, holder: Path) -> None:
    """Move `temporary` to `final`; an older `final` is set aside first, so that a crash loses neither."""
    if final.is_dir():
        final.replace(holder / f"{final.name}.previous")
    temporary.replace(final)


@contextmanager
def _named(path: Path, *, every: bool = False) -> Iterator[None]:
    """Turn the operating system's write errors, or all its errors, into an `OutputError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"the disk is full while writing {path}; nothing was left behind.",
                fix="free some space, or write to another disk.",
            ) from error
        if every or error.errno in _DENIED:
            fix = (
                "choose a shorter name."
                if error.errno == errno.ENAMETOOLONG
                else "choose a folder you may write to."
            )
            raise OutputError(f"cannot write {path}: {error.strerror}.", fix=fix) from error
        raise
