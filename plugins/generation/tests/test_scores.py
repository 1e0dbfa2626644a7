"""Metric, rewards and baselines against references worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from c2s_generation import embedding_reward, independent_genes, mean_ranking, resampled_cells
from c2s_generation.metrics import CELLS_OVERLAP, cell_overlaps
from c2s_generation.rewards import cell_overlap_f1, cell_rank_distance

import c2s
from c2s.errors import ConfigError, MetricError, ObsError, PluginError
from c2s.testing import simulated_cells


@pytest.mark.parametrize(
    ("given", "truth", "value"),
    [
        ("A B", "A B", 1.0),
        ("B A", "A B", 1.0),
        ("A C", "A B", 0.5),
        ("A A", "A B", 0.5),
        ("A B C D", "A B", 4 / 6),
        ("", "A B", 0.0),
        ("A B", None, None),
        ("Cell 1 : A . Cell 2 : B .", "Cell 1 : A . Cell 2 : C .", 0.5),
        ("Cell 1 : A .", "Cell 1 : A . Cell 2 : C .", 0.5),
        ("Cell 1 : A . Cell 2 : C . Cell 3 : D .", "Cell 1 : A . Cell 2 : C .", 2 / 3),
    ],
)
def test_the_f1_reward_by_hand(given, truth, value):
    assert cell_overlap_f1([""], [given], answer=[truth]) == [pytest.approx(value) if value else value]


def test_the_distance_reward_is_bray_curtis_of_expression_by_rank():
    from scipy.spatial.distance import braycurtis

    genes = list("ABCDEF")
    rng = np.random.default_rng(0)
    for _ in range(20):
        lists = [rng.permutation(genes)[: rng.integers(1, 6)].tolist() for _ in range(2)]
        longest = max(map(len, lists))
        vectors = np.zeros((2, len(genes)))
        for vector, words in zip(vectors, lists, strict=True):
            for rank, word in enumerate(words, 1):
                vector[genes.index(word)] = 1 - np.log(rank) / np.log(longest + 1)
        found = cell_rank_distance([""], [" ".join(lists[0])], answer=[" ".join(lists[1])])
        assert found[0] == pytest.approx(-braycurtis(*vectors))


def test_the_distance_reward_knows_order_and_repeats():
    values = cell_rank_distance(
        [""] * 6, ["A B C", "B A C", "C B A", "A A B C", "", "A"], answer=["A B C"] * 5 + [None]
    )
    assert values[0] == 0
    assert 0 > values[1] > values[2] > values[4] == -1
    assert values[3] < 0
    assert values[5] is None


def test_overlaps_of_samples_by_hand():
    truth = "Cell 1 : A B . Cell 2 : C D ."
    answers = [truth, "Cell 1 : C D . Cell 2 : A B .", "Cell 1 : A .", None, f"{truth} Cell 3 : E ."]
    found = cell_overlaps(answers, [truth] * 5)
    assert found["cells_overlap"].tolist() == [1, 0, 0.25, 0, 1]
    assert found["cells_overlap_matched"].tolist() == [1, 1, 0.25, 0, 1]
    assert found["cells_right_number"].tolist() == [1, 1, 0, 0, 0]
    assert CELLS_OVERLAP.function(answers, [truth] * 5)["cells_overlap"] == pytest.approx(2.25 / 5)
    with pytest.raises(MetricError, match="1 predictions for 2 references"):
        cell_overlaps(["A"], ["A", "B"])
    with pytest.raises(MetricError, match="without genes"):
        cell_overlaps(["A"], ["Cell 1 : . Cell 2 : A ."])


@pytest.fixture(scope="module")
def parts():
    adata = simulated_cells(96)
    train, test = adata[:64].copy(), adata[64:].copy()
    texts = c2s.to_cell_sentences(train, top_k=8).table["cell_sentence"].to_pylist()
    return train, texts, test


def test_resampled_cells_are_training_cells_of_the_same_condition(parts):
    train, texts, test = parts
    types = train.obs["cell_type"].astype(str).tolist()
    found = resampled_cells(train, texts, test, conditions=("cell_type",))
    for text, kind in zip(found, test.obs["cell_type"], strict=True):
        assert (text, kind) in set(zip(texts, types, strict=True))
    assert resampled_cells(train, texts, test[::-1], conditions=("cell_type",)) == found[::-1]
    assert resampled_cells(train, texts, test, conditions=("cell_type",), seed=1) != found
    assert set(resampled_cells(train, texts, test)) <= set(texts)


def test_the_mean_ranking_by_hand(parts):
    train = simulated_cells(4)
    assert mean_ranking(train, ["A B", "A C", "A B", "B A"], train) == ["A B"] * 4
    # B: 2, 3, 2, 1; A: 1, 1, 1, 2; C: 3, 2, 3, 3
    assert mean_ranking(train, ["A B C", "B", "B", "B C"], train)[0].split() == ["B"]
    train, texts, test = parts
    found = mean_ranking(train, texts, test, conditions=("cell_type",))
    assert len(set(found)) == 4


def test_independent_genes_keep_each_genes_share_but_not_their_company():
    train = simulated_cells(40)
    pairs = ["A B", "C D"] * 20
    test = simulated_cells(400)
    found = [set(text.split()) for text in independent_genes(train, pairs, test)]
    assert {len(genes) for genes in found} <= {0, 1, 2}
    share = np.mean(["A" in genes for genes in found])
    together = np.mean([{"A", "B"} <= genes for genes in found])
    assert 0.4 < share < 0.6  # half the cells have A, and in half of these B, before they are cut to two genes
    assert together < 0.6 * share


def test_a_condition_that_was_never_seen_borrows_the_cells_nearest_to_it(parts):
    train, texts, test = parts
    known = train[train.obs["tissue"] == "blood"].copy()
    answers = [texts[i] for i in np.flatnonzero(train.obs["tissue"] == "blood")]
    unseen = test.copy()
    unseen.obs["tissue"] = "spleen"
    types = dict(zip(answers, known.obs["cell_type"].astype(str), strict=True))
    for text, kind in zip(
        resampled_cells(known, answers, unseen, conditions=("cell_type", "tissue")),
        unseen.obs["cell_type"],
        strict=True,
    ):
        assert types[text] == kind


def test_baselines_need_an_answer_per_cell_and_their_column(parts):
    train, texts, test = parts
    with pytest.raises(PluginError, match="64 training cells have 3 answers"):
        mean_ranking(train, texts[:3], test)
    blind = test.copy()
    del blind.obs["cell_type"]
    with pytest.raises(ObsError, match="no column 'cell_type'"):
        c2s.default_host().baselines.get("mean_ranking_of_type").function(train, texts, blind)


def test_the_reward_in_an_embedding_is_the_mean_squared_error_there():
    adata = simulated_cells(48)
    inverse = c2s.RankExpressionModel.fit(adata, top_k=8)
    genes = [str(gene) for gene in adata.var_names]
    seen = []

    def transform(cells):
        seen.append(cells.n_obs)
        return np.asarray(cells.X.toarray()[:, :3], dtype=np.float32)

    reward = embedding_reward(transform, inverse, genes, scale=2.0)
    truth = " ".join(genes[:4])
    values = reward.function(
        [""] * 4, [truth, " ".join(genes[:4][::-1]), "nonsense", truth], answer=[truth] * 3 + [None]
    )
    a, b = inverse.invert([truth, " ".join(genes[:4][::-1])], genes).X.toarray()[:, :3]
    assert values[0] == 0
    assert values[1] == pytest.approx(-((a - b) ** 2).mean() / 2, rel=1e-5)
    assert values[2:] == [-10.0, None]
    assert seen == [2, 2]
    with pytest.raises(ConfigError, match="scale is 0"):
        embedding_reward(transform, inverse, genes, scale=0)


def test_everything_the_tasks_name_is_registered():
    host = default = c2s.default_host()
    names = [entry for entry in default.tasks.names() if "generation" in entry or "modeling" in entry]
    assert len(names) == 6
    for name in names:
        task = host.tasks.get(name)
        assert all(host.metrics.get(metric).name == metric for metric in task.metrics)
        assert all(host.rewards.get(reward).name == reward for reward in task.rewards)
        assert all(host.baselines.get(baseline).name == baseline for baseline in task.baselines)
        assert all(template.name.startswith(f"{name}/") for template in host.prompts.get(task.prompts))
