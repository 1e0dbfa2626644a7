"""A trained task measured on its own split, on other cells, and beside baselines."""

from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from c2s import default_host, to_cell_sentences
from c2s.errors import C2SWarning, ConfigError, GeneError, MetricError, ObsError
from c2s.evaluation import baseline_predictions, evaluate_task
from c2s.inference.predict import PREDICTION_SCHEMA
from c2s.models import TinyConfig
from c2s.prediction import check_known_genes, evaluate_cells, predict_cells
from c2s.results import ResultsTable
from c2s.splits import split_cells
from c2s.tasks import Baseline
from c2s.training import SFTConfig, train_task


def cells(n=80, seed=0):
    """Simulated cells of two types; one gene per type tells them apart."""
    rng = np.random.default_rng(seed)
    kind = np.array(["B", "T"])[np.arange(n) % 2]
    counts = rng.poisson(1.0, size=(n, 12)) + 0.0
    counts[:, 0] = np.where(kind == "B", 20, 0)
    counts[:, 1] = np.where(kind == "T", 20, 0)
    X = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    names = pd.Index([f"s{seed}c{i}" for i in range(n)])
    return ad.AnnData(
        sparse.csr_matrix(X),
        obs=pd.DataFrame({"cell_type": kind}, index=names),
        var=pd.DataFrame(index=[f"G{i}" for i in range(12)]),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    host = default_host()
    task = host.tasks.get("annotation")()
    made = train_task(
        cells(),
        task,
        host.prompts.get(task.prompts),
        out=tmp_path_factory.mktemp("m") / "model",
        config=SFTConfig(max_steps=60, batch_size=8, learning_rate=1e-2),
        tiny=TinyConfig(layers=1, hidden_size=32, heads=2),
        top_k=3,
        show_progress=False,
    )
    return made.task_model, task


def metrics():
    return [default_host().metrics.get("accuracy")]


def test_a_marker_gene_is_learned_and_the_test_part_is_what_is_scored(trained):
    model, task = trained
    majority = default_host().baselines.get("majority")
    result = evaluate_cells(model, task, cells(), metrics=metrics(), baselines=[majority], n_bootstrap=20)
    assert [ids[0] for ids in result.predictions["cell_ids"].to_pylist()] == model.split.ids("test")
    assert result.value("accuracy") > 0.9
    assert result.value("accuracy", "majority") == pytest.approx(0.5, abs=0.01)
    assert result.note == model.split.note
    assert set(result.extra) == {"ece", "answered", "accuracy_answered"}
    assert result.confusion().to_numpy().sum() == len(model.split.ids("test"))
    assert result.confusion("majority").to_numpy().sum() == len(model.split.ids("test"))
    with pytest.raises(MetricError, match="'f2' of 'language model' was not measured"):
        result.value("f2")


def test_new_cells_are_predicted_without_labels(trained):
    model, task = trained
    new = cells(20, seed=1)
    truth = new.obs.pop("cell_type").tolist()
    predicted = predict_cells(model, task, new)["prediction"].to_pylist()
    assert np.mean([p == t for p, t in zip(predicted, truth, strict=True)]) > 0.9
    again = predict_cells(model, task, to_cell_sentences(new, top_k=3))["prediction"].to_pylist()
    assert again == predicted


def test_all_cells_of_other_data_can_be_scored_and_training_cells_cannot(trained):
    model, task = trained
    result = evaluate_cells(model, task, cells(20, seed=1), metrics=metrics(), part="all", n_bootstrap=5)
    assert len(result.predictions) == 20
    assert "not used for training" in result.note
    with pytest.raises(ConfigError, match="64 of 80 cells were used for training"):
        evaluate_cells(model, task, cells(), metrics=metrics(), part="all")
    with pytest.raises(ConfigError, match="no part 'train'"):
        evaluate_cells(model, task, cells(), metrics=metrics(), part="train")
    with pytest.raises(ObsError, match="16 of the 16 test cells"):
        evaluate_cells(model, task, cells(20, seed=1), metrics=metrics())
    majority = default_host().baselines.get("majority")
    with pytest.raises(ConfigError, match="baselines need the training cells"):
        evaluate_cells(model, task, cells(20, seed=1), metrics=metrics(), part="all", baselines=[majority])


def test_genes_are_compared_with_those_of_the_training_cells():
    sentences = to_cell_sentences(cells())
    check_known_genes(sentences, None)
    check_known_genes(sentences, [f"G{i}" for i in range(6)])
    with pytest.warns(C2SWarning, match="only 5 of 12"):
        check_known_genes(sentences, [f"G{i}" for i in range(5)])
    with pytest.raises(GeneError, match=r"none of the 12 expressed genes \(such as 'G0'\).*\(such as 'ENSG1'\)"):
        check_known_genes(sentences, ["ENSG1"])


def test_baselines_get_training_and_validation_cells_with_their_answers():
    adata = cells(40)
    split = split_cells(adata.obs, stratify="cell_type")
    seen = {}

    def remember(train, answers, test, *, seed):
        seen.update(train=list(train.obs_names), answers=answers, test=list(test.obs_names), seed=seed)
        return ["B"] * test.n_obs

    known = split.ids("train") + split.ids("validation")
    answers = adata.obs.cell_type[known].to_dict()
    made = baseline_predictions([Baseline("remember", remember)], adata, split, answers, split.ids("test"), seed=7)
    assert made == {"remember": ["B"] * len(split.ids("test"))}
    assert seen == {
        "train": known,
        "answers": adata.obs.cell_type[known].tolist(),
        "test": split.ids("test"),
        "seed": 7,
    }
    with pytest.raises(ConfigError, match=r"1 cell\(s\) are on both sides"):
        baseline_predictions([], adata, split, answers, split.ids("train")[:1])


def tables():
    examples = pa.table({"example_id": ["a", "b", "c", "d"], "answer": ["x", "x", "y", "y"]})
    rows = [("a", ["a"], "x", 0.9, 0.1, False), ("b", ["b"], "y", 0.4, 0.6, True)]
    rows += [("c", ["c"], "y", 0.8, 0.2, False), ("d", ["d"], "y", 0.7, 0.2, False)]
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(c, f.type) for c, f in zip(columns, PREDICTION_SCHEMA, strict=True)]
    return examples, pa.table(arrays, schema=PREDICTION_SCHEMA)


def test_an_evaluation_by_hand_and_its_files(tmp_path):
    examples, predictions = tables()
    result = evaluate_task(examples, predictions, metrics(), baselines={"always x": ["x"] * 4}, note="by hand")
    assert result.value("accuracy") == 0.75
    assert result.value("accuracy", "always x") == 0.5
    assert result.extra["answered"] == 0.75
    assert result.extra["accuracy_answered"] == 1.0
    # Four bins hold one cell each: the mean of |right - probability|.
    assert result.extra["ece"] == pytest.approx((0.1 + 0.4 + 0.2 + 0.3) / 4)
    result.save(tmp_path / "r")
    saved = json.loads((tmp_path / "r" / "results.json").read_text())
    assert saved["note"] == "by hand"
    assert [row["value"] for row in saved["rows"]] == [0.75, 0.5, *result.extra.values()]
    table = ResultsTable.from_json(tmp_path / "r" / "results.json")
    assert [(row.predictor, row.metric, row.n) for row in table][:2] == [
        ("language model", "accuracy", 4),
        ("always x", "accuracy", 4),
    ]
    assert pq.read_table(tmp_path / "r" / "predictions.parquet").equals(result.predictions)
    confusion = pd.read_csv(tmp_path / "r" / "confusion.csv", index_col=0)
    assert confusion.loc["x", "y"] == 1
    assert confusion.loc["y", "y"] == 2


def test_predictions_of_other_examples_are_refused():
    examples, predictions = tables()
    with pytest.raises(MetricError, match="same order"):
        evaluate_task(examples, predictions.slice(0, 3), metrics())
