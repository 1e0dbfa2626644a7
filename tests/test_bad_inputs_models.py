"""Bad models, adapters, loading options and plans, in the form of `test_bad_inputs.py`'s table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_inputs import Case, check_error, cli

from c2s import errors as e
from c2s.models import LoraOptions, TinyConfig, add_lora, load_model, merge_lora
from c2s.models.plan import plan

CORPUS = ["Genes:\nCD3D CD4 HLA-DRA\nCell type: T cell"]


def tiny(architecture: str = "gpt_neox", **shape: Any):
    config = TinyConfig(
        architecture=architecture, **{"layers": 1, "hidden_size": 32, "heads": 2, "context_length": 64} | shape
    )
    return load_model("tiny", corpus=CORPUS, config=config, device="cpu")


def saved(folder: Path, architecture: str = "gpt_neox", **shape: Any) -> Path:
    return tiny(architecture, **shape).save(folder / f"{architecture}{len(list(folder.iterdir()))}")


def adapter(folder: Path, architecture: str = "gpt_neox", **shape: Any) -> Path:
    return add_lora(tiny(architecture, **shape), LoraOptions(rank=2)).save(folder / "adapter")


def edited(folder: Path, file: str, **changes: object) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def pickled(folder: Path, weights: str, pickle: str) -> Path:
    (folder / weights).rename(folder / pickle)
    return folder


def emptied(folder: Path, weights: str) -> Path:
    (folder / weights).write_bytes(b"not safetensors")
    return folder


def moved(folder: Path, base: str) -> Path:
    return edited(folder, "adapter_config.json", base_model_name_or_path=base)


CASES = [
    # --- adapters
    Case(
        "adapter of another architecture",
        e.ModelError,
        "made for another architecture than GPTNeoXForCausalLM: it changes 'model.layers.0",
        "base_model_name_or_path",
        lambda d, m: load_model(saved(d), adapter=adapter(d, "llama"), device="cpu"),
    ),
    Case(
        "adapter of another size",
        e.ModelError,
        r"another size of GPTNeoXForCausalLM: its tensor for 'gpt_neox.layers.0.* is \[",
        "base_model_name_or_path",
        lambda d, m: load_model(saved(d), adapter=adapter(d, hidden_size=64), device="cpu"),
    ),
    Case(
        "adapter of a deeper model",
        e.ModelError,
        "changes 'gpt_neox.layers.1",
        "base_model_name_or_path",
        lambda d, m: load_model(saved(d), adapter=adapter(d, layers=2), device="cpu"),
    ),
    Case(
        "adapter that is not LoRA",
        e.ModelError,
        "adapter of type 'PREFIX_TUNING'; only LoRA",
        "merge it",
        lambda d, m: load_model(
            saved(d), adapter=edited(adapter(d), "adapter_config.json", peft_type="PREFIX_TUNING"), device="cpu"
        ),
    ),
    Case(
        "adapter that is a pickle",
        e.ModelError,
        "only a pickle, and reading a pickle can run any code",
        "safetensors",
        lambda d, m: load_model(
            saved(d),
            adapter=pickled(adapter(d), "adapter_model.safetensors", "adapter_model.bin"),
            device="cpu",
        ),
    ),
    Case(
        "adapter with damaged weights",
        e.ModelError,
        "adapter_model.safetensors cannot be read",
        "copy the file again",
        lambda d, m: load_model(saved(d), adapter=emptied(adapter(d), "adapter_model.safetensors"), device="cpu"),
    ),
    Case(
        "adapter that is a whole model",
        e.ModelError,
        "is not an adapter: it has no adapter_config.json",
        "training with LoRA",
        lambda d, m: load_model(saved(d), adapter=saved(d), device="cpu"),
    ),
    Case(
        "adapter whose base is not here",
        e.ModelError,
        "its base model 'someone/else' is not here",
        "adapter=",
        lambda d, m: load_model(moved(adapter(d), "someone/else"), device="cpu"),
    ),
    Case(
        "merging without an adapter",
        e.ModelError,
        "there is no adapter",
        "adapter=FOLDER",
        lambda d, m: load_model(saved(d), merge=True, device="cpu"),
    ),
    Case(
        "merging a plain model", e.ModelError, "no adapter to merge", "add_lora", lambda d, m: merge_lora(tiny())
    ),
    Case(
        "a second adapter",
        e.ModelError,
        "has an adapter already",
        "merge_lora",
        lambda d, m: add_lora(add_lora(tiny())),
    ),
    Case(
        "LoRA target that the model lacks",
        e.ModelError,
        "no linear layer 'q_proj' or 'v_proj'; it has query_key_value, dense, dense_h_to_4h",
        'targets="auto"',
        lambda d, m: add_lora(tiny(), LoraOptions(targets=("q_proj", "v_proj"))),
    ),
    Case(
        "LoRA on the output layer",
        e.ModelError,
        "no linear layer 'lm_head'",
        "q_proj",
        lambda d, m: add_lora(tiny("llama"), LoraOptions(targets=("lm_head",))),
    ),
    Case(
        "LoRA without a target",
        e.ModelError,
        "no LoRA target",
        'targets="auto"',
        lambda d, m: add_lora(tiny(), LoraOptions(targets=())),
    ),
    Case(
        "LoRA options of no sense",
        e.ConfigError,
        "unknown option 'r'; .*|rank: .*got 0",
        "rank, alpha",
        lambda d, m: LoraOptions.of({"r": 8}, rank=0),
    ),
    # --- loading
    Case(
        "unknown attention",
        e.ModelError,
        "unknown attention implementation 'fast'",
        "eager, sdpa",
        lambda d, m: load_model(saved(d), attention="fast", device="cpu"),
    ),
    Case(
        "sdpa for Gemma 2",
        e.ModelError,
        "Gemma2ForCausalLM cannot use sdpa",
        "eager",
        lambda d, m: load_model(saved(d, "gemma2"), attention="sdpa", device="cpu"),
    ),
    Case(
        "four bits without bitsandbytes or a GPU",
        e.ModelError,
        "4-bit loading needs",
        r"c2s\[quantised\]|bfloat16",
        lambda d, m: load_model(saved(d), quantise=4, device="cpu"),
    ),
    Case(
        "five bits",
        e.ModelError,
        "quantise=5 is not 4 or 8",
        "quantise=8",
        lambda d, m: load_model(saved(d), quantise=5, device="cpu"),
    ),
    Case(
        "unknown device map",
        e.ModelError,
        "unknown device_map 'spread'",
        "balanced",
        lambda d, m: load_model(saved(d), device_map="spread", device="cpu"),
    ),
    Case(
        "options of a saved model for tiny",
        e.ModelError,
        "takes no device_map, adapter",
        "save the model",
        lambda d, m: load_model("tiny", corpus=CORPUS, device_map="auto", adapter=d, device="cpu"),
    ),
    # --- plans and the command line
    Case(
        "plan of an unknown model",
        e.ConfigError,
        "unknown preset 'gemma-3-4b'",
        "models plan --help",
        lambda d, m: cli("models", "plan", "gemma-3-4b", "--task", "pretraining"),
    ),
    Case(
        "plan on an unknown GPU",
        e.ConfigError,
        "unknown gpu 'h1000' .*did you mean 'h100'",
        "models plan --help",
        lambda d, m: cli("models", "plan", "pythia-70m", "--task", "pretraining", "--gpu", "h1000"),
    ),
    Case(
        "plan of a run whose length nobody states",
        e.ConfigError,
        "section 4.6.9 does not say how many examples",
        "--tokens",
        lambda d, m: plan("pythia-70m", "dong-sft"),
    ),
    Case(
        "plan longer than the context",
        e.ConfigError,
        "length 4096 is more than the context of pythia-70m, 2048",
        "--length",
        lambda d, m: plan("pythia-70m", "pretraining", options={"length": 4096}),
    ),
    Case(
        "plan with sdpa for Gemma 2",
        e.ModelError,
        "cannot use sdpa",
        "flash_attention_2",
        lambda d, m: plan("gemma-2-2b", "pretraining", options={"attention": "sdpa"}),
    ),
    Case(
        "information on an unknown model",
        e.ModelError,
        "no model is known as 'pythia-69m'. Did you mean 'pythia-",
        "models list",
        lambda d, m: cli("models", "info", "pythia-69m"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_error_names_the_thing_and_the_fix(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    if torch.cuda.is_available() and "GPU" in case.name:
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    check_error(case, tmp_path, tmp_path)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_refused_adapter_leaves_no_output(tmp_path: Path) -> None:
    base, other = saved(tmp_path), adapter(tmp_path, "llama")
    with pytest.raises(e.ModelError):
        load_model(base, adapter=other, merge=True, out=tmp_path / "out", device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([base.name, other.name])
    shutil.rmtree(other)
