"""Predicting cell types, ours and the peer's, on the same checkpoint, prompts and machine, in one run.

``python benchmarks/predict.py [--quick] [--model FOLDER]``. The 700 cells of `pbmc68k_reduced`, 64 genes a cell,
the prompts of the peer's own templates, and one tiny GPT-NeoX that is first trained on 560 of the cells, so that
it answers with a label and stops. The peer's `predict_cell_types_of_data` loads the checkpoint, formats the
prompts and generates greedily, one cell at a time; ours loads the same checkpoint and scores the ten labels. Both
are timed from the call to the labels, with torch's default number of threads. The peer states no number format for
this task, so transformers follows the checkpoint's and nothing needs patching: float32, and a bfloat16 copy where
it says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, paired, require_peer, show, silent, write_results

import c2s

GOALS = {"float32": 6.0, "bfloat16": 10.0}
GENES, TRAIN_CELLS = 64, 560


def prepare(scratch: Path) -> tuple[Any, list[str], list[str]]:
    """Return the cells as the peer wants them, and the prompts and answers its formatter makes of them."""
    import scanpy as sc
    from cell2sentence import CSData
    from cell2sentence.prompt_formatter import C2SPromptFormatter
    from datasets import load_from_disk

    cells = sc.datasets.pbmc68k_reduced()
    expressed = cells.raw.to_adata()
    expressed.obs["cell_type"] = cells.obs["bulk_labels"].astype(str)
    expressed.obs["organism"] = "Homo sapiens"
    expressed = expressed[np.random.default_rng(0).permutation(expressed.n_obs)].copy()
    with silent():
        table, vocabulary = CSData.adata_to_arrow(expressed, label_col_names=["cell_type", "organism"])
        data = CSData.csdata_from_arrow(table, vocabulary, save_dir=str(scratch), save_name="cells")
        formatted = C2SPromptFormatter("cell_type_prediction", GENES).format_hf_ds(load_from_disk(data.data_path))
    return data, list(formatted["model_input"]), list(formatted["response"])


def train(prompts: list[str], answers: list[str], folder: Path, epochs: float) -> None:
    """Train the checkpoint that both sides read, on answers as the peer's template writes them."""
    import pyarrow as pa

    model = c2s.load_model("tiny", corpus=[*prompts, *answers], device="cpu")
    names = [str(i) for i in range(TRAIN_CELLS)]
    table = pa.table({"example_id": names, "prompt": prompts[:TRAIN_CELLS], "answer": answers[:TRAIN_CELLS]})
    c2s.train_sft(model, table, out=folder, config=c2s.SFTConfig(epochs=epochs))


def matmul_rate(size: int = 1024, seconds: float = 1.0) -> float:
    """Return the floating-point operations per second of square float32 matrix products, all threads."""
    import torch

    one, other = torch.randn(size, size), torch.randn(size, size)
    one @ other
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        one @ other
        done += 1
    return done * 2 * size**3 / (time.perf_counter() - start)


def run(
    folder: Path, scratch: Path, data: Any, prompts: list[str], answers: list[str], repeats: int
) -> dict[str, Any]:
    """Time the pairs and compare the labels."""
    import torch
    from cell2sentence import CSModel
    from cell2sentence.tasks import predict_cell_types_of_data
    from torch.utils.flop_counter import FlopCounterMode

    # The full stop with which the peer's template ends an answer is part of the text that is scored.
    candidates = sorted(set(answers))
    half = scratch / "bfloat16"
    c2s.load_model(folder, device="cpu", dtype="bfloat16").save(half)

    def ours(path: Path, dtype: str) -> list[str]:
        return c2s.score(c2s.load_model(path, device="cpu", dtype=dtype), prompts, candidates).best()

    with silent():
        models = {
            path: CSModel(str(path), save_dir=str(scratch), save_name=f"peer_{path.name}")
            for path in (folder, half)
        }

    def peer(path: Path) -> list[str]:
        return list(predict_cell_types_of_data(data, models[path], n_genes=GENES))

    with silent():
        labels = {
            "ours_float32": ours(folder, "float32"),
            "ours_bfloat16": ours(half, "bfloat16"),
            "peer_float32": peer(folder),
            "peer_bfloat16": peer(half),
        }
    before = matmul_rate()
    pairs = {
        "float32": paired(lambda: ours(folder, "float32"), lambda: peer(folder), repeats=repeats),
        "bfloat16": paired(lambda: ours(half, "bfloat16"), lambda: peer(folder), repeats=repeats),
        "bfloat16_both": paired(lambda: ours(half, "bfloat16"), lambda: peer(half), repeats=repeats),
    }
    rate = (before + matmul_rate()) / 2
    model = c2s.load_model(folder, device="cpu")
    # torch does not count its attention for CPUs by itself: two products of queries, keys and head size each.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention_flops(query: Any, key: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
        return int(4 * np.prod(query) * key[2])

    with FlopCounterMode(display=False, custom_mapping={attention: attention_flops}) as counter:
        c2s.score(model, prompts, candidates)
    flops = counter.get_total_flops()
    seconds = float(np.median([t.wall for t in pairs["float32"].ours]))
    truth, held_out = np.array(answers), np.arange(len(answers)) >= TRAIN_CELLS
    found = {name: np.array(values) for name, values in labels.items()}
    return {
        "pairs": {name: pair.summary(len(prompts)) for name, pair in pairs.items()},
        "settings": {
            "cells": len(prompts),
            "genes_per_cell": GENES,
            "labels": len(candidates),
            "parameters": model.n_parameters,
            "vocabulary": len(model.tokenizer),
            "tokens_per_prompt": round(float(np.mean([len(t) for t in model.tokenizer(prompts)["input_ids"]])), 1),
            "threads": torch.get_num_threads(),
            "bfloat16": "ours in bfloat16 against the peer in float32; bfloat16_both: the peer in bfloat16 too",
        },
        "labels": {
            "ours_bfloat16_same_as_ours_float32": float(np.mean(found["ours_bfloat16"] == found["ours_float32"])),
            "ours_float32_same_as_peer_float32": float(np.mean(found["ours_float32"] == found["peer_float32"])),
            "peer_answers_that_are_no_label": int(np.sum(~np.isin(found["peer_float32"], candidates))),
            "held_out_accuracy": {n: round(float(np.mean((v == truth)[held_out])), 4) for n, v in found.items()},
        },
        "limit": {
            "matmul_gflop_per_s": round(rate / 1e9, 1),
            "scoring_gflop": round(flops / 1e9, 2),
            "scoring_gflop_per_s": round(flops / 1e9 / seconds, 1),
            "share_of_matmul_rate": round(flops / seconds / rate, 3),
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
        data, prompts, answers = prepare(scratch)
        folder = options.model or scratch / "model"
        if not folder.exists():
            print("training the checkpoint", file=sys.stderr)
            train(prompts, answers, folder, epochs=2 if options.quick else 6)
        results = run(folder, scratch, data, prompts, answers, repeats=1 if options.quick else 5)
    rows = [
        (
            f"predict, {name}",
            f"{pair['ours_cells_per_s']:,.0f} cells/s",
            f"{pair['peer_cells_per_s']:,.0f} cells/s",
            f"{pair['ratio']:.1f}",
            f"{GOALS[name]:.0f}" if name in GOALS else "",
        )
        for name, pair in results["pairs"].items()
    ]
    show(rows, "Cell type prediction (from the checkpoint on disk to the labels)")
    print(f"  labels: {results['labels']}\n  limit: {results['limit']}")
    write_results("predict", {"machine": machine, "goals": GOALS, **results}, quick=options.quick)


if __name__ == "__main__":
    main()
