"""Shapes for scaling studies: the number of parameters that was asked for, at every size and architecture."""

from __future__ import annotations

import pytest

from c2s.errors import ConfigError
from c2s.models import TinyConfig, load_model

CORPUS = [" ".join(f"GENE{i}" for i in range(500)), "Cell type: T cell"]


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2", "llama"])
@pytest.mark.parametrize("n", [50_000, 300_000, 10_000_000])
def test_a_size_is_met_and_the_count_is_that_of_the_real_model(architecture: str, n: int) -> None:
    vocabulary = 900
    config = TinyConfig.of_size(n, vocabulary=vocabulary, architecture=architecture, context_length=256)
    assert config.architecture == architecture
    assert config.context_length == 256
    assert abs(config.n_parameters(vocabulary) / n - 1) < (0.01 if n >= 200_000 else 0.1)
    if n < 1_000_000:
        model = load_model("tiny", corpus=CORPUS, config=config, device="cpu")
        assert model.n_parameters == config.n_parameters(len(model.tokenizer))


def test_larger_models_are_wider_and_deeper() -> None:
    configs = [TinyConfig.of_size(n, vocabulary=900) for n in (100_000, 1_000_000, 10_000_000)]
    assert sorted({c.layers for c in configs}) == [c.layers for c in configs]
    assert sorted({c.hidden_size for c in configs}) == [c.hidden_size for c in configs]
    assert all(c.tie_embeddings for c in configs)


def test_untied_embeddings_count_twice_so_the_rest_is_smaller() -> None:
    tied, untied = (TinyConfig.of_size(800_000, vocabulary=2000, tie_embeddings=t) for t in (True, False))
    assert untied.hidden_size < tied.hidden_size
    assert abs(untied.n_parameters(2000) / 800_000 - 1) < 0.01


@pytest.mark.parametrize(
    ("n", "options", "problem"),
    [
        (5_000, {}, "5,000 parameters cannot be met with 900 tokens"),
        (10**12, {}, "cannot be met"),
        (100_000, {"hidden_size": 32, "layers": 2}, "hidden_size, layers follow from the number"),
        (100_000, {"dropout": 2}, "dropout"),
    ],
)
def test_what_cannot_be_is_refused(n: int, options: dict, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        TinyConfig.of_size(n, vocabulary=900, **options)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"architecture": "llama", "heads": 4, "kv_heads": 3}, "must divide"),
        ({"architecture": "gpt_neox", "kv_heads": 2}, "gemma2 and llama only"),
        ({"architecture": "llama", "sliding_window": 8}, "gemma2 only"),
    ],
)
def test_options_of_another_architecture_are_refused(options: dict, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        TinyConfig.of(**options)
