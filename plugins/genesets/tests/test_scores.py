"""Baselines and rewards against references worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from c2s_genesets.baselines import (
    any_known_name,
    genes_of_nearest_name,
    most_frequent_genes,
    name_of_most_similar_text,
    name_of_nearest_set,
)
from c2s_genesets.rewards import gene_set_overlap, name_bert_score

from c2s import default_host
from c2s.data import GeneSets
from c2s.errors import PluginError

KNOWN = {
    "glycolysis": "HK1 PFKL ENO1 PKM",
    "interferon alpha response": "ISG15 MX1 IFIT1 STAT1",
    "cell cycle": "CDK1 CCNB1 PCNA ENO1",
}
NEW = {"interferon gamma response": "STAT1 IRF1 IFIT1 GBP1", "glucose metabolism": "PKM HK1 G6PC1 ENO1"}


@pytest.fixture
def parts():
    both = KNOWN | NEW
    table = GeneSets(tuple(both), ("",) * len(both), tuple(tuple(g.split()) for g in both.values())).to_anndata()
    return table[list(KNOWN)], table[list(NEW)]


def test_the_most_frequent_genes_are_as_many_as_a_set_has(parts):
    train, test = parts
    assert most_frequent_genes(train, list(KNOWN.values()), test) == ["ENO1 CCNB1 CDK1 HK1"] * 2
    assert most_frequent_genes(train, ["B A", "A C D E", "A"], test) == ["A B"] * 2


def test_the_nearest_name_lends_its_genes_without_a_look_at_the_tests_genes(parts):
    train, test = parts
    expected = [KNOWN["interferon alpha response"], KNOWN["glycolysis"]]
    assert genes_of_nearest_name(train, list(KNOWN.values()), test) == expected
    blind = test.copy()
    blind.X = blind.X * 0
    assert genes_of_nearest_name(train, list(KNOWN.values()), blind) == expected


def test_the_nearest_set_lends_its_name_without_a_look_at_the_tests_names(parts):
    train, test = parts
    blind = test.copy()
    blind.obs["gene_set_name"] = "?"
    expected = ["interferon alpha response", "glycolysis"]
    assert name_of_nearest_set(train, list(KNOWN), blind) == expected
    assert name_of_most_similar_text(train, list(KNOWN), blind) == expected


def test_nearest_is_by_the_cosine_of_weighted_genes(parts):
    train, test = parts

    def cosine(one, other):
        weight = {
            g: np.log(4 / (1 + sum(g in s.split() for s in KNOWN.values()))) + 1
            for g in (one + " " + other).split()
        }
        a, b = ({g: weight[g] for g in text.split()} for text in (one, other))
        dot = sum(a[g] * b.get(g, 0) for g in a)
        return dot / np.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))

    for i, genes in enumerate(NEW.values()):
        best = max(KNOWN, key=lambda name: cosine(genes, KNOWN[name]))
        assert name_of_nearest_set(train, list(KNOWN), test)[i] == best
    with pytest.raises(PluginError, match="different genes"):
        name_of_nearest_set(train, list(KNOWN), test[:, ::-1])


def test_a_name_drawn_without_looking_depends_on_the_set_and_the_seed_alone(parts):
    train, test = parts
    first = any_known_name(train, list(KNOWN), test, seed=1)
    assert set(first) <= set(KNOWN)
    assert any_known_name(train, list(KNOWN)[::-1], test[::-1], seed=1) == first[::-1]
    assert len({tuple(any_known_name(train, list(KNOWN), test, seed=s)) for s in range(8)}) > 1


@pytest.mark.parametrize(
    ("given", "truth", "value"),
    [
        ("A B", "B A", 1.0),
        ("A", "A B", 0.5),
        ("A B C D", "A B", 0.5),
        ("A A A A", "A B", 0.25),
        ("A,B", "A B", 1.0),
        ("", "A B", 0.0),
        ("X Y", "A B", 0.0),
        ("A", None, None),
    ],
)
def test_the_reward_of_enumeration_by_hand(given, truth, value):
    assert gene_set_overlap([""], [given], answer=[truth]) == [value]


def test_the_reward_of_naming_is_bert_score_and_none_without_a_truth():
    found = name_bert_score([""] * 4, ["cell cycle", "cell division", "", "x"], answer=["cell cycle"] * 3 + [None])
    assert found[0] == 1.0
    assert 0 < found[1] < 1
    assert found[2:] == [0.0, None]
    assert name_bert_score([""], ["x"], answer=[None]) == [None]


def test_everything_the_tasks_name_is_registered():
    host = default_host()
    for name in ("gene-set-enumeration", "gene-set-naming"):
        task = host.tasks.get(name)
        assert all(metric in host.metrics.names() for metric in task.metrics)
        assert all(host.rewards.get(reward).name == reward for reward in task.rewards)
        assert all(host.baselines.get(baseline).name == baseline for baseline in task.baselines)
        assert all(template.name.startswith(f"{name}/") for template in host.prompts.get(task.prompts))
