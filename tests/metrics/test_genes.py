"""Overlap of lists of genes against its formula, written out with sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

import c2s
from c2s.errors import MetricError
from c2s.metrics import evaluate_predictions, gene_overlaps, overlap, overlap_metric
from c2s.metrics.resampling import Resamples

texts = st.lists(st.sampled_from(["A1", "B2", "C3", "D4", "E5", "F6"]), max_size=12).map(" ".join)
truths = texts.filter(bool)
examples = st.lists(st.tuples(st.one_of(st.none(), texts), truths), min_size=1, max_size=8)


def formula(generated: str | None, reference: str) -> float:
    """|G_gen ∩ G_ref| / |G_ref|, section 4.4."""
    g_ref = set(reference.split())
    g_gen = set() if generated is None else set(generated.split())
    return len(g_gen.intersection(g_ref)) / len(g_ref)


@given(examples)
def test_overlap_is_its_formula(rows):
    predictions, references = (list(column) for column in zip(*rows))
    expected = [formula(p, r) for p, r in rows]
    assert gene_overlaps(predictions, references)["overlap"].tolist() == pytest.approx(expected, rel=1e-12)
    assert overlap(predictions, references)["overlap"] == pytest.approx(np.mean(expected), rel=1e-12)


@given(examples)
def test_precision_is_overlap_with_the_roles_exchanged(rows):
    kept = [(p, r) for p, r in rows if p]
    if kept:
        predictions, references = (list(column) for column in zip(*kept))
        there, back = gene_overlaps(predictions, references), gene_overlaps(references, predictions)
        assert there["gene_precision"].tolist() == back["overlap"].tolist()


@given(examples, st.integers(0, 3))
def test_resamples_hold_what_computing_them_one_by_one_gives(rows, seed):
    predictions, references = (list(column) for column in zip(*rows))
    resamples = Resamples(len(rows), 7, seed)
    fast = overlap.resampled(predictions, references, resamples)
    for row, chosen in enumerate(resamples.indices()):
        slow = overlap([predictions[i] for i in chosen], [references[i] for i in chosen])
        assert {key: values[row] for key, values in fast.items()} == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize(
    ("generated", "reference", "value", "precision"),
    [
        ("IFNG STAT1", "STAT1 IFNG", 1.0, 1.0),
        ("IFNG IFNG X", "IFNG STAT1", 0.5, 0.5),
        ("ifng", "IFNG", 0.0, 0.0),
        (" A\tB\nC ", "A B C D", 0.75, 1.0),
        (None, "A", 0.0, 0.0),
        ("", "A", 0.0, 0.0),
    ],
)
def test_by_hand(generated, reference, value, precision):
    assert overlap([generated], [reference]) == {"overlap": value, "gene_precision": precision}


def test_a_reference_without_genes_is_named():
    with pytest.raises(MetricError, match=r"reference 1 has no gene.*leave out"):
        overlap(["A", "B"], ["A", " "])
    with pytest.raises(MetricError, match="no examples"):
        overlap([], [])


def test_it_is_registered_and_gets_an_interval():
    assert c2s.default_host().metrics.get("overlap") is overlap_metric
    table = evaluate_predictions([overlap_metric], ["A", "B", "A B"], ["A", "A", "A B"], n_bootstrap=200)
    row = table.set_index("metric").loc["overlap"]
    assert row["value"] == pytest.approx(2 / 3)
    assert 0 <= row["low"] < row["value"] < row["high"] <= 1
