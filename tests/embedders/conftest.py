"""Simulated cells, and what scGPT and Geneformer would bring, made up at toy size."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

GENES = [f"GENE{i}" for i in range(30)]
ENSEMBL = {gene: f"ENSG{i:011d}" for i, gene in enumerate(GENES)}


def cells(n=40, seed=0, genes=GENES, counts=False) -> ad.AnnData:
    """Simulated cells of two types; log1p values in X, counts beside them."""
    rng = np.random.default_rng(seed)
    rates = np.ones((n, len(genes)))
    rates[: n // 2, :5] = 8
    rates[n // 2 :, 5:10] = 8
    drawn = rng.poisson(rates)
    drawn[:, 0] += 1
    log = np.log1p(drawn / drawn.sum(axis=1, keepdims=True) * 1e4)
    obs = pd.DataFrame(
        {"cell_type": ["A"] * (n // 2) + ["B"] * (n - n // 2), "batch": [f"b{i % 2}" for i in range(n)]},
        index=[f"cell{i}" for i in range(n)],
    )
    matrix = sp.csr_matrix((drawn if counts else log).astype(np.float32))
    adata = ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(genes)))
    adata.layers["counts"] = sp.csr_matrix(drawn.astype(np.float32))
    return adata


@pytest.fixture
def geneformer_tables(tmp_path: Path) -> Path:
    """Token dictionary, medians and names as Geneformer's package has them, for the made-up genes."""
    folder = tmp_path / "tables"
    folder.mkdir()
    tokens = {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3}
    # The last two genes are not known to the model.
    tokens |= {ENSEMBL[gene]: i + 4 for i, gene in enumerate(GENES[:-2])}
    medians = {ENSEMBL[gene]: np.float64(1 + i % 7) for i, gene in enumerate(GENES)}
    for name, table in (("token_dictionary", tokens), ("gene_median_dictionary", medians)):
        (folder / f"{name}_gc104M.pkl").write_bytes(pickle.dumps(table))
    (folder / "gene_name_id_dict_gc104M.json").write_text(json.dumps(ENSEMBL))
    return folder


@pytest.fixture
def geneformer_model(tmp_path: Path) -> Path:
    """A BERT of Geneformer's kind with random weights."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=34,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "geneformer")
    return tmp_path / "geneformer"
