"""What a run costs: counts against the tensors, FLOPs and caches of real networks, and arithmetic by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from c2s.errors import ConfigError
from c2s.models import LoraOptions, TinyConfig
from c2s.models.cost import (
    activation_bytes,
    attention_flops,
    kv_cache_bytes,
    optimizer_bytes,
    parameter_bytes,
    training_flops,
)
from c2s.models.lora import wrap_lora
from c2s.models.plan import PlanOptions, devices, paper_runs, plan
from c2s.models.tiny import transformers_config

BATCH, LENGTH, WORDS = 3, 96, 500
SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neox": {},
    "gemma2": {"kv_heads": 2, "sliding_window": 16, "tie_embeddings": True},
    "llama": {"kv_heads": 2},
}
ARCHITECTURES = pytest.mark.parametrize("architecture", SHAPES)
LORA = pytest.mark.parametrize("lora", [None, LoraOptions(rank=4)], ids=["full", "lora"])


def toy(architecture: str) -> Any:
    """A small network with weights, as it is trained: eager attention, whose every product is counted."""
    config = transformers_config(
        TinyConfig(architecture=architecture, layers=4, hidden_size=64, heads=4, **SHAPES[architecture]), WORDS
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").train()


def step(network: Any) -> tuple[int, int, int]:
    """Return the FLOPs counted forward and in all, and the bytes that autograd kept in between."""
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    ids = torch.arange(BATCH * LENGTH).reshape(BATCH, LENGTH) % WORDS
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = network(input_ids=ids, labels=ids, use_cache=False).loss
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values())


@LORA
@ARCHITECTURES
def test_flops_are_those_that_torch_counts(architecture: str, lora: LoraOptions | None) -> None:
    network = toy(architecture)
    ours = training_flops(network, BATCH, LENGTH, lora=lora)
    forward, total, _ = step(network if lora is None else wrap_lora(network, lora))
    assert ours.forward == forward
    # The frozen first layer needs no gradient of its input, which the count does not know.
    assert ours.total == total if lora is None else total <= ours.total <= 1.05 * total


@ARCHITECTURES
def test_checkpointing_costs_about_a_forward_pass_more(architecture: str) -> None:
    network = toy(architecture)
    network.activation_checkpointing_enable()
    _, total, _ = step(network)
    # torch stops the second pass of a layer as soon as nothing more is needed of it.
    assert total <= training_flops(network, BATCH, LENGTH, checkpointing=True).total <= 1.1 * total


@LORA
@ARCHITECTURES
def test_activations_are_the_bytes_that_autograd_keeps(architecture: str, lora: LoraOptions | None) -> None:
    network = toy(architecture)
    _, _, kept = step(network if lora is None else wrap_lora(network, lora))
    ours = activation_bytes(network.config, BATCH, LENGTH, dtype=torch.float32, lora=lora)
    assert ours == pytest.approx(kept, rel=0.02)


@ARCHITECTURES
def test_with_checkpointing_inputs_are_kept_and_one_layer_is_made_again(architecture: str) -> None:
    network = toy(architecture)
    _, _, whole = step(network)
    network.activation_checkpointing_enable()
    _, _, kept = step(network)
    config = network.config
    ours = activation_bytes(config, BATCH, LENGTH, dtype=torch.float32, checkpointing=True)
    everything = activation_bytes(config, BATCH, LENGTH, dtype=torch.float32)
    layer = (everything - kept) / config.num_hidden_layers
    assert kept < ours < everything == pytest.approx(whole, rel=0.02)
    assert ours == pytest.approx(kept + layer, rel=0.15)


def test_a_fused_kernel_keeps_no_pairs_of_positions() -> None:
    config = toy("llama").config

    def bytes_at(length: int, attention: str) -> int:
        return activation_bytes(config, 1, length, dtype=torch.bfloat16, attention=attention)

    assert bytes_at(512, "flash_attention_2") / bytes_at(256, "flash_attention_2") == pytest.approx(2, rel=0.01)
    assert bytes_at(512, "eager") / bytes_at(256, "eager") > 2.5


@pytest.mark.parametrize("length", [8, 40])
@ARCHITECTURES
def test_the_cache_has_the_bytes_of_a_real_one(architecture: str, length: int) -> None:
    network = toy(architecture).eval()
    with torch.no_grad():
        cache = network(torch.ones((BATCH, length), dtype=torch.int64), use_cache=True).past_key_values
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kv_cache_bytes(network.config, BATCH, length, itemsize=4) == real


@LORA
def test_optimizer_and_gradients_have_the_bytes_of_real_ones(lora: LoraOptions | None) -> None:
    network = toy("llama")
    network = network if lora is None else wrap_lora(network, lora)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    step(network)
    optimizer.step()
    state = sum(value.nbytes for entry in optimizer.state.values() for value in entry.values())
    assert optimizer_bytes(network) == state
    gradients = sum(p.grad.nbytes for p in network.parameters() if p.grad is not None)
    assert parameter_bytes(network, trainable=True) == gradients
    assert parameter_bytes(network) == sum(p.nbytes for p in network.parameters())


def test_pairs_that_a_fused_kernel_computes_are_those_the_mask_lets_through() -> None:
    config = toy("gemma2").config
    length = 40
    places = torch.arange(length)
    seen = places[:, None] >= places
    near = seen & (places[:, None] - places < 16)
    pairs = sum(int((near if t == "sliding_attention" else seen).sum()) for t in config.layer_types)
    assert attention_flops(config, 1, length, attention="sdpa") == 4 * 4 * 16 * pairs
    assert attention_flops(config, 1, length, attention="eager") == 4 * 4 * 16 * 4 * length**2


def test_a_plan_agrees_with_arithmetic_by_hand() -> None:
    options = {"gpu": "a100-80gb", "precision": "float32", "checkpointing": False, "attention": "eager"}
    made = plan("pythia-70m", "l1000-sft", options=options | {"length": 1000, "utilisation": 0.5})
    # Pythia 70M: six layers of width 512, 25.76M embedding parameters each for reading and writing.
    n, width, layers, words, length = 70_426_624, 512, 6, 50_304, 1000
    per_token = 2 * (12 * width**2 * layers + width * words) + 4 * layers * width * length
    assert made["flops"]["forward_per_token"] == per_token
    assert made["flops"]["training_per_token"] == 3 * per_token
    tokens = 3500 * 64 * length
    assert made["run"]["tokens"] == tokens
    assert made["run"]["steps"] == 3500
    assert made["flops"]["total"] == pytest.approx(3 * per_token * tokens)
    assert made["time"]["gpu_hours"] == pytest.approx(3 * per_token * tokens / (19.5e12 * 0.5) / 3600)
    memory = made["memory"]
    assert memory["weights"] == memory["gradients"] == 4 * n
    assert memory["optimizer"] == pytest.approx(8 * n, rel=1e-4)
    assert memory["copies"] == 0
    assert memory["total"] == sum(memory[k] for k in ("weights", "gradients", "optimizer", "activations"))
    assert made["inference"]["kv_cache"] == 2 * layers * width * length * 4


def test_shards_are_cut_and_copies_are_not() -> None:
    one = plan("gemma-2-2b", "captioning", options={"length": 512})
    many = plan("gemma-2-2b", "captioning", options={"length": 512, "gpus": 8})
    cut = plan("gemma-2-2b", "captioning", options={"length": 512, "gpus": 8, "sharding": "fsdp"})
    for what in ("weights", "gradients", "optimizer"):
        assert many["memory"][what] == one["memory"][what]
        assert cut["memory"][what] == one["memory"][what] // 8
    assert many["memory"]["copies"] - one["memory"]["copies"] == one["memory"]["gradients"]  # DDP's buckets
    assert cut["memory"]["activations"] == one["memory"]["activations"]
    assert many["time"]["gpu_hours"] == one["time"]["gpu_hours"] == 8 * many["time"]["hours"]


def test_an_adapter_needs_far_less_and_its_rank_says_how_much() -> None:
    full, low = (plan("pythia-1b", "captioning", options={"length": 512, "lora": r}) for r in (None, 8))
    assert full["model"]["trained"] == full["model"]["parameters"] == low["model"]["parameters"]
    # Per layer: fused queries-keys-values, output, and both feed-forward matrices, at rank 8.
    width = 2048
    per_layer = 8 * ((width + 3 * width) + (width + width) + 2 * (width + 4 * width))
    assert low["model"]["trained"] == 16 * per_layer
    assert low["memory"]["optimizer"] < 0.02 * full["memory"]["optimizer"]
    assert low["memory"]["total"] < 0.5 * full["memory"]["total"]
    assert 0.6 < low["time"]["gpu_hours"] / full["time"]["gpu_hours"] < 0.85


def test_what_does_not_fit_says_how_many_would() -> None:
    alone = plan("gemma-2-27b", "pretraining", options={"length": 1024})["memory"]
    assert not alone["fits"]
    count = alone["smallest_fsdp"]
    assert count > 1
    shared = plan("gemma-2-27b", "pretraining", options={"length": 1024, "gpus": count, "sharding": "fsdp"})
    assert shared["memory"]["fits"]
    fewer = {"length": 1024, "gpus": count // 2, "sharding": "fsdp"}
    assert not plan("gemma-2-27b", "pretraining", options=fewer)["memory"]["fits"]


@pytest.mark.parametrize("task", paper_runs())
def test_every_run_of_the_paper_can_be_planned(task: str) -> None:
    options = {"tokens": 1e6} if task in {"annotation", "dong-sft"} else {}
    made = plan("pythia-70m", task, options=options | {"length": 256})
    assert made["flops"]["total"] > 0
    assert made["run"]["sequences"] >= 1
    assert len(made["assumptions"]) >= 3
    if paper_runs()[task].kind == "grpo":
        assert made["memory"]["reference"] == made["memory"]["weights"]
        assert made["flops"]["total"] / made["run"]["sequences"] > 256 * made["flops"]["training_per_token"]


def test_the_stated_numbers_are_those_of_the_paper() -> None:
    runs = paper_runs()
    assert runs["qa-grpo"].stated == {"prompts": 600, "group": 32, "beta": 0.03, "learning_rate": 5e-7}
    grpo = runs["l1000-grpo"].stated
    assert (grpo["beta"], grpo["learning_rate"], grpo["group"], grpo["gpus"]) == (5e-3, 1e-6, 24, 4)
    assert runs["l1000-sft"].stated["batch"] == 2 * 32
    assert plan("pythia-410m", "qa-grpo", options={"length": 64})["run"]["sequences"] == 600 * 32
    assert plan("pythia-410m", "pretraining")["run"]["tokens"] == 1e9
    assert all(device.source for device in devices().values())


def test_a_longer_run_than_the_context_is_cut_and_said() -> None:
    made = plan("pythia-410m", "captioning")
    assert made["run"]["length"] == 2048
    assert "context of pythia-410m" in made["run"]["length_note"]
    assert plan("c2s-scale-pythia-1b", "captioning")["run"]["length_note"] is None


def test_all_problems_of_a_plan_are_named_at_once() -> None:
    options = {"gpu": "h10", "gpus": 0, "sharding": "zero"}
    with pytest.raises(ConfigError) as caught:
        plan("pythia-41m", "pretrain", profile="laptop", options=options)
    assert len(caught.value.problems) == 5
    assert "did you mean 'pythia-410m'" in caught.value.problems[0]
    with pytest.raises(ConfigError, match=r"unknown gpu 'h10'.*did you mean 'h100'"):
        plan("pythia-410m", "pretraining", options={"gpu": "h10"})
    with pytest.raises(ConfigError, match="states no rate for float32"):
        plan("pythia-410m", "pretraining", options={"gpu": "tpu-v4", "precision": "float32"})


def test_options_have_the_defaults_that_the_page_says() -> None:
    assert PlanOptions() == PlanOptions(utilisation=0.4, gpu="h100", batch=1, checkpointing=True)
