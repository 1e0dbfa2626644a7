"""How the training data were read is remembered: later commands on the same file read it alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from bad_inputs import cli
from layouts import counted_cells, log_normalised

from c2s.results import gather_results

pytestmark = pytest.mark.filterwarnings("ignore")


def cellxgene(adata: ad.AnnData) -> tuple[str, ...]:
    """Scaled values, counts in ``raw``, Ensembl ids for names and the symbols in a column."""
    adata.var["feature_name"] = adata.var_names.to_numpy()
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    adata.raw = adata.copy()
    logged = log_normalised(adata).X.toarray()
    adata.X = (logged - logged.mean(0)) / logged.std(0).clip(0.1)
    return "--layer", "raw", "--symbols", "feature_name"


def of_two_species(adata: ad.AnnData) -> tuple[str, ...]:
    adata.var_names = [f"GRCh38_{name}" for name in adata.var_names]
    return "--strip", "genome"


def in_a_layer(adata: ad.AnnData) -> tuple[str, ...]:
    adata.layers["counts"] = adata.X.copy()
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray()[:, ::-1] / 7))
    return "--layer", "counts", "--normalise", "always"


WAYS: Mapping[str, Callable[[ad.AnnData], tuple[str, ...]]] = {
    "plain": lambda adata: (),
    "CELLxGENE": cellxgene,
    "two species": of_two_species,
    "a layer": in_a_layer,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[pd.DataFrame, ...]]:
    """What every command makes of the same cells, trained on in different files; only training is told how."""
    found = {}
    for way, change in WAYS.items():
        folder = tmp_path_factory.mktemp("way")
        cells = counted_cells(120)
        options = change(cells)
        cells.write_h5ad(path := folder / "cells.h5ad")
        small = ("--option", "layers=1", "--option", "hidden_size=16", "--option", "heads=1", "--genes", 6)
        for task in ("annotation", "conditional-cell-generation"):
            how = ("--task", task, "--data", path, "--out", folder / task, "--max-steps", 2, *small)
            cli("train", "sft", *how, *options)
        model = ("--model", folder / "annotation")
        with contextlib.chdir(folder):  # the same file by another name
            cli("predict", "cells.h5ad", folder / "predicted.h5ad", *model)
        cli("embed", path, folder / "embedded.h5ad", *model, "--genes", 6)
        cli("evaluate", *model, "--out", folder / "scores", "--n-bootstrap", 10)
        grpo = folder / ("grpo" if way in {"plain", "CELLxGENE"} else "annotation")  # it takes long
        if grpo.name == "grpo":
            cli("train", "grpo", *model, "--data", path, "--out", grpo, "--max-steps", 1)
        cells_model = ("--model", folder / "conditional-cell-generation", "--cell-type", "B cell", "--n", 4)
        cli("generate", *cells_model, folder / "generated.h5ad")
        generated = ad.read_h5ad(folder / "generated.h5ad")
        found[way] = (
            ad.read_h5ad(folder / "predicted.h5ad").obs[["c2s_cell_type", "c2s_cell_type_probability"]],
            pd.DataFrame(ad.read_h5ad(folder / "embedded.h5ad").obsm["X_c2s"]),
            gather_results([folder / "scores"])[["predictor", "metric", "value"]],
            pd.DataFrame({"genes": [(grpo / "genes.txt").read_text()]}),
            generated.to_df().reset_index(drop=True),
        )
    return found


@pytest.mark.parametrize("way", [way for way in WAYS if way != "plain"])
def test_the_same_cells_give_the_same_results(way, outcomes):
    for expected, found in zip(outcomes["plain"], outcomes[way], strict=True):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-5)
