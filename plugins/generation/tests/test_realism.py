"""Measures of generated cells against values worked out by hand, and against cells made bad on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from c2s_generation import CellTexts, Yardstick, independent_genes, mean_ranking, resampled_cells
from c2s_generation.markers import marker_genes, presence, recovery
from c2s_generation.realism import MEASURES

import c2s
from c2s.errors import MetricError
from c2s.testing import simulated_cells
from c2s.testing.cells import MARKERS

K = 12


@pytest.fixture(scope="module")
def cells():
    adata = simulated_cells(320)
    return adata[:200].copy(), adata[200:].copy()


@pytest.fixture(scope="module")
def yardstick(cells):
    embedder = c2s.default_host().embedders.get("pca")
    return Yardstick(*cells, ["cell_type"], embedder=embedder, top_k=K, embedder_options={"n_components": 5})


def values(yardstick, sentences, conditions):
    table = yardstick.measure(CellTexts(tuple(sentences), tuple(conditions)))
    assert table["measure"].tolist() == list(MEASURES)
    assert ((table["low"] <= table["value"] + 1e-9) | table["value"].isna()).all()
    assert ((table["high"] >= table["value"] - 1e-9) | table["value"].isna()).all()
    return table.set_index("measure")["value"]


def test_overlaps_and_copies_by_hand(yardstick):
    conditions = yardstick.real.conditions[:1] * 3
    real = [
        set(text.split())
        for text, condition in zip(yardstick.real.sentences, yardstick.real.conditions, strict=True)
        if condition == conditions[0]
    ]
    train = [set(text.split()) for text in yardstick.train.sentences]
    copy = yardstick.train.sentences[0]
    texts = [copy, copy, "MS4A1 CD79A nonsense MS4A1"]
    table = values(yardstick, texts, conditions)
    nearest = [max(len(set(t.split()) & r) / len(r) for r in real) for t in texts]
    assert table["overlap with the nearest"] == pytest.approx(np.mean(nearest))
    assert table["same as another"] == table["copies of training cells"] == pytest.approx(2 / 3)
    known = [set(t.split()) - {"nonsense"} for t in texts]
    likeness = [max(len(k & t) / len(k | t) for t in train) for k in known]
    assert table["likeness to the nearest training cell"] == pytest.approx(np.mean(likeness))
    assert table["unknown words"] == table["repeated words"] == pytest.approx(0.25 / 3)
    pairs = [1 - len(known[i] & known[j]) / len(known[i] | known[j]) for i in range(3) for j in range(3) if i != j]
    assert table["spread"] == pytest.approx(np.mean(pairs))
    assert np.isnan(table["scFID"])


def test_the_mean_overlap_is_over_the_references_drawn(cells):
    embedder = c2s.default_host().embedders.get("hvg")
    yardstick = Yardstick(*cells, [], embedder=embedder, top_k=K, n_references=10_000)
    text = yardstick.train.sentences[3]
    expected = np.mean(
        [len(set(text.split()) & set(r.split())) / len(set(r.split())) for r in yardstick.real.sentences]
    )
    table = values(yardstick, [text], ["any"])
    assert table["overlap"] == pytest.approx(expected)
    assert np.isnan(table[["spread", "scFID", "MMD", "markers recovered"]]).all()


def test_bad_cells_are_told_from_good_ones(cells, yardstick):
    train, test = cells
    texts = list(yardstick.train.sentences)
    conditions = yardstick.real.conditions
    best = values(yardstick, resampled_cells(train, texts, test, conditions=["cell_type"]), conditions)
    shuffled = values(yardstick, resampled_cells(train, texts, test), conditions)
    mean = values(yardstick, mean_ranking(train, texts, test, conditions=["cell_type"]), conditions)
    alone = values(yardstick, independent_genes(train, texts, test, conditions=["cell_type"]), conditions)
    for name, more in MEASURES.items():
        if name in ("scFID", "MMD", "markers recovered", "overlap"):
            assert more == (best[name] > shuffled[name]), name
    assert mean["overlap"] > best["overlap"]  # the mean overlaps most, and is no cell
    assert mean["spread"] == 0 and mean["same as another"] == 1 and mean["scFID"] > best["scFID"]
    assert best["copies of training cells"] == 1 > alone["copies of training cells"]
    assert best["markers recovered"] > 0.6


def test_the_markers_of_simulated_cells_are_those_they_were_simulated_with(cells):
    train, _ = cells
    kinds = train.obs["cell_type"].astype(str).tolist()
    found = marker_genes(train, kinds, 6)
    assert {kind: set(genes) for kind, genes in found.items()} == {k: set(v) for k, v in MARKERS.items()}
    assert set(recovery(train, kinds, found).values()) == {1.0}
    assert set(recovery(train, kinds[1:] + kinds[:1], found).values()) == {0.0}
    assert marker_genes(train, ["one"] * train.n_obs) == {}
    assert marker_genes(train, ["one"] * (train.n_obs - 2) + ["two"] * 2).keys() == {"one"}
    has = (train.X > 0).astype(np.int32).tocsr()
    genes = [str(gene) for gene in train.var_names]
    share = presence(has, genes, kinds, found)["B cell"]
    rows = np.flatnonzero(np.array(kinds) == "B cell")
    assert share == pytest.approx(has[rows][:, [genes.index(g) for g in found["B cell"]]].toarray().mean())


def test_conditions_without_real_cells_and_wrong_lengths_are_refused(yardstick):
    with pytest.raises(MetricError, match=r"1 condition\(s\) of the cells are not among the real ones.*astrocyte"):
        yardstick.measure(CellTexts(("ACTB",), ("cell type : astrocyte",)))
    with pytest.raises(MetricError, match="2 cells have 1 conditions"):
        CellTexts(("A", "B"), ("x",))
    with pytest.raises(MetricError, match="0 cells have 0 conditions"):
        CellTexts((), ())


def test_cells_without_a_known_gene_are_counted_and_have_no_place_in_the_embedding(yardstick):
    real = [i for i, c in enumerate(yardstick.real.conditions) if c == yardstick.real.conditions[0]][:8]
    texts = [yardstick.real.sentences[i] for i in real]
    conditions = [yardstick.real.conditions[0]] * 8
    broken = values(yardstick, ["", "nonsense", *texts[2:]], conditions)
    assert np.isfinite(broken["scFID"])
    assert broken["unknown words"] == pytest.approx(1 / 8)
    nothing = values(yardstick, ["nonsense"] * 8, conditions)
    assert nothing["overlap"] == 0 and np.isnan(nothing["scFID"]) and np.isnan(nothing["markers recovered"])
