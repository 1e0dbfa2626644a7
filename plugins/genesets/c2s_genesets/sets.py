"""What both tasks share: the name of each set, and the split that keeps near-copies together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from c2s import Split, split_cells
from c2s.data import read_gmt
from c2s.data.gene_sets import GROUP_COLUMN, NAME_COLUMN
from c2s.errors import ObsError
from c2s.missing import missing_values

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["GROUP_COLUMN", "NAME_COLUMN", "checked_names", "example_sets", "split_sets"]


def checked_names(obs: pd.DataFrame) -> list[str]:
    """Return the readable name of each set, with single spaces.

    Raises
    ------
    ObsError
        The column is missing, or empty for some sets.
    """
    if NAME_COLUMN not in obs:
        raise ObsError(
            f"these data have no column {NAME_COLUMN!r}: they hold no gene sets.",
            fix="give a GMT file, or the name of a collection such as hallmark; `c2s plugins info genesets`.",
        )
    names = obs[NAME_COLUMN]
    empty = obs.index[missing_values(names)]
    if len(empty):
        raise ObsError(
            f"column {NAME_COLUMN!r} is empty for {len(empty)} gene set(s), first {empty[0]!r}.",
            fix="give each set a name, or leave these out.",
        )
    return [" ".join(str(name).split()) for name in names]


def example_sets() -> AnnData:
    """Return forty sets of the collection that comes with this plugin, to check its tasks on."""
    from c2s_genesets.collections import TEXTBOOK_FILE

    sets = read_gmt(TEXTBOOK_FILE)
    return sets.select(sets.names[:40]).to_anndata()


def split_sets(obs: pd.DataFrame, *, seed: int) -> Split:
    """Split sets 70/10/20 so that near-copies stay on one side; set by set where no column tells them.

    Raises
    ------
    ObsError
        There are too few sets, or groups of sets, to split.
    """
    grouped = GROUP_COLUMN in obs and obs[GROUP_COLUMN].nunique() >= 3
    split = split_cells(obs, unit=GROUP_COLUMN if grouped else None, seed=seed)
    if grouped:
        groups = obs[GROUP_COLUMN].nunique()
        note = (
            f"Split by set, near-copies together: {len(obs)} sets in {groups} groups, none of which is on two "
            "sides. The names of the test sets were not seen in training."
        )
    else:
        note = (
            f"Split by set: no column {GROUP_COLUMN!r} with three values or more, so a near-copy of a test set "
            "may be among the training sets."
        )
    return replace(split, note=note)
