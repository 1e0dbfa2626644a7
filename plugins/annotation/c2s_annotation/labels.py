"""Label columns: their checks, their names in a prompt, and the split that fits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c2s import Split
from c2s.errors import ObsError
from c2s.missing import missing_values
from c2s.splits import split_by_donor

if TYPE_CHECKING:
    import pandas as pd


def label_name(column: str) -> str:
    """Say a column's name in words: ``cell_type`` is *cell type*."""
    return " ".join(column.replace("_", " ").replace(".", " ").split())


def checked_labels(obs: pd.DataFrame, column: str) -> pd.Series:
    """Return the labels as text with single spaces.

    Raises
    ------
    ObsError
        The column is missing, empty for some cells, constant, has a different value for (nearly) every cell, or
        holds numbers few of which are those of ten cells.
    """
    if column not in obs:
        raise ObsError(
            f"obs has no label column {column!r}; it has {', '.join(map(str, obs.columns)) or 'no columns'}.",
            fix=f"call the one that holds it {column!r}, or name it: label=... (--label COLUMN).",
        )
    values = obs[column]
    empty = obs.index[missing_values(values)]
    if len(empty):
        raise ObsError(
            f"the label column {column!r} is empty for {len(empty)} of {len(obs)} cells, first {empty[0]!r} "
            f"({str(values[empty[0]])!r}).",
            fix=f"leave them out: adata = adata[~c2s.missing.missing_values(adata.obs[{column!r}])].copy().",
        )
    labels = values.astype(str).str.split().str.join(" ")
    distinct = labels.nunique()
    most = len(labels) / (10 if values.dtype.kind in "iuf" else 2)
    if distinct == len(labels) > 20 or (distinct > 50 and distinct > most):
        raise ObsError(
            f"column {column!r} has {distinct} values for {len(labels)} cells: "
            "an identifier or a measurement, not a label.",
            fix="name a categorical column (--label COLUMN), or bin the values first.",
        )
    return labels


def require_several(labels: pd.Series, column: str) -> None:
    """Raise `ObsError` if all cells have the same label: there would be nothing to learn."""
    if labels.nunique() < 2:
        raise ObsError(
            f"column {column!r} is constant ({labels.iloc[0]!r} for all {len(labels)} cells): nothing to learn.",
            fix="name a column with at least two values (--label COLUMN).",
        )


def split_by_donor_or_cell(obs: pd.DataFrame, *, label: str, donor: str, seed: int) -> Split:
    """Keep donors whole where there are at least three; otherwise split by cell within each label.

    Raises
    ------
    ObsError
        The label is constant, there are fewer than ten cells, or too few of each label.
    """
    require_several(checked_labels(obs, label), label)
    if len(obs) < 10:
        raise ObsError(
            f"{len(obs)} cell(s) are too few to be split into training, validation and test cells.",
            fix="give at least 10 cells, or use a trained model with `c2s predict`.",
        )
    return split_by_donor(obs, donor=donor, stratify=label, seed=seed)
