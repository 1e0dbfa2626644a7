"""Bad files, matrices, genes and sentences get the error class that names the kind of mistake, and a fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from bad_inputs import Case, cells, check_case, cli, h5ad, write

import c2s
from c2s import errors as e

CASES = [
    # --- files
    Case(
        "unknown format",
        e.InputFileError,
        r"a\.doc is not an .h5ad file",
        r"convert it to one of \.h5ad",
        lambda d, m: c2s.read_cells(write(d, "a.doc", "x")),
    ),
    Case(
        "folder that is no zarr",
        e.InputFileError,
        "not a zarr store",
        r"name a file of cells|\.h5ad, \.zarr",
        lambda d, m: c2s.read_cells(d),
    ),
    Case(
        "missing layer",
        e.MatrixError,
        "no layer 'counts'; it has none",
        "leave layer out",
        lambda d, m: c2s.read_cells(h5ad(d, cells()), layer="counts"),
    ),
    # --- the matrix
    Case(
        "text for numbers",
        e.MatrixError,
        "not numbers",
        "astype",
        lambda d, m: c2s.to_cell_sentences(ad.AnnData(np.array([["a"]]), var=pd.DataFrame(index=["A"]))),
    ),
    # --- sentences
    Case(
        "inverting an unknown file",
        e.InputFileError,
        "no file",
        "c2s transform",
        lambda d, m: cli("invert", d / "no.parquet", d / "o.h5ad"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_error_names_the_thing_and_the_fix_and_leaves_nothing_behind(case, tmp_path):
    check_case(case, tmp_path)
