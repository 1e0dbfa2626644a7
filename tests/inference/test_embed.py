from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
import torch

from c2s.errors import ConfigError, ContextError, PromptError
from c2s.inference import embed

from .conftest import GENES, make_prompts, tiny, tokens_of

embed_module = importlib.import_module("c2s.inference.embed")


def plain(model, text):
    with torch.no_grad():
        output = model.model(torch.tensor([tokens_of(model, text)]), output_hidden_states=True)
    return output.hidden_states[-1][0].mean(0).numpy()


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2", "llama"])
def test_the_mean_of_the_last_hidden_state_of_each_text_alone(architecture):
    model = tiny(architecture)
    texts = make_prompts(9)
    found = embed(model, texts)
    assert found.shape == (9, 32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [plain(model, t) for t in texts], rtol=1e-5, atol=1e-5)


def test_batch_size_order_and_neighbours_change_nothing(neox):
    texts = make_prompts(12)
    whole = embed(neox, texts)
    np.testing.assert_allclose(embed(neox, texts, tokens_per_batch=1), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(embed(neox, texts[::-1], tokens_per_batch=70), whole[::-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(embed(neox, texts[3:4]), whole[3:4], rtol=1e-5, atol=1e-5)


def test_padding_may_hold_anything(neox):
    model = copy.deepcopy(neox)

    def spoil(module, inputs, output):
        output.last_hidden_state[:, 2:] = float("nan")
        return output

    texts = ["GENE1", "GENE1 GENE2 GENE3"]
    hook = model.model.gpt_neox.register_forward_hook(spoil)
    found = embed(model, texts)
    hook.remove()
    # Only the short text is padded at its third place; the long one really is NaN there.
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_half_precision_gives_float32(neox):
    model = copy.deepcopy(neox)
    model.model.to(torch.bfloat16)
    texts = make_prompts(3)
    found = embed(model, texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, embed(neox, texts), atol=0.1)


def test_no_texts(neox):
    assert embed(neox, []).shape == (0, 32)


def test_errors(neox):
    with pytest.raises(PromptError, match="text 1 is ''"):
        embed(neox, ["GENE1", ""])
    with pytest.raises(ConfigError, match="tokens_per_batch is -1"):
        embed(neox, ["GENE1"], tokens_per_batch=-1)
    model = copy.copy(neox)
    model.context_length = 2
    assert embed(model, ["GENE1 GENE2"]).shape == (1, 32)
    with pytest.raises(ContextError, match=r"example 1 needs 3 tokens \(3 of the prompt\)"):
        embed(model, ["GENE1", "GENE1 GENE2 GENE3"])


def test_no_gradient_progress_and_mode(neox, monkeypatch):
    from contextlib import contextmanager

    model = tiny()
    model.model.train()
    seen = []

    @contextmanager
    def record(description, total, *, enabled):
        seen.append((description, total, enabled))
        yield lambda n: seen.append((n, torch.is_grad_enabled(), model.model.training))

    monkeypatch.setattr(embed_module, "progress", record)
    embed(model, make_prompts(4), show_progress=True)
    assert seen[0] == ("embedding", 4, True)
    assert sum(done for done, _, _ in seen[1:]) == 4
    assert not any(gradient or training for _, gradient, training in seen[1:])
    assert model.model.training


def test_what_a_shared_beginning_costs_bounds_a_pass(neox, monkeypatch):
    """Each text behind a common beginning gets a copy of its keys and values."""
    from c2s.inference import memory
    from c2s.inference.batching import length_buckets

    assert length_buckets([3, 3, 3, 2], 100, rows=2) == [[0, 1], [2, 3]]
    stem = " ".join(["GENE1"] * 40)
    texts = [f"{stem} {gene}" for gene in GENES]
    whole = embed(neox, texts)
    passes = []
    real = memory.fitting_rows
    monkeypatch.setattr(memory, "_CPU_BYTES", 90 * memory.cache_bytes_per_token(neox.model))
    monkeypatch.setattr(embed_module, "fitting_rows", lambda *args: passes.append(real(*args)) or passes[-1])
    np.testing.assert_allclose(embed(neox, texts), whole, atol=1e-5)
    assert min(passes) == 2
