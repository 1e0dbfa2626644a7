"""Conditions: what is known of a cell that is to be written, how a prompt says it, and which are held out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from c2s import Split, split_cells
from c2s.errors import ConfigError, ObsError
from c2s.prompts import stable_hash
from c2s.splits import column_names, complete_column, split_by_donor

if TYPE_CHECKING:
    import pandas as pd

#: Column with the abstract of a study; the only one that may have a value of its own for nearly every cell.
ABSTRACT = "abstract"
_EXAMPLE = 'held_out=["cell_type=B cell & condition=stimulated"]'


def condition_table(obs: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the conditions of each cell as text with single spaces, indexed by cell id.

    Raises
    ------
    ObsError
        A column is missing, empty for some cells, or an identifier (a value of its own for most cells).
    """
    import pandas as pd

    table = pd.DataFrame(index=pd.Index(obs.index.astype(str)))
    for column in columns:
        values = complete_column(obs, column).str.split().str.join(" ")
        empty = values.index[values == ""]
        if len(empty):
            raise ObsError(
                f"the condition {column!r} is empty for {len(empty)} cell(s), first {empty[0]!r}.",
                fix="fill the column, or leave these cells out.",
            )
        if column != ABSTRACT and values.nunique() > max(50, len(values) / 2):
            raise ObsError(
                f"column {column!r} has {values.nunique()} values for {len(values)} cells: an identifier or a "
                "measurement, which no cell can be generated from.",
                fix="name a categorical column as condition, or bin the values first.",
            )
        table[column] = values
    return table


def described(conditions: Mapping[str, str]) -> str:
    """Say conditions in words: ``cell type : B cell ; condition : stimulated``."""
    return " ; ".join(
        f"{' '.join(name.replace('_', ' ').split())} : {value}" for name, value in conditions.items()
    )


def split_values(text: str, known: Collection[str] = ()) -> list[str]:
    """Split a list of values at its commas, save those within a value that is known.

    Parameters
    ----------
    text
        Values separated by commas.
    known
        Values that may hold commas themselves, as many names of the Cell Ontology do; the longest that fits is
        taken.

    Examples
    --------
    >>> split_values("CD4-positive, alpha-beta T cell, B cell", ["CD4-positive, alpha-beta T cell"])
    ['CD4-positive, alpha-beta T cell', 'B cell']
    """
    whole = {_parts(value): value for value in known}
    parts, found = _parts(text), []
    longest = max((len(key) for key in whole), default=1)
    start = 0
    while start < len(parts):
        ends = range(min(len(parts), start + longest), start, -1)
        end = next((end for end in ends if parts[start:end] in whole), start + 1)
        found.append(whole.get(parts[start:end], parts[start]))
        start = end
    return found


def _parts(text: str) -> tuple[str, ...]:
    parts = (" ".join(part.split()) for part in text.split(","))
    return tuple(part for part in parts if part)


def conditions_of_cells(conditions: pd.DataFrame) -> list[dict[str, str]]:
    """Return the conditions of each cell of a `condition_table`, by column."""
    columns = [str(column) for column in conditions.columns]
    rows = conditions.to_numpy(str).reshape(len(conditions), -1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def described_rows(conditions: pd.DataFrame) -> list[str]:
    """Describe the conditions of each cell of a `condition_table`; ``any`` without conditions."""
    return [described(row) or "any" for row in conditions_of_cells(conditions)]


def as_conditions(value: Sequence[str]) -> tuple[str, ...]:
    """Return column names as a tuple; one name may come as a text, and names may be separated by commas.

    Raises
    ------
    ConfigError
        A column is named twice.
    """
    names = column_names(value)
    if len(set(names)) < len(names):
        raise ConfigError("conditions", [f"{list(names)} names a column twice"], fix="name each column once.")
    return names


def held_out_cells(conditions: pd.DataFrame, held_out: Sequence[str]) -> pd.Series:
    """Say which cells have a condition that is held out.

    Parameters
    ----------
    conditions
        From `condition_table`.
    held_out
        Combinations such as ``"cell_type=B cell & condition=stimulated"``; a cell belongs to one when it has all
        of its values.

    Returns
    -------
    pandas.Series
        Boolean, indexed by cell id.

    Raises
    ------
    ConfigError
        A combination is malformed, or names a column that is no condition; all problems are named.
    ObsError
        No cell has a combination, or all cells have one.
    """
    import pandas as pd

    problems = []
    wanted: list[dict[str, str]] = []
    for text in held_out:
        pairs = [part.partition("=") for part in text.split("&")]
        bad = [name.strip() for name, equals, value in pairs if not (name.strip() and equals and value.strip())]
        unknown = [name.strip() for name, _, _ in pairs if name.strip() not in conditions.columns]
        if bad:
            problems.append(f"{text!r} is not COLUMN=VALUE, or several joined by &")
        elif unknown:
            problems.append(f"{text!r} names {', '.join(map(repr, unknown))}, which is no condition of the task")
        else:
            wanted.append({name.strip(): " ".join(value.split()) for name, _, value in pairs})
    if problems:
        known = ", ".join(conditions.columns) or "none: the task is unconditional"
        raise ConfigError("held-out conditions", problems, fix=f"{_EXAMPLE}; the conditions are {known}.")
    found = pd.Series(False, index=conditions.index)
    for combination in wanted:
        here = (conditions[list(combination)] == pd.Series(combination)).all(axis=1)
        if not here.any():
            seen = "; ".join(
                f"{column}: {', '.join(sorted(conditions[column].unique())[:8])}" for column in combination
            )
            raise ObsError(
                f"no cell has the held-out condition {described(combination)}.", fix=f"there are {seen}."
            )
        found |= here
    if found.all():
        raise ObsError("every cell has a held-out condition: nothing is left to train on.", fix="hold out fewer.")
    return found


def unseen_combinations(
    obs: pd.DataFrame, conditions: Sequence[str], *, n: int = 1, min_cells: int = 20, seed: int = 0
) -> list[str]:
    """Choose combinations to hold out such that each of their values stays in training with another partner.

    Parameters
    ----------
    obs
        One row per cell.
    conditions
        Two columns or more.
    n
        Combinations to choose.
    min_cells
        Fewest cells of a chosen combination.
    seed
        Changes the choice.

    Returns
    -------
    list of str
        As the option ``held_out`` takes them.

    Raises
    ------
    ConfigError
        Fewer than two conditions are named.
    ObsError
        There are not so many such combinations.
    """
    if len(conditions) < 2:
        raise ConfigError("held-out combinations", ["one condition has no combinations"], fix="name two columns.")
    table = condition_table(obs, conditions)
    sizes = table.value_counts()
    order = sorted(sizes.index, key=lambda key: stable_hash("hold out", *key, seed))
    left = list(order)
    chosen: list[tuple[str, ...]] = []
    for key in order:
        others = [other for other in left if other != key]
        stays = all(any(other[i] == value for other in others) for i, value in enumerate(key))
        if len(chosen) < n and sizes[key] >= min_cells and stays:
            left = others
            chosen.append(key)
    if len(chosen) < n:
        raise ObsError(
            f"{len(chosen)} combination(s) of {', '.join(conditions)} can be held out, not {n}: each needs "
            f"{min_cells} cells, and other cells with each of its values.",
            fix="lower n or min_cells.",
        )
    return [" & ".join(f"{c}={v}" for c, v in zip(conditions, key, strict=True)) for key in chosen]


def split_for_generation(
    obs: pd.DataFrame, *, conditions: Sequence[str], donor: str, held_out: Sequence[str], seed: int
) -> Split:
    """Split by held-out conditions if there are any, else by donor, else by cell within each combination.

    Raises
    ------
    ObsError
        There are fewer than ten cells, or as `condition_table` and `held_out_cells`.
    """
    import pandas as pd

    if len(obs) < 10:
        raise ObsError(
            f"{len(obs)} cell(s) are too few to be split into training, validation and test cells.",
            fix="give at least 10 cells.",
        )
    table = condition_table(obs, conditions)
    key = pd.Series(described_rows(table), index=table.index, name="condition")
    if held_out:
        test = held_out_cells(table, held_out)
        rest = split_cells(
            key[~test].to_frame(),
            stratify="condition",
            fractions={"train": 0.875, "validation": 0.125},
            seed=seed,
        )
        assignment = pd.Series("test", index=table.index)
        assignment[rest.assignment.index] = rest.assignment
        unseen = [
            f"{column} {value}"
            for column in conditions
            for value in sorted(set(table.loc[test, column]) - set(table.loc[~test, column]))
        ]
        never = f" Never seen in any combination: {', '.join(unseen)}." if unseen else ""
        note = (
            f"Split by condition: {'; '.join(sorted(set(key[test])))} held out, {int(test.sum())} cells, and none "
            f"of their cells is among the training cells.{never} Donors may be on both sides."
        )
        return Split(assignment.astype(str), "cell", note, rest.problems)
    stratify = "condition" if conditions else None
    return split_by_donor(obs, donor=donor, stratify=stratify, cells=key.to_frame(), seed=seed)
