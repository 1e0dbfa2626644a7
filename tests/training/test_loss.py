"""The loss at label positions equals a plain cross-entropy over all logits."""

from __future__ import annotations

import pytest
import torch

from c2s.training import validation_loss
from c2s.training.batches import Collator
from c2s.training.trainer import next_token_loss

from .conftest import make_examples, make_model


def batch_of(model, loss: str) -> dict:
    collate = Collator(make_examples(), model.tokenizer, augment=None, loss=loss, seed=0, context_length=64)
    return collate([{"example": i, "epoch": 0} for i in range(7)])


def plain_loss(model, batch: dict) -> torch.Tensor:
    """Every row alone, without padding; logits everywhere; torch's own mean."""
    total, count = torch.zeros(()), 0
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        end = int((labels != -100).nonzero().max()) + 1
        logits = model.model(input_ids=ids[None, :end]).logits[0]
        total = total + torch.nn.functional.cross_entropy(
            logits[:-1], labels[1:end], reduction="sum", ignore_index=-100
        )
        count += int((labels[1:] != -100).sum())
    return total / count


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma2", "llama"])
@pytest.mark.parametrize("loss", ["answer", "full"])
def test_loss_and_gradients_equal_the_plain_computation(architecture: str, loss: str) -> None:
    model = make_model(architecture, initializer_range=0.5)  # large, so that soft-capping shows
    batch = batch_of(model, loss)
    ours = next_token_loss(model.model, batch["input_ids"], batch["labels"])
    ours.backward()
    gradients = {name: p.grad.clone() for name, p in model.model.named_parameters()}
    model.model.zero_grad()
    plain = plain_loss(model, batch)
    plain.backward()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    for name, parameter in model.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_model_that_cannot_keep_logits_gets_the_same_loss() -> None:
    model = make_model()
    batch = batch_of(model, "answer")

    class Plain(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> object:
            return model.model(input_ids=input_ids)

    ours = next_token_loss(model.model, batch["input_ids"], batch["labels"])
    torch.testing.assert_close(next_token_loss(Plain(), batch["input_ids"], batch["labels"]), ours)


def test_the_sum_is_divided_by_the_labels_of_the_whole_step() -> None:
    model = make_model()
    batch = batch_of(model, "answer")
    n = int((batch["labels"] != -100).sum())
    mean = next_token_loss(model.model, batch["input_ids"], batch["labels"])
    torch.testing.assert_close(next_token_loss(model.model, batch["input_ids"], batch["labels"], 1), mean * n)


def test_validation_loss_is_the_mean_over_labels_whatever_the_batch_size() -> None:
    model, examples = make_model(), make_examples(7)
    expected = plain_loss(model, batch_of(model, "answer")).detach()
    for batch_size in (1, 3, 16):
        assert validation_loss(model, examples, batch_size=batch_size) == pytest.approx(float(expected), rel=1e-5)
