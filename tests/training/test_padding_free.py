"""Examples laid end to end learn what padded ones learn, and never from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from c2s.errors import TrainingError
from c2s.training import SFTConfig, encode, train_sft
from c2s.training.batches import check_apart, joined_batch, padded_batch
from c2s.training.trainer import next_token_loss

from .conftest import make_examples, make_model


def encoded(model, n: int = 6):
    table = make_examples(n)
    texts = [table[name].to_pylist() for name in ("prompt", "answer", "example_id")]
    return encode(model.tokenizer, *texts[:2]), texts[2]


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2"])
@pytest.mark.parametrize("loss", ["answer", "full"])
def test_the_loss_and_its_gradient_are_those_of_padded_examples(architecture: str, loss: str) -> None:
    model = make_model(architecture)
    tokens, ids = encoded(model)
    found = []
    for batch in (padded_batch(tokens, ids, model.tokenizer, loss), joined_batch(tokens, ids, loss)):
        model.model.zero_grad()
        value = next_token_loss(
            model.model, batch["input_ids"], batch["labels"], position_ids=batch.get("position_ids")
        )
        value.backward()
        found.append((value.item(), [p.grad.clone() for p in model.model.parameters() if p.grad is not None]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for padded, joined in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(padded, joined, rtol=1e-3, atol=1e-6)


def test_no_place_of_the_row_is_padding_and_no_label_crosses_examples() -> None:
    model = make_model()
    tokens, ids = encoded(model)
    batch = joined_batch(tokens, ids, "full")
    assert batch["input_ids"].shape == (1, sum(len(t) for t, _ in tokens))
    assert batch["n_tokens"] == batch["input_ids"].numel()
    begins = np.flatnonzero(batch["position_ids"][0].numpy() == 0)
    assert len(begins) == len(tokens)
    assert (batch["labels"][0, begins] == -100).all()


def test_training_takes_the_same_steps(tmp_path: Path) -> None:
    results = [
        train_sft(
            make_model(), make_examples(), out=tmp_path / str(joined), show_progress=False,
            config=SFTConfig(max_steps=5, batch_size=8, padding_free=joined),
        )
        for joined in (False, True)
    ]  # fmt: skip
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-4)
    assert [line["tokens"] for line in results[0].history] == [line["tokens"] for line in results[1].history]


def test_a_network_in_which_examples_see_each_other_is_refused(tmp_path: Path) -> None:
    model = make_model()
    check_apart(model.model)
    forward = type(model.model).forward

    def blind(self, *args, position_ids=None, **kwargs):
        """Takes positions as given, and masks nothing: one long text."""
        places = None if position_ids is None else torch.arange(position_ids.shape[1])[None]
        return forward(self, *args, position_ids=places, **kwargs)

    model.model.forward = blind.__get__(model.model)
    with pytest.raises(TrainingError, match="see each other"):
        train_sft(
            model, make_examples(), out=tmp_path / "out", show_progress=False,
            config=SFTConfig(max_steps=1, padding_free=True),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.training").exists()
