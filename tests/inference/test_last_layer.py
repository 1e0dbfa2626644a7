"""The last layer runs only where it is read, and whole where a network is built otherwise."""

from __future__ import annotations

import importlib

import pytest
import torch

from c2s.inference import score
from c2s.inference.last_layer import last_layer_at

from .conftest import LABELS, make_prompts, tokens_of, with_network

last_layer_module = importlib.import_module("c2s.inference.last_layer")


def test_only_the_positions_that_are_read_go_through_the_last_layer(neox, monkeypatch):
    attended, fed = [], []
    attend = last_layer_module.sdpa_attention_forward

    def noted(module, query, *arguments, **options):
        attended.append(query.shape[2])
        return attend(module, query, *arguments, **options)

    monkeypatch.setattr(last_layer_module, "sdpa_attention_forward", noted)
    layers = neox.model.gpt_neox.layers
    hooks = [
        layer.mlp.dense_h_to_4h.register_forward_pre_hook(lambda _, x: fed.append(x[0].shape[1]))
        for layer in layers
    ]
    prompts = make_prompts(1)
    score(neox, prompts, LABELS)
    for hook in hooks:
        hook.remove()
    beginnings = {
        tuple(tokens_of(neox, f"GENE1 {label}")[1 : 1 + end])
        for label in LABELS
        for end in range(1, len(tokens_of(neox, f"GENE1 {label}")))
    }
    read = 1 + len(beginnings)
    whole = len(tokens_of(neox, prompts[0])) + len(beginnings)
    assert attended == fed == [whole, read]


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_network_with_other_parts_is_run_whole(family):
    from transformers import GPT2Config, OPTConfig

    if family == "gpt2":
        model = with_network(GPT2Config(n_embd=32, n_layer=2, n_head=2))
    else:
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 48}
        model = with_network(OPTConfig(**sizes, word_embed_proj_dim=32))
    model.model.set_attn_implementation("eager")
    ids = torch.tensor([tokens_of(model, "GENE1 GENE2 GENE3")])
    with torch.no_grad():
        expected = model.model(ids).logits
        with last_layer_at(1, of=3, network=model.model) as options:
            assert options == {}
            assert torch.equal(model.model(ids).logits, expected)


def test_how_many_positions_there_are_is_given_by_name(neox):
    with pytest.raises(TypeError, match="positional argument"):
        last_layer_at(1, 3, neox.model)
