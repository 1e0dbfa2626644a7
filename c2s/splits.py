"""Splits that do not leak: by donor or study where there is one, by cell otherwise, and said so."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from c2s.errors import C2SWarning, ConfigError, ObsError
from c2s.missing import missing_values
from c2s.prompts import stable_hash

PARTS = ("train", "validation", "test")
#: Usual names of a column with the donor, in small letters and digits.
_DONOR = re.compile(
    r"(donor|patient|individual|subject|participant|person|mouse|animal|sample|biosample|case)"
    r"(id|ids|name|names|no|number|uuid|code)?|origident"
)
#: True answers, one by one, or how often each occurs.
Answers = Iterable[str] | Mapping[str, int]


@dataclass(frozen=True)
class Split:
    """Which part each cell belongs to.

    Attributes
    ----------
    assignment
        Series of ``"train"``, ``"validation"`` or ``"test"``, indexed by cell id.
    unit
        Name of the column whose values are kept whole (``"donor_id"``), or ``"cell"``.
    note
        One sentence for the page: how the cells were split and what that means.
    problems
        Sentences that were warned of when the split was made, see `split_problems`.
    """

    assignment: pd.Series
    unit: str
    note: str
    problems: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        counts = self.assignment.value_counts()
        object.__setattr__(self, "sizes", {part: int(counts.get(part, 0)) for part in PARTS})

    def ids(self, part: str) -> list[str]:
        """Return the cell ids of one part, in table order."""
        return self.assignment.index[self.assignment == part].tolist()


def split_cells(
    obs: pd.DataFrame,
    *,
    unit: str | None = None,
    stratify: str | None = None,
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Split:
    """Split cells into train, validation and test.

    Parameters
    ----------
    obs
        One row per cell, indexed by cell id.
    unit
        Column whose values never sit on two sides (donor, study). None splits by cell.
    stratify
        Column of labels, whose proportions are kept when splitting by cell. With `unit` they cannot be; either way
        `split_problems` of the labels are warned of.
    fractions
        Share of each part; default ``{"train": 0.7, "validation": 0.1, "test": 0.2}`` (section 4.6.1 keeps 20%
        of the cells for evaluation).
    seed
        Changes the split. The part of a unit, or of a cell within its stratum, is ordered by a hash of its id,
        so that shuffling the rows changes nothing.

    Raises
    ------
    ObsError
        A column is missing or has empty entries, there are fewer units than parts asked for, or so few cells, in
        all or of each label, that the training or the test part would be empty. An empty validation part is warned
        of, and so is a part with far fewer cells than asked for.
    ConfigError
        The fractions are not positive or do not add up to one.
    """
    wanted = dict(fractions or {"train": 0.7, "validation": 0.1, "test": 0.2})
    _check_fractions(wanted)
    labels = complete_column(obs, stratify) if stratify else None
    if unit is not None:
        units = complete_column(obs, unit)
        names = sorted(units.unique())
        if len(names) < len(wanted):
            raise ObsError(
                f"column {unit!r} has {len(names)} value(s), too few for {len(wanted)} parts that share none.",
                fix="split by cell (unit=None), or pool more donors.",
            )
        sizes = units.value_counts()
        parts = _fill(names, [int(sizes[n]) for n in names], wanted, unit, seed)
        assignment = units.map(parts)
        note = f"Split by {unit}: no value of {unit} is on two sides ({len(names)} values)."
    else:
        ids = pd.Index(obs.index.astype(str))
        strata = pd.Series("", index=ids) if labels is None else labels
        chosen: dict[str, str] = {}
        for _, members in sorted(pd.Series(ids, index=strata.to_numpy()).groupby(level=0)):
            chosen |= _fill(sorted(members), [1] * len(members), wanted, "cell", seed)
        assignment = pd.Series([chosen[i] for i in ids], index=ids)
        note = _by_cell("no donor column was given", obs)
    assignment.index = pd.Index(obs.index.astype(str))
    split = Split(assignment.astype(str), unit or "cell", note)
    problems = _too_small(split, wanted, labels)
    if labels is not None:
        known = {part: labels[split.ids(part)] for part in wanted if split.sizes[part]}
        problems += split_problems(known, unit=split.unit)
    warn_of(problems)
    return replace(split, problems=tuple(problems))


def split_by_donor(
    obs: pd.DataFrame, *, donor: str, stratify: str | None = None, cells: pd.DataFrame | None = None, seed: int = 0
) -> Split:
    """Split by donor where there are at least three, all known; by cell otherwise, and say why.

    Parameters
    ----------
    obs
        One row per cell, indexed by cell id.
    donor
        Column with the donor, which may be missing.
    stratify, seed
        As for `split_cells`.
    cells
        What to split by cell instead of `obs`, where `stratify` is no column of it.

    Raises
    ------
    ObsError
        As `split_cells`.
    """
    if donor not in obs:
        why = f"there is no donor column {donor!r}"
    elif missing_values(obs[donor]).any():
        n = int(missing_values(obs[donor]).sum())
        why = f"the donor is not known for {n} cells ({donor!r}; give them one, or leave them out)"
    elif obs[donor].nunique() < 3:
        why = f"{donor!r} has fewer than three values"
    else:
        return split_cells(obs, unit=donor, stratify=stratify if cells is None else None, seed=seed)
    split = split_cells(obs if cells is None else cells, stratify=stratify, seed=seed)
    return replace(split, note=_by_cell(why, obs, donor))


def _by_cell(why: str, obs: pd.DataFrame, donor: str | None = None) -> str:
    note = (
        f"Split by cell: {why}, so cells of one donor are on both sides, and the score says nothing about a new "
        "donor."
    )
    found = [name for name in donor_columns(obs) if name != donor and not missing_values(obs[name]).any()]
    if found:
        column = shlex.quote(found[0])
        note += f" {found[0]!r} looks like donors: donor={found[0]!r} (--donor {column}) keeps them whole."
    return note


def donor_columns(obs: pd.DataFrame) -> list[str]:
    """Return the columns that look like donors: by a usual name, and with at least three values that recur."""
    found = []
    for column in obs.columns:
        name = re.sub(r"[^a-z0-9]", "", str(column).casefold())
        if _DONOR.fullmatch(name):
            values = obs[column][~missing_values(obs[column])]
            if 3 <= values.nunique() <= len(obs) / 3:
                found.append(str(column))
    return sorted(found, key=lambda column: "sample" in column.casefold())  # a donor may have given several


def _too_small(split: Split, fractions: Mapping[str, float], labels: pd.Series | None) -> list[str]:
    """Say which parts have far fewer cells than asked for; refuse a split that cannot be trained or tested on."""
    n = len(split.assignment)
    if split.unit != "cell":
        return [
            f"The {part} part has {split.sizes[part]} of {n} cells, not {share:.0%}: the values of {split.unit!r} "
            "have very unequal numbers of cells; split with another seed, or pool the small ones."
            for part, share in fractions.items()
            if split.sizes[part] < share * n / 4
        ]
    empty = [part for part in fractions if not split.sizes[part]]
    within, fix = "", "give more cells."
    if labels is not None:
        largest = labels.value_counts().max() if n else 0
        within = f" within {labels.name!r}, whose {labels.nunique()} value(s) have {largest} cell(s) at most"
        fix = f"give more cells, or pool or leave out rare values of {labels.name!r}."
    problem = (
        f"{n} cell(s) are too few to split by cell{within}: the {' and the '.join(empty)} part would be empty"
    )
    if {"train", "test"} & set(empty):
        raise ObsError(f"{problem}.", fix=fix)
    return [f"{problem}; {fix}"] if empty else []


def split_problems(answers: Mapping[str, Answers], *, unit: str = "cell") -> list[str]:
    """Say what keeps a score on a split from telling what a model has learned.

    Parameters
    ----------
    answers
        True answers of each part that was asked for, by its name; those of data that were not split as ``"all"``.
    unit
        Of the split.

    Returns
    -------
    list of str
        Sentences: `constant_parts`, then which answers of other parts the training part never has, if answers
        `recur`.
    """
    learned = Counter(answers.get("train", ()))
    problems = constant_parts(answers, unit=unit)
    for part, known in answers.items():
        counts = Counter(known)
        unseen = sorted(set(counts) - set(learned), key=lambda answer: (-counts[answer], answer))
        if unseen and recur(learned):
            n, total = sum(counts[answer] for answer in unseen), counts.total()
            shown = ", ".join(f"{_short(answer)} ({counts[answer]})" for answer in unseen[:5])
            more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
            problems.append(
                f"{n} of {total} answers of {_named(part)} are none that the training part has, and cannot have "
                f"been learned: {shown}{more}; leave them out, or get them into the training part."
            )
    return problems


def constant_parts(answers: Mapping[str, Answers], *, unit: str = "cell") -> list[str]:
    """Say which parts are empty or have one true answer only, see `split_problems`."""
    problems = []
    more = "cells" if unit == "cell" else f"values of {unit!r}"
    for part, known in answers.items():
        counts = Counter(known)
        where = _named(part)
        if not counts:
            problems.append(f"{where[0].upper()}{where[1:]} has no example: give more {more}.")
        elif len(counts) == 1:
            fix = "score other cells too" if part == "all" else f"split with another seed, or give more {more}"
            so = "whoever always says so is always right there"
            problems.append(
                f"The only answer of {where} is {_short(next(iter(counts)))}, {counts.total()} time(s): "
                f"{'there is nothing to learn' if part == 'train' else so}; {fix}."
            )
    return problems


def recur(counts: Mapping[str, int]) -> bool:
    """Whether answers come twice each on average, as labels do; whole cells and lists of many names do not."""
    return 0 < 2 * len(counts) <= sum(counts.values())


def warn_of(problems: Iterable[str]) -> None:
    """Warn of each problem of a split."""
    for problem in problems:
        warnings.warn(problem, C2SWarning, stacklevel=3)


def _named(part: str) -> str:
    return "the cells scored" if part == "all" else f"the {'training' if part == 'train' else part} part"


def _short(answer: str) -> str:
    return repr(answer if len(answer) <= 60 else f"{answer[:57]}...")


def assign_units(
    sizes: Mapping[str, int], fractions: Mapping[str, float], *, salt: str, seed: int = 0
) -> dict[str, str]:
    """Assign units (donors, studies) of known sizes to parts, whole, near the shares asked for.

    Parameters
    ----------
    sizes
        Cells of each unit; at least as many units as parts.
    fractions
        Share of each part.
    salt
        What the units are; units of another kind with the same names are assigned independently.
    seed
        Changes the assignment.

    Returns
    -------
    dict
        Part of each unit. A function of the units' names and sizes, not of their order; no part is empty.
    """
    names = sorted(sizes)
    return _fill(names, [sizes[name] for name in names], fractions, salt, seed)


def _fill(
    names: Sequence[str], sizes: Sequence[int], fractions: Mapping[str, float], salt: str, seed: int
) -> dict[str, str]:
    """Hand out `names` in hash order, each to the part that lags most behind its share."""
    total = sum(sizes)
    order = sorted(range(len(names)), key=lambda i: stable_hash("split", salt, names[i], seed))
    filled = dict.fromkeys(fractions, 0)
    result = {}
    for place, i in enumerate(order):
        left = len(order) - place
        empty = [part for part in fractions if not filled[part]]
        # With few units every part must still get one.
        choices = empty if salt != "cell" and len(empty) >= left else list(fractions)
        part = max(choices, key=lambda p: (fractions[p] * total - filled[p], fractions[p]))
        filled[part] += sizes[i]
        result[names[i]] = part
    return result


def _check_fractions(fractions: Mapping[str, float]) -> None:
    problems = [f"unknown part {part!r}" for part in fractions if part not in PARTS]
    problems += [f"the share of {p!r} is {f}, not in (0, 1]" for p, f in fractions.items() if not 0 < f <= 1]
    if not np.isclose(sum(fractions.values()), 1):
        problems.append(f"the shares add up to {sum(fractions.values()):g}, not 1")
    if problems:
        raise ConfigError("split fractions", problems, fix=f"give shares of {', '.join(PARTS)} that add up to 1.")


def column_names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return names of columns: a text of one or of several separated by commas, or a list.

    A text may be a JSON list, for names that hold commas or begin with spaces.
    """
    if not isinstance(given, str):
        return tuple(name for name in given if name)
    if given.lstrip().startswith("["):
        try:
            listed = json.loads(given)
        except json.JSONDecodeError:
            listed = None
        if isinstance(listed, list):
            return tuple(map(str, listed))
    return tuple(name for part in given.split(",") if (name := part.strip()))


def complete_column(obs: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text, indexed by cell id as text.

    Raises
    ------
    ObsError
        The column is missing, or some cells have no value that says something (see `c2s.missing.is_missing`).
    """
    if column not in obs:
        fix = f"name one of them instead of {column!r}."
        odd = [name for name in map(str, obs.columns) if column in name and name != "".join(column_names(name))]
        if odd:
            fix += f" A name with commas or outer spaces is written in a list: '{json.dumps(odd[:1])}'."
        known = ", ".join(map(str, obs.columns)) or "none"
        raise ObsError(f"obs has no column {column!r}; it has {known}.", fix=fix)
    empty = obs.index[missing_values(obs[column])]
    if len(empty):
        raise ObsError(
            f"column {column!r} is empty for {len(empty)} cell(s), first {empty[0]!r}.",
            fix="fill the column, or leave these cells out.",
        )
    return obs[column].astype(str).set_axis(obs.index.astype(str))
