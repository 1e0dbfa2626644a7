"""Names of the files that stand beside an output."""

from __future__ import annotations

from pathlib import Path


def beside(target: Path, ending: str) -> Path:
    """Return ``cells.<ending>`` for ``cells.parquet``."""
    return target.with_name(f"{target.stem}.{ending}")
