"""A small task for training tests: 24 cells of two types, and a model of 20 thousand parameters."""

from __future__ import annotations

import datasets  # noqa: F401  before its first stream waits, see `_no_wait_for_reading_threads`
import numpy as np
import pyarrow as pa
import pytest

from c2s.models import LanguageModel, TinyConfig, load_model
from c2s.prompts import PromptTemplate
from c2s.tasks import example_table

GENES = [f"GENE{i}" for i in range(30)]
TEMPLATE = PromptTemplate("toy/1", "{n_genes} genes : {cell_sentence} . Type :", "{label}")
LABELS = ["T cell", "B"]


def make_examples(n: int = 24, *, seed: int = 0) -> pa.Table:
    """Half the cells begin with GENE0..4, half with GENE5..9; sentences have 6 to 14 genes."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(n):
        own = rng.permutation(5) + 5 * (i % 2)
        rest = 10 + rng.choice(20, size=rng.integers(3, 12), replace=False)
        record = {
            "example_id": f"cell-{seed}-{i}",
            "cell_sentence": " ".join(GENES[g] for g in [*own[:3], *rest]),
            "label": LABELS[i % 2],
            "template": TEMPLATE.name,
            "cell_ids": [f"cell-{seed}-{i}"],
        }
        record |= {"prompt": TEMPLATE.render(record), "answer": TEMPLATE.render_answer(record)}
        records.append(record)
    return example_table(records)


def make_model(architecture: str = "gpt_neox", **options: object) -> LanguageModel:
    config = TinyConfig.of(
        **{"architecture": architecture, "layers": 1, "hidden_size": 32, "heads": 2, "context_length": 64}
        | options
    )
    corpus = ["genes : . Type : T cell", "B", " ".join(GENES)]
    return load_model("tiny", corpus=corpus, config=config, device="cpu")


@pytest.fixture
def examples() -> pa.Table:
    return make_examples()


@pytest.fixture
def model() -> LanguageModel:
    return make_model()
