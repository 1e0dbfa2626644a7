"""Words as a tree of tokens, and the walk of many answers along it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from c2s.inference.constrain import Spelled

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WordTree:
    """Token sequences of words, as they are at the beginning of an answer and behind another word.

    Nodes are numbered level by level, and the children of a node come one after the other, sorted by token. Node
    0 is the beginning of an answer. Where words are spelled alike behind other words, it is also the place from
    which the next word begins; otherwise that is node 1.

    Attributes
    ----------
    first, again
        Tokens of each word at the beginning of an answer, and behind another word.
    root
        Node from which words behind words begin: 0 or 1.
    token
        Token that leads to a node; int64 ``[nodes]``, -1 for roots.
    child
        First child of a node; int64 ``[nodes + 1]``, so that those of node i end where those of node i + 1 begin.
    word
        The word that ends at a node; int64 ``[nodes]``, -1 where none does.
    paths
        Nodes on the ways to each word, roots left out; int64 ``[words, longest]``, filled up with the number of
        nodes.
    below
        Number of words at or below a node; int64 ``[nodes]``.
    """

    first: tuple[tuple[int, ...], ...]
    again: tuple[tuple[int, ...], ...]
    root: int
    token: Ints
    child: Ints
    word: Ints
    paths: Ints
    below: Ints

    @classmethod
    def build(cls, first: Sequence[tuple[int, ...]], again: Sequence[tuple[int, ...]]) -> WordTree:
        """Build the tree from the tokens of each word at the beginning, and behind another word."""
        same = tuple(first) == tuple(again)
        roots = [0] if same else [0, 1]
        spellings = [(0, word, ids) for word, ids in enumerate(first)]
        spellings += [] if same else [(1, word, ids) for word, ids in enumerate(again)]
        token, child, words = [-1] * len(roots), [], [-1] * len(roots)
        paths: list[list[int]] = [[] for _ in first]
        # One level after the other: `level` holds the spellings that pass through each of its nodes.
        level = [[s for s in spellings if s[0] == root] for root in roots]
        depth = 0
        while level:
            following = []
            for passing in level:
                child.append(len(token))
                branches: dict[int, list[tuple[int, int, tuple[int, ...]]]] = {}
                for spelling in passing:
                    if len(spelling[2]) > depth:
                        branches.setdefault(spelling[2][depth], []).append(spelling)
                for next_token in sorted(branches):
                    node = len(token)
                    token.append(next_token)
                    words.append(-1)
                    for _, word, ids in branches[next_token]:
                        paths[word].append(node)
                        if len(ids) == depth + 1:
                            words[node] = word
                    following.append(branches[next_token])
            level, depth = following, depth + 1
        nodes = len(token)
        child.append(nodes)
        longest = max(map(len, paths))
        table = np.full((len(paths), longest), nodes, dtype=np.int64)
        for word, path in enumerate(paths):
            table[word, : len(path)] = path
        below = np.bincount(table.ravel(), minlength=nodes + 1)[:nodes].astype(np.int64)
        return cls(
            first=tuple(first),
            again=tuple(again),
            root=roots[-1],
            token=np.array(token, dtype=np.int64),
            child=np.array(child, dtype=np.int64),
            word=np.array(words, dtype=np.int64),
            paths=table,
            below=below,
        )

    def lengths(self) -> list[int]:
        """Return the number of tokens of each word."""
        return [len(ids) for ids in self.first]

    def to_lists(self) -> dict[str, list[list[int]]]:
        """Return the spellings as plain values, from which `build` makes the tree again."""
        return {"first": [list(ids) for ids in self.first], "again": [list(ids) for ids in self.again]}

    def clash(self) -> tuple[int, int] | None:
        """Return a word and a token that may go on with it or begin the next one; None where there is none."""
        begins = set(self.token[self.child[self.root] : self.child[self.root + 1]].tolist())
        for node in np.flatnonzero((self.word >= 0) & (np.diff(self.child) > 0)):
            for token in self.token[self.child[node] : self.child[node + 1]].tolist():
                if token in begins:
                    return int(self.word[node]), int(token)
        return None


class TreeWalk:
    """The places of many answers in a tree, as tensors: a step costs the same whatever the vocabulary.

    Parameters
    ----------
    spelled
        The constraint.
    slots
        Rows.
    vocabulary
        Columns of the logits.
    device
        Where the logits are.
    """

    def __init__(self, spelled: Spelled, slots: int, vocabulary: int, device: torch.device) -> None:
        tree = spelled.tree
        self.spelled, self.device = spelled, device
        self.root, self.nodes = tree.root, len(tree.token)

        def held(part: Ints) -> torch.Tensor:
            return torch.from_numpy(part).to(device)

        self.token, self.child, self.word, self.paths = map(held, (tree.token, tree.child, tree.word, tree.paths))
        parents = np.repeat(np.arange(self.nodes), np.diff(tree.child))
        inner = tree.token[tree.child[0] :]
        self.first_inner = int(tree.child[0])
        self.scale = int(max(vocabulary, tree.token.max() + 1))
        # Sorted, since children are numbered by parent, then token.
        self.steps = held(parents * self.scale + inner)
        self.most = spelled.most if spelled.most is not None else 2**62
        self.once = not spelled.repeats
        self.beginners = held(tree.token[tree.child[self.root] : tree.child[self.root + 1]])
        begin, stop = tree.child[self.root], tree.child[self.root + 1]
        tops = (tree.paths >= begin) & (tree.paths < stop)
        self.top = held(tree.paths[np.arange(len(tree.paths)), tops.argmax(axis=1)])
        words = len(tree.paths)
        self.below = torch.cat([held(tree.below), torch.zeros(1, dtype=torch.int64, device=device)]).int()

        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.node = zeros(slots, dtype=torch.int64)
        self.said = zeros(slots, dtype=torch.int64)  # words, the one that may end here included
        self.written = zeros(slots, dtype=torch.int64)
        self.good = zeros(slots, dtype=torch.int64)  # tokens up to the end of the last whole word
        self.before = zeros(slots, dtype=torch.int64)  # and to the end of the word before that
        self.complete = zeros(slots, dtype=torch.bool)  # the row is at the end of a word that it may say
        self.over = zeros(slots, dtype=torch.bool)
        self.begins = zeros(slots, vocabulary, dtype=torch.bool)  # tokens with which a next word may begin
        self.left = zeros(slots if self.once else 0, self.nodes + 1, dtype=torch.int32)  # words not yet said below
        self.used = zeros(slots if self.once else 0, words, dtype=torch.bool)

    def begin(self, first: int, count: int) -> None:
        """Set `count` rows from `first` on to the beginning of an answer."""
        rows = slice(first, first + count)
        for part in (self.node, self.said, self.written, self.good, self.before):
            part[rows] = 0
        self.complete[rows] = self.over[rows] = False
        self.begins[rows] = False
        self.begins[rows, self.beginners] = True
        if self.once:
            self.left[rows] = self.below
            self.used[rows] = False

    def masked(self, rows: slice, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits ``[rows, vocabulary]`` with minus infinity where a token is not allowed."""
        return logits.masked_fill(~self.allowed(rows), float("-inf"))

    def allowed(self, rows: slice) -> torch.Tensor:
        """Return which tokens each row may take, bool ``[rows, vocabulary]``."""
        node, complete, said = self.node[rows], self.complete[rows], self.said[rows]
        fresh = (node == self.root) & (node == 0) & ~self.over[rows]
        may_begin = fresh | (complete & (said < self.most))
        allowed = self.begins[rows] & may_begin[:, None]
        # The children of the nodes inside words; few, apart from the first step where there are two roots.
        start, number = self.child[node], (self.child[node + 1] - self.child[node])
        number = torch.where(fresh | self.over[rows], 0, number)
        row = torch.repeat_interleave(torch.arange(len(node), device=self.device), number)
        if len(row):
            offset = torch.arange(len(row), device=self.device) - torch.repeat_interleave(
                number.cumsum(0) - number, number
            )
            child = start[row] + offset
            if self.once:
                alive = self.left[rows.start + row, child] > 0
                row, child = row[alive], child[alive]
            allowed[row, self.token[child]] = True
        allowed[:, self.spelled.end] = (complete & (said >= self.spelled.least)) | self.over[rows]
        return allowed

    def advance(self, rows: slice, tokens: torch.Tensor) -> None:
        """Take a step in each of those rows with one token each, int64 ``[rows]``, all of them allowed ones."""
        node, complete, over = self.node[rows], self.complete[rows], self.over[rows]
        ends = (tokens == self.spelled.end) | over
        inside, on_step = self._child(node, tokens)
        _, from_root = self._child(torch.full_like(node, self.root), tokens)
        on = inside & ~ends
        # Going on from the end of a word means that the word was not said, but only begun like another.
        place = torch.arange(rows.start, rows.start + len(node), device=self.device)
        unsaid = on & complete
        self._say(place, node, unsaid, -1)
        self.node[rows] = torch.where(ends, node, torch.where(on, on_step, from_root))
        word = self.word[self.node[rows]]
        ended = (word >= 0) & ~ends
        if self.once:
            ended &= ~self.used[place, word.clamp(min=0)]
        self._say(place, self.node[rows], ended, 1)
        self.complete[rows] = torch.where(ends, complete & ~ends, ended)
        self.over[rows] = ends
        self.written[rows] += (~ends).long()
        good = torch.where(unsaid, self.before[rows], self.good[rows])
        self.before[rows] = torch.where(ended, good, self.before[rows])
        self.good[rows] = torch.where(ended, self.written[rows], good)

    def _child(self, node: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return whether each node has a child by that token, and which (0 where it has none)."""
        step = node * self.scale + tokens
        at = torch.searchsorted(self.steps, step).clamp(max=len(self.steps) - 1)
        found = self.steps[at] == step
        return found, torch.where(found, at + self.first_inner, 0)

    def _say(self, place: torch.Tensor, node: torch.Tensor, which: torch.Tensor, sign: int) -> None:
        """Count the words that end at nodes as said (1) or take that back (-1), in some rows."""
        self.said[place] += sign * which.long()
        if not self.once or not bool(which.any()):
            return
        rows, words = place[which], self.word[node[which]]
        self.used[rows, words] = sign > 0
        paths = self.paths[words]
        self.left[rows[:, None], paths] -= sign  # the nodes of a path differ, so nothing is lost
        # A word's first node is the only beginning that can have become empty, or alive again.
        top = self.top[words]
        self.begins[rows, self.token[top]] = self.left[rows, top] > 0

    def move(self, holes: torch.Tensor, movers: torch.Tensor) -> None:
        """Copy the state of the rows `movers` over that of the rows `holes`."""
        parts = [self.node, self.said, self.written, self.good, self.before, self.complete, self.over, self.begins]
        for part in [*parts, self.left, self.used] if self.once else parts:
            part[holes] = part[movers]

    def whole(self, row: int) -> int:
        """Return how many tokens of a row's answer are whole words."""
        return int(self.good[row])
