"""What tables of bad inputs share: one row per mistake, and what must hold of each."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import c2s
from c2s import errors as e

GENES = ["ACTB", "CD3D", "CD8A", "GNLY", "IL7R", "LYZ", "MS4A1", "NKG7"]


def cells(X=None, n=12, genes=GENES, **obs):
    """Small simulated cells, log1p-normalised like real ones."""
    if X is None:
        counts = np.random.default_rng(0).poisson(1.5, size=(n, len(genes))) + 0.0
        counts[:, 0] += 1
        X = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    X = np.asarray(X, dtype=np.float32)
    obs = {"cell_type": [["B", "T"][i % 2] for i in range(len(X))], **obs}
    frame = pd.DataFrame(obs, index=[f"cell{i}" for i in range(len(X))])
    return ad.AnnData(sparse.csr_matrix(X), obs=frame, var=pd.DataFrame(index=list(genes)))


def h5ad(folder: Path, adata: ad.AnnData, name="in.h5ad") -> Path:
    adata.write_h5ad(folder / name)
    return folder / name


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def truncated(folder: Path) -> Path:
    path = h5ad(folder, cells())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def annotation(**options):
    return c2s.default_host().tasks.get("annotation")(**options)


def sentences(**options):
    return c2s.to_cell_sentences(cells(), **options)


def edited(model: Path, folder: Path, change: Callable[[Path], object]) -> Path:
    copy = folder / "model"
    shutil.copytree(model, copy)
    change(copy)
    return copy


def cli(*words: object) -> None:
    """Run a command in this process, as `c2s` would."""
    from c2s.cli import app

    app([str(w) for w in words], standalone_mode=False)


@dataclass(frozen=True)
class Case:
    """One mistake."""

    name: str
    error: type[e.C2SError]
    says: str
    fix: str
    do: Callable[..., object]


def new_files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def check_error(case: Case, *given: object) -> None:
    """Make the mistake; the error is of the exact class, and names the thing and the fix."""
    with pytest.raises(e.C2SError) as caught:
        case.do(*given)
    assert type(caught.value) is case.error, repr(caught.value)
    problem, separator, fix = str(caught.value).partition(" Fix: ")
    assert re.search(case.says, problem, re.DOTALL), problem
    assert separator, f"no fix in: {problem}"
    assert re.search(case.fix, fix, re.DOTALL), fix


def check_case(case: Case, folder: Path, model: Path | None = None) -> None:
    """Make the mistake; the error names the thing and the fix, and nothing is left behind."""
    check_error(case, folder, model)
    outputs = {"o.h5ad", "o.parquet", "out", "run", "o.run.json"} & {p.name for p in folder.iterdir()}
    for name in outputs:  # only what was there before may be there now
        assert (folder / name).read_text() == "precious"
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
