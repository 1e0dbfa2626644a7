"""Geneformer's input, on a made-up vocabulary in its file formats, and a BERT of its kind with random weights."""

from __future__ import annotations

import json
import os
import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import c2s
from c2s.embedders.geneformer import GENEFORMER, RankValueEncoder
from c2s.embedders.tables import read_table
from c2s.errors import ConfigError, GeneError, InputFileError, MatrixError, ModelError

from .conftest import ENSEMBL, GENES, cells


def encode_by_hand(counts, longest):
    """Counts over the gene's median, highest first (Theodoris et al.); the total of a cell changes no rank."""
    relative = {}
    for i, count in enumerate(counts[:-2]):
        if count > 0:
            relative[i] = count / (1 + i % 7)
    ranked = sorted(relative, key=lambda i: (-relative[i], i))
    return [2, *[i + 4 for i in ranked][: longest - 2], 3]


@pytest.mark.parametrize("longest", [2048, 12])
@pytest.mark.parametrize("counts", [True, False])
def test_rank_values_are_those_of_the_paper_from_counts_and_from_log1p(geneformer_tables, counts, longest):
    adata = cells(12, counts=counts)
    encoder = RankValueEncoder.from_folders([geneformer_tables], longest)
    assert encoder.special
    expected = [encode_by_hand(row, longest) for row in adata.layers["counts"].toarray()]
    got = encoder.encode(adata)
    if counts:
        assert [cell.tolist() for cell in got] == expected
    else:  # rounding of float32 may exchange genes of equal value
        medians = np.array([1 + i % 7 for i in range(28)])
        for row, mine, theirs in zip(adata.layers["counts"].toarray(), got, expected):
            values = [[row[t - 4] / medians[t - 4] for t in cell[1:-1]] for cell in (mine, theirs)]
            assert values[0] == pytest.approx(values[1])


def test_ids_come_from_a_column_from_names_or_from_the_table(geneformer_tables):
    encoder = RankValueEncoder.from_folders([geneformer_tables], 64)
    adata = cells(5)
    expected = [cell.tolist() for cell in encoder.encode(adata)]
    named = adata.copy()
    named.var_names = [f"{ENSEMBL[gene]}.7" for gene in GENES]
    assert [cell.tolist() for cell in encoder.encode(named)] == expected, "a version is left out"
    column = adata.copy()
    column.var["ensembl_id"] = [ENSEMBL[gene] for gene in GENES]
    column.var_names = [f"x{i}" for i in range(30)]
    assert [cell.tolist() for cell in encoder.encode(column)] == expected


def test_columns_of_one_id_are_added_up(geneformer_tables):
    encoder = RankValueEncoder.from_folders([geneformer_tables], 64)
    counts = np.array([[3, 4, 5]], dtype=np.float32)
    adata = ad.AnnData(counts, var=pd.DataFrame({"ensembl_id": [ENSEMBL["GENE0"]] * 2 + [ENSEMBL["GENE7"]]}))
    # Both medians are 1: 3 + 4 is more than 5.
    assert encoder.encode(adata)[0].tolist() == [2, 4, 11, 3]


def test_first_series_has_no_special_tokens(geneformer_tables):
    path = geneformer_tables / "token_dictionary_gc104M.pkl"
    tokens = {
        key: value for key, value in pickle.loads(path.read_bytes()).items() if key not in ("<cls>", "<eos>")
    }
    path.with_suffix(".json").write_text(json.dumps(tokens))
    encoder = RankValueEncoder.from_folders([geneformer_tables], 6)
    assert not encoder.special
    assert all(len(cell) == 6 and cell.min() >= 4 for cell in encoder.encode(cells(3)))


@pytest.mark.parametrize("layer", [-1, 0])
def test_vectors_are_means_over_genes_whatever_the_batch(geneformer_tables, geneformer_model, layer):
    import torch
    from transformers import AutoModel

    adata = cells(9)
    adata.X[0, 6:] = 0  # a short cell among longer ones
    options = {"model": geneformer_model, "tables": geneformer_tables, "layer": layer, "device": "cpu"}
    got = GENEFORMER.fitted(**options, batch_size=4)(adata)
    network = AutoModel.from_pretrained(geneformer_model).eval()
    encoder = RankValueEncoder.from_folders([geneformer_tables], 24)
    for row, cell in enumerate(encoder.encode(adata)):
        with torch.no_grad():
            states = network(torch.from_numpy(cell)[None], output_hidden_states=True).hidden_states
        assert got[row] == pytest.approx(states[3 + layer][0, 1:-1].mean(0).numpy(), rel=1e-4, abs=1e-5)
    assert GENEFORMER.fitted(**options, batch_size=1)(adata) == pytest.approx(got, rel=1e-4, abs=1e-5)


def test_sentences_reach_it_through_the_inverse(geneformer_tables):
    train = cells()
    inverse = c2s.RankExpressionModel.fit(train)
    made = inverse.invert(["GENE9 GENE1 GENE0", "GENE1 unknown GENE1"], GENES)
    encoder = RankValueEncoder.from_folders([geneformer_tables], 64)
    first, second = encoder.encode(made)
    linear = np.expm1(inverse.predict([1, 2, 3]))
    over_median = {13: linear[0] / 3, 5: linear[1] / 2, 4: linear[2] / 1}
    assert first.tolist() == [2, *sorted(over_median, key=lambda t: -over_median[t]), 3]
    assert second.tolist() == [2, 5, 3]


def test_what_is_missing_is_named(geneformer_tables, geneformer_model, tmp_path):
    with pytest.raises(ConfigError, match=r"no model.*Fix: pass model='FOLDER'"):
        GENEFORMER.fitted()
    with pytest.raises(ModelError, match=r"no config\.json.*hf download ctheodoris/Geneformer"):
        GENEFORMER.fitted(model=tmp_path)
    with pytest.raises(ModelError, match=r"no token dictionary .*Fix: copy it from the model's own package"):
        GENEFORMER.fitted(model=geneformer_model)
    with pytest.raises(ConfigError, match="layer=-4 of a model of 3"):
        GENEFORMER.fitted(model=geneformer_model, tables=geneformer_tables, layer=-4)
    (geneformer_model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot be read as a model of Geneformer.*safetensors"):
        GENEFORMER.fitted(model=geneformer_model, tables=geneformer_tables)


def test_cells_it_cannot_read_are_named(geneformer_tables):
    encoder = RankValueEncoder.from_folders([geneformer_tables], 64)
    with pytest.raises(GeneError, match=r"none of the 2 genes is known.*ensembl_id"):
        encoder.encode(cells(3, genes=["X", "Y"]))
    adata = cells(3)
    adata.X = sp.csr_matrix(adata.X.toarray() * np.array([[1], [0], [1]], dtype=np.float32))
    with pytest.raises(MatrixError, match=r"'cell1' has no gene that Geneformer knows"):
        encoder.encode(adata)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_a_pickle_is_read_for_its_table_only(tmp_path):
    path = tmp_path / "t.pkl"
    path.write_bytes(pickle.dumps({"a": np.float64(1.5), "b": 2}))
    assert read_table(path) == {"a": 1.5, "b": 2}
    path.write_bytes(pickle.dumps({"a": Evil(tmp_path / "made")}))
    with pytest.raises(InputFileError, match=r"names (posix|nt)\.mkdir"):
        read_table(path)
    assert not (tmp_path / "made").exists()
    for content in (b"", b"junk", pickle.dumps([1]), pickle.dumps({1: 2}), pickle.dumps({})):
        path.write_bytes(content)
        with pytest.raises(InputFileError, match=r"Fix: give"):
            read_table(path)
