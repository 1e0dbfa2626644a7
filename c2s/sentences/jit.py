"""Compile a kernel with numba, keeping the machine code on disk where the disk allows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numba

T = TypeVar("T")
R = TypeVar("R")


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` to machine code that runs without the interpreter's lock.

    The cache is numba's own (beside the module, or in the user's cache folder). Where neither can be written,
    as in a read-only container, the kernel is compiled anew in each process instead of failing.
    """
    try:
        return numba.njit(nogil=True, cache=True, boundscheck=False)(function)
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        return numba.njit(nogil=True, boundscheck=False)(function)


def n_threads() -> int:
    """Return how many threads the kernels may use: ``C2S_THREADS``, or the processors this process may run on."""
    stated = os.environ.get("C2S_THREADS", "")
    if stated.isdigit() and int(stated) > 0:
        return int(stated)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, 16)


def in_threads(work: Callable[[T], R], items: Iterable[T], *, threads: int | None = None) -> Iterator[R]:
    """Map `work` over `items` in threads, in order, with at most two items per thread in flight.

    Unlike `concurrent.futures.Executor.map`, `items` is not drained at once, so a stream that is read chunk by
    chunk stays in constant memory. Threads, not numba's ``parallel=True``: a process that forks later (a data
    loader, say) must not inherit a thread pool it cannot use.
    """
    threads = threads or n_threads()
    if threads == 1:
        for item in items:
            yield work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        pending: list[Future[R]] = []
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) >= 2 * threads:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
