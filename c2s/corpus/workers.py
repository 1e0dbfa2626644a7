"""Processes of this machine that do the units of a plan, and that never outlive the build."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from c2s.corpus.plan import CorpusPlan
from c2s.corpus.units import UnitResult, build_unit
from c2s.errors import OutputError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Workers:
    """Processes that import what they need themselves; none inherits a thread.

    Parameters
    ----------
    number
        How many.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.executor = ProcessPoolExecutor(
            number, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
        )
        # They start, and import for a second or two, when there is something to do; so there is, at once.
        for _ in range(number):
            self.executor.submit(os.getpid)

    def results(self, plan: CorpusPlan, out: Path) -> Iterator[UnitResult]:
        """Yield the results of a plan's units as they come, a few per process in flight."""
        bare = plan.with_units(())  # goes with every unit
        pending: set[Future[UnitResult]] = set()
        for unit in plan.units:
            pending.add(self.executor.submit(build_unit, bare, unit, out))
            if len(pending) >= 4 * self.number:
                ready, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ready)
        while pending:
            ready, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ready)


@contextmanager
def processes(number: int) -> Iterator[Workers | None]:
    """Keep processes for both stages; none for a single worker, which is this process.

    Raises
    ------
    OutputError
        A process died, as one does that the system ends for want of memory.
    """
    if number == 1:
        yield None
        return
    workers = Workers(number)
    try:
        yield workers
    except BrokenProcessPool:
        raise OutputError(
            f"one of the {number} worker processes died; most likely the system ended it because memory ran out.",
            fix="run the same command again, which goes on where this one stopped; with fewer workers (--workers) "
            "it needs less memory. A script must call build_corpus under `if __name__ == '__main__':`.",
        ) from None
    finally:
        workers.executor.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """Let this process end at once when the one that started it is gone, killed or not.

    Without it the processes of a build that got SIGKILL would go on with what is queued, beside the build that
    takes its place.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # The kernel does it, whatever this process is busy with. (The thread that starts the processes is the
        # one that waits for them, so it does not end before.)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))

    def watch() -> None:
        parent.join()  # the end of a pipe that only the parent holds open
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
