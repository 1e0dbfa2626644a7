"""The three tasks: what they ask, what they answer, how they split."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from c2s_annotation.cells import AnnotationTask
from c2s_annotation.columns import label_columns
from c2s_annotation.labels import label_name
from c2s_annotation.samples import CellTypesTask, TissueTask
from scipy import sparse

from c2s import default_host, to_cell_sentences
from c2s.errors import C2SWarning, ConfigError, ObsError
from c2s.models import TinyConfig, load_model
from c2s.prompts import GeneDropout
from c2s.training import SFTConfig, train_sft

TYPES = ("B cell", "CD4+, naive  T", "NK")


def cells(n=120, donors=4, seed=0, **columns):
    """Simulated cells: 30 genes, three types, two tissues."""
    rng = np.random.default_rng(seed)
    X = sparse.csr_matrix(np.log1p(rng.poisson(0.8, size=(n, 30)) * 1.7).astype(np.float32))
    obs = {
        "cell_type": rng.choice(TYPES, size=n),
        "tissue": rng.choice(["liver", "lung"], size=n),
        "donor_id": [f"d{i % donors}" for i in range(n)],
        **columns,
    }
    names = [f"cell{i}" for i in range(n)]
    genes = [f"GENE{i}" for i in range(30)]
    return ad.AnnData(X, obs=pd.DataFrame(obs, index=names), var=pd.DataFrame(index=genes))


def templates(task):
    return default_host().prompts.get(task.prompts)


def examples(task, adata, **options):
    return task.examples(to_cell_sentences(adata, top_k=10, expects="any"), templates(task), **options).to_pylist()


def test_a_cell_is_asked_about_by_its_own_sentence_and_answered_by_its_own_label():
    adata = cells()
    sentences = to_cell_sentences(adata, top_k=10, expects="any")
    words = dict(
        zip(sentences.table["cell_id"].to_pylist(), sentences.table["cell_sentence"].to_pylist(), strict=True)
    )
    rows = AnnotationTask().examples(sentences, templates(AnnotationTask())).to_pylist()
    assert len(rows) == 120
    for row in rows:
        (cell,) = row["cell_ids"]
        assert row["cell_sentence"] == words[cell]
        assert words[cell] in row["prompt"]
        # Spaces are single, so that the answer is what a tokenizer gives back.
        assert row["answer"] == " ".join(adata.obs.cell_type[cell].split())
        assert row["answer"] not in row["prompt"]
    assert {row["template"] for row in rows} == {template.name for template in templates(AnnotationTask())}


def test_without_answers_no_label_column_is_needed():
    adata = cells()
    del adata.obs["cell_type"]
    rows = examples(AnnotationTask(), adata, answers=False)
    assert len(rows) == 120
    assert {row["answer"] for row in rows} == {None}


def test_a_cell_without_expressed_genes_is_not_asked_about():
    adata = cells()
    adata.X[3] = 0
    adata.X.eliminate_zeros()
    with pytest.warns(UserWarning, match="1 "):
        rows = examples(AnnotationTask(), adata)
    assert "cell3" not in {row["example_id"] for row in rows}
    assert len(rows) == 119


def test_any_column_can_be_the_label_and_is_named_in_words():
    rows = examples(AnnotationTask(label="tissue"), cells())
    assert all("tissue :" in row["prompt"] for row in rows)
    assert {row["answer"] for row in rows} == {"liver", "lung"}
    assert AnnotationTask(label="tissue").output_column == "c2s_tissue"
    assert label_name("reclustered.broad_type") == "reclustered broad type"


def test_candidates_are_the_labels_of_the_examples_given():
    task = AnnotationTask()
    table = task.examples(to_cell_sentences(cells(), top_k=5, expects="any"), templates(task))
    assert task.candidates(table) == ["B cell", "CD4+, naive T", "NK"]
    unknown = task.examples(to_cell_sentences(cells(), top_k=5, expects="any"), templates(task), answers=False)
    assert task.candidates(unknown) is None


@pytest.mark.parametrize("task", [AnnotationTask(), TissueTask(), CellTypesTask()])
def test_donors_stay_whole_when_there_are_three(task):
    adata = cells(donors=5)
    split = task.split(adata.obs)
    assert split.unit == "donor_id"
    sides = [set(adata.obs.donor_id[split.ids(part)]) for part in ("train", "validation", "test")]
    assert sum(len(side) for side in sides) == 5


def test_with_two_donors_the_split_is_by_cell_and_says_so():
    split = AnnotationTask().split(cells(donors=2).obs)
    assert split.unit == "cell"
    assert "says nothing about a new donor" in split.note


def test_a_label_of_donors_is_warned_of_and_told_by_c2s_labels(tmp_path):
    adata = cells(donors=3)
    adata.obs["disease"] = np.where(adata.obs["donor_id"] == "d1", "influenza", "normal")
    adata.obs["batch"] = [["a", "b"][i % 2] for i in range(adata.n_obs)]
    with pytest.warns(
        C2SWarning, match=r"only answer of the test part is '\w+', 40 time\(s\).*values of 'donor_id'"
    ):
        AnnotationTask(label="disease").split(adata.obs)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("error", C2SWarning)
        rows = {row["column"]: row for row in label_columns(str(tmp_path / "cells.h5ad"))}
    assert "only answer of the test part is" in rows["disease"]["note"]
    assert rows["batch"]["note"] == ""
    assert rows["batch"]["split"] == "Split by donor_id: no value of donor_id is on two sides (3 values)."


def test_labels_too_rare_to_be_measured_are_refused():
    with pytest.raises(
        ObsError, match=r"whose 12 value.* have 1 cell.* at most: the validation and the test part"
    ):
        AnnotationTask().split(cells(n=12, donors=1, cell_type=[f"type {i}" for i in range(12)]).obs)


def test_the_tissue_of_a_sample():
    adata = cells()
    rows = examples(TissueTask(min_cells=3, max_cells=6), adata)
    for row in rows:
        members = adata.obs.loc[row["cell_ids"]]
        assert 3 <= len(members) <= 6
        assert members.donor_id.nunique() == 1
        assert set(members.tissue) == {row["answer"]}
        assert f"{len(members)} cells of one donor" in row["prompt"]
        assert row["prompt"].count("Cell ") == len(members)


def test_the_tissue_is_not_used_to_group_cells_whose_tissue_is_asked_for():
    adata = cells()
    del adata.obs["tissue"]
    rows = examples(TissueTask(min_cells=3, max_cells=6), adata, answers=False)
    assert rows
    assert all(adata.obs.donor_id[row["cell_ids"]].nunique() == 1 for row in rows)


def test_a_sample_of_several_labels_is_refused():
    with pytest.raises(ObsError, match=r"several values of 'cell_type'.*tissue='cell_type'"):
        examples(TissueTask(label="cell_type", min_cells=3, max_cells=6), cells())


def test_the_types_of_a_sample_come_in_the_order_of_its_cells():
    adata = cells()
    task = CellTypesTask(min_cells=3, max_cells=4)
    for row in examples(task, adata):
        expected = [" ".join(t.split()).replace(",", ";") for t in adata.obs.cell_type[row["cell_ids"]]]
        assert row["answer"].split(" , ") == expected
        assert task.parse(row["answer"]) == row["answer"]
    assert task.candidates(None) is None
    assert task.parse(" , ,") is None


@pytest.mark.parametrize("task", [TissueTask(min_cells=3, max_cells=4), CellTypesTask(min_cells=3, max_cells=4)])
def test_gene_dropout_leaves_genes_out_of_every_cell_of_a_sample(task, tmp_path):
    adata = cells()
    table = task.examples(to_cell_sentences(adata, top_k=10, expects="any"), templates(task))
    dropout, before = GeneDropout(0.4, templates(task)), table.to_pylist()
    assert dropout.reaches(table.column_names)
    seen = []

    def noted(record, rng):
        seen.append((record, thinned := dropout(record, rng)))
        return thinned

    corpus = [f"{row['prompt']} {row['answer']}" for row in before]
    model = load_model("tiny", corpus=corpus, config=TinyConfig(layers=1, hidden_size=16, heads=1), device="cpu")
    config = SFTConfig(max_steps=2, batch_size=8, learning_rate=1e-3)
    train_sft(model, table, out=tmp_path / "model", config=config, augment=noted, show_progress=False)
    assert len(seen) == 16
    for row, thinned in seen:
        members = [row["cell_sentences"], thinned["cell_sentences"]]
        whole, left = ([sentence.split() for sentence in sentences] for sentences in members)
        assert len(whole) == len(left) == len(row["cell_ids"])
        assert all(kept and set(kept) <= set(genes) for genes, kept in zip(whole, left, strict=True))
        assert sum(map(len, left)) < sum(map(len, whole))
        shown = " ".join(f"Cell {i} : {' '.join(genes)} ." for i, genes in enumerate(left, 1))
        assert shown in thinned["prompt"] and f"{len(left)} cells" in thinned["prompt"]
        assert thinned["answer"] == row["answer"]


def test_options_survive_json_and_unknown_ones_are_named():
    task = TissueTask(label="organ", min_cells=2)
    assert TissueTask.from_options(task.options()) == task
    with pytest.raises(ConfigError, match=r"unknown option 'labels'.*label, donor"):
        AnnotationTask.from_options({"labels": "x"})


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        ({"cell_type": ["A"] * 120}, r"'cell_type' is constant \('A' for all 120 cells\).*--label"),
        (
            {"cell_type": [None] + ["A", "B"] * 59 + ["A"]},
            r"empty for 1 of 120 cells, first 'cell0'.*missing_values",
        ),
        ({"cell_type": [f"id{i}" for i in range(120)]}, r"120 values for 120 cells: an identifier"),
    ],
)
def test_label_columns_that_cannot_be_learned(obs, message):
    with pytest.raises(ObsError, match=message):
        AnnotationTask().split(cells(**obs).obs)


def test_a_missing_label_column_names_the_others():
    with pytest.raises(ObsError, match=r"no label column 'type'; it has cell_type, tissue, donor_id.*--label"):
        AnnotationTask(label="type").split(cells().obs)


def test_too_few_cells_to_split():
    with pytest.raises(ObsError, match=r"9 cell\(s\) are too few"):
        AnnotationTask().split(cells(n=9, donors=1).obs)
