"""Which example is read when, and what of it is learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from c2s.errors import ContextError
from c2s.prompts import GeneDropout
from c2s.training.batches import IGNORED, Collator, encode, plan_visits

from .conftest import TEMPLATE, make_examples, make_model


@given(
    n=st.integers(1, 40),
    steps=st.integers(1, 30),
    per_step=st.integers(1, 9),
    window=st.integers(0, 5),
    seed=st.integers(0, 3),
)
def test_every_epoch_reads_every_example_once(n: int, steps: int, per_step: int, window: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(5, 50, n)
    visits = plan_visits(lengths, steps=steps, per_step=per_step, window=window, seed=seed)
    assert len(visits.examples) == len(visits.epochs) == steps * per_step
    for epoch in range(steps * per_step // n):
        assert sorted(visits.examples[visits.epochs == epoch]) == list(range(n))
    rest = visits.examples[visits.epochs == steps * per_step // n]
    assert len(set(rest)) == len(rest) == steps * per_step % n


def test_epochs_are_in_different_orders_and_the_seed_decides_them() -> None:
    lengths = np.full(50, 7)
    plan = lambda seed: plan_visits(lengths, steps=20, per_step=5, window=0, seed=seed)  # noqa: E731
    assert plan(0).examples.tolist() == plan(0).examples.tolist()
    assert plan(0).examples.tolist() != plan(1).examples.tolist()
    assert plan(0).examples[:50].tolist() != plan(0).examples[50:].tolist()


def test_sorting_by_length_within_windows_saves_padding_and_keeps_the_order_of_steps_random() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, 640)

    def padding(window: int) -> int:
        visits = plan_visits(lengths, steps=40, per_step=16, window=window, seed=0)
        steps = lengths[visits.examples].reshape(40, 16)
        return int((steps.max(axis=1, keepdims=True) - steps).sum())

    assert padding(8) < padding(0) / 3
    steps = lengths[plan_visits(lengths, steps=40, per_step=16, window=8, seed=0).examples].reshape(40, 16)
    assert not (np.diff(steps.mean(axis=1)[:8]) > 0).all()


def test_a_shorter_run_reads_the_same_examples_first() -> None:
    lengths = np.arange(20)
    long = plan_visits(lengths, steps=10, per_step=4, window=0, seed=3)
    short = plan_visits(lengths, steps=4, per_step=4, window=0, seed=3)
    assert long.examples[:16].tolist() == short.examples.tolist()


@pytest.mark.parametrize("answer", ["T cell", "B", "unseen wörd", "GENE1"])
def test_prompt_and_answer_are_one_text_and_the_answer_begins_where_it_does(answer: str) -> None:
    tokenizer = make_model().tokenizer
    ((ids, start),) = encode(tokenizer, ["3 genes : GENE1 GENE2 . Type :"], [answer])
    assert ids[:-1] == tokenizer(f"3 genes : GENE1 GENE2 . Type : {answer}")["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids[start:-1]) == answer
    assert ids[:start] == tokenizer("3 genes : GENE1 GENE2 . Type :")["input_ids"]


def test_a_tokenizer_that_adds_tokens_of_its_own_gets_them_once() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_model().tokenizer
    plain = encode(tokenizer, ["GENE1 :"], ["T cell"])[0]
    # As Gemma's adds a BOS in front, and some others an EOS behind.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<pad> $A <eos>", special_tokens=[("<pad>", 0), ("<eos>", 1)]
    )
    ids, start = encode(tokenizer, ["GENE1 :"], ["T cell"])[0]
    assert ids == [0, *plain[0]]
    assert start == plain[1] + 1


def test_a_tokenizer_without_offsets_is_served_by_the_common_start() -> None:
    fast = make_model().tokenizer

    class Slow:
        """Looks like a tokenizer written in Python: it cannot say where a token came from."""

        eos_token_id = fast.eos_token_id
        is_fast = False

        def __call__(self, texts, return_offsets_mapping: bool = False, **options: object) -> dict:
            assert not return_offsets_mapping
            return {"input_ids": fast(texts)["input_ids"]}

    prompts, answers = ["GENE1 GENE2 . Type :", "GENE3 :"], ["T cell", "B"]
    assert encode(Slow(), prompts, answers) == encode(fast, prompts, answers)


def collator(loss: str = "answer", **changes: object) -> Collator:
    arguments = {"augment": None, "loss": loss, "seed": 0, "context_length": 64} | changes
    return Collator(make_examples(), make_model().tokenizer, **arguments)


def test_answer_loss_labels_the_answer_and_its_end_only() -> None:
    collate = collator()
    batch = collate([{"example": i, "epoch": 0} for i in range(4)])
    assert batch["example_ids"] == [f"cell-0-{i}" for i in range(4)]
    for row, answer in zip(batch["labels"], ["T cell", "B", "T cell", "B"], strict=True):
        labels = row[row != IGNORED].tolist()
        assert labels[-1] == collate.tokenizer.eos_token_id
        assert collate.tokenizer.decode(labels[:-1]) == answer


def test_full_loss_labels_every_token_but_the_first_and_never_the_padding() -> None:
    batch = collator("full")([{"example": i, "epoch": 0} for i in range(6)])
    labelled = batch["labels"] != IGNORED
    assert not labelled[:, 0].any()
    assert int(labelled.sum()) == batch["n_tokens"] - 6
    assert (batch["labels"][labelled] == batch["input_ids"][labelled]).all()
    assert (batch["input_ids"][:, 1:][~labelled[:, 1:]] == 0).all()  # all that is left is padding, at the end


def test_gene_dropout_is_drawn_anew_each_epoch_and_states_the_true_number() -> None:
    collate = collator(augment=GeneDropout(0.4, [TEMPLATE]))
    original = collator().records([{"example": 3, "epoch": 0}])[0]["cell_sentence"].split()
    prompts = set()
    for epoch in range(5):
        (record,) = collate.records([{"example": 3, "epoch": epoch}])
        genes = record["cell_sentence"].split()
        assert record["prompt"] == f"{len(genes)} genes : {' '.join(genes)} . Type :"
        assert genes == [g for g in original if g in genes]
        assert record["answer"] == "B"
        prompts.add(record["prompt"])
    assert len(prompts) >= 4


def test_what_is_drawn_does_not_depend_on_the_batch_or_on_what_was_drawn_before() -> None:
    first, second = (collator(augment=GeneDropout(0.4, [TEMPLATE])) for _ in range(2))
    alone = first.records([{"example": 3, "epoch": 2}])[0]
    among = second.records([{"example": i, "epoch": 2} for i in (7, 3, 1)])[1]
    assert alone == among
    other_seed = collator(augment=GeneDropout(0.4, [TEMPLATE]), seed=1)
    assert other_seed.records([{"example": 3, "epoch": 2}])[0] != alone


def test_an_augmentation_that_lengthens_a_prompt_past_the_context_is_refused() -> None:
    def longer(record: dict, rng: np.random.Generator) -> dict:
        return {**record, "prompt": "GENE1 " * 70 + ":"}

    with pytest.raises(ContextError, match=r"'cell-0-5' has 7\d tokens after augmentation"):
        collator(augment=longer)([{"example": 5, "epoch": 0}])
