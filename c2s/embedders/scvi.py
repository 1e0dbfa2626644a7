"""scVI: the latent space of a variational autoencoder of counts (Lopez et al. 2018), by scvi-tools."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from c2s.embedders.expression import variable_genes
from c2s.embedders.matrices import check_cells, columns_of
from c2s.errors import MatrixError, ModelError, ObsError
from c2s.sentences.matrix_kind import matrix_kind
from c2s.tasks import Embedder, Transform

if TYPE_CHECKING:
    from anndata import AnnData


def _fit(
    train: AnnData,
    *,
    seed: int = 0,
    layer: str | None = "counts",
    batch: str | None = None,
    n_latent: int = 10,
    n_genes: int = 2000,
    max_epochs: int | None = None,
) -> Transform:
    check_cells(train)
    genes = variable_genes(train, n_genes)
    with _scvi(seed) as scvi:
        cells = _counts(train, genes, layer, batch)
        scvi.model.SCVI.setup_anndata(cells, batch_key=batch)
        model = scvi.model.SCVI(cells, n_latent=n_latent)
        model.train(max_epochs=max_epochs, enable_progress_bar=False)
    batches = None if batch is None else set(cells.obs[batch])

    def transform(adata: AnnData) -> npt.NDArray[np.float32]:
        check_cells(adata)
        new = _counts(adata, genes, layer, batch)
        if batches is not None and (unknown := sorted(set(map(str, set(new.obs[batch]) - batches)))):
            raise ObsError(
                f"{batch!r} holds {unknown[0]!r}, which no training cell has.",
                fix="train on cells of every batch, or without batch=.",
            )
        # The mean of the posterior: nothing is drawn.
        return np.asarray(model.get_latent_representation(new, give_mean=True), dtype=np.float32)

    return transform


def _counts(adata: AnnData, genes: list[str], layer: str | None, batch: str | None) -> AnnData:
    """Return the counts of the genes, with nothing else but the batch."""
    from anndata import AnnData

    if batch is not None and batch not in adata.obs:
        raise ObsError(f"the cells have no column {batch!r}.", fix="name a column of obs that holds the batch.")
    used = layer if layer in adata.layers else None
    if matrix_kind(adata, used).name != "counts":
        raise MatrixError(
            "scVI models counts, and these are none.",
            fix="keep them, e.g. in adata.layers['counts'], and pass the layer's name as layer=.",
        )
    source = AnnData(adata.layers[used] if used else adata.X, var=pd.DataFrame(index=adata.var_names))
    obs = pd.DataFrame(index=adata.obs_names) if batch is None else adata.obs[[batch]].copy()
    return AnnData(sp.csr_matrix(columns_of(source, genes)), obs=obs, var=pd.DataFrame(index=genes))


@contextmanager
def _scvi(seed: int) -> Iterator[Any]:
    """Yield scvi-tools, seeded; it knows global generators only, which are put back as they were.

    Its import draws from them too.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        try:
            import scvi
        except ImportError as error:
            raise ModelError("the package scvi-tools is not installed.", fix="pip install 'c2s[scvi]'") from error
        import torch

        with torch.random.fork_rng():
            before = scvi.settings.seed
            scvi.settings.seed = seed
            try:
                yield scvi
            finally:
                if before is not None:
                    scvi.settings.seed = before
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


SCVI = Embedder(
    "scvi",
    _fit,
    summary="latent space of scVI, trained on the counts of the training cells",
    needs_training=True,
    options=("layer", "batch", "n_latent", "n_genes", "max_epochs"),
    requires=("scvi-tools",),
    citation="Lopez et al., Nature Methods 15, 1053 (2018)",
)
