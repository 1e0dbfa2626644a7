"""Counts in files of every layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import yaml

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


@dataclass(frozen=True)
class Step:
    """What the server does with one request.

    Attributes
    ----------
    content
        The file; with `ranges`, only what was asked for is sent.
    cut
        Close the connection after this many bytes.
    status, headers
        Answer this instead of the file, if the status is not 200.
    wait
        Seconds before the answer begins.
    stated
        Whether the length of the body is stated.
    """

    content: bytes = b""
    cut: int | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    wait: float = 0.0
    stated: bool = True


class Site:
    """A real HTTP server on loopback that follows a script, path by path; the last step is repeated."""

    def __init__(self) -> None:
        self.steps: dict[str, list[Step]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with site.lock:
                    asked = self.headers.get("Range")
                    site.requests.append((self.path, asked))
                    script = site.steps.get(self.path, [Step(status=404)])
                    step = script.pop(0) if len(script) > 1 else script[0]
                time.sleep(step.wait)
                self.close_connection = True
                if step.status != 200:
                    self.send_response(step.status)
                    for key, value in {"Content-Length": "0", **step.headers}.items():
                        self.send_header(key, value)
                    self.end_headers()
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and step.ranges else 0
                if start and start >= len(step.content):
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = step.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(step.content) - 1}/{len(step.content)}")
                if step.stated:
                    self.send_header("Content-Length", str(len(body)))
                for key, value in step.headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body if step.cut is None else body[: step.cut])

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def serve(self, path: str, *steps: Step | bytes) -> str:
        """Set what is done with the requests of a path; return its address."""
        self.steps[path] = [step if isinstance(step, Step) else Step(step) for step in steps]
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def asked(self, path: str) -> list[str | None]:
        """The ranges that were asked for, one per request."""
        return [asked for requested, asked in self.requests if requested == path]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    one = Site()
    yield one
    one.server.shutdown()
    one.server.server_close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's store out of the tests; what is simulated is made once."""
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path_factory.getbasetemp() / "data_home"))
    monkeypatch.delenv("C2S_OFFLINE", raising=False)
