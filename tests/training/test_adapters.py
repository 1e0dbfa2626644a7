"""Fine-tuning with adapters: little is trained, and the folder that is left is a model like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from c2s.errors import ModelError
from c2s.inference import generate
from c2s.models import load_model
from c2s.training import SFTConfig, train_sft, validation_loss

from .conftest import make_examples, make_model


def train(out: Path, model=None, **options: object):
    config = SFTConfig.of(
        {"max_steps": 30, "batch_size": 8, "learning_rate": 2e-2, "lora_rank": 4, "save_steps": 5}, **options
    )
    return train_sft(model or make_model(), make_examples(), out=out, config=config, show_progress=False)


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2"])
def test_the_merged_model_is_the_one_that_was_trained(architecture: str, tmp_path: Path) -> None:
    result = train(tmp_path / "out", make_model(architecture))
    # Embeddings and output stay as they were drawn, so there is a floor; but it learns.
    assert np.mean(result.losses[-5:]) < result.losses[0] - 0.4
    read = load_model(tmp_path / "out", device="cpu")
    assert type(read.model).__name__ == type(make_model(architecture).model).__name__
    examples = make_examples(8, seed=1)
    assert validation_loss(read, examples) == pytest.approx(validation_loss(result.model, examples), rel=1e-5)


def test_only_linear_layers_of_the_blocks_change(tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in make_model().model.state_dict().items()}
    after = train(tmp_path / "out").model.model.state_dict()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {
        name for name in before if ".layers." in name and name.endswith("weight") and "norm" not in name
    }


@pytest.mark.filterwarnings("error")
def test_no_checkpoint_asks_the_hub(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("the network was asked"))
    train(tmp_path / "out", max_steps=6)


def test_chosen_layers_alone_get_adapters(tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in make_model().model.state_dict().items()}
    after = train(tmp_path / "out", lora_targets=("dense",)).model.model.state_dict()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {"gpt_neox.layers.0.attention.dense.weight"}


def test_a_layer_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no linear layer 'q_proj'.*query_key_value"):
        train(tmp_path / "out", lora_targets=("q_proj",))
    assert not (tmp_path / "out.training").exists()


def test_adapters_alone_are_written_where_asked_for(tmp_path: Path) -> None:
    base = make_model()
    base.save(tmp_path / "base")
    result = train(tmp_path / "out", load_model(tmp_path / "base", device="cpu"), lora_merge=False)
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "out" / "model.safetensors").exists()
    read = load_model(tmp_path / "base", adapter=tmp_path / "out", device="cpu")
    prompts = make_examples(6, seed=1)["prompt"].to_pylist()
    assert generate(read, prompts) == generate(result.model, prompts)


def test_a_run_with_adapters_that_is_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", lora_dropout=0.1)

    class Stopped(Exception):
        pass

    def stop(model: object) -> dict[str, float]:
        raise Stopped

    config = SFTConfig.of(
        {"max_steps": 30, "batch_size": 8, "learning_rate": 2e-2, "lora_rank": 4, "save_steps": 5},
        lora_dropout=0.1, eval_every=17,
    )  # fmt: skip
    with pytest.raises(Stopped):
        train_sft(
            make_model(), make_examples(), out=tmp_path / "out", config=config, evaluate=stop, show_progress=False
        )
    assert (tmp_path / "out.training" / "checkpoint-15").exists()
    again = train_sft(
        make_model(), make_examples(), out=tmp_path / "out", config=config, evaluate=lambda model: {"score": 0.0},
        resume=True, show_progress=False,
    )  # fmt: skip
    assert again.losses == whole.losses
    weights = [r.history[-1].get("grad_norm") for r in (whole, again) if "loss" in r.history[-1]]
    assert len(set(weights)) == 1
