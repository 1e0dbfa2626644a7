from __future__ import annotations

import copy
import itertools

import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, strategies as st

from c2s.errors import ConfigError, ContextError, PromptError
from c2s.inference.batching import (
    TOKENS_PER_BATCH,
    as_texts,
    batch_tokens,
    check_context,
    common_prefix,
    encode,
    end_of_text,
    families,
    length_buckets,
    pad_left,
    padding_token,
)


def test_buckets_by_hand():
    assert length_buckets([3, 5, 1, 5, 2], 10) == [[1, 3], [0, 4, 2]]
    assert length_buckets([3, 5, 1, 5, 2], 9) == [[1], [3], [0, 4, 2]]
    assert length_buckets([4, 4, 4, 4], 12) == [[0, 1, 2], [3]]
    assert length_buckets([100, 1], 10) == [[0], [1]]
    assert length_buckets([], 10) == []
    assert length_buckets([2, 2], 1) == [[0], [1]]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 200))
def test_buckets_hold_every_text_once_within_the_bound(lengths, bound):
    batches = length_buckets(lengths, bound)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert lengths[batch[0]] == longest
        assert len(batch) == 1 or len(batch) * longest <= bound
    # As few as longest-first filling allows: the next text would not have fitted.
    for batch, following in itertools.pairwise(batches):
        assert (len(batch) + 1) * lengths[batch[0]] > bound
        assert lengths[batch[-1]] >= lengths[following[0]]


def test_padding_is_on_the_left_and_positions_count_from_the_text():
    batch = pad_left([[7, 8, 9], [5]], 0, torch.device("cpu"))
    assert batch.input_ids.tolist() == [[7, 8, 9], [0, 0, 5]]
    assert batch.mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.positions.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert pad_left([[4, 4], [6]], 3, torch.device("cpu")).input_ids.tolist() == [[4, 4], [3, 6]]
    assert {t.dtype for t in batch} == {torch.int64}


def test_families_share_a_beginning_of_eight_tokens_or_more():
    head = list(range(8))
    four = [[*head, 50, i] for i in range(4)]
    assert families(four) == [(9, [0, 1, 2, 3])]
    assert families(four[:3]) == [(0, [0, 1, 2])]
    # At least one token of each is its own, so that there is something to predict from.
    assert families([*four[:3], [*head, 50]]) == [(8, [0, 1, 2, 3])]
    assert families([[*head]] * 4) == [(0, [0, 1, 2, 3])]
    assert families([[*head, 1]] * 4) == [(8, [0, 1, 2, 3])]
    mixed = [four[0], [1, 2], four[1], [3], four[2], four[3]]
    assert families(mixed) == [(9, [0, 2, 4, 5]), (0, [1, 3])]
    assert families([]) == []
    seven = [[*range(7), 90 + i, 1, 2] for i in range(4)]
    assert families(seven) == [(0, [0, 1, 2, 3])]


def test_families_are_cut_where_some_members_share_much_more():
    head, left, right = list(range(8)), list(range(100, 108)), list(range(200, 208))
    lefts = [[*head, *left, 50 + i] for i in range(4)]
    rights = [[*head, *right, 60 + i] for i in range(4)]
    plain = [[*head, 70 + i, 1] for i in range(4)]
    assert sorted(families([*lefts, *rights, *plain])) == [
        (8, [8, 9, 10, 11]),
        (16, [0, 1, 2, 3]),
        (16, [4, 5, 6, 7]),
    ]
    # Too few are left to read their beginning apart.
    assert sorted(families([*lefts, *rights, *plain[:3]])) == [
        (0, [8, 9, 10]),
        (16, [0, 1, 2, 3]),
        (16, [4, 5, 6, 7]),
    ]
    # Seven more tokens are not worth a family of their own, eight are.
    shorter = [[*head, *left[:7], 50 + i] for i in range(4)]
    assert families([*shorter, *plain]) == [(8, list(range(8)))]
    assert sorted(families([*lefts, *plain])) == [(8, [4, 5, 6, 7]), (16, [0, 1, 2, 3])]
    # Three alike stay with the others.
    assert families([*lefts[:3], *plain]) == [(8, list(range(7)))]


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=30), max_size=30))
def test_families_hold_every_text_once_and_share_what_they_say(texts):
    found = families(texts)
    assert sorted(i for _, members in found for i in members) == list(range(len(texts)))
    for stem, members in found:
        assert len({tuple(texts[i][:stem]) for i in members}) <= 1 or stem == 0
        assert all(len(texts[i]) > stem for i in members)
        assert stem == 0 or (stem >= 8 and len(members) >= 4)


def test_common_prefix():
    assert common_prefix([1, 2, 3], [1, 2, 4]) == 2
    assert common_prefix([1, 2], [1, 2, 3]) == 2
    assert common_prefix([1, 2, 3], [1]) == 1
    assert common_prefix([], [1]) == 0
    assert common_prefix([2], [1]) == 0


@pytest.mark.parametrize(
    "texts", [["a", "b"], ("a", "b"), pa.array(["a", "b"]), pd.Series(["a", "b"], index=[5, 2])]
)
def test_texts_of_any_kind(texts):
    assert as_texts(texts) == ["a", "b"]


def test_texts_name_what_they_are():
    with pytest.raises(PromptError) as error:
        as_texts("abc", what="text")
    assert str(error.value) == "expected a list of texts, got one string. Fix: pass [text]."
    with pytest.raises(PromptError) as error:
        as_texts(["a", ""], what="text")
    assert str(error.value) == "text 1 is ''. Fix: give every text some text, or leave it out."
    with pytest.raises(PromptError, match="prompt 0 is nan"):
        as_texts([float("nan")])


def test_encoding_keeps_the_beginning_and_drops_an_appended_end(neox):
    assert encode(neox, []) == []
    plain = encode(neox, ["GENE1 GENE2", "GENE3"])
    assert [len(tokens) for tokens in plain] == [2, 1]
    ending = copy.deepcopy(neox)
    tokenizer = ending.tokenizer

    class Appending:
        eos_token, eos_token_id = tokenizer.eos_token, tokenizer.eos_token_id

        def __call__(self, texts, **options):
            return {"input_ids": [[*t, self.eos_token_id] for t in tokenizer(texts)["input_ids"]]}

    ending.tokenizer = Appending()
    assert encode(ending, ["GENE1 GENE2", "GENE3"]) == plain
    # A text that says itself that it ends is left alone by a tokenizer that appends nothing.
    written = encode(neox, [f"GENE1{tokenizer.eos_token}"])
    assert written[0][-1] == tokenizer.eos_token_id


def test_encoding_is_the_tokenizers_own_and_never_cut_or_padded(neox):
    model = copy.deepcopy(neox)
    texts = ["GENE1 GENE2 GENE3 GENE4 GENE5", "GENE1", "words it has never seen: Ünïcode"]
    expected = neox.tokenizer(texts)["input_ids"]
    model.tokenizer.backend_tokenizer.enable_truncation(2)
    model.tokenizer.backend_tokenizer.enable_padding(length=9)
    assert encode(model, texts) == expected

    class Slow:
        """A tokenizer without a Rust backend."""

        eos_token, eos_token_id = neox.tokenizer.eos_token, neox.tokenizer.eos_token_id

        def __call__(self, texts, **options):
            return neox.tokenizer(texts, **options)

    model.tokenizer = Slow()
    assert encode(model, texts) == expected


def test_special_tokens(neox):
    assert end_of_text(neox) == neox.tokenizer.eos_token_id
    assert padding_token(neox) == neox.tokenizer.pad_token_id != neox.tokenizer.eos_token_id
    bare = copy.deepcopy(neox)
    bare.tokenizer.pad_token = None
    assert padding_token(bare) == bare.tokenizer.eos_token_id


def test_context_of_texts_alone(neox):
    model = copy.copy(neox)
    model.context_length = 4
    check_context(model, [4, 1, 4], 0, "")
    check_context(model, [3], 1, "x")
    check_context(model, [], 9, "x")
    with pytest.raises(ContextError) as error:
        check_context(model, [4, 5, 6], 0, "")
    assert error.value.problem == (
        "example 1 needs 5 tokens (5 of the prompt); the context of tiny is 4; 2 of 3 examples do not fit."
    )
    with pytest.raises(ContextError) as error:
        check_context(model, [3, 1], 2, "the answer")
    assert error.value.problem == (
        "example 0 needs 5 tokens (3 of the prompt and 2 for the answer); the context of tiny is 4; "
        "1 of 2 examples do not fit."
    )


def test_batch_size_by_device(neox):
    assert batch_tokens(neox, None) == TOKENS_PER_BATCH["cpu"] == 4096
    assert batch_tokens(neox, 1) == 1
    assert batch_tokens(neox, 77) == 77
    with pytest.raises(ConfigError) as error:
        batch_tokens(neox, 0)
    assert error.value.problems == ["tokens_per_batch is 0, not at least 1"]

    class Elsewhere:
        class model:
            device = torch.device("meta")

    assert batch_tokens(Elsewhere, None) == TOKENS_PER_BATCH["other"] == 32768
