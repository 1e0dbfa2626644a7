"""A small corpus of everything: two simulated studies with donors, tissues, abstracts, and gene sets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from c2s.corpus import TASKS, Corpus, CorpusSpec, make_spec, open_corpus
from c2s.testing.cells import simulated_cells

#: Texts that hold no label and no metadata of the simulated cells.
ABSTRACTS = {
    "study-a": "Immune profiles\nof volunteers.",
    "study-b": "A second look at lymphoid organs, in summer.",
}
ABSTRACTS["study-c"] = "A third."


def write_cells(folder: Path, name: str, n: int = 300, seed: int = 0, **columns: str) -> Path:
    """Simulated cells of one study, with an abstract."""
    cells = simulated_cells(n, seed=seed)
    cells.obs_names = [f"{name}-{i:04d}" for i in range(n)]
    cells.obs["abstract_id"] = f"study-{name}"
    cells.obs["perturbation"] = np.where(np.arange(n) % 7 == 0, "interferon", "none")
    for column, value in columns.items():
        cells.obs[column] = value
    path = folder / f"{name}.h5ad"
    cells.write_h5ad(path)
    return path


def write_gene_sets(folder: Path, n: int = 30) -> Path:
    rng = np.random.default_rng(0)
    lines = []
    for i in range(n):
        genes = [f"G{g}" for g in rng.choice(400, int(rng.integers(5, 40)), replace=False)]
        lines.append("\t".join([f"HALLMARK_PROCESS_{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[i % 26]}{i}X", "", *genes]))
    path = folder / "sets.gmt"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_abstracts(folder: Path) -> Path:
    rows = [{"collection_id": i, "title": i, "doi": None, "description": text} for i, text in ABSTRACTS.items()]
    path = folder / "abstracts.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def digests(folder: Path) -> dict[str, str]:
    """Checksum of every file of a folder, by its path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@dataclass(frozen=True)
class Everything:
    """A corpus of all twelve tasks and what it was made from."""

    corpus: Corpus
    spec: CorpusSpec
    cells: dict[str, ad.AnnData]
    rows: list[dict[str, Any]]
    folder: Path


def everything_spec(folder: Path, **changes: Any) -> CorpusSpec:
    options: dict[str, Any] = {
        "datasets": [{"path": str(write_cells(folder, n, seed=s)), "name": n} for s, n in enumerate("ab")],
        "gene_sets": [str(write_gene_sets(folder))],
        "tasks": dict.fromkeys(TASKS, 1.0) | {"cell-type-annotation": 1.5, "tissue-annotation": 0.5},
        "genes": (5, 30),
        "cells": (3, 6),
        "context": {"tokenizer": "tiny", "tokens": 160},
        "conditions": 0.6,
        "abstracts": str(write_abstracts(folder)),
        "shard_rows": 300,
    }
    return make_spec(**{**options, **changes})


def quick_spec(folder: Path, **changes: Any) -> CorpusSpec:
    """Two tasks of the cells of one file, which is made if it is not there."""
    path = folder / "a.h5ad"
    if not path.exists():
        write_cells(folder, "a")
    options: dict[str, Any] = {
        "datasets": [{"path": str(path), "name": "a"}],
        "abstracts": str(write_abstracts(folder)),
        "tasks": {"single-cell-language-modeling": 1, "tissue-annotation": 1},
        "genes": (5, 20),
        "cells": (3, 5),
        "shard_rows": 64,
        "conditions": 0,
    }
    return make_spec(**{**options, **changes})


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Every example of a corpus by its id."""
    corpus = open_corpus(folder)
    return {
        row["example_id"]: {**row, "part": part}
        for part in corpus.parts
        for f in corpus.files(part)
        for row in pq.read_table(f).to_pylist()
    }
