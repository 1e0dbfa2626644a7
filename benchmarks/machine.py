"""What the benchmarks share: the machine, paired timing, memory, and the file of results.

Each benchmark runs ours and the peer's code in turn (A B A B …) on the same input and reports the ratio of each
pair, so that a machine that is busy with something else slows both. The median of the ratios is the result.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
PEER = "cell2sentence==1.2.0"


def require_peer() -> None:
    """End with a plain message when the peer package is not installed."""
    try:
        version = importlib.metadata.version("cell2sentence")
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version != PEER.partition("==")[2]:
        found = "it is not installed" if version is None else f"version {version} is"
        sys.exit(f"This benchmark compares with {PEER}, and {found}. Fix: pip install {PEER}, or nox -s bench.")


def cores() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return what is needed to read a result: processor, memory, load and versions."""
    processor = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), processor)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = (
        "anndata",
        "datasets",
        "numba",
        "numpy",
        "pyarrow",
        "scipy",
        "torch",
        "transformers",
        "cell2sentence",
    )
    versions = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "processor": processor,
        "cores": cores(),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "versions": versions,
    }


@dataclass(frozen=True)
class Time:
    """Seconds of one run: on the clock, and of the processor, all threads together."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Pairs:
    """Runs of ours and of the peer, measured in turn."""

    ours: list[Time]
    peer: list[Time]

    @property
    def ratios(self) -> list[float]:
        """How many times faster ours was on the clock, pair by pair."""
        return [p.wall / o.wall for o, p in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the pairs."""
        return statistics.median(self.ratios)

    def summary(self, units: int, name: str = "cells") -> dict[str, Any]:
        """Return rates and ratios as plain values; `units` is how many cells, say, one run does.

        ``processor_ratio`` compares the processor time of all threads, which other work on the machine hardly
        changes; it is what one core would show.
        """
        return {
            name: units,
            f"ours_{name}_per_s": round(units / statistics.median(t.wall for t in self.ours), 1),
            f"peer_{name}_per_s": round(units / statistics.median(t.wall for t in self.peer), 1),
            "ratio": round(self.ratio, 1),
            "ratios": [round(r, 1) for r in self.ratios],
            "processor_ratio": round(
                statistics.median(p.cpu / o.cpu for o, p in zip(self.ours, self.peer, strict=True)), 1
            ),
            "ours_seconds": [round(t.wall, 4) for t in self.ours],
            "peer_seconds": [round(t.wall, 4) for t in self.peer],
        }


def paired(ours: Callable[[], object], peer: Callable[[], object], *, repeats: int = 3) -> Pairs:
    """Time ours and the peer's alternately, `repeats` times each, after one untimed run of ours."""
    ours()
    times = Pairs([], [])
    for _ in range(repeats):
        times.ours.append(timed(ours))
        times.peer.append(timed(peer))
    return times


def timed(work: Callable[[], object]) -> Time:
    """Time one run; what it prints is swallowed, and its result is dropped after the clock has stopped."""
    with silent():
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        spent = Time(time.perf_counter() - start, time.process_time() - cpu)
    del result
    return spent


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Swallow standard output and standard error."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def copy_speed(megabytes: int = 256, repeats: int = 5) -> float:
    """Return the bytes per second that all cores together move when copying (read plus written)."""
    parts = cores()
    source = np.ones((parts, megabytes * (1 << 20) // 8 // parts))
    target = np.empty_like(source)
    target[:] = 0

    def copy(part: int) -> None:
        np.copyto(target[part], source[part])

    best = float("inf")
    with ThreadPoolExecutor(parts) as pool:
        for _ in range(repeats):
            start = time.perf_counter()
            list(pool.map(copy, range(parts)))
            best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def added_memory(work: Callable[[], object]) -> float:
    """Return by how many megabytes the process's resident memory rose, at its highest, while `work` ran.

    Call it in a process of its own (see `isolated`): memory that an earlier run freed hides what this one needs.
    """
    before = _status("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    with silent():
        result = work()
    peak = _status("VmHWM")
    del result
    return (peak - before) / 1024


def _status(key: str) -> float:
    """Return a line of /proc/self/status in kilobytes; elsewhere, the highest memory so far."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return float(line.split()[1])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def isolated(script: str, *arguments: str) -> Any:
    """Run a benchmark script in a process of its own; return the JSON of its last line."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{Path(script).name} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_results(name: str, results: dict[str, Any], *, quick: bool = False) -> Path:
    """Write ``benchmarks/results/NAME.json``; a quick run gets a name of its own."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}{'.quick' if quick else ''}.json"
    written = datetime.now(UTC).isoformat(timespec="seconds")
    path.write_text(json.dumps({"benchmark": name, "written": written, **results}, indent=2) + "\n")
    return path


def show(rows: Sequence[tuple[str, str, str, str, str]], title: str) -> None:
    """Print a table of what, ours, peer, ratio, goal."""
    table = [("", "ours", "peer", "ratio", "goal"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    print(f"\n{title}")
    for row in table:
        print("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
