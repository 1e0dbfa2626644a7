"""What the store remembers: of a file its sum, size and time, of an unfinished download which file it began."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from c2s.errors import DatasetError, OutputError
from c2s.files import atomic_output


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


def part_path(final: Path, url: str) -> Path:
    """Return where an unfinished download from an address is kept; each address has its own, in whatever order."""
    return final.with_name(f"{final.name}.{hashlib.sha256(url.encode()).hexdigest()[:16]}.part")


def validator_path(part: Path) -> Path:
    """Return where it is kept what the server called the file that an unfinished download began."""
    return part.with_name(f".{part.name}.of")


def read_validator(part: Path) -> str | None:
    """Return the ``ETag`` or ``Last-Modified`` of an unfinished download; None where it is not known."""
    try:
        return validator_path(part).read_text(encoding="latin-1") or None
    except OSError:
        return None


def write_validator(part: Path, validator: str | None) -> None:
    """Keep it, whole or not at all; the beginning that an older one named must be gone."""
    path = validator_path(part)
    path.unlink(missing_ok=True)
    if validator is not None:
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_text(validator, encoding="latin-1")
        temporary.replace(path)


def discard(part: Path) -> None:
    """Remove an unfinished download: first what it holds, then what it was of."""
    part.unlink(missing_ok=True)
    validator_path(part).unlink(missing_ok=True)


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
    with suppress(OSError, OutputError), atomic_output(path, overwrite=True) as temporary:  # also among threads
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")


def unchanged(record: Record | None, final: Path, expected: str | None) -> bool:
    """Whether a file is, by size and time, the one that was read and had the sum `expected`."""
    if record is None or record["sha256"] != expected:
        return False
    stat = final.stat()
    return (record["bytes"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
