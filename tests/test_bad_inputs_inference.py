"""Bad input to generation gets the error class that names the mistake, and a message that ends with the fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from bad_inputs import Case

import c2s
from c2s import errors as e
from c2s.inference import Genes, Labels, generate
from c2s.models import LanguageModel, TinyConfig

GENES = ["CD4", "CD40", "CD8A", "MS4A1", "NKG7"]
PROMPT = "The cell is:"


def _model(**changes: Any) -> LanguageModel:
    model = c2s.load_model(
        "tiny", corpus=[PROMPT, *GENES], device="cpu", config=TinyConfig(layers=1, hidden_size=16, heads=2)
    )
    for name, value in changes.items():
        setattr(model, name, value)
    return model


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return _model()


def _without_bytes(model: LanguageModel, words: list[str], *, boundaries: bool) -> LanguageModel:
    """The model with a tokenizer that knows some words only, or one that drops the spaces between words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if boundaries:
        backend = Tokenizer(
            models.WordLevel({w: i for i, w in enumerate(["<eos>", "<unk>", *words])}, unk_token="<unk>")
        )
    else:
        letters = sorted({letter for word in words for letter in word})
        backend = Tokenizer(
            models.BPE({w: i for i, w in enumerate(["<eos>", "<unk>", *letters])}, [], unk_token="<unk>")
        )
    backend.decoder = decoders.Fuse()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    result = copy.copy(model)
    result.tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")
    return result


CASES = [
    Case("empty vocabulary", e.ConfigError, "the vocabulary is empty", "Genes", lambda m, d: Genes([])),
    Case("vocabulary as one text", e.ConfigError, "is one text", "pass a list", lambda m, d: Genes("CD4 CD8A")),
    Case(
        "gene with whitespace",
        e.GeneError,
        "entry 1 of the gene vocabulary is 'CD8 A'",
        "whitespace",
        lambda m, d: Genes(["CD4", "CD8 A"]),
    ),
    Case("gene that is no text", e.GeneError, "is None", "leave it out", lambda m, d: Genes(["CD4", None])),  # type: ignore[list-item]
    Case("gene twice", e.GeneError, "'CD4' is twice", "dict.fromkeys", lambda m, d: Genes(["CD4", "CD8A", "CD4"])),
    Case(
        "both numbers, one of them zero",
        e.ConfigError,
        "at_most is 0, not at least 1; n and at_most are both given",
        "n=200",
        lambda m, d: Genes(GENES, n=2, at_most=0),
    ),
    Case("no labels", e.ConfigError, "there is no label", "not empty", lambda m, d: Labels([])),
    Case(
        "label twice", e.ConfigError, "'T' is given more than once", "different", lambda m, d: Labels(["T", "T"])
    ),
    Case("empty label", e.ConfigError, "label 1 is ' '", "not empty", lambda m, d: Labels(["T", " "])),
    Case(
        "tokenizer that cannot spell a gene",
        e.GeneError,
        "cannot spell the gene 'NKG7'",
        "byte fallback",
        lambda m, d: generate(
            _without_bytes(m, [*PROMPT.split(), *GENES[:4]], boundaries=True), [PROMPT], constraint=Genes(GENES)
        ),
    ),
    Case(
        "tokenizer that runs genes together",
        e.GeneError,
        "does not show where 'CD4' ends",
        "space before a word",
        lambda m, d: generate(
            _without_bytes(m, [*PROMPT.split(), *GENES, "0"], boundaries=False),
            [PROMPT],
            constraint=Genes(["CD4", "CD4C"]),
        ),
    ),
    Case(
        "genes that do not fit the context",
        e.ContextError,
        "has room for 2",
        "fewer genes",
        lambda m, d: generate(_model(context_length=6), [PROMPT], constraint=Genes(GENES, n=5)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_mistake_is_named_and_mended(case: Case, model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(case.error) as caught:
        case.do(model, tmp_path)
    assert type(caught.value) is case.error
    assert re.search(re.escape(case.says), str(caught.value)), str(caught.value)
    assert case.fix in caught.value.fix
    assert not [path for path in tmp_path.iterdir() if path.name != "a.jsonl"]


def test_a_label_that_begins_another_is_no_mistake(model: LanguageModel) -> None:
    labels = ["T", "T cell", "T cell, CD4"]
    assert generate(model, [PROMPT], constraint=Labels(labels))[0] in labels
