"""The type, the registry, and the embedders that need nothing but this project."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from sklearn.decomposition import PCA

import c2s
from c2s.embedders import embed_sentences
from c2s.errors import ConfigError, GeneError, MatrixError, PluginError
from c2s.metrics import scfid
from c2s.tasks import Embedder

from .conftest import GENES, cells


def get(name: str) -> Embedder:
    return c2s.default_host().embedders.get(name)


def test_all_are_registered_and_described():
    host = c2s.default_host()
    assert {"c2s", "hvg", "pca", "scvi", "scgpt", "geneformer"} <= set(host.embedders.names())
    for name in ("c2s", "hvg", "pca", "scvi", "scgpt", "geneformer"):
        embedder = host.embedders.get(name)
        assert embedder.name == name and embedder.summary and host.embedders.entry(name).summary


def test_listing_imports_no_embedder():
    import subprocess
    import sys

    code = (
        "import sys, c2s; c2s.default_host().embedders.names(); "
        "assert not {'torch', 'sklearn', 'c2s.embedders', 'scanpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pca_is_scikit_learns_on_the_variable_genes():
    train, test = cells(), cells(20, seed=1)
    transform = get("pca").fitted(train, n_components=3, n_genes=12)
    frame = train.copy()
    sc.pp.highly_variable_genes(frame, n_top_genes=12)
    genes = frame.var_names[frame.var["highly_variable"]]
    expected = PCA(3, random_state=0).fit(train[:, genes].X.toarray()).transform(test[:, genes].X.toarray())
    got = transform(test)
    assert got.shape == (20, 3) and got.dtype == np.float32
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-4)
    # It tells the two types apart.
    assert abs(np.corrcoef(got[:, 0], test.obs["cell_type"] == "A")[0, 1]) > 0.8


def test_variable_genes_are_expression_in_the_order_of_the_training_cells():
    train, test = cells(), cells(7, seed=2)
    got = get("hvg").fitted(train)(test)
    assert got == pytest.approx(test.X.toarray()), "fewer genes than asked for: all that vary"
    centred = get("hvg").fitted(train, centred=True)(train)
    assert np.abs(centred.mean(axis=0)).max() < 1e-4
    assert get("hvg").fitted(train, n_genes=4)(test).shape == (7, 4)


@pytest.mark.parametrize("name", ["pca", "hvg"])
def test_a_cell_s_vector_does_not_depend_on_its_neighbours_or_the_order_of_genes(name):
    train, test = cells(), cells(10, seed=3)
    before = train.X.copy(), list(train.var.columns)
    transform = get(name).fitted(train, n_genes=10)
    whole = transform(test)
    assert transform(test[::-1].copy())[::-1] == pytest.approx(whole, rel=1e-5, abs=1e-5)
    assert transform(test[4:5]) == pytest.approx(whole[4:5], rel=1e-5, abs=1e-5)
    assert transform(test[:, list(reversed(GENES))]) == pytest.approx(whole, rel=1e-5, abs=1e-5)
    assert (before[0] != train.X).nnz == 0 and list(train.var.columns) == before[1]
    assert get(name).fitted(train, n_genes=10)(test).tobytes() == whole.tobytes()


def test_genes_that_never_vary_are_left_out_and_missing_ones_named():
    train = cells()
    train.X[:, 7] = 3
    transform = get("hvg").fitted(train)
    assert transform(train).shape == (40, 29)
    with pytest.raises(GeneError, match=r"1 of the 29 genes .* first 'GENE3'.*Fix: give cells with the genes"):
        transform(train[:, [g for g in GENES if g != "GENE3"]])
    with pytest.raises(MatrixError, match="no gene varies"):
        get("pca").fitted(train[[0, 0]].copy())


def test_language_model_embeds_sentences_and_prompts():
    pytest.importorskip("torch")
    from c2s.inference import embed
    from c2s.models import load_model

    adata = cells(6)
    sentences = c2s.to_cell_sentences(adata, top_k=10).table["cell_sentence"].to_pylist()
    model = load_model("tiny", corpus=[*sentences, "Cell type of"], seed=0)
    transform = get("c2s").fitted(model=model, top_k=10)
    assert transform(adata) == pytest.approx(embed(model, sentences), rel=1e-5, abs=1e-5)
    prompted = get("c2s").fitted(model=model, top_k=10, prompt="Cell type of {cell_sentence}")(adata)
    expected = embed(model, [f"Cell type of {sentence}" for sentence in sentences])
    assert prompted == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert not np.allclose(prompted, transform(adata))


def test_sentences_are_embedded_by_way_of_the_inverse():
    train = cells()
    inverse = c2s.RankExpressionModel.fit(train)
    sentences = c2s.to_cell_sentences(train).table["cell_sentence"].to_pylist()
    transform = get("pca").fitted(train, n_components=2)
    made = embed_sentences(transform, sentences, inverse, GENES)
    assert made == pytest.approx(transform(inverse.invert(sentences, GENES)), rel=1e-5, abs=1e-5)
    assert np.corrcoef(made[:, 0], transform(train)[:, 0])[0, 1] > 0.9
    # And on to the metric of section 4.7.
    same, other = (
        scfid(train, inverse.invert(each, GENES), embedder=transform) for each in (sentences, sentences[:20])
    )
    assert 0 <= same < other


def test_what_is_wrong_with_the_call_is_said_at_once():
    with pytest.raises(
        ConfigError, match=r"unknown option 'n_component'; it learns from training cells.*Fix: its opt"
    ):
        get("pca").fitted(n_component=3)
    with pytest.raises(ConfigError, match=r"no model; the prompt 'x' holds no"):
        get("c2s").fitted(prompt="x")


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (np.zeros((3, 2)), r"returned the shape \(3, 2\) for 2 cells"),
        (np.zeros(2), r"returned the shape \(2,\)"),
        (np.array([[0.0], [np.nan]]), r"returned NaN or infinity for 1 cell\(s\), first cell 1"),
    ],
)
def test_an_embedder_that_returns_nonsense_is_named(vectors, says):
    broken = Embedder("broken", lambda train, *, seed: lambda adata: vectors)
    with pytest.raises(PluginError, match="'broken' " + says):
        broken.fitted()(cells(2))
