"""Splits do not leak, do not depend on row order, and say what they did."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from c2s.errors import ConfigError, ObsError
from c2s.splits import split_cells


def table(n=200, donors=8, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"donor_id": rng.integers(donors, size=n).astype(str), "cell_type": rng.choice(list("AAAB"), size=n)},
        index=[f"cell{i}" for i in range(n)],
    )


def test_every_cell_is_in_one_part_of_about_the_right_size():
    split = split_cells(table(1000), stratify="cell_type")
    assert sum(split.sizes.values()) == 1000
    assert abs(split.sizes["train"] - 700) <= 2
    assert abs(split.sizes["validation"] - 100) <= 2
    assert abs(split.sizes["test"] - 200) <= 2
    assert split.unit == "cell"
    assert "says nothing about a new donor" in split.note


def test_strata_keep_their_proportions():
    obs = table(1000)
    split = split_cells(obs, stratify="cell_type")
    overall = (obs.cell_type == "B").mean()
    for part in ("train", "validation", "test"):
        share = (obs.cell_type[split.ids(part)] == "B").mean()
        assert abs(share - overall) < 0.02


@given(seed=st.integers(0, 50), donors=st.integers(3, 12))
def test_a_donor_is_never_on_two_sides_and_every_part_has_cells(seed, donors):
    obs = table(100, donors, seed)
    if obs.donor_id.nunique() < 3:
        return
    split = split_cells(obs, unit="donor_id", seed=seed)
    sides = [set(obs.donor_id[split.ids(part)]) for part in ("train", "validation", "test")]
    assert all(sides)
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(split.sizes.values()) == 100
    assert "no value of donor_id is on two sides" in split.note


@pytest.mark.parametrize("options", [{"unit": "donor_id"}, {"stratify": "cell_type"}, {}])
def test_shuffling_rows_changes_nothing_and_the_seed_does(options):
    obs = table()
    first = split_cells(obs, seed=1, **options).assignment
    shuffled = split_cells(obs.sample(frac=1, random_state=3), seed=1, **options).assignment
    pd.testing.assert_series_equal(first.sort_index(), shuffled.sort_index())
    assert not first.equals(split_cells(obs, seed=2, **options).assignment)


def test_ids_come_in_table_order():
    obs = table(50)
    split = split_cells(obs)
    assert split.ids("test") == [i for i in obs.index if split.assignment[i] == "test"]


def test_custom_fractions():
    split = split_cells(table(100), fractions={"train": 0.5, "test": 0.5})
    assert split.sizes == {"train": 50, "validation": 0, "test": 50}


def test_all_problems_of_the_fractions_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        split_cells(table(), fractions={"train": 1.5, "dev": 0.1})
    assert len(caught.value.problems) == 3
    assert "'dev'" in str(caught.value)


def test_bad_columns_are_named():
    obs = table()
    with pytest.raises(ObsError, match=r"no column 'donor'; it has donor_id, cell_type"):
        split_cells(obs, unit="donor")
    obs.loc["cell5", "donor_id"] = None
    with pytest.raises(ObsError, match=r"empty for 1 cell\(s\), first 'cell5'"):
        split_cells(obs, unit="donor_id")
    with pytest.raises(ObsError, match=r"2 value\(s\), too few for 3 parts"):
        split_cells(table(50, donors=2), unit="donor_id")
