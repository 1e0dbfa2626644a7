"""A checksum of cells that come from no file."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData


def cells_checksum(adata: AnnData) -> str:
    """Return the sha256 of cells: their ids, genes, values and columns of ``obs``, in their order.

    Parameters
    ----------
    adata
        Cells x genes. Whether ``X`` is dense or sparse, or a column is categorical, makes no difference.

    Returns
    -------
    str
        64 hexadecimal digits, the same on every machine.
    """
    values: Any = adata.X
    matrix = sp.csr_matrix(values, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    digest = hashlib.sha256()
    for names in (adata.obs_names, adata.var_names, adata.obs.columns):
        digest.update("\0".join([*map(str, names), "\n"]).encode())
    for array, kind in ((matrix.indptr, "<i8"), (matrix.indices, "<i8"), (matrix.data, "<f4")):
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    for column in adata.obs:
        digest.update(_column(adata.obs[column]).astype("<u8").tobytes())
    return digest.hexdigest()


def _column(column: pd.Series) -> Any:
    """Return a number for each value of a column of ``obs``."""
    try:
        return pd.util.hash_pandas_object(column, index=False).to_numpy()
    except TypeError:  # a column of lists, say
        return pd.util.hash_pandas_object(column.astype(str), index=False).to_numpy()
