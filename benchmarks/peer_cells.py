"""Cells, prompts and a checkpoint that ours and the peer's code read alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from machine import silent

import c2s

GENES = 64


def prepare(scratch: Path, task: str) -> tuple[Any, list[str], list[str], list[str]]:
    """Return the 700 cells of `pbmc68k_reduced` as the peer wants them, and what its formatter makes of them.

    Parameters
    ----------
    scratch
        Folder for the peer's own copy.
    task
        Of the peer's templates: ``"cell_type_prediction"`` or ``"cell_type_generation"``.

    Returns
    -------
    tuple
        The peer's data, the prompts, the answers, and the cell types.
    """
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
        formatted = C2SPromptFormatter(task, GENES).format_hf_ds(load_from_disk(data.data_path))
    return data, list(formatted["model_input"]), list(formatted["response"]), list(expressed.obs["cell_type"])


def train(prompts: list[str], answers: list[str], folder: Path, steps: int) -> None:
    """Train the tiny model on answers as the peer's templates write them, and save it."""
    import pyarrow as pa

    model = c2s.load_model("tiny", corpus=[*prompts, *answers], device="cpu")
    names = [str(i) for i in range(len(prompts))]
    table = pa.table({"example_id": names, "prompt": prompts, "answer": answers})
    c2s.train_sft(model, table, out=folder, config=c2s.SFTConfig(max_steps=steps, learning_rate=3e-3))
