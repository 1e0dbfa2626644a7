"""From sentences back: the inverse and the parsing of generated sentences, ours and the peer's, in one run.

``python benchmarks/inverse.py [--quick]``. The sentences have 200 genes of 20,000; the generated ones are the same
with some words made up, repeated or broken, as language models write them.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from machine import describe, paired, require_peer, show, write_results
from matrices import simulated_cells

import c2s

GOALS = {"inverse": 50.0, "parse": 100.0}
TOP_K = 200


def generated(sentences: list[str], seed: int = 0) -> list[str]:
    """Spoil 6% of the words: a third made up, a third repeated, a third with a comma."""
    rng = np.random.default_rng(seed)
    spoiled = []
    for sentence in sentences:
        words = sentence.split()
        for place in np.flatnonzero(rng.random(len(words)) < 0.06):
            words[place] = (f"NOGENE{place}", words[0], words[place] + ",")[rng.integers(3)]
        spoiled.append(" ".join(words))
    return spoiled


def run(n_inverse: int, n_parse: int, repeats: int) -> dict[str, Any]:
    """Time both pairs."""
    from cell2sentence.utils import (
        post_process_generated_cell_sentences,
        reconstruct_expression_from_cell_sentence,
    )

    adata = simulated_cells(max(n_inverse, n_parse, 1000))
    model = c2s.RankExpressionModel.fit(adata[:1000].copy(), top_k=TOP_K)
    made = c2s.to_cell_sentences(adata, top_k=TOP_K)
    genes, texts = made.genes, made.table["cell_sentence"].to_pylist()

    def peer_inverse() -> object:
        vectors = [
            reconstruct_expression_from_cell_sentence(text, " ", genes, model.slope, model.intercept)
            for text in texts[:n_inverse]
        ]
        return np.stack(vectors)

    inverse = paired(lambda: model.invert(texts[:n_inverse], genes), peer_inverse, repeats=repeats)
    bad = generated(texts[:n_parse])
    parse = paired(
        lambda: c2s.parse_sentences(bad, genes),
        lambda: [post_process_generated_cell_sentences(text, genes) for text in bad],
        repeats=repeats,
    )
    report = c2s.parse_sentences(bad, genes).report()
    return {
        "inverse": inverse.summary(n_inverse),
        "parse": parse.summary(n_parse),
        "words_left_out_by_ours": {k: v for k, v in report.items() if k.startswith("n_")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sentences and repeats, for a first look")
    options = parser.parse_args()
    require_peer()
    n_inverse, n_parse, repeats = (500, 100, 2) if options.quick else (4000, 500, 3)
    machine = describe()
    results = run(n_inverse, n_parse, repeats)
    report = {"machine": machine, "goals": GOALS, "genes_per_sentence": TOP_K, "vocabulary": 20_000, **results}
    path = write_results("inverse", report, quick=options.quick)
    rows = []
    for name, goal in GOALS.items():
        e = results[name]
        ours, peer = f"{e['ours_cells_per_s']:,.0f} cells/s", f"{e['peer_cells_per_s']:,.0f} cells/s"
        rows.append((name, ours, peer, f"{e['ratio']:.0f}x", f"{goal:.0f}x"))
    show(rows, f"From sentences of {TOP_K} genes back, vocabulary of 20,000")
    print(f"  written to {path.name}")


if __name__ == "__main__":
    main()
