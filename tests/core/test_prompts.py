"""Templates say what is there, and are chosen by the example alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from c2s.errors import PromptError
from c2s.prompts import GeneDropout, PromptTemplate, choose_template, stable_hash

COUNTING = PromptTemplate("t/count", "{n_genes} genes : {cell_sentence} . type :", "{label}")


def test_the_stated_number_of_genes_is_the_number_present():
    # A record that claims 200 genes is not believed.
    prompt = COUNTING.render({"cell_sentence": "A B C", "n_genes": 200, "label": "x"})
    assert prompt == "3 genes : A B C . type :"


def test_fields_are_those_of_the_prompt():
    assert COUNTING.fields == ("n_genes", "cell_sentence")


def test_a_missing_field_is_named_with_the_template():
    with pytest.raises(PromptError, match=r"'t/count' needs cell_sentence|'t/count' needs n_genes, cell_sentence"):
        COUNTING.render({"label": "x"})
    with pytest.raises(PromptError, match="needs label"):
        COUNTING.render_answer({"label": None})


@pytest.mark.parametrize("text", ["{", "{}", "{0}", "{a b}", "}"])
def test_malformed_templates_are_refused(text):
    with pytest.raises(PromptError, match="bad"):
        PromptTemplate("bad", text, "")


def test_the_choice_of_template_depends_on_the_example_and_the_seed_alone():
    templates = [PromptTemplate(str(i), "", "") for i in range(3)]
    chosen = {seed: [choose_template(templates, f"cell{i}", seed).name for i in range(300)] for seed in (0, 1)}
    assert chosen[0] == [choose_template(templates, f"cell{i}", 0).name for i in range(300)]
    assert chosen[0] != chosen[1]
    assert min(chosen[0].count(name) for name in "012") > 70


def test_no_template_is_an_error():
    with pytest.raises(PromptError, match="without templates"):
        choose_template([], "a", 0)


def test_the_hash_is_the_same_in_another_process():
    code = "from c2s.prompts import stable_hash; print(stable_hash('a', 1))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out) == stable_hash("a", 1)
    assert stable_hash("ab", "c") != stable_hash("a", "bc")


@given(
    genes=st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=30),
    rate=st.floats(0, 0.99),
    seed=st.integers(0),
)
def test_gene_dropout_keeps_order_and_tells_the_truth(genes, rate, seed):
    record = {"cell_sentence": " ".join(genes), "template": "t/count", "prompt": "old", "label": "x"}
    thinned = GeneDropout(rate, [COUNTING])(record, np.random.default_rng(seed))
    kept = thinned["cell_sentence"].split()
    remaining = iter(genes)
    assert all(gene in remaining for gene in kept)  # a subsequence
    assert len(kept) >= 1
    assert thinned["prompt"] == f"{len(kept)} genes : {' '.join(kept)} . type :"
    assert record["prompt"] == "old"


def test_gene_dropout_drops_the_share_it_says():
    record = {"cell_sentence": " ".join(map(str, range(10_000))), "template": "t/count"}
    kept = GeneDropout(0.3, [COUNTING])(record, np.random.default_rng(0))["cell_sentence"].split()
    assert 6_850 < len(kept) < 7_150
    assert len(GeneDropout(0.0, [COUNTING])(record, np.random.default_rng(0))["cell_sentence"].split()) == 10_000


SEVERAL = PromptTemplate("t/several", "{n_cells} cells , {n_genes} genes . {cells} tissue :", "{label}")


def test_several_cells_are_numbered_and_counted_from_their_sentences():
    # A record that claims other numbers, or another text, is not believed.
    record = {"cell_sentences": ["A B", "C"], "n_cells": 9, "n_genes": 9, "cells": "Z", "label": "x"}
    assert SEVERAL.render(record) == "2 cells , 3 genes . Cell 1 : A B . Cell 2 : C . tissue :"


@given(
    cells=st.lists(st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=12), min_size=1, max_size=6),
    rate=st.floats(0, 0.99),
    seed=st.integers(0),
)
def test_gene_dropout_thins_each_of_several_cells_and_tells_the_truth(cells, rate, seed):
    record = {"cell_sentences": [" ".join(genes) for genes in cells], "template": "t/several", "prompt": "old"}
    thinned = GeneDropout(rate, [SEVERAL])(record, np.random.default_rng(seed))
    kept = [sentence.split() for sentence in thinned["cell_sentences"]]
    assert len(kept) == len(cells)
    for genes, left in zip(cells, kept, strict=True):
        remaining = iter(genes)
        assert left and all(gene in remaining for gene in left)  # a subsequence of the same cell
    shown = " ".join(f"Cell {i} : {' '.join(left)} ." for i, left in enumerate(kept, 1))
    assert thinned["prompt"] == f"{len(cells)} cells , {sum(map(len, kept))} genes . {shown} tissue :"
    assert record["prompt"] == "old" and record["cell_sentences"] == [" ".join(genes) for genes in cells]
    again = GeneDropout(rate, [SEVERAL])(record, np.random.default_rng(seed))
    assert again == thinned


def test_gene_dropout_drops_the_share_it_says_in_every_cell():
    record = {"cell_sentences": [" ".join(map(str, range(5_000)))] * 3, "template": "t/several"}
    thinned = GeneDropout(0.3, [SEVERAL])(record, np.random.default_rng(0))["cell_sentences"]
    assert all(3_400 < len(sentence.split()) < 3_600 for sentence in thinned)
    assert len(set(thinned)) == 3, "each cell loses genes of its own"


def test_gene_dropout_leaves_no_example_as_it_is_without_a_word():
    with pytest.raises(PromptError, match=r"no sentence in an example of template 't/several'.*cell_sentences"):
        GeneDropout(0.3, [SEVERAL])({"cells": "Cell 1 : A .", "template": "t/several"}, np.random.default_rng(0))


def test_gene_dropout_knows_whether_prompts_show_what_it_thins():
    hidden = PromptTemplate("t/hidden", "{label_name} :", "{label}")
    assert GeneDropout(0.3, [hidden, COUNTING]).reaches(["cell_sentence"])
    assert GeneDropout(0.3, [SEVERAL]).reaches(["cell_sentences"])
    assert not GeneDropout(0.3, [SEVERAL]).reaches(["cell_sentence"])
    assert not GeneDropout(0.3, [SEVERAL]).reaches(["cells", "n_cells"])
    assert not GeneDropout(0.3, [hidden]).reaches(["cell_sentence", "cell_sentences"])


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_gene_dropout_outside_its_range_is_refused(rate):
    with pytest.raises(PromptError, match=r"\[0, 1\)"):
        GeneDropout(rate, [COUNTING])
