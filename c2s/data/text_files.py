"""Text as a mirror keeps it, under any name: what is packed is recognised by its first bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from c2s.data.archives import HARMLESS, MOST_GROWTH
from c2s.errors import InputFileError


def plain_bytes(path: Path) -> bytes:
    """Return the content of a file; one that is packed with gzip is unpacked, whatever it is called.

    Raises
    ------
    InputFileError
        It cannot be read, is cut short, or unpacks to far more than text does.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] != b"\x1f\x8b":
            return raw
        most = max(MOST_GROWTH * len(raw), HARMLESS)
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(
            f"{path} cannot be read ({error}).", fix="check the path, or get the file again."
        ) from error
    if len(content) > most:
        raise InputFileError(
            f"{path} has {len(raw):,} bytes and unpacks to more than {most:,}, which no text does.",
            fix="do not use this file.",
        )
    return content
