"""Every example of a corpus of all twelve tasks, read again against the cells it was made from."""

from __future__ import annotations

import collections
import re

import numpy as np
import pytest
from examples_check import SourceCells, check_example
from small_corpora import ABSTRACTS, Everything

from c2s.corpus import TASKS, corpus_tasks
from c2s.data.gene_sets import read_gmt


def of(everything: Everything, *tasks: str) -> list[dict]:
    found = [row for row in everything.rows if row["task"] in tasks]
    assert found
    return found


CELL_TASKS = [name for name, task in corpus_tasks().items() if task.kind != "gene-set"]


def test_the_twelve_tasks_are_all_there_in_each_part(everything):
    assert {(row["task"], row["part"]) for row in everything.rows} == {
        (task, part) for task in TASKS for part in ("train", "validation", "test")
    }


@pytest.mark.parametrize("task", CELL_TASKS)
def test_target_comes_from_the_source_cells_and_is_not_given_away(everything, task):
    sources = {name: SourceCells(cells, {}, ABSTRACTS) for name, cells in everything.cells.items()}
    for row in of(everything, task):
        check_example(row, sources[row["dataset"]], everything.spec.genes, everything.spec.cells)


@pytest.mark.parametrize("task", ["gene-set-enumeration", "gene-set-naming"])
def test_gene_sets_are_whole_or_say_how_many_genes_they_show(everything, task):
    sets = read_gmt(everything.folder / "sets.gmt")
    for row in of(everything, task):
        name = row["example_id"].split("/")[2]
        text = row["answer"] if task == "gene-set-enumeration" else row["prompt"]
        shown = re.search(r"((?:G\d+ )*G\d+)\.", text)[1].split()
        assert set(shown) <= set(sets[name]) and len(set(shown)) == len(shown) == row["n_genes"]
        assert row["n_genes_given"] == len(sets[name])
        readable = sets.human_name(name)
        other = row["prompt"] if task == "gene-set-enumeration" else row["answer"]
        assert readable in other
        assert readable not in text
        numbers = re.findall(r"\b\d+\b", row["prompt"].replace(readable, ""))
        assert set(numbers) <= {str(row["n_genes"])}


def test_tokens_are_those_of_the_real_tokenizer_and_fit(everything):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(everything.corpus.path / "tokenizer")
    texts = [f"{row['prompt']} {row['answer']}" for row in everything.rows]
    counts = [len(ids) + 1 for ids in tokenizer(texts)["input_ids"]]
    assert counts == [row["n_tokens"] for row in everything.rows]
    assert max(counts) <= everything.spec.context.tokens


def test_the_context_is_used_up_where_genes_were_left_out(everything):
    shortened = [row for row in everything.rows if row["n_genes"] < row["n_genes_given"]]
    assert shortened
    limit = everything.spec.context.tokens
    # One gene more for each cell would not have fitted; a gene is one token here, a stated number up to three.
    for row in shortened:
        assert row["n_tokens"] + max(len(row["cell_ids"]), 1) + 3 > limit


def test_every_phrasing_is_used_and_every_piece_of_metadata_is_said(everything):
    used = collections.Counter(row["template"] for row in everything.rows)
    for task in corpus_tasks().values():
        assert {t.name for t in task.templates} <= set(used)
    text = "\n".join(row["prompt"] for row in everything.rows)
    for said in ("organism: Homo sapiens", "tissue: blood", "disease: influenza", "sex: female", "cell type: "):
        if said != "cell type: ":
            assert said in text
    assert "perturbation: interferon" in text and "development stage: adult" in text
    assert "summary of the study: " in text
    assert "perturbation: none" not in text  # a word for "not known"


def test_metadata_is_true_and_never_what_is_asked_for(everything):
    columns = {"organism": "organism", "tissue": "tissue", "disease": "disease", "sex": "sex"}
    for row in everything.rows:
        for said, column in columns.items():
            found = re.search(rf"(?:known: |Metadata: |Context \(|; ){said}: ([^;.)]+)", row["prompt"])
            if not found:
                continue
            obs = everything.cells[row["dataset"]].obs.loc[row["cell_ids"], column].astype(str)
            assert set(obs) == {found[1]}
            assert not (row["task"] == "tissue-annotation" and column == "tissue")


def test_example_ids_are_distinct_and_weights_are_kept(everything):
    ids = [row["example_id"] for row in everything.rows]
    assert len(set(ids)) == len(ids)
    n = collections.Counter(row["task"] for row in everything.rows)
    cells = sum(c.n_obs for c in everything.cells.values())
    dropped = sum(everything.corpus.manifest["duplicates"]["dropped"].values())
    assert n["single-cell-language-modeling"] == n["conditional-cell-generation"] == cells - dropped
    assert n["cell-type-annotation"] == pytest.approx(1.5 * cells, rel=0.1)
    assert n["tissue-annotation"] == pytest.approx(0.5 * n["multi-cell-language-modeling"], rel=0.35)


def test_no_donor_and_no_gene_set_is_on_two_sides(everything):
    sides = collections.defaultdict(set)
    for row in everything.rows:
        if row["cell_ids"]:
            donors = everything.cells[row["dataset"]].obs.loc[row["cell_ids"], "donor_id"]
            for donor in set(donors):
                sides[row["dataset"], donor].add(row["part"])
        else:
            sides[row["example_id"].split("/")[2]].add(row["part"])
    assert all(len(parts) == 1 for parts in sides.values())
    assert {part for parts in sides.values() for part in parts} == {"train", "validation", "test"}


def test_a_cell_is_in_one_context_of_a_task_at_most(everything):
    for task in ("multi-cell-language-modeling", "interpretation"):
        shown = [cell for row in of(everything, task) for cell in row["cell_ids"]]
        assert len(shown) == len(set(shown))


def test_numbers_of_genes_span_the_range(everything):
    given = [row["n_genes_given"] for row in of(everything, "single-cell-language-modeling")]
    low, high = everything.spec.genes
    assert min(given) >= 1 and max(given) <= high
    assert np.percentile(given, 90) > (low + high) / 2
