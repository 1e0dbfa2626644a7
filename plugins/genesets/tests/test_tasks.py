"""The two tasks: what they ask, what they answer, how they split; and the collections."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from c2s_genesets.collections import TEXTBOOK_FILE
from c2s_genesets.enumeration import EnumerationTask
from c2s_genesets.naming import NamingTask

import c2s
from c2s.data import GeneSets, read_gmt
from c2s.errors import ConfigError, DatasetError, ObsError

TASKS = [EnumerationTask(), NamingTask()]


def sets(n=12, size=4, shared=()):
    """Sets of their own genes; each pair in `shared` has all but one gene in common."""
    genes = {f"TEST_SET_{chr(65 + i)}": [f"G{i}x{j}" for j in range(size)] for i in range(n)}
    names = list(genes)
    for a, b in shared:
        genes[names[b]] = [*genes[names[a]][:-1], f"G{b}own"]
    return GeneSets(tuple(names), ("",) * n, tuple(map(tuple, genes.values())), "simulated")


def rows(task, collection, **options):
    templates = c2s.default_host().prompts.get(task.prompts)
    return task.examples(collection.to_sentences(**options), templates).to_pylist()


def test_enumeration_asks_by_name_and_answers_with_the_genes():
    collection = sets()
    for row in rows(EnumerationTask(), collection):
        assert row["answer"].split() == list(collection[row["example_id"]])
        assert collection.human_name(row["example_id"]) in row["prompt"]
        assert not set(row["prompt"].split()) & set(row["answer"].split())
        assert row["cell_ids"] == [row["example_id"]]


def test_naming_asks_by_genes_and_answers_with_the_name_in_words():
    collection = sets()
    found = rows(NamingTask(), collection, top_k=3)
    for row in found:
        assert " ".join(collection[row["example_id"]][:3]) in row["prompt"]
        assert row["answer"] == collection.human_name(row["example_id"])
        assert row["answer"] not in row["prompt"]
        if stated := re.search(r"These (\d+) genes", row["prompt"]):
            assert stated.group(1) == "3"
    assert len({row["template"] for row in found}) > 1


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_near_copies_are_on_one_side(task):
    collection = sets(30, shared=[(0, 1), (2, 3), (4, 5), (6, 7)])
    for seed in range(5):
        split = task.split(collection.to_anndata().obs, seed=seed)
        side = split.assignment
        names = collection.names
        assert all(side[names[a]] == side[names[b]] for a, b in [(0, 1), (2, 3), (4, 5), (6, 7)])
        assert min(split.sizes.values()) > 0
    assert "30 sets in 26 groups" in split.note


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_without_groups_the_split_says_what_it_cannot_know(task):
    obs = sets().to_anndata().obs.drop(columns="overlap_group")
    split = task.split(obs)
    assert split.unit == "cell"
    assert "near-copy of a test set may be among the training sets" in split.note
    with pytest.raises(ObsError, match="too few to split"):
        task.split(obs.iloc[:1])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_cells_are_not_taken_for_gene_sets(task):
    from c2s.testing import simulated_cells

    sentences = c2s.to_cell_sentences(simulated_cells(24), top_k=5)
    with pytest.raises(ObsError, match=r"no column 'gene_set_name'.*GMT"):
        task.examples(sentences, c2s.default_host().prompts.get(task.prompts))


def test_an_empty_name_is_refused():
    adata = sets().to_anndata()
    adata.obs.loc["TEST_SET_C", "gene_set_name"] = " "
    sentences = c2s.to_cell_sentences(adata)
    with pytest.raises(ObsError, match=r"empty for 1 gene set\(s\), first 'TEST_SET_C'"):
        NamingTask().examples(sentences, c2s.default_host().prompts.get("gene-set-naming"))


@pytest.mark.parametrize(
    ("text", "genes"),
    [
        ("HK1 HK2", "HK1 HK2"),
        ("HK1, HK2; HK1 ,\nGPI", "HK1 HK2 GPI"),
        ("HLA-A MT-CO1 H1-0", "HLA-A MT-CO1 H1-0"),
        (" , ;", None),
        ("", None),
    ],
)
def test_a_list_of_genes_is_read_however_it_is_separated(text, genes):
    assert EnumerationTask().parse(text) == genes


def test_options_are_checked():
    assert EnumerationTask.from_options({"max_tokens": 9}).longest_answer == 9
    with pytest.raises(ConfigError, match="unknown option 'tokens'"):
        EnumerationTask.from_options({"tokens": 9})


def test_the_textbook_sets_are_sound_and_as_many_as_their_page_says():
    found = read_gmt(TEXTBOOK_FILE)
    assert len(found) == 168
    assert "168 gene families" in c2s.default_host().datasets.get("textbook_gene_sets").title
    assert min(map(len, found.genes)) >= 5
    assert all(found.descriptions)
    symbols = {gene for genes in found.genes for gene in genes}
    assert not [gene for gene in symbols if not re.fullmatch(r"[A-Z0-9][A-Z0-9-]*", gene)]
    # A near-copy, so that the split has something to keep together.
    groups = dict(zip(found.names, found.overlap_groups(), strict=True))
    assert groups["cytosolic ribosome"] == groups["large ribosomal subunit"]


def test_a_collection_that_is_not_here_says_so(monkeypatch, tmp_path):
    monkeypatch.delenv("C2S_DATA_MIRROR", raising=False)
    monkeypatch.setenv("C2S_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("C2S_OFFLINE", "1")
    with pytest.raises(DatasetError, match="msigdb_hallmark"):
        c2s.load_dataset("hallmark")


@pytest.mark.mirror
@pytest.mark.skipif(not os.environ.get("C2S_DATA_MIRROR"), reason="C2S_DATA_MIRROR is not set")
@pytest.mark.parametrize(("name", "n"), [("hallmark", 50), ("c2_cp", 2982), ("go_bp", 6036)])
def test_the_published_collections_come_from_the_mirror(name, n):
    adata = c2s.load_dataset(name, label="gene_set_name")
    assert adata.n_obs == n
    assert NamingTask().split(adata.obs).sizes["test"] > n / 10


def test_a_gmt_file_is_learned_by_heart_from_the_command_line(tmp_path):
    from c2s.cli import app

    def cli(*words):
        app([str(word) for word in words], standalone_mode=False)

    path, model = tmp_path / "mine.gmt", tmp_path / "model"
    sets(12, size=80).write_gmt(path)
    common = ("--data", path, "--model", "tiny", "--option", "hidden_size=64", "--option", "layers=1")
    train = ("train", "sft", "--task", "gene-set-enumeration", *common, "--max-steps", 150, "--batch-size", 8)
    cli(*train, "--learning-rate", 0.01, "--option", "eval_every=150", "--out", model)
    facts = json.loads((model / "c2s_task.json").read_text())
    assert facts["top_k"] == 200
    cli("evaluate", "--model", model, "--out", tmp_path / "report", "--n-bootstrap", 10)
    results = json.loads((tmp_path / "report" / "results.json").read_text())["rows"]
    assert json.loads((tmp_path / "report" / "run.json").read_text())["data"][0]["path"] == str(path)
    scored = {row["predictor"] for row in results if row["metric"] == "overlap"}
    assert scored == {"language model", "most_frequent_genes", "genes_of_nearest_name"}
    kept = pq.read_table(tmp_path / "report" / "predictions.parquet").to_pylist()
    # An answer is as long as a set, not cut at the length that suits labels; baselines list as much as the truth.
    assert max(len((row["prediction"] or "").split()) for row in kept) > 70
    assert {len(row["baseline:most_frequent_genes"].split()) for row in kept} == {80}
    cli("predict", "--model", model, path, tmp_path / "out.h5ad")
    import anndata as ad

    written = ad.read_h5ad(tmp_path / "out.h5ad")
    assert written.obs_names.tolist() == list(sets(12).names)
    parts = pq.read_table(model / "split.parquet").to_pandas().set_index("cell_id")["part"]
    collection = sets(12, size=80)
    recalled = [
        len(set(str(written.obs.loc[name, "c2s_genes"]).split()) & set(collection[name])) / 80
        for name in parts.index[parts == "train"]
    ]
    assert np.mean(recalled) > 0.5
