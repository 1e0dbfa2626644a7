"""Splits do not leak, do not depend on row order, and say what they did."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from c2s.errors import C2SWarning, ConfigError, ObsError
from c2s.splits import PARTS, recur, split_cells, split_problems


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


def labelled(**sizes):
    """Cells of donors: donor name -> one label per cell."""
    rows = [(donor, label) for donor, labels in sizes.items() for label in labels]
    return pd.DataFrame(rows, columns=["donor_id", "cell_type"], index=[f"cell{i}" for i in range(len(rows))])


@pytest.mark.parametrize(
    ("labels", "fractions", "message"),
    [
        ("", None, r"^0 cell\(s\) are too few .*: the train and the validation and the test part would be empty"),
        ("A", None, r"^1 cell\(s\) .* the validation and the test part would be empty"),
        (
            "ABCDEFGHIJKL",
            None,
            r"^12 .*whose 12 value\(s\) have 1 cell\(s\) at most: the validation and the test part",
        ),
        ("ABCD" * 2, {"train": 0.9, "test": 0.1}, r"whose 4 value\(s\) have 2 cell\(s\) at most: the test part"),
        ("ABCD" * 2, {"train": 0.1, "test": 0.9}, "the train part would be empty"),
    ],
)
def test_cells_too_few_to_train_and_test_on_are_refused(labels, fractions, message):
    with pytest.raises(ObsError, match=message) as caught:
        split_cells(labelled(a=labels), stratify="cell_type", fractions=fractions)
    assert "pool or leave out rare values of 'cell_type'" in caught.value.fix


def test_an_empty_validation_part_is_warned_of_and_kept_in_mind():
    obs = labelled(a="AAABBBCCCDDD")
    message = (
        r"12 cell\(s\) .* 'cell_type', whose 4 value\(s\) have 3 .*: the validation part would be empty; give more"
    )
    with pytest.warns(C2SWarning, match=message) as caught:
        split = split_cells(obs, stratify="cell_type")
    assert split.sizes == {"train": 8, "validation": 0, "test": 4}
    assert split.problems == (str(caught[0].message),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A part that is not asked for is not missed.
        assert not split_cells(obs, stratify="cell_type", fractions={"train": 0.7, "test": 0.3}).problems


@pytest.mark.parametrize("seed", range(4))
def test_donors_of_very_unequal_size_are_warned_of(seed):
    obs = labelled(a="AB" * 500, b="AB" * 3, c="AB" * 3)
    with pytest.warns(C2SWarning, match="values of 'donor_id' have very unequal numbers of cells; .*another seed"):
        split = split_cells(obs, unit="donor_id", seed=seed)
    assert all(split.sizes.values())
    small = {part for part, share in zip(PARTS, (0.7, 0.1, 0.2), strict=True) if split.sizes[part] < share * 253}
    assert {text.split()[1] for text in split.problems} == small


@pytest.mark.parametrize("donors", range(3, 13))
def test_sound_splits_are_not_warned_of(donors):
    obs = labelled(**{f"d{i}": "AAB" * 7 for i in range(donors)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            assert split_cells(obs, unit="donor_id", stratify="cell_type", seed=seed).problems == ()
            assert split_cells(obs, stratify="cell_type", seed=seed).problems == ()


def test_labels_that_belong_to_donors_are_warned_of():
    # Every donor is of one kind; whichever donor is the test part, all its cells have one answer.
    obs = labelled(a=["pure"] * 20, b=["mixed"] * 20, c=["pure"] * 20)
    with pytest.warns(
        C2SWarning, match=r"only answer of the test part is '\w+', 20 time\(s\).*values of 'donor_id'"
    ):
        split = split_cells(obs, unit="donor_id", stratify="cell_type")
    for part in PARTS:
        (label,) = set(obs.cell_type[split.ids(part)])
        where = "training" if part == "train" else part
        assert any(f"only answer of the {where} part is '{label}', 20 time(s)" in text for text in split.problems)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_cells(obs, unit="donor_id")  # nobody said what the answers are


def test_a_label_that_is_too_rare_for_the_test_part_leaves_one_answer_there():
    with pytest.warns(C2SWarning, match="only answer of the test part is 'A', 8 time"):
        split_cells(labelled(a="A" * 40 + "B"), stratify="cell_type")


def test_labels_that_no_training_cell_has_are_named_with_their_counts():
    answers = {"train": ["A", "B"] * 9, "test": [*"AABB", *"CCC", *"DEFGHI"]}
    (problem,) = split_problems(answers)
    assert "9 of 13 answers of the test part are none that the training part has" in problem
    assert "'C' (3), 'D' (1), 'E' (1), 'F' (1), 'G' (1) and 2 more" in problem
    # Answers that are all different, as whole cells are, are new by their nature.
    assert not split_problems({"train": [f"cell {i}" for i in range(9)], "test": ["x", "y"]})


@given(
    parts=st.dictionaries(
        st.sampled_from(["train", "validation", "test", "all"]), st.lists(st.sampled_from("ABCD"), max_size=12)
    )
)
def test_problems_are_those_that_are_there(parts):
    problems = split_problems(parts, unit="donor_id")
    empty = sum(not answers for answers in parts.values())
    single = sum(len(set(answers)) == 1 for answers in parts.values())
    known = parts.get("train", [])
    learnable = known and 2 * len(set(known)) <= len(known)
    new = sum(bool(set(answers) - set(known)) for answers in parts.values()) if learnable else 0
    assert sum("has no example" in text for text in problems) == empty
    assert sum("The only answer" in text for text in problems) == single
    assert sum("none that the training part has" in text for text in problems) == new
    assert len(problems) == empty + single + new
    assert problems == split_problems({part: Counter(answers) for part, answers in parts.items()}, unit="donor_id")
    assert not any(text[0].islower() or not text.endswith(".") for text in problems)


def test_what_recurs():
    assert recur(Counter("AABB")) and recur({"A": 700})
    assert not recur(Counter("AB")) and not recur({}) and not recur(Counter("AABCDE"))
