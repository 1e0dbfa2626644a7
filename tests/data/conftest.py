"""Counts in files of every layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import yaml
from loopback_site import Site

from c2s.data.simulate import CountModel, shipped_counts

WriteCells = Callable[..., Path]


@pytest.fixture
def counts() -> ad.AnnData:
    """Sixty cells of different depth x eighty genes, raw counts."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.3, 2.0, (60, 1))
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(depth * rng.gamma(1.0, 1.0, (1, 80))).astype(np.float32)))
    adata.var_names = [f"MT-{i}" if i < 4 else f"GENE{i}" for i in range(80)]
    adata.obs_names = [f"cell{i}" for i in range(60)]
    adata.obs["cell_type"] = ["a", "b", "c"] * 20
    return adata


@pytest.fixture
def write(tmp_path: Path) -> WriteCells:
    """Write an AnnData and return the path."""

    def to_file(adata: ad.AnnData, name: str = "cells.h5ad") -> Path:
        path = tmp_path / name
        adata.write_zarr(path) if path.suffix == ".zarr" else adata.write_h5ad(path)
        return path

    return to_file


#: What every manifest must say; tests change what they are about.
SOUND: dict[str, object] = {
    "title": "Some cells",
    "citation": "Somebody et al., Some cells, Some Journal 1:1 (2020).",
    "doi": "10.1000/some.cells",
    "licence": "CC BY 4.0",
    "homepage": "https://example.org/cells",
    "species": "Homo sapiens",
    "matrix": "raw",
    "loader": "h5ad",
    "files": [{"name": "cells.h5ad", "role": "cells", "urls": ["https://example.org/c"], "sha256": "0" * 64}],
}


@pytest.fixture
def manifest_file(tmp_path: Path) -> WriteCells:
    """Write a manifest that differs from a sound one in what is given, and return its path."""

    def to_file(name: str = "some_cells", **changes: object) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, **SOUND, **changes}, sort_keys=False), encoding="utf-8")
        return path

    return to_file


@pytest.fixture(scope="session")
def few_genes() -> CountModel:
    """The shipped counts of their 300 highest genes; those that the simulators switch are added by them."""
    model = shipped_counts()
    top = np.argsort(-model.fractions)[:300]
    return replace(
        model,
        genes=tuple(model.genes[i] for i in top),
        fractions=model.fractions[top],
        dispersions=model.dispersions[top],
    )


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    one = Site()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture(autouse=True)
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's store out of the tests; what is simulated is made once."""
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path_factory.getbasetemp() / "data_home"))
    monkeypatch.delenv("C2S_OFFLINE", raising=False)
