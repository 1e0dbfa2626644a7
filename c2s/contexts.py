"""Multi-cell contexts: cells of one donor and one tissue, drawn without looking at row order (table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from c2s.errors import ConfigError, ObsError
from c2s.prompts import stable_hash
from c2s.splits import complete_column

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Context:
    """Some cells that are shown together.

    Attributes
    ----------
    context_id
        Stable id, made of the group and the first cell.
    cell_ids
        The cells, in the order they are shown.
    group
        The values that all of them share, by column.
    """

    context_id: str
    cell_ids: tuple[str, ...]
    group: dict[str, str]


def draw_contexts(
    obs: pd.DataFrame, *, within: Sequence[str], n_cells: tuple[int, int] = (5, 20), seed: int = 0
) -> list[Context]:
    """Deal each group's cells into contexts; every cell is in one context at most.

    Parameters
    ----------
    obs
        One row per cell, indexed by cell id.
    within
        Columns whose values all cells of a context share, e.g. ``("donor_id", "tissue")``.
    n_cells
        Fewest and most cells of a context; the paper uses 5 to 20 (section 4.6.6). The size is drawn by a hash of
        the first cell's id. Left-over cells of a group that are fewer than the minimum are not used.
    seed
        Changes who is dealt with whom.

    Returns
    -------
    list of Context
        Sorted by group.

    Raises
    ------
    ConfigError
        `n_cells` is not an increasing pair of positive numbers.
    ObsError
        A column is missing or empty, or no group has enough cells.
    """
    low, high = n_cells
    if not 1 <= low <= high:
        raise ConfigError("cells per context", [f"{low} to {high} is no range"], fix="give n_cells=(5, 20), say.")
    columns = {column: complete_column(obs, column) for column in within}
    keys = pd.DataFrame(columns, index=obs.index.astype(str))
    groups: dict[tuple[str, ...], list[str]] = {}
    for cell_id, *values in keys.itertuples():
        groups.setdefault(tuple(values), []).append(str(cell_id))
    contexts = []
    for key in sorted(groups):
        order = sorted(groups[key], key=lambda cell_id: (stable_hash("context", cell_id, seed), cell_id))
        while len(order) >= low:
            size = low + stable_hash("size", order[0], seed) % (high - low + 1)
            chosen, order = order[:size], order[size:]
            group = dict(zip(within, key, strict=False))
            contexts.append(Context("|".join((*key, chosen[0])), tuple(chosen), group))
    if not contexts:
        largest = max((len(cells) for cells in groups.values()), default=0)
        raise ObsError(
            f"no group of {', '.join(within) or 'cells'} has {low} cells; the largest has {largest}.",
            fix=f"lower n_cells to ({max(largest, 1)}, {max(largest, 1)}), or group by fewer columns.",
        )
    return contexts
