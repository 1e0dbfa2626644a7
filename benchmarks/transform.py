"""Cell sentences from a matrix: ours and the peer's, AnnData to Arrow table, in one run.

``python benchmarks/transform.py [--quick]``. The peer (``CSData.adata_to_arrow``) always writes all genes and
cuts to K = 200 later, when it makes prompts; both of ours are compared with it as it is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from machine import (
    added_memory,
    copy_speed,
    cores,
    describe,
    isolated,
    paired,
    require_peer,
    show,
    silent,
    timed,
    write_results,
)
from matrices import DESCRIPTION, simulated_cells

import c2s

GOALS = {"K=200": 40.0, "all genes": 20.0}
MEMORY_GOAL_MB = 300
TOP_K = {"K=200": 200, "all genes": None}


def run_peer(adata: Any) -> object:
    from cell2sentence.csdata import CSData

    return CSData.adata_to_arrow(adata)[0].data.table


def speed(n_cells: int, repeats: int) -> dict[str, Any]:
    """Time both on both kinds of values, and ours against the machine's copy speed."""
    results: dict[str, Any] = {}
    rate = copy_speed()
    for values, description in DESCRIPTION.items():
        adata = simulated_cells(n_cells, values=values)
        entry: dict[str, Any] = {
            "values": description,
            "shape": list(adata.shape),
            "stored_values": int(adata.X.nnz),
        }
        for name, top_k in TOP_K.items():
            ours = partial(c2s.to_cell_sentences, adata, top_k=top_k)
            pairs = paired(ours, partial(run_peer, adata), repeats=repeats)
            entry[name] = pairs.summary(n_cells)
            table = c2s.to_cell_sentences(adata, top_k=top_k).table
            moved = adata.X.data.nbytes + adata.X.indices.nbytes + adata.X.indptr.nbytes + table.nbytes
            entry[name]["bytes_read_and_written"] = moved
            entry[name]["share_of_copy_speed"] = round(
                moved / rate / statistics.median(t.wall for t in pairs.ours), 3
            )
        results[values] = entry
    return {"copy_speed_gb_per_s": round(rate / 1e9, 2), "matrices": results}


def memory(kind: str, n_cells: int) -> dict[str, float]:
    """Return the memory one of them adds; to be run in a process of its own."""
    if kind == "backed":
        return {"added_mb": round(_backed(n_cells), 1)}
    small, adata = simulated_cells(200), simulated_cells(n_cells)
    work = {
        "ours": lambda a: c2s.to_cell_sentences(a),
        "ours-200": lambda a: c2s.to_cell_sentences(a, top_k=200),
        "peer": run_peer,
    }[kind]
    with silent():
        work(small)  # imports and compiled code are not what is measured
    return {"added_mb": round(added_memory(lambda: work(adata)), 1)}


def _backed(n_cells: int) -> float:
    """Return the memory of streaming a file to Parquet."""
    from c2s.sentences import SentenceStream
    from c2s.sentences.table import ParquetSink

    def stream(source: Path, target: Path) -> None:
        cells = c2s.read_cells(source, backed=True)
        sentences = SentenceStream(cells)
        with ParquetSink(target, sentences.schema) as sink:
            for batch in sentences.batches():
                sink.write(batch)
            sink.finish(sentences.vocabulary(), sentences.provenance())

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "cells.h5ad", Path(folder) / "cells.parquet"
        isolated(__file__, "--write", str(source), "--cells", str(n_cells))
        simulated_cells(3000).write_h5ad(Path(folder) / "small.h5ad")
        stream(Path(folder) / "small.h5ad", Path(folder) / "small.parquet")
        return added_memory(lambda: stream(source, target))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cells and repeats, for a first look")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cells", type=int, default=20_000, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        simulated_cells(options.cells).write_h5ad(options.write)
        print("null")
        return
    if options.memory:
        print(json.dumps(memory(options.memory, options.cells)))
        return
    require_peer()
    n_cells, repeats = (2000, 2) if options.quick else (20_000, 3)
    machine = describe()
    first = timed(lambda: c2s.to_cell_sentences(simulated_cells(200))).wall
    results = speed(n_cells, repeats)
    added = {
        kind: isolated(__file__, "--memory", kind, "--cells", str(n_cells))
        for kind in ("ours", "ours-200", "peer")
    }
    for cells in (n_cells // 2, n_cells, 2 * n_cells):
        added[f"backed, {cells} cells"] = isolated(__file__, "--memory", "backed", "--cells", str(cells))
    added_mb = {name: value["added_mb"] for name, value in added.items()}
    headline = {name: min(m[name]["ratio"] for m in results["matrices"].values()) for name in GOALS}
    report = {
        "machine": machine,
        "threads": cores(),
        "goals": {**GOALS, "added_memory_mb": MEMORY_GOAL_MB},
        "headline": {**headline, "note": "the lower of the two kinds of values; all kinds are below"},
        "added_memory_mb": added_mb,
        "first_call_with_compiling_or_loading_s": round(first, 2),
        **results,
    }
    path = write_results("transform", report, quick=options.quick)
    rows = []
    for values, entry in results["matrices"].items():
        for name, goal in GOALS.items():
            e = entry[name]
            ours, peer = f"{e['ours_cells_per_s']:,.0f} cells/s", f"{e['peer_cells_per_s']:,.0f} cells/s"
            rows.append((f"{values}, {name}", ours, peer, f"{e['ratio']:.0f}x", f"{goal:.0f}x"))
    peer_mb = f"{added_mb['peer']:.0f} MB"
    rows += [
        (f"added memory, {name}", f"{value:.0f} MB", peer_mb if name == "ours" else "", "", f"{MEMORY_GOAL_MB} MB")
        for name, value in added_mb.items()
        if name != "peer"
    ]
    show(rows, f"Transform, {n_cells:,} cells x 20,000 genes, 8% of the values stored")
    for values, entry in results["matrices"].items():
        shares = ", ".join(f"{name} {entry[name]['share_of_copy_speed']:.0%}" for name in GOALS)
        print(f"  share of the machine's copy speed ({results['copy_speed_gb_per_s']} GB/s), {values}: {shares}")
    print(f"  written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
