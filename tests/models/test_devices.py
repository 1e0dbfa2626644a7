"""Options that need a GPU: what they would load with, as far as a machine without one can tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, ViTConfig

from c2s.errors import ModelError
from c2s.models.devices import attention_for, network_class_of, quantisation


def test_four_and_eight_bits_are_the_settings_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_bitsandbytes_available", lambda: True)
    assert quantisation(None, device="cpu") is None
    assert quantisation(8, device="cuda").load_in_8bit
    four = quantisation(4, device="cuda:1")
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert four.bnb_4bit_compute_dtype == torch.bfloat16
    with pytest.raises(ModelError, match="needs a CUDA GPU; the device is cpu"):
        quantisation(4, device="cpu")


def test_flash_attention_is_taken_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_flash_attn_2_available", lambda: True)
    config, half = LlamaConfig(), torch.bfloat16
    assert attention_for("flash_attention_2", config, device="cuda", dtype=half) == "flash_attention_2"
    with pytest.raises(ModelError, match="not available: the weights are float32"):
        attention_for("flash_attention_2", config, device="cuda", dtype=torch.float32)


def test_an_encoder_is_no_causal_language_model() -> None:
    assert network_class_of(LlamaConfig()).__name__ == "LlamaForCausalLM"
    with pytest.raises(ModelError, match=r"ViTConfig .*is not a causal"):
        network_class_of(ViTConfig())
    with pytest.raises(ModelError, match="not a causal"):
        attention_for("eager", ViTConfig(), device="cpu", dtype="auto")
    assert attention_for(None, SimpleNamespace(), device="cpu", dtype="auto") is None  # type: ignore[arg-type]
