"""Labels as a tree of tokens, so that what labels share is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelTrie:
    """Token sequences that all end with the same token and follow the same prompt.

    Node 0 is the prompt; the others stand for a token each, parents before children. The last token of a
    sequence needs no node: nothing follows it. A label that is the beginning of another one is a path through
    inner nodes, told apart by its end-of-text token.

    Attributes
    ----------
    tokens
        Token of nodes 1, 2, ...; int64 ``[nodes]``.
    depth
        Number of tokens between the prompt and the node, this one included; int64 ``[nodes]``.
    visible
        Whether a node (row) sees another (column): itself and its ancestors; bool ``[nodes, nodes]``.
    step_node, step_token
        The distinct steps "after this node comes this token"; int64 ``[steps]``. Node 0 is the prompt.
    path, path_start
        Steps of all sequences one after the other, and where each begins; int64 ``[total]`` and ``[sequences]``.
    """

    tokens: npt.NDArray[np.int64]
    depth: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_]
    step_node: npt.NDArray[np.int64]
    step_token: npt.NDArray[np.int64]
    path: npt.NDArray[np.int64]
    path_start: npt.NDArray[np.int64]

    @classmethod
    def build(cls, sequences: Sequence[Sequence[int]]) -> LabelTrie:
        """Build the tree of non-empty token sequences."""
        nodes: dict[tuple[int, ...], int] = {(): 0}
        steps: dict[tuple[int, int], int] = {}
        path: list[int] = []
        start: list[int] = []
        for sequence in sequences:
            start.append(len(path))
            for place, token in enumerate(sequence):
                node = nodes.setdefault(tuple(sequence[:place]), len(nodes))
                path.append(steps.setdefault((node, token), len(steps)))
        prefixes = list(nodes)[1:]
        visible = np.zeros((len(prefixes), len(prefixes)), dtype=np.bool_)
        for row, prefix in enumerate(prefixes):
            for end in range(1, len(prefix) + 1):
                visible[row, nodes[prefix[:end]] - 1] = True
        return cls(
            tokens=np.array([prefix[-1] for prefix in prefixes], dtype=np.int64),
            depth=np.array([len(prefix) for prefix in prefixes], dtype=np.int64),
            visible=visible,
            step_node=np.array([node for node, _ in steps], dtype=np.int64),
            step_token=np.array([token for _, token in steps], dtype=np.int64),
            path=np.array(path, dtype=np.int64),
            path_start=np.array(start, dtype=np.int64),
        )

    def totals(self, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up the steps of each sequence: ``[batch, steps]`` to ``[batch, sequences]``."""
        return np.add.reduceat(steps[:, self.path], self.path_start, axis=1)


def tries_within(sequences: Sequence[Sequence[int]], most_nodes: int) -> list[tuple[list[int], LabelTrie]]:
    """Build as few trees as needed so that none has many more than `most_nodes` nodes.

    Parameters
    ----------
    sequences
        Token sequences.
    most_nodes
        Most nodes of a tree; a single sequence may exceed it.

    Returns
    -------
    list of (indices, trie)
        The sequences of each tree, by index. Sequences with a common beginning stay together.
    """
    parts: list[list[int]] = []
    seen: set[tuple[int, ...]] = set()
    for index in sorted(range(len(sequences)), key=lambda i: tuple(sequences[i])):
        prefixes = {tuple(sequences[index][:end]) for end in range(1, len(sequences[index]))}
        if not parts or len(seen | prefixes) > most_nodes:
            parts.append([])
            seen = set()
        parts[-1].append(index)
        seen |= prefixes
    return [(part, LabelTrie.build([sequences[i] for i in part])) for part in parts]
