"""From scores to predictions, and into obs."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from c2s import load_model
from c2s.errors import ConfigError, ObsError
from c2s.inference import Calibration, score
from c2s.inference.predict import PREDICTION_SCHEMA, predict_examples, write_predictions
from c2s.models import TinyConfig

PROMPTS = ["ACTB CD3D type :", "LYZ type :", "NKG7 GNLY ACTB type :", "CD3D type :"]


@pytest.fixture(scope="module")
def model():
    corpus = [f"{prompt} {label}" for prompt in PROMPTS for label in ("B cell", "T cell", "NK")]
    return load_model(
        "tiny", corpus=corpus, config=TinyConfig(layers=1, hidden_size=16, heads=2, initializer_range=0.5)
    )


@pytest.fixture
def examples():
    return pa.table(
        {
            "example_id": [f"e{i}" for i in range(4)],
            "prompt": PROMPTS,
            "cell_ids": pa.array([["a"], ["b"], ["c"], ["d"]], pa.list_(pa.string())),
        }
    )


LABELS = ["B cell", "NK", "T cell"]


def test_the_most_probable_label_is_predicted_with_its_probability_and_entropy(model, examples):
    table = predict_examples(model, examples, candidates=LABELS)
    assert table.schema.equals(PREDICTION_SCHEMA)
    log_probs = score(model, PROMPTS, LABELS).log_probs
    p = np.exp(log_probs) / np.exp(log_probs).sum(axis=1, keepdims=True)
    assert table["prediction"].to_pylist() == [LABELS[i] for i in p.argmax(axis=1)]
    np.testing.assert_allclose(table["probability"].to_numpy(), p.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(table["entropy"].to_numpy(), -(p * np.log(p)).sum(axis=1), rtol=1e-6)
    assert table["abstained"].to_pylist() == [False] * 4
    assert table["example_id"].to_pylist() == ["e0", "e1", "e2", "e3"]


def test_the_temperature_flattens_the_probabilities_and_changes_no_label(model, examples):
    plain = predict_examples(model, examples, candidates=LABELS)
    flat = predict_examples(model, examples, candidates=LABELS, calibration=Calibration(4.0, 0.1, 0.1, 10))
    assert flat["prediction"].equals(plain["prediction"])
    assert (flat["probability"].to_numpy() < plain["probability"].to_numpy()).all()


def test_abstention_is_strictly_below_the_threshold_and_keeps_the_guess(model, examples):
    plain = predict_examples(model, examples, candidates=LABELS)
    middle = float(np.median(plain["probability"].to_numpy()))
    for threshold in (middle, plain["probability"][0].as_py()):
        table = predict_examples(model, examples, candidates=LABELS, threshold=threshold)
        assert table["abstained"].to_pylist() == [p < threshold for p in plain["probability"].to_pylist()]
        assert table["prediction"].equals(plain["prediction"])
    with pytest.raises(ConfigError, match=r"-0\.1, not in \[0, 1\]"):
        predict_examples(model, examples, candidates=LABELS, threshold=-0.1)


def test_without_candidates_the_answer_is_generated_and_parsed(model, examples):
    table = predict_examples(model, examples, max_new_tokens=3, parse=lambda text: text.upper() if text else None)
    plain = predict_examples(model, examples, max_new_tokens=3)
    assert [a.upper() if a else None for a in plain["prediction"].to_pylist()] == [
        a.strip() if a else None for a in table["prediction"].to_pylist()
    ]
    assert table["probability"].null_count == 4
    nothing = predict_examples(model, examples, max_new_tokens=1, parse=lambda text: None)
    assert nothing["abstained"].to_pylist() == [True] * 4
    assert nothing["prediction"].null_count == 4


def table_of(rows):
    columns = list(zip(*rows, strict=True))
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, PREDICTION_SCHEMA, strict=True)], schema=PREDICTION_SCHEMA
    )


def test_predictions_are_written_to_the_cells_they_belong_to():
    adata = ad.AnnData(np.ones((4, 1)), obs=pd.DataFrame(index=list("abcd")))
    rows = [
        ("e1", ["c", "a"], "lung", 0.9, 0.3, False),
        ("e2", ["d"], "liver", 0.4, 0.7, True),
    ]
    write_predictions(adata, table_of(rows), "c2s_tissue")
    assert adata.obs["c2s_tissue"].tolist() == ["lung", "unassigned", "lung", "unassigned"]
    assert adata.obs["c2s_tissue"].dtype == "category"
    np.testing.assert_array_equal(adata.obs["c2s_tissue_probability"], [0.9, np.nan, 0.9, 0.4])
    np.testing.assert_array_equal(adata.obs["c2s_tissue_entropy"], [0.3, np.nan, 0.3, 0.7])


def test_a_prediction_of_an_unknown_cell_is_refused():
    adata = ad.AnnData(np.ones((1, 1)), obs=pd.DataFrame(index=["a"]))
    with pytest.raises(ObsError, match=r"1 predicted cell\(s\) are not in the data, first 'z'"):
        write_predictions(adata, table_of([("e1", ["z"], "lung", 0.9, 0.3, False)]), "c")
    assert list(adata.obs) == []


@pytest.mark.parametrize("candidates", [LABELS, None])
def test_no_examples_are_no_predictions(model, examples, candidates):
    assert predict_examples(model, examples[:0], candidates=candidates).equals(PREDICTION_SCHEMA.empty_table())
