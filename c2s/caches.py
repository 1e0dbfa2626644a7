"""A place for numba's machine code where neither packages nor the home folder can be written, as in containers."""

from __future__ import annotations

import contextlib
import importlib.util
import os


def ensure_numba_cache() -> None:
    """Name a temporary folder in ``NUMBA_CACHE_DIR`` if numba would find none; scanpy and umap fail without.

    The folder belongs to this process, which removes it at its end: machine code of another user would be run.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    numba = importlib.util.find_spec("numba")
    if numba is None or os.access(os.path.dirname(str(numba.origin)), os.W_OK):  # noqa: PTH120 -- pathlib is slow
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 -- never raises
    place = os.path.join(home, "numba")  # noqa: PTH118
    with contextlib.suppress(OSError):
        os.makedirs(place, exist_ok=True)  # noqa: PTH103
    if os.access(place, os.W_OK):
        return
    import atexit
    import shutil
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix="c2s-numba-")
    except OSError:  # nothing at all can be written
        return
    os.environ["NUMBA_CACHE_DIR"] = folder
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
