"""A small corpus of everything, built once."""

from __future__ import annotations

import anndata as ad
import pyarrow.parquet as pq
import pytest
from small_corpora import Everything, everything_spec

from c2s.corpus import build_corpus, open_corpus


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    folder = tmp_path_factory.mktemp("everything")
    spec = everything_spec(folder)
    build_corpus(spec, folder / "corpus", show_progress=False)
    corpus = open_corpus(folder / "corpus")
    rows = [
        {**row, "part": part}
        for part in corpus.parts
        for f in corpus.files(part)
        for row in pq.read_table(f).to_pylist()
    ]
    cells = {name: ad.read_h5ad(folder / f"{name}.h5ad") for name in "ab"}
    return Everything(corpus, spec, cells, rows, folder)
