from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, strategies as st

from c2s.inference.trie import LabelTrie, tries_within

END = 0


def test_a_tree_by_hand():
    # "1 2" is the beginning of "1 2 3"; "4" stands alone.
    trie = LabelTrie.build([(1, 2, END), (1, 2, 3, END), (4, END)])
    assert trie.tokens.tolist() == [1, 2, 3, 4]
    assert trie.depth.tolist() == [1, 2, 3, 1]
    assert trie.visible.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [False, False, False, True],
    ]
    steps = list(zip(trie.step_node.tolist(), trie.step_token.tolist(), strict=True))
    assert steps == [(0, 1), (1, 2), (2, END), (2, 3), (3, END), (0, 4), (4, END)]
    assert trie.path.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6]
    assert trie.path_start.tolist() == [0, 3, 7]
    values = np.array([[1.0, 10, 100, 1000, 10000, 7, 3]])
    assert trie.totals(values).tolist() == [[111.0, 11011.0, 10.0]]


def test_a_label_of_one_token_needs_no_node():
    trie = LabelTrie.build([(5,), (6,)])
    assert len(trie.tokens) == 0
    assert trie.visible.shape == (0, 0)
    assert trie.totals(np.array([[1.0, 2.0]])).tolist() == [[1.0, 2.0]]


def test_a_tree_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LabelTrie.build([(5,), (6,)]).tokens = np.zeros(0)


def test_infinite_steps_stay_with_their_label():
    trie = LabelTrie.build([(1, END), (2, END)])
    assert trie.totals(np.array([[-np.inf, -1.0, -2.0, -3.0]])).tolist() == [[-np.inf, -5.0]]


def test_trees_are_cut_where_they_grow_too_large():
    sequences = [(3, 1, END), (1, 1, END), (1, 2, END), (2, END)]
    parts = [indices for indices, _ in tries_within(sequences, 3)]
    assert parts == [[1, 2], [3, 0]]
    assert [indices for indices, _ in tries_within(sequences, 2)] == [[1], [2], [3], [0]]
    assert [indices for indices, _ in tries_within(sequences, 6)] == [[1, 2, 3, 0]]
    assert [indices for indices, _ in tries_within(sequences, 5)] == [[1, 2, 3], [0]]
    # A sequence that is too large by itself has a tree of its own.
    assert [len(t.tokens) for _, t in tries_within([(1, 2, 3, END), (4, END)], 1)] == [3, 1]


sequences = st.lists(
    st.lists(st.integers(1, 3), min_size=1, max_size=4).map(lambda s: (*s, END)),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(sequences, st.integers(1, 20))
def test_steps_add_up_to_each_sequence(labels, most):
    rng = np.random.default_rng(0)
    value: dict[tuple[int, ...], float] = {}
    seen = []
    for indices, trie in tries_within(labels, most):
        seen += indices
        prefix = [(), *(tuple(trie.tokens[trie.visible[i]].tolist()) for i in range(len(trie.tokens)))]
        assert [len(p) for p in prefix[1:]] == trie.depth.tolist()
        steps = []
        for node, token in zip(trie.step_node, trie.step_token, strict=True):
            steps.append(value.setdefault((*prefix[node], int(token)), rng.random()))
        totals = trie.totals(np.array([steps]))[0]
        for index, total in zip(indices, totals, strict=True):
            label = labels[index]
            expected = sum(value[label[: end + 1]] for end in range(len(label)))
            np.testing.assert_allclose(total, expected)
        assert len(indices) == 1 or len(trie.tokens) <= most
    assert sorted(seen) == list(range(len(labels)))
