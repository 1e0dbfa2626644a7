"""Small models of several architectures, and their answers computed the plain way: one text, one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from c2s.models import LanguageModel, TinyConfig, load_model

GENES = [f"GENE{i}" for i in range(40)]
LABELS = ["B", "B cell", "T cell", "CD4 T cell", "CD4 T cell naive", "NK"]
QUESTION = ".\nThe cell type is:"


def make_prompts(n: int, seed: int = 0, lengths: tuple[int, int] = (1, 20)) -> list[str]:
    """Prompts of two templates and of different lengths."""
    rng = np.random.default_rng(seed)
    heads = ["Predict the type of this cell from its genes in order:\nCell sentence: ", "Which cell is this? "]
    return [heads[i % 2] + " ".join(rng.permutation(GENES)[: rng.integers(*lengths)]) + QUESTION for i in range(n)]


CORPUS = [*make_prompts(8), " ".join(GENES), *LABELS]


def tiny(architecture: str = "gpt_neox", **options: Any) -> LanguageModel:
    shape: dict[str, Any] = {"layers": 2, "hidden_size": 32, "heads": 2, "initializer_range": 0.15} | options
    return load_model("tiny", corpus=CORPUS, device="cpu", config=TinyConfig(architecture=architecture, **shape))


def with_network(config: Any, seed: int = 0) -> LanguageModel:
    """A model of any configuration with the tiny tokenizer."""
    from transformers import AutoModelForCausalLM

    base = tiny()
    config.vocab_size = len(base.tokenizer)
    config.eos_token_id, config.pad_token_id = base.tokenizer.eos_token_id, base.tokenizer.pad_token_id
    config.bos_token_id = None
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(config).eval()
    return LanguageModel(network, base.tokenizer, config.model_type, None, 512)


@pytest.fixture(scope="session")
def neox() -> LanguageModel:
    return tiny()


@pytest.fixture(scope="session")
def gemma() -> LanguageModel:
    return tiny("gemma2")


def tokens_of(model: LanguageModel, text: str) -> list[int]:
    return list(model.tokenizer(text)["input_ids"])


def plain_scores(model: LanguageModel, prompts: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Score each pair by one forward pass over its whole text; what all share is found by comparing tokens."""
    result = np.empty((len(prompts), len(labels)))
    end = model.tokenizer.eos_token_id
    for row, prompt in enumerate(prompts):
        texts = [[*tokens_of(model, f"{prompt} {label}"), end] for label in labels]
        shared = 0
        every = [tokens_of(model, prompt), *texts]
        while all(len(t) > shared and t[shared] == every[0][shared] for t in every):
            shared += 1
        for column, text in enumerate(texts):
            with torch.no_grad():
                log_probs = model.model(torch.tensor([text])).logits[0].double().log_softmax(-1)
            result[row, column] = sum(log_probs[i - 1, text[i]].item() for i in range(shared, len(text)))
    return result
