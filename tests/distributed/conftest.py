"""A small corpus of simulated cells, and clusters of Ray nodes on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from c2s.corpus import CorpusSpec, build_corpus, make_spec
from c2s.data.simulate import write_atlas

pytest.importorskip("ray", reason="the extra c2s[ray] is not installed")

STORE = 100_000_000


@pytest.fixture(scope="session")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_atlas(tmp_path_factory.mktemp("cells") / "atlas.h5ad", 240, seed=3)


@pytest.fixture(scope="session")
def spec(atlas: Path) -> CorpusSpec:
    """A dozen units or two, so that a node can be lost in the middle."""
    return make_spec(
        datasets=[{"name": "atlas", "path": str(atlas)}],
        tasks={"cell-type-annotation": 1, "conditional-cell-generation": 1, "tissue-annotation": 1},
        genes=(5, 20),
        cells=(2, 3),
        shard_rows=32,
    )


@pytest.fixture(scope="session")
def undisturbed(spec: CorpusSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checksum of every file of the corpus that one process built."""
    out = tmp_path_factory.mktemp("corpus") / "one"
    build_corpus(spec, out, show_progress=False)
    return contents(out)


def contents(folder: Path) -> dict[str, str]:
    """Return the checksum of every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """A head that does no work beside two nodes with one processor each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False},
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        yield cluster
    finally:
        cluster.shutdown()
