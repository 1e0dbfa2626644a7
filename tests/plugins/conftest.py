"""Fixtures for plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_kit import Distributions


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distributions]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    made = Distributions(folder)
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


#: A plugin that works: one metric.
GOOD = """
    from c2s import hookimpl, Metric

    def agree(predictions, references, **columns):
        return {"agreement": 1.0}

    AGREEMENT = Metric("agreement", agree)

    @hookimpl
    def c2s_register_metrics(register):
        register("agreement", "THIS:AGREEMENT", summary="always agrees")
"""


@pytest.fixture
def good() -> str:
    return GOOD
