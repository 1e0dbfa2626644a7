"""The corpus: examples per second, one and two processes, and memory from ten thousand to a million cells.

``python benchmarks/corpus.py [--quick] [--cells N] [--large N]``. The cells are simulated (counts fitted to sorted
blood) and written chunk by chunk, so that any number fits. There is no peer that builds such a corpus; beside the
rates stands the speed at which the disk copies the same bytes, source and shards together. Every build runs in a
process of its own, from the start of the interpreter to the manifest; the clock of the rates starts at the call.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from machine import cores, describe, isolated, write_results

GOALS = {
    "single_cell_examples_per_s": 5000,
    "multi_cell_contexts_per_s": 1000,
    "speed_up": 1.7,
    "memory_ratio": 1.1,
}
TASKS = {
    "single": {"single-cell-language-modeling": 1, "cell-type-annotation": 1, "conditional-cell-generation": 1},
    "multi": {
        "multi-cell-language-modeling": 1,
        "tissue-annotation": 1,
        "sample-cell-types": 1,
        "conditional-sample-generation-tissue": 1,
        "conditional-sample-generation-cell-types": 1,
    },
}
#: Fewer examples per cell, of both kinds: memory is asked for, not speed.
FEW = {"single-cell-language-modeling": 0.3, "tissue-annotation": 0.3}


def build(source: str, out: str, kind: str, workers: int) -> dict[str, Any]:
    """Build a corpus in this process (and its workers); what `isolated` runs."""
    from c2s.corpus import build_corpus, make_spec

    spec = make_spec(
        datasets=[{"name": "atlas", "path": source}],
        tasks=FEW if kind == "few" else TASKS[kind],
        context={"tokenizer": "tiny", "tokens": 8192},
    )
    stop, peaks = threading.Event(), [0.0]

    def watch() -> None:
        while not stop.wait(0.05):
            peaks.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    report = build_corpus(spec, out, workers=workers, show_progress=False)
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    written = sum(p.stat().st_size for p in Path(out).rglob("*") if p.is_file())
    return {
        "rows": report.rows,
        "tokens": report.tokens,
        "seconds": round(seconds, 2),
        "per_s": round(report.rows / seconds, 1),
        "bytes_written": written,
        "peak_mb": round(max(peaks), 1),
        "processor_seconds": round(sum(os.times()[:4]), 2),
    }


def resident() -> float:
    """Return the resident memory of this process and of its children, in megabytes."""
    pages = 0
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    own = [os.getpid(), *(int(c) for c in (children.read_text().split() if children.exists() else []))]
    for process in own:
        try:
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue  # it has just ended
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def copy_seconds(source: Path, also: int, scratch: Path) -> float:
    """Return how long the disk takes to copy `source` and to write `also` bytes more, to the medium."""
    target, more = scratch / "copy", scratch / "more"
    block = os.urandom(1 << 20)
    start = time.perf_counter()
    shutil.copyfile(source, target)
    with more.open("wb") as file:
        for _ in range(max(1, also >> 20)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    with target.open("rb") as file:
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    more.unlink()
    return seconds


def run(n_cells: int, n_large: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """Measure rates, speed-up and memory."""
    from c2s.data.simulate import write_atlas

    def one(source: Path, kind: str, workers: int) -> dict[str, Any]:
        out = scratch / "corpus"
        shutil.rmtree(out, ignore_errors=True)
        found: dict[str, Any] = isolated(__file__, "--build", str(source), str(out), kind, str(workers))
        shutil.rmtree(out, ignore_errors=True)
        return found

    source = write_atlas(scratch / "atlas.h5ad", n_cells)
    results: dict[str, Any] = {"cells": n_cells, "simulated": True}
    one(source, "few", 1)  # compiles the kernels, fills the page cache
    for kind, goal in (("single", "single_cell_examples_per_s"), ("multi", "multi_cell_contexts_per_s")):
        runs = {w: [] for w in (1, 2)}
        for _ in range(repeats):  # in turn, so that a busy moment slows both
            for workers, found in runs.items():
                found.append(one(source, kind, workers))
        best = {w: max(found, key=lambda r: r["per_s"]) for w, found in runs.items()}
        ratios = [b["per_s"] / a["per_s"] for a, b in zip(runs[1], runs[2], strict=True)]
        copying = copy_seconds(source, best[2]["bytes_written"], scratch)
        results[kind] = {
            "runs": {str(w): found for w, found in runs.items()},
            goal: statistics.median(r["per_s"] for r in runs[2]),
            "speed_up": round(statistics.median(ratios), 2),
            "speed_ups": [round(r, 2) for r in ratios],
            "share_of_disk_copy": round(copying / best[2]["seconds"], 4),
        }
    small = write_atlas(scratch / "small.h5ad", min(10_000, n_large // 2))
    memory = {"small": one(small, "few", 1)}
    large = write_atlas(scratch / "large.h5ad", n_large)
    memory["large"] = one(large, "few", 1)
    results["memory"] = {
        "cells": [min(10_000, n_large // 2), n_large],
        "peak_mb": [memory["small"]["peak_mb"], memory["large"]["peak_mb"]],
        "memory_ratio": round(memory["large"]["peak_mb"] / memory["small"]["peak_mb"], 3),
        "runs": memory,
    }
    return results


def report(results: dict[str, Any]) -> None:
    """Print what was found beside what was wanted."""
    rows = [("", "found", "goal")]
    for kind, goal in (("single", "single_cell_examples_per_s"), ("multi", "multi_cell_contexts_per_s")):
        found = results[kind]
        rows.append((f"{goal} (2 processes)", f"{found[goal]:,.0f}", f"{GOALS[goal]:,}"))
        rows.append((f"{kind}: 1 -> 2 processes", f"{found['speed_up']:.2f}x", f"{GOALS['speed_up']}x"))
        rows.append((f"{kind}: share of the disk's copy speed", f"{found['share_of_disk_copy']:.1%}", ""))
    memory = results["memory"]
    rows.append(
        (
            f"memory, {memory['cells'][0]:,} -> {memory['cells'][1]:,} cells",
            f"{memory['memory_ratio']:.2f}x",
            "1.10x",
        )
    )
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    print("\nCorpus (simulated cells)")
    for row in rows:
        print("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cells, one repeat")
    parser.add_argument("--cells", type=int, help="cells for the rates")
    parser.add_argument("--large", type=int, help="cells for the memory")
    parser.add_argument("--build", nargs=4, metavar=("SOURCE", "OUT", "KIND", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        source, out, kind, workers = options.build
        print(json.dumps(build(source, out, kind, int(workers))))
        return
    if cores() < 2:
        sys.exit("This benchmark compares one process with two and needs two cores.")
    machine = describe()
    with tempfile.TemporaryDirectory() as scratch:
        results = run(
            options.cells or (10_000 if options.quick else 50_000),
            options.large or (50_000 if options.quick else 1_000_000),
            1 if options.quick else 3,
            Path(scratch),
        )
    path = write_results("corpus", {"machine": machine, "goals": GOALS, **results}, quick=options.quick)
    report(results)
    print(f"\n{path}")


if __name__ == "__main__":
    main()
