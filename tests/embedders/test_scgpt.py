"""scGPT's input on a made-up vocabulary; its network is a stand-in with the package's names and signatures."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

import c2s
from c2s.embedders.scgpt import SCGPT, BinnedEncoder, expression_bins
from c2s.errors import ConfigError, GeneError, InputFileError, MatrixError, ModelError

from .conftest import GENES, cells

SETTINGS = {
    "embsize": 8, "nheads": 2, "d_hid": 8, "nlayers": 1, "n_layers_cls": 3, "dropout": 0.0,
    "pad_token": "<pad>", "pad_value": -2, "n_bins": 51,
}  # fmt: skip
VOCABULARY = {gene: i for i, gene in enumerate(GENES[:25])} | {"<pad>": 25, "<cls>": 26, "<eoc>": 27}


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A folder as scGPT's authors publish it, and a package ``scgpt`` with what the adapter imports of it."""
    torch = pytest.importorskip("torch")

    class TransformerModel(torch.nn.Module):
        """Sums embeddings of genes and values: padding that is not masked would show."""

        def __init__(self, ntoken, d_model, nhead, d_hid, nlayers, nlayers_cls, n_cls, vocab, dropout, **options):
            super().__init__()
            assert options["pad_token"] == "<pad>" and options["use_fast_transformer"] is False
            self.genes = torch.nn.Embedding(ntoken, d_model)
            self.values = torch.nn.Linear(1, d_model)

        def _encode(self, src, values, src_key_padding_mask, batch_labels=None):
            hidden = self.genes(src) + self.values(values[..., None]).tanh()
            hidden = hidden.masked_fill(src_key_padding_mask[..., None], 0)
            return hidden.sum(1, keepdim=True) + hidden

    def load_pretrained(model, weights, verbose=True):
        model.load_state_dict(weights)
        return model

    package = types.ModuleType("scgpt")
    package.__path__ = []
    model, tools = types.ModuleType("scgpt.model"), types.ModuleType("scgpt.utils")
    model.TransformerModel, tools.load_pretrained = TransformerModel, load_pretrained
    for module in (package, model, tools):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    folder = tmp_path / "scGPT_human"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
    (folder / "args.json").write_text(json.dumps(SETTINGS))
    torch.manual_seed(0)
    torch.save(TransformerModel(28, 8, 2, 8, 1, 3, 1, VOCABULARY, 0.0, pad_token="<pad>",
                                use_fast_transformer=False).state_dict(), folder / "best_model.pt")  # fmt: skip
    return folder


def test_bins_are_quantiles_of_the_cell():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 501))
    bins = expression_bins(values, 51, np.random.default_rng(1))
    edges = np.quantile(values, np.linspace(0, 1, 50))
    expected = [int((edges <= value).sum()) for value in values]
    shared = np.isin(values, edges)
    assert bins[~shared].tolist() == np.array(expected)[~shared].tolist()
    assert bins.min() == 1 and bins.max() <= 50
    assert (np.diff(bins[np.argsort(values)]) >= 0).all()
    # Most genes of a cell have one count: their bins are spread over the quantiles they share.
    spread = expression_bins(np.array([1.0] * 400 + [2.0] * 100), 51, np.random.default_rng(1))
    assert set(spread[:400]) == set(range(1, 41)) and spread[400:].min() > 40
    assert set(expression_bins(np.ones(1), 51, np.random.default_rng(0))) <= set(range(1, 51))


def test_cells_are_known_genes_and_bins_with_cls_first():
    adata = cells(6)
    got = BinnedEncoder(VOCABULARY).encode(adata)
    for row, (tokens, values) in zip(adata.X.toarray(), got):
        assert tokens[0] == 26 and values[0] == -2
        assert tokens[1:].tolist() == [i for i in range(25) if row[i] > 0]
        there = row[:25][row[:25] > 0]
        assert (
            np.sign(np.subtract.outer(there, there)) * np.sign(np.subtract.outer(values[1:], values[1:])) >= 0
        ).all()


def test_input_depends_on_the_cell_and_the_seed_alone():
    adata = cells(8)
    encoder = BinnedEncoder(VOCABULARY, longest=6)
    whole = encoder.encode(adata)
    assert all(len(tokens) == 6 for tokens, _ in whole)
    alone = encoder.encode(adata[5:6].copy())[0]
    assert (alone[0] == whole[5][0]).all() and (alone[1] == whole[5][1]).all()
    other = BinnedEncoder(VOCABULARY, longest=6, seed=1).encode(adata)
    assert any(mine[0].tolist() != theirs[0].tolist() for mine, theirs in zip(whole, other))
    unique = np.arange(1, 26, dtype=np.float32) + np.zeros((1, 1), dtype=np.float32)
    counts = cells(1, genes=GENES[:25])
    counts.X = unique
    log = counts.copy()
    log.X = np.log1p(unique)
    full = BinnedEncoder(VOCABULARY)
    assert full.encode(counts)[0][0].tolist() == full.encode(log)[0][0].tolist()


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(checkpoint):
    adata = cells(9)
    adata.X[0, 4:] = 0
    got = SCGPT.fitted(model=checkpoint, batch_size=4, device="cpu")(adata)
    assert got.shape == (9, 8)
    assert np.linalg.norm(got, axis=1) == pytest.approx(1, rel=1e-5)
    assert SCGPT.fitted(model=checkpoint, batch_size=1, device="cpu")(adata) == pytest.approx(
        got, rel=1e-4, abs=1e-6
    )
    inverse = c2s.RankExpressionModel.fit(cells())
    made = SCGPT.fitted(model=checkpoint, device="cpu")(inverse.invert(["GENE3 GENE1", "GENE3"], GENES))
    assert made.shape == (2, 8) and not np.allclose(made[0], made[1])


def test_special_tokens_that_the_vocabulary_lacks_are_added(checkpoint):
    import torch

    vocabulary = {gene: i for i, gene in enumerate(GENES[:25])}
    (checkpoint / "vocab.json").write_text(json.dumps(vocabulary))
    before = torch.get_rng_state()
    assert SCGPT.fitted(model=checkpoint, device="cpu")(cells(2)).shape == (2, 8)
    assert before.shape == torch.get_rng_state().shape


def test_what_is_missing_is_named(checkpoint, monkeypatch):
    with pytest.raises(ConfigError, match=r"no model.*Fix: pass model='FOLDER'"):
        SCGPT.fitted()
    (checkpoint / "args.json").write_text(json.dumps({"embsize": 8}))
    with pytest.raises(InputFileError, match=r"args\.json lacks nheads, d_hid"):
        SCGPT.fitted(model=checkpoint)
    (checkpoint / "args.json").write_text(json.dumps(SETTINGS))
    (checkpoint / "best_model.pt").write_bytes(b"junk")
    with pytest.raises(ModelError, match=r"cannot be read as tensors.*Fix: download the checkpoint again"):
        SCGPT.fitted(model=checkpoint)
    for name in ("scgpt", "scgpt.model", "scgpt.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"scgpt cannot be imported.*Fix: pip install scgpt"):
        SCGPT.fitted(model=checkpoint)
    (checkpoint / "best_model.pt").unlink()
    with pytest.raises(ModelError, match=r"has no best_model\.pt.*bowang-lab/scGPT"):
        SCGPT.fitted(model=checkpoint)


def test_cells_it_cannot_read_are_named():
    encoder = BinnedEncoder(VOCABULARY)
    with pytest.raises(GeneError, match=r"none of the 2 genes is in the vocabulary of scGPT"):
        encoder.encode(cells(3, genes=["X", "Y"]))
    adata = cells(2)
    adata.X[1] = 0
    with pytest.raises(MatrixError, match=r"'cell1' has no gene that scGPT knows"):
        encoder.encode(adata)
