"""Supervised fine-tuning, ours and the peer's, from the same checkpoint, on the same examples, in one run.

``python benchmarks/sft.py [--quick]``. The 700 cells of `pbmc68k_reduced` and the prompts and answers of the
peer's own templates: naming the cell type (64 genes a cell; few supervised tokens), and writing the cell of a type
(all its genes; nearly all tokens are supervised, and lengths differ). The peer's `fine_tune` tokenises and
trains, padding each batch to its longest example. Both start from the same folder, take as many steps with as many
examples, AdamW, the same learning rate falling along a line, and answer-only loss. Time is from the call to the
trained weights; neither evaluates, and ours also writes its folder.

The peer's package calls `Trainer(tokenizer=...)`, which transformers 5 no longer takes; that argument is renamed
for it here, and nothing else is changed. What is compared is supervised tokens per second; that both learn equally
well is shown by the loss on the same 140 held-out examples after training.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, paired, require_peer, show, silent, write_results

import c2s

GOAL = 1.5
TRAIN_CELLS, BATCH, RATE = 560, 16, 1e-3
CASES = {"labels": ("cell_type_prediction", 64), "cells": ("cell_type_generation", 300)}


def prepare(scratch: Path) -> Any:
    """Return the cells as the peer wants them."""
    import scanpy as sc
    from cell2sentence import CSData

    cells = sc.datasets.pbmc68k_reduced()
    expressed = cells.raw.to_adata()
    expressed.obs["cell_type"] = cells.obs["bulk_labels"].astype(str)
    expressed.obs["organism"] = "Homo sapiens"
    expressed = expressed[np.random.default_rng(0).permutation(expressed.n_obs)].copy()
    with silent():
        table, vocabulary = CSData.adata_to_arrow(expressed, label_col_names=["cell_type", "organism"])
        return CSData.csdata_from_arrow(table, vocabulary, save_dir=str(scratch), save_name="cells")


def renamed_argument() -> None:
    """Let the peer's call of transformers' Trainer work with transformers 5."""
    import cell2sentence.csmodel
    from transformers import Trainer

    class Renamed(Trainer):  # type: ignore[misc]
        def __init__(self, *args: Any, tokenizer: Any = None, **kwargs: Any) -> None:
            super().__init__(*args, processing_class=tokenizer, **kwargs)
            Renamed.last = self

    cell2sentence.csmodel.Trainer = Renamed


def run(case: str, data: Any, scratch: Path, steps: int, repeats: int) -> dict[str, Any]:
    """Time the pairs of one case."""
    import cell2sentence.csmodel
    import pyarrow as pa
    from cell2sentence import CSModel
    from cell2sentence.prompt_formatter import C2SPromptFormatter
    from datasets import load_from_disk
    from transformers import TrainingArguments

    task, genes = CASES[case]
    with silent():
        formatted = C2SPromptFormatter(task, genes).format_hf_ds(load_from_disk(data.data_path))
    prompts, answers = list(formatted["model_input"]), list(formatted["response"])
    folder = scratch / f"{case}-start"
    start = c2s.load_model(
        "tiny", corpus=[f"{p} {a}" for p, a in zip(prompts, answers, strict=True)], device="cpu"
    )
    start.save(folder)
    table = pa.table({"example_id": [str(i) for i in range(len(prompts))], "prompt": prompts, "answer": answers})
    config = c2s.SFTConfig(max_steps=steps, batch_size=BATCH, learning_rate=RATE, save_steps=10 * steps)
    trained: dict[str, Any] = {}

    def ours() -> None:
        model = c2s.load_model(folder, device="cpu")
        shutil.rmtree(scratch / "ours", ignore_errors=True)
        trained["ours"] = c2s.train_sft(
            model, table.slice(0, TRAIN_CELLS), out=scratch / "ours", config=config, show_progress=False
        )

    with silent():
        peer_model = CSModel(str(folder), save_dir=str(scratch), save_name=f"peer_{case}")
    indices = {"train": list(range(TRAIN_CELLS)), "val": list(range(TRAIN_CELLS, len(prompts)))}

    def peer() -> None:
        arguments = TrainingArguments(
            output_dir=str(scratch / "peer_out"), max_steps=steps, per_device_train_batch_size=BATCH,
            learning_rate=RATE, lr_scheduler_type="linear", weight_decay=0.01, max_grad_norm=1.0, use_cpu=True,
            save_strategy="no", eval_strategy="no", report_to="none", disable_tqdm=True, logging_steps=1,
            dataloader_pin_memory=False,
        )  # fmt: skip
        Path(arguments.output_dir).mkdir(exist_ok=True)
        peer_model.fine_tune(
            data, task, arguments, top_k_genes=genes, data_split_indices_dict=indices, formatted_hf_ds=formatted,
            num_proc=1,
        )  # fmt: skip
        trained["peer"] = cell2sentence.csmodel.Trainer.last

    pairs = paired(ours, peer, repeats=repeats)
    # One answer's tokens and its end are what is supervised, in both.
    supervised = np.array([len(start.tokenizer(a)["input_ids"]) + 1 for a in answers[:TRAIN_CELLS]])
    tokens = int(supervised.mean() * steps * BATCH)
    held_out = table.slice(TRAIN_CELLS)
    peer_network = trained["peer"].model
    losses = {
        "before": c2s.training.validation_loss(start, held_out),
        "ours": c2s.training.validation_loss(trained["ours"].model, held_out),
    }
    start.model.load_state_dict(peer_network.state_dict())
    losses["peer"] = c2s.training.validation_loss(start, held_out)
    return {
        **pairs.summary(tokens, "supervised_tokens"),
        "steps": steps,
        "examples_a_step": BATCH,
        "parameters": start.n_parameters,
        "vocabulary": len(start.tokenizer),
        "held_out_loss": {name: round(value, 4) for name, value in losses.items()},
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair of short runs")
    options = parser.parse_args()
    require_peer()
    warnings.simplefilter("ignore")
    machine = describe()
    renamed_argument()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        data = prepare(scratch)
        results = {
            case: run(case, data, scratch, 5 if options.quick else 40, 1 if options.quick else 5) for case in CASES
        }
    rows = [
        (
            f"fine-tuning, {case}",
            f"{pair['ours_supervised_tokens_per_s']:,.0f} tokens/s",
            f"{pair['peer_supervised_tokens_per_s']:,.0f} tokens/s",
            f"{pair['ratio']:.1f}",
            f"{GOAL:.1f}",
        )
        for case, pair in results.items()
    ]
    show(rows, "Supervised fine-tuning (supervised tokens per second, from the call to the trained weights)")
    for case, pair in results.items():
        print(f"  {case}: held-out loss {pair['held_out_loss']}")
    write_results("sft", {"machine": machine, "goal": GOAL, "cases": results}, quick=options.quick)


if __name__ == "__main__":
    main()
