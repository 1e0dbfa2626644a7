"""What it is worth to read once what prompts begin with: ours with and without sharing, in one run.

``python benchmarks/prefix.py [--quick]``. Prompts of which nine tenths are common (an abstract and a context, say,
before the one cell that is asked about), each with an answer of a few tokens. Generation reads the common part
once per call, or, with sharing turned off, once per prompt; everything else is the same, and so are the answers.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
from machine import describe, paired, show, write_results

import c2s
from c2s.inference.generate import generated
from c2s.inference.sampling import Sampling
from c2s.models import TinyConfig

GOAL = 4.0
COMMON, OWN, ANSWER = 900, 100, 4


def run(prompts_at_once: int, repeats: int) -> dict[str, Any]:
    """Time the pairs and compare the answers."""
    import torch

    rng = np.random.default_rng(0)
    genes = [f"GENE{i}" for i in range(1000)]
    common = " ".join(rng.permutation(genes)[:COMMON])
    prompts = [f"{common} {' '.join(rng.permutation(genes)[:OWN])}" for _ in range(prompts_at_once)]
    shape = TinyConfig(layers=4, hidden_size=256, heads=8)
    model = c2s.load_model("tiny", corpus=[" ".join(genes)], device="cpu", config=shape)
    sampling = Sampling(max_new_tokens=ANSWER)

    def answers(share: bool) -> list[str]:
        found = dict(generated(model, prompts, sampling, share=share))
        return [found[i] for i in range(len(prompts))]

    same = float(np.mean([a == b for a, b in zip(answers(True), answers(False), strict=True)]))
    pair = paired(lambda: answers(True), lambda: answers(False), repeats=repeats)
    lengths = [len(ids) for ids in model.tokenizer(prompts)["input_ids"]]
    return {
        "pairs": {"generate": pair.summary(len(prompts), "prompts")},
        "settings": {
            "prompts": len(prompts),
            "tokens_per_prompt": round(float(np.mean(lengths)), 1),
            "common_share": round(COMMON / (COMMON + OWN), 3),
            "new_tokens": ANSWER,
            "parameters": model.n_parameters,
            "threads": torch.get_num_threads(),
        },
        "same_answers": same,
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair of runs on fewer prompts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    machine = describe()
    results = run(16 if options.quick else 48, 1 if options.quick else 3)
    pair = results["pairs"]["generate"]
    rows = [
        (
            "generate",
            f"{pair['ours_prompts_per_s']:,.1f} prompts/s",
            f"{pair['peer_prompts_per_s']:,.1f} prompts/s",
            f"{pair['ratio']:.1f}",
            f"{GOAL:.0f}",
        )
    ]
    show(rows, "Prompts with a common beginning, shared (ours) and not (in the peer's column)")
    print(f"  same answers: {results['same_answers']:.0%}")
    write_results("prefix", {"machine": machine, "goal": GOAL, **results}, quick=options.quick)


if __name__ == "__main__":
    main()
