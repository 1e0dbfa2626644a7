"""Fixtures for plugin authors, installed with ``c2s``.

Every run of pytest imports this module, so that it imports nothing heavy before a fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.models import LanguageModel
    from c2s.sentences import CellSentences


@pytest.fixture
def c2s_cells() -> AnnData:
    """Simulated cells, labelled as such: 120 cells of six donors, four types, two tissues, real gene symbols."""
    from c2s.testing.cells import simulated_cells

    return simulated_cells()


@pytest.fixture(scope="session")
def c2s_sentences() -> CellSentences:
    """Cell sentences of the simulated cells, 16 genes each."""
    from c2s.sentences import to_cell_sentences
    from c2s.testing.cells import simulated_cells

    return to_cell_sentences(simulated_cells(), top_k=16)


@pytest.fixture(scope="session")
def c2s_tiny_model(c2s_sentences: CellSentences) -> LanguageModel:
    """An untrained model, one layer of width 32, that knows the words of the simulated cells and their types."""
    from c2s.models import TinyConfig, load_model

    table = c2s_sentences.table
    corpus = [*table["cell_sentence"].to_pylist(), *sorted(set(table["cell_type"].to_pylist())), "cell type : ."]
    config = TinyConfig(layers=1, hidden_size=32, heads=2)
    return load_model("tiny", corpus=corpus, config=config, device="cpu", dtype="float32")
