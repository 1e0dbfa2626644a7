"""The adapter of scVI: against the package where it is installed, else against a stand-in with its calls."""

from __future__ import annotations

import random
import sys
import types

import numpy as np
import pytest

from c2s.embedders.scvi import SCVI
from c2s.errors import MatrixError, ModelError, ObsError

from .conftest import GENES, cells


@pytest.fixture
def scvi(monkeypatch):
    """A package ``scvi`` that seeds the global generators, as the real one does, and projects at random."""
    calls = {}

    class Settings:
        def __init__(self):
            self._seed = None

        @property
        def seed(self):
            return self._seed

        @seed.setter
        def seed(self, seed):
            self._seed = seed
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002

    class Model:
        @classmethod
        def setup_anndata(cls, adata, layer=None, batch_key=None):
            calls["setup"] = (list(adata.var_names), batch_key, adata.X.copy())

        def __init__(self, adata, n_latent):
            self.n_latent = n_latent

        def train(self, max_epochs=None, enable_progress_bar=True):
            calls["train"] = max_epochs
            self.weights = np.random.rand(30, self.n_latent)  # noqa: NPY002

        def get_latent_representation(self, adata, give_mean):
            assert give_mean
            calls["new"] = (list(adata.var_names), list(adata.obs.columns))
            return adata.X @ self.weights

    package = types.ModuleType("scvi")
    package.settings, package.model = Settings(), types.SimpleNamespace(SCVI=Model)
    monkeypatch.setitem(sys.modules, "scvi", package)
    return calls


def test_it_is_trained_on_counts_and_touches_no_global_generator(scvi):
    pytest.importorskip("torch")
    train, test = cells(), cells(10, seed=1)
    python, numpy = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    transform = SCVI.fitted(train, seed=3, n_latent=4, max_epochs=2, batch="batch")
    assert random.getstate() == python and np.random.get_state()[1].tolist() == numpy  # noqa: NPY002
    genes, batch, counts = scvi["setup"]
    assert genes == GENES and batch == "batch" and scvi["train"] == 2
    assert (counts != train.layers["counts"]).nnz == 0
    got = transform(test[:, GENES[::-1]])
    assert scvi["new"] == (GENES, ["batch"]) and got.shape == (10, 4)
    assert SCVI.fitted(train, seed=3, n_latent=4)(test) == pytest.approx(got)
    assert not np.allclose(SCVI.fitted(train, seed=4, n_latent=4)(test), got)


def test_counts_may_be_the_matrix_itself(scvi):
    pytest.importorskip("torch")
    adata = cells(counts=True)
    del adata.layers["counts"]
    assert SCVI.fitted(adata)(adata).shape == (40, 10)


def test_what_is_missing_is_named(scvi, monkeypatch):
    pytest.importorskip("torch")
    adata = cells()
    with pytest.raises(ObsError, match=r"no column 'donor'"):
        SCVI.fitted(adata, batch="donor")
    transform = SCVI.fitted(adata, batch="batch")
    new = cells(4)
    new.obs["batch"] = "b9"
    with pytest.raises(ObsError, match=r"'batch' holds 'b9', which no training cell has"):
        transform(new)
    del adata.layers["counts"]
    with pytest.raises(MatrixError, match=r"these are none.*layers\['counts'\]"):
        SCVI.fitted(adata)
    monkeypatch.setitem(sys.modules, "scvi", None)
    with pytest.raises(ModelError, match=r"scvi-tools is not installed.*Fix: pip install 'c2s\[scvi\]'"):
        SCVI.fitted(adata)
