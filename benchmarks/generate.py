"""Generating cells of a type, ours and the peer's, on the same checkpoint, prompts and machine, in one run.

``python benchmarks/generate.py [--quick] [--model FOLDER]``. A tiny GPT-NeoX is trained on the peer's own
templates to write 64 genes and stop. The peer's `generate_cells_conditioned_on_cell_type` loads the checkpoint (in
bfloat16, as it states) and generates eight cells at a time; ours loads the same checkpoint in float32. Both draw
at temperature 1, at most as many tokens, for the same cell types, and both are timed from the call to the texts.
Beside it: ours in bfloat16, ours with constrained decoding, and whether an answer depends on its batch.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, paired, require_peer, show, silent, write_results
from peer_cells import GENES, prepare, train

import c2s
from c2s.inference import Genes

GOAL = 8.0
TOKENS = GENES + 16


def run(folder: Path, scratch: Path, types: list[str], genes: list[str], repeats: int) -> dict[str, Any]:
    """Time the pairs and look at the answers."""
    import torch
    from cell2sentence import CSModel
    from cell2sentence.prompt_formatter import C2SPromptFormatter
    from cell2sentence.tasks import generate_cells_conditioned_on_cell_type

    templates = C2SPromptFormatter("cell_type_generation", GENES).prompts_dict["model_input"]
    choose = random.Random(0)
    prompts = [
        choose.choice(templates).format(num_genes=GENES, organism="Homo sapiens", cell_type=name) for name in types
    ]
    half = scratch / "bfloat16"
    c2s.load_model(folder, device="cpu", dtype="bfloat16").save(half)
    genes_only = Genes(genes, n=GENES)

    def ours(path: Path, dtype: str, **options: Any) -> list[str]:
        model = c2s.load_model(path, device="cpu", dtype=dtype)
        limit = {} if "constraint" in options else {"max_new_tokens": TOKENS}
        return c2s.generate(model, prompts, temperature=1.0, **limit, **options)

    with silent():
        peer_model = CSModel(str(folder), save_dir=str(scratch), save_name="peer")

    def peer() -> list[str]:
        return list(
            generate_cells_conditioned_on_cell_type(
                peer_model, types, n_genes=GENES, max_num_tokens=TOKENS, do_sample=True, temperature=1.0, top_k=0
            )
        )

    with silent():
        answers = {"ours": ours(folder, "float32"), "constrained": ours(folder, "float32", constraint=genes_only)}
        answers["peer"] = peer()
        alone = ours(folder, "float32", tokens_per_batch=1)
    pairs = {
        "float32": paired(lambda: ours(folder, "float32"), peer, repeats=repeats),
        "bfloat16": paired(lambda: ours(half, "bfloat16"), peer, repeats=repeats),
        "constrained": paired(lambda: ours(folder, "float32", constraint=genes_only), peer, repeats=repeats),
    }
    known = set(genes)
    words = {name: [text.rstrip(".").split() for text in texts] for name, texts in answers.items()}
    model = c2s.load_model(folder, device="cpu")
    return {
        "pairs": {name: pair.summary(len(types)) for name, pair in pairs.items()},
        "settings": {
            "cells": len(types),
            "genes_per_cell": GENES,
            "most_tokens": TOKENS,
            "parameters": model.n_parameters,
            "vocabulary": len(model.tokenizer),
            "threads": torch.get_num_threads(),
        },
        "answers": {
            "same_alone_as_together": float(
                np.mean([a == b for a, b in zip(alone, answers["ours"], strict=True)])
            ),
            "words_per_cell": {name: round(float(np.mean([len(w) for w in ws])), 1) for name, ws in words.items()},
            "unknown_words": {n: sum(w not in known for ws in rows for w in ws) for n, rows in words.items()},
            "repeated_words": {n: sum(len(ws) - len(set(ws)) for ws in rows) for n, rows in words.items()},
        },
    }


def main() -> None:
    """Train or read the checkpoint, measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="one pair of runs, fewer cells, a briefly trained model"
    )
    parser.add_argument("--model", type=Path, help="keep the checkpoint here, or reuse the one that is here")
    options = parser.parse_args()
    require_peer()
    warnings.simplefilter("ignore")
    machine = describe()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        _, prompts, answers, types = prepare(scratch, "cell_type_generation")
        genes = sorted({word for answer in answers for word in answer.rstrip(".").split()})
        folder = options.model or scratch / "model"
        if not folder.exists():
            print("training the checkpoint", file=sys.stderr)
            train(prompts, answers, folder, steps=40 if options.quick else 120)
        cells = 64 if options.quick else 256
        results = run(folder, scratch, types[:cells], genes, repeats=1 if options.quick else 3)
    rows = [
        (
            f"generate, {name}",
            f"{pair['ours_cells_per_s']:,.0f} cells/s",
            f"{pair['peer_cells_per_s']:,.0f} cells/s",
            f"{pair['ratio']:.1f}",
            f"{GOAL:.0f}" if name == "float32" else "",
        )
        for name, pair in results["pairs"].items()
    ]
    show(rows, f"Cells of {GENES} genes (from the checkpoint on disk to the texts)")
    print(f"  answers: {results['answers']}")
    write_results("generate", {"machine": machine, "goal": GOAL, **results}, quick=options.quick)


if __name__ == "__main__":
    main()
