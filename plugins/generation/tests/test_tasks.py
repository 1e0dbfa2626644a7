"""What the tasks ask and answer, how they split, and what they refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest
from c2s_generation.answers import cells_of, numbered
from c2s_generation.cells import ConditionalCellTask, UnconditionalCellTask
from c2s_generation.conditions import condition_table, held_out_cells, unseen_combinations
from c2s_generation.samples import CellTypesSampleTask, TissueSampleTask, UnconditionalSampleTask

import c2s
from c2s.errors import C2SWarning, ConfigError, ObsError
from c2s.testing import simulated_cells

BOTH = ("cell_type", "tissue")


@pytest.fixture(scope="module")
def adata():
    return simulated_cells(96)


@pytest.fixture(scope="module")
def sentences(adata):
    return c2s.to_cell_sentences(adata, top_k=8)


def rows(task, sentences, **options):
    return task.examples(sentences, c2s.default_host().prompts.get(task.prompts), **options).to_pylist()


def test_a_cell_is_asked_for_by_its_conditions_and_answered_by_its_sentence(adata, sentences):
    told = dict(
        zip(sentences.table["cell_id"].to_pylist(), sentences.table["cell_sentence"].to_pylist(), strict=True)
    )
    for row in rows(ConditionalCellTask(conditions=BOTH), sentences):
        cell = adata.obs.loc[row["example_id"]]
        assert row["answer"] == told[row["example_id"]]
        assert f"cell type : {cell['cell_type']} ; tissue : {cell['tissue']}" in row["prompt"]
        assert f"Genes to list : {len(row['answer'].split())} ." in row["prompt"]
        assert not set(row["prompt"].split()) & set(row["answer"].split())


def test_without_conditions_nothing_is_told_but_the_number_of_genes(sentences):
    prompts = {re.sub(r"\d+", "N", row["prompt"]) for row in rows(UnconditionalCellTask(), sentences)}
    assert len(prompts) == 2


def test_a_sample_names_the_type_of_each_cell_in_order(adata, sentences):
    for row in rows(CellTypesSampleTask(min_cells=2, max_cells=4), sentences):
        types = [str(adata.obs.loc[cell, "cell_type"]) for cell in row["cell_ids"]]
        assert f"cell type : {' , '.join(types)} ." in row["prompt"]
        assert len(cells_of(row["answer"])) == row["n_cells"] == len(types)


def test_the_cells_of_a_sample_share_donor_and_tissue(adata, sentences):
    for task in (TissueSampleTask(min_cells=2, max_cells=4), UnconditionalSampleTask(min_cells=2, max_cells=4)):
        for row in rows(task, sentences):
            assert adata.obs.loc[row["cell_ids"], ["donor_id", "tissue"]].drop_duplicates().shape[0] == 1


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("A B C", [["A", "B", "C"]]),
        ("Cell 1 : A B . Cell 2 : C .", [["A", "B"], ["C"]]),
        ("Cell 1 : A Cell 2 : A A", [["A"], ["A", "A"]]),
        ("X Cell 1 : A", [["X"], ["A"]]),
        ("Cell 1 : Cell 2 : A", [[], ["A"]]),
        ("CellX 1 : A", [["CellX", "1", ":", "A"]]),
        ("", []),
        (None, []),
    ],
)
def test_answers_are_read_into_cells(text, cells):
    assert cells_of(text) == cells


def test_what_is_numbered_is_read_back():
    assert cells_of(numbered(["A B", "C"])) == [["A", "B"], ["C"]]


def test_a_donor_is_kept_whole_and_cells_are_split_by_condition_without_one(adata):
    assert ConditionalCellTask().split(adata.obs).unit == "donor_id"
    split = ConditionalCellTask().split(adata.obs.drop(columns="donor_id"))
    assert split.unit == "cell"
    test = adata.obs.loc[split.ids("test"), "cell_type"].value_counts()
    assert test.min() >= test.max() - 1


def test_a_held_out_combination_is_nowhere_but_in_the_test(adata):
    task = ConditionalCellTask(conditions=BOTH, held_out=("cell_type=B cell & tissue=spleen",))
    split = task.split(adata.obs)
    here = (adata.obs["cell_type"] == "B cell") & (adata.obs["tissue"] == "spleen")
    assert set(split.ids("test")) == set(adata.obs_names[here])
    assert split.sizes["validation"] > 0
    assert "B cell ; tissue : spleen held out" in split.note and "Never seen" not in split.note
    whole = ConditionalCellTask(held_out=("cell_type=B cell",)).split(adata.obs)
    assert "Never seen in any combination: cell_type B cell." in whole.note


def test_a_condition_held_out_of_few_cells_leaves_no_validation_and_says_so(adata):
    few = adata.obs.groupby(["cell_type", "tissue"], observed=True).head(2)
    task = ConditionalCellTask(conditions=BOTH, held_out=("cell_type=B cell & tissue=spleen",))
    with pytest.warns(C2SWarning, match="2 cell.* at most: the validation part would be empty; give more cells"):
        split = task.split(few)
    assert split.sizes == {"train": 14, "validation": 0, "test": 2}
    assert len(split.problems) == 1


def test_combinations_to_hold_out_leave_each_value_in_training(adata):
    table = condition_table(adata.obs, BOTH)
    for seed in range(6):
        chosen = unseen_combinations(adata.obs, BOTH, n=3, min_cells=5, seed=seed)
        left = table[~held_out_cells(table, chosen)]
        assert len(set(chosen)) == 3
        assert all(set(left[column]) == set(table[column]) for column in BOTH)
    assert len({tuple(unseen_combinations(adata.obs, BOTH, n=2, min_cells=5, seed=s)) for s in range(6)}) > 1


def test_conditions_may_come_as_one_text():
    assert ConditionalCellTask(conditions="cell_type, tissue").conditions == BOTH
    assert ConditionalCellTask(held_out="cell_type=T cell").held_out == ("cell_type=T cell",)
    assert ConditionalCellTask.from_options({"conditions": ["tissue"]}).columns == ("tissue",)


def _obs(**columns):
    obs = simulated_cells(60).obs.copy()
    for name, values in columns.items():
        obs[name] = values
    return obs


IDS = [f"id{i}" for i in range(60)]


@pytest.mark.parametrize(
    ("error", "says", "fix", "do"),
    [
        (ObsError, "no column 'celltype'", "name one", lambda: condition_table(_obs(), ["celltype"])),
        (ObsError, "'x' is empty for 60", "fill", lambda: condition_table(_obs(x=" "), ["x"])),
        (ObsError, "an identifier", "categorical", lambda: condition_table(_obs(x=IDS), ["x"])),
        (ConfigError, "names a column twice", "once", lambda: ConditionalCellTask(conditions=("a", "a"))),
        (ConfigError, "max_tokens is 0", "640", lambda: ConditionalCellTask(max_tokens=0)),
        (
            ConfigError,
            r"'B cell' is not COLUMN=VALUE.*'tissue=blood' names 'tissue'",
            "the conditions are cell_type",
            lambda: ConditionalCellTask(held_out=("B cell", "tissue=blood")).split(_obs()),
        ),
        (
            ObsError,
            "no cell has the held-out condition cell type : Bcell",
            "there are cell_type: B cell",
            lambda: ConditionalCellTask(held_out=("cell_type=Bcell",)).split(_obs()),
        ),
        (
            ObsError,
            "nothing is left to train on",
            "fewer",
            lambda: ConditionalCellTask(conditions="x", held_out="x=1").split(_obs(x="1")),
        ),
        (ObsError, "too few to be split", "10", lambda: ConditionalCellTask().split(_obs().iloc[:9])),
        (ConfigError, "no combinations", "two", lambda: unseen_combinations(_obs(), ["cell_type"])),
        (ObsError, r"0 combination\(s\)", "lower", lambda: unseen_combinations(_obs(), BOTH, min_cells=99)),
    ],
)
def test_bad_conditions_are_refused_with_the_fix(error, says, fix, do):
    with pytest.raises(error, match=f"(?s){says}") as caught:
        do()
    assert fix in caught.value.fix


@pytest.mark.filterwarnings("ignore::c2s.errors.C2SWarning")
def test_cells_without_genes_are_left_out_and_all_of_them_is_an_error(adata):
    keep = np.zeros((4, 1))
    templates = c2s.default_host().prompts.get("conditional-cell-generation")

    def examples():
        cells = adata[:4].copy()
        cells.X = cells.X.multiply(keep).tocsr()
        return ConditionalCellTask().examples(c2s.to_cell_sentences(cells, expects="any"), templates)

    with pytest.raises(ObsError, match="no cell has an expressed gene"):
        examples()
    keep[1] = 1
    assert examples()["example_id"].to_pylist() == [adata.obs_names[1]]


def test_the_table_of_conditions_has_single_spaces():
    table = condition_table(_obs(x=["a  b ", "c"] * 30), ["x"])
    assert set(table["x"]) == {"a b", "c"}
    assert np.array_equal(condition_table(_obs(), []).shape, (60, 0))
