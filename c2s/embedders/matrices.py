"""Expression as embedders read it: the same genes in the same order, and without its logarithm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.errors import GeneError, MatrixError
from c2s.sentences.matrix import undo
from c2s.sentences.matrix_kind import matrix_kind

if TYPE_CHECKING:
    from anndata import AnnData


def check_cells(adata: AnnData) -> None:
    """Refuse cells that no embedder can read.

    Raises
    ------
    MatrixError
        There is no cell or gene, or a value is NaN, infinite or negative.
    GeneError
        A gene is there twice.
    """
    if not adata.n_obs or not adata.n_vars:
        raise MatrixError(f"{adata.n_obs} cells and {adata.n_vars} genes.", fix="give at least one of each.")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise GeneError(f"the gene {twice!r} is there twice.", fix="adata.var_names_make_unique(), or sum them.")
    matrix: Any = adata.X
    values = np.asarray(matrix.data) if hasattr(matrix, "tocsr") else np.asarray(matrix)
    if not np.isfinite(values).all() or (values < 0).any():
        raise MatrixError(
            "the expression holds NaN, infinity or negative values.",
            fix="give counts or log1p values (c2s.read_cells), not scaled ones.",
        )


def columns_of(adata: AnnData, genes: Sequence[str]) -> sp.csr_matrix:
    """Return expression ``[cells, genes]``, float32 CSR, of the genes named, in that order.

    Raises
    ------
    GeneError
        Genes are missing; they are counted, and the first is named.
    """
    place = pd.Index(adata.var_names).get_indexer(pd.Index(genes))
    missing = [gene for gene, at in zip(genes, place, strict=True) if at < 0]
    if missing:
        raise GeneError(
            f"{len(missing)} of the {len(genes)} genes of the embedding are not among the cells' genes, first "
            f"{missing[0]!r}.",
            fix="give cells with the genes the embedder was fitted on; 0 where a gene was not seen.",
        )
    return sp.csr_matrix(sp.csc_matrix(adata.X)[:, place], dtype=np.float32)


def linear_expression(adata: AnnData) -> sp.csr_matrix:
    """Return expression before the logarithm, float64 CSR ``[cells, genes]``, up to a factor per cell.

    Counts stay as they are; log1p values get their logarithm undone. Cells that come from the inverse of the
    sentence transform say which they are, others are recognised by `c2s.data.matrix_kind`.
    """
    matrix = sp.csr_matrix(adata.X, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    inverse = adata.uns.get("c2s", {}).get("inverse", {}).get("model")
    kind = json.loads(inverse)["expression"] if inverse else matrix_kind(adata).name
    matrix.data = undo(matrix.data, kind)
    return matrix
