"""Embeddings that are fitted on expression: variable genes, and their principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from c2s.embedders.matrices import check_cells, columns_of
from c2s.errors import ConfigError, MatrixError
from c2s.tasks import Embedder, Transform

if TYPE_CHECKING:
    from anndata import AnnData


def variable_genes(train: AnnData, n_genes: int) -> list[str]:
    """Return the most variable genes of the cells, in the order of ``var`` (scanpy's, for log1p values).

    Raises
    ------
    MatrixError
        There are fewer than two cells, or no gene varies.
    ConfigError
        `n_genes` is not positive.
    """
    import scanpy as sc
    from anndata import AnnData

    if n_genes < 1:
        raise ConfigError("variable genes", [f"n_genes={n_genes} is below 1"], fix="2000 is usual.")
    check_cells(train)
    if train.n_obs < 2:
        raise MatrixError("one cell has no variable genes.", fix="fit on two training cells or more.")
    columns = sp.csc_matrix(train.X)
    varying = (columns.max(axis=0) - columns.min(axis=0)).toarray().ravel() > 0
    names = train.var_names[varying]
    if not len(names):
        raise MatrixError("no gene varies among the training cells.", fix="fit on more cells.")
    if len(names) <= n_genes:
        return [str(name) for name in names]
    # A matrix of its own: the training cells are left as they are.
    cells = AnnData(columns[:, varying].tocsr(), var=pd.DataFrame(index=names))
    found = sc.pp.highly_variable_genes(cells, n_top_genes=n_genes, inplace=False)
    return [str(name) for name, chosen in zip(names, found["highly_variable"], strict=True) if chosen]


def _fit_hvg(train: AnnData, *, seed: int = 0, n_genes: int = 2000, centred: bool = False) -> Transform:
    genes = variable_genes(train, n_genes)
    mean = np.asarray(columns_of(train, genes).mean(axis=0), dtype=np.float32) if centred else np.float32(0)

    def transform(adata: AnnData) -> npt.NDArray[np.float32]:
        check_cells(adata)
        return np.asarray(columns_of(adata, genes).toarray() - mean, dtype=np.float32)

    return transform


def _fit_pca(train: AnnData, *, seed: int = 0, n_components: int = 50, n_genes: int = 2000) -> Transform:
    from sklearn.decomposition import PCA as SklearnPCA

    if n_components < 1:
        raise ConfigError("embedder 'pca'", [f"n_components={n_components} is below 1"], fix="50 is usual.")
    genes = variable_genes(train, n_genes)
    n = min(n_components, train.n_obs, len(genes))
    model: Any = SklearnPCA(n, random_state=seed).fit(columns_of(train, genes).toarray())

    def transform(adata: AnnData) -> npt.NDArray[np.float32]:
        check_cells(adata)
        return np.asarray(model.transform(columns_of(adata, genes).toarray()), dtype=np.float32)

    return transform


HVG = Embedder(
    "hvg",
    _fit_hvg,
    summary="expression of the variable genes of the training cells; of a pseudo-bulk sample, their mean",
    needs_training=True,
    options=("n_genes", "centred"),
)
PCA = Embedder(
    "pca",
    _fit_pca,
    summary="principal components of the variable genes, fitted on the training cells",
    needs_training=True,
    options=("n_components", "n_genes"),
)
