"""A progress bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Report that `steps` more units of work are done."""

    def __call__(self, steps: int = 1) -> None:
        """Advance by `steps`."""


@contextmanager
def progress(description: str, total: int | None, *, enabled: bool = True) -> Iterator[Advance]:
    """Show the progress of a long piece of work on standard error.

    Parameters
    ----------
    description
        What is being done, e.g. ``"sentences"``.
    total
        Units of work, or None if not known.
    enabled
        With False, nothing is printed.

    Yields
    ------
    Advance
        A function to call with the number of units just done.
    """
    if not enabled:
        yield lambda steps=1: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(description, total=total)
            yield lambda steps=1: bar.advance(task, steps)
    else:
        yield _PlainLines(description, total)


class _PlainLines:
    """One line every tenth of the work, and at most one every two seconds."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total = description, total
        self.done = 0
        self.started = self.printed = time.monotonic()

    def __call__(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        finished = self.total is not None and self.done >= self.total
        if now - self.printed >= 2 or (finished and now - self.started >= 2):
            self.printed = now
            of = f"/{self.total}" if self.total is not None else ""
            rate = self.done / max(now - self.started, 1e-9)
            print(f"{self.description}: {self.done}{of} ({rate:,.0f}/s)", file=sys.stderr, flush=True)
