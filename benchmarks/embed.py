"""Vectors of cells, ours and the peer's, on the same checkpoint, prompts and machine, in one run.

``python benchmarks/embed.py [--quick] [--model FOLDER]``. The 700 cells of `pbmc68k_reduced`, 64 genes a cell, the
peer's own prompts and one tiny GPT-NeoX. The peer's `embed_cells` loads the checkpoint and reads eight cells at a
time; ours loads the same checkpoint. Both in float32, timed from the call to the vectors. The peer averages over
padding too, so the vectors are compared where a prompt is the longest of its batch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, paired, require_peer, show, silent, write_results
from peer_cells import GENES, prepare, train

import c2s

GOAL = 3.0


def run(folder: Path, scratch: Path, data: Any, prompts: list[str], repeats: int) -> dict[str, Any]:
    """Time the pairs and compare the vectors."""
    import torch
    from cell2sentence import CSModel
    from cell2sentence.tasks import embed_cells

    def ours(**options: Any) -> Any:
        return c2s.embed(c2s.load_model(folder, device="cpu"), prompts, **options)

    with silent():
        peer_model = CSModel(str(folder), save_dir=str(scratch), save_name="peer")

    def peer() -> Any:
        return embed_cells(data, peer_model, n_genes=GENES)

    with silent():
        theirs, mine, alone = peer(), ours(), ours(tokens_per_batch=1)
    pairs = {"float32": paired(ours, peer, repeats=repeats)}
    model = c2s.load_model(folder, device="cpu")
    lengths = np.array([len(ids) for ids in model.tokenizer(prompts)["input_ids"]])
    batches = np.arange(len(prompts)) // 8
    longest = lengths == np.array([lengths[batches == b].max() for b in batches])
    return {
        "pairs": {name: pair.summary(len(prompts)) for name, pair in pairs.items()},
        "settings": {
            "cells": len(prompts),
            "genes_per_cell": GENES,
            "parameters": model.n_parameters,
            "tokens_per_prompt": round(float(lengths.mean()), 1),
            "threads": torch.get_num_threads(),
        },
        "vectors": {
            "largest_difference_alone_and_together": float(np.abs(alone - mine).max()),
            "largest_difference_to_peer_without_padding": float(np.abs(theirs - mine)[longest].max()),
            "largest_difference_to_peer_with_padding": float(np.abs(theirs - mine)[~longest].max(initial=0)),
        },
    }


def main() -> None:
    """Train or read the checkpoint, measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair of runs and a briefly trained model")
    parser.add_argument("--model", type=Path, help="keep the checkpoint here, or reuse the one that is here")
    options = parser.parse_args()
    require_peer()
    warnings.simplefilter("ignore")
    machine = describe()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        data, prompts, answers, _ = prepare(scratch, "cell_type_prediction")
        folder = options.model or scratch / "model"
        if not folder.exists():
            print("training the checkpoint", file=sys.stderr)
            train(prompts, answers, folder, steps=10)
        results = run(folder, scratch, data, prompts, repeats=1 if options.quick else 3)
    rows = [
        (
            f"embed, {name}",
            f"{pair['ours_cells_per_s']:,.0f} cells/s",
            f"{pair['peer_cells_per_s']:,.0f} cells/s",
            f"{pair['ratio']:.1f}",
            f"{GOAL:.0f}",
        )
        for name, pair in results["pairs"].items()
    ]
    show(rows, "Vectors of cells (from the checkpoint on disk to the vectors)")
    print(f"  vectors: {results['vectors']}")
    write_results("embed", {"machine": machine, "goal": GOAL, **results}, quick=options.quick)


if __name__ == "__main__":
    main()
