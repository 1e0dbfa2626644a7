"""What the store remembers of a file it has read: its sum, size and time, and where it came from."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from c2s.errors import DatasetError


class Record(TypedDict, total=False):
    """One file; ``url`` and ``date`` only where it was downloaded."""

    sha256: str
    bytes: int
    mtime_ns: int
    url: str
    date: str


def record_path(final: Path) -> Path:
    """Return where the record of a file lies: beside it."""
    return final.with_name(f".{final.name}.json")


def aside_path(final: Path, found: str) -> Path:
    """Return where a file with the wrong sum `found` is kept."""
    return final.with_name(f"{final.name}.refused-{found[:8]}")


def read_record(final: Path) -> Record | None:
    """Return the record of a file, or None.

    Raises
    ------
    DatasetError
        It cannot be read.
    """
    path = record_path(final)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = Record(sha256=str(record["sha256"]), bytes=int(record["bytes"]), mtime_ns=int(record["mtime_ns"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"the record {path} of a download cannot be read.",
            fix=f"remove {path.name} and {final.name} there, and fetch again.",
        ) from error
    if "url" in record:
        known |= {"url": str(record["url"]), "date": str(record.get("date", ""))}
    return known


def write_record(final: Path, found: str, url: str | None = None) -> None:
    """Record that a file has the sum `found`; whole or not at all. A store that may only be read goes without."""
    path, stat = record_path(final), final.stat()
    record = Record(sha256=found, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
    if url is not None:
        record |= {"url": url, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    else:
        old = read_record(final) or {}
        record |= {"url": old["url"], "date": old["date"]} if "url" in old else {}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
        temporary.replace(path)


def unchanged(record: Record | None, final: Path, expected: str | None) -> bool:
    """Whether a file is, by size and time, the one that was read and had the sum `expected`."""
    if record is None or record["sha256"] != expected:
        return False
    stat = final.stat()
    return (record["bytes"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
