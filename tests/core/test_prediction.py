"""A trained task measured on its own split, on other cells, and beside baselines."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from c2s import PromptTemplate, Task, default_host, example_table, to_cell_sentences
from c2s.contexts import draw_contexts
from c2s.errors import C2SWarning, ConfigError, GeneError, MetricError, ObsError
from c2s.evaluation import baseline_predictions, evaluate_task, majority_predictions
from c2s.inference.predict import PREDICTION_SCHEMA
from c2s.models import TinyConfig
from c2s.prediction import evaluate_cells, known_words, predict_cells
from c2s.results import ResultsTable
from c2s.splits import split_cells
from c2s.tasks import Baseline
from c2s.training import SFTConfig, TaskModel, train_task


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
    assert "Other data than those of the training" in result.note
    with pytest.raises(ConfigError, match="no part 'train'"):
        evaluate_cells(model, task, cells(), metrics=metrics(), part="train")
    same_ids = cells(80, seed=1)
    same_ids.obs_names = cells().obs_names
    with pytest.raises(
        ObsError, match=r"not the data .* of the 16 test cells .*, 16 ids are there, and \d of these"
    ):
        evaluate_cells(model, task, same_ids, metrics=metrics())
    assert (
        len(evaluate_cells(model, task, same_ids, metrics=metrics(), part="all", n_bootstrap=5).predictions) > 50
    )
    majority = default_host().baselines.get("majority")
    with pytest.raises(ConfigError, match="baselines need the training cells"):
        evaluate_cells(model, task, cells(20, seed=1), metrics=metrics(), part="all", baselines=[majority])


def test_the_majority_is_that_of_the_training_part_and_says_so(trained):
    model, task = trained
    assert model.answers == {"B": 28, "T": 28}
    model = replace(model, answers={"B": 12, "T": 44})
    for part, adata in [("test", cells()), ("validation", cells()), ("all", cells(20, seed=1))]:
        result = evaluate_cells(model, task, adata, metrics=metrics(), part=part, n_bootstrap=5)
        assert result.majority == "majority: always 'T', 44 of 56 answers of the training part."
        assert set(result.predictions["baseline:majority"].to_pylist()) == {"T"}
        truth = np.array(result.predictions["answer"].to_pylist())
        assert result.value("accuracy", "majority") == pytest.approx((truth == "T").mean())
        assert result.problems == ()


def test_a_model_that_does_not_tell_its_answers_is_compared_with_what_the_data_tell(trained):
    model, task = trained
    old, more = replace(model, answers=None), cells()
    more.obs["cell_type"] = [
        "T" if name in set(model.split.ids("train")[:40]) else k for name, k in more.obs.cell_type.items()
    ]
    told = evaluate_cells(old, task, more, metrics=metrics(), n_bootstrap=5)
    assert told.majority.startswith("majority: always 'T', ") and told.majority.endswith("of the training part.")
    # Without the training cells, and for other data, the scored examples must do.
    held = cells()[[i for i in cells().obs_names if i in set(model.split.ids("test"))]].copy()
    for part, adata in [("test", held), ("all", cells(19, seed=1))]:
        result = evaluate_cells(old, task, adata, metrics=metrics(), part=part, n_bootstrap=5)
        assert "always 'B'" in result.majority
        assert "answers of the examples scored, since the training part is not known." in result.majority


def test_a_baseline_called_majority_stays_the_tasks_own(trained):
    model, task = trained
    own = Baseline("majority", lambda train, answers, test, *, seed: ["T"] * test.n_obs)
    result = evaluate_cells(model, task, cells(), metrics=metrics(), baselines=[own], n_bootstrap=5)
    assert set(result.predictions["baseline:majority"].to_pylist()) == {"T"}
    assert result.majority == "majority: the task's own baseline of this name, which says 'T'."
    assert list(result.table["predictor"]) == ["language model", "majority"]


@dataclass(frozen=True)
class MixedOrPure(Task):
    """Whether three cells of a donor are of one type: several cells at once, and one answer on the test side."""

    name: ClassVar[str] = "mixed-or-pure"
    title: ClassVar[str] = "Mixed or pure"
    prompts: ClassVar[str] = "mixed-or-pure"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    columns = ("cell_type",)

    def split(self, obs, *, seed=0):
        return split_cells(obs, unit="donor_id", seed=seed)

    def examples(self, sentences, templates, *, seed=0, answers=True):
        rows = {row["cell_id"]: row for row in sentences.table.to_pylist()}
        records = []
        for context in draw_contexts(sentences.obs, within=["donor_id"], n_cells=(3, 3), seed=seed):
            shown = [rows[cell_id] for cell_id in context.cell_ids]
            record = {
                "example_id": context.context_id,
                "template": templates[0].name,
                "cell_ids": list(context.cell_ids),
                "cell_sentences": [row["cell_sentence"] for row in shown],
                "answer": "pure" if len({row["cell_type"] for row in shown}) == 1 else "mixed",
            }
            records.append({**record, "prompt": templates[0].render(record)})
        return example_table(records)


def test_a_test_part_with_one_answer_is_warned_of_in_training_and_evaluation(tmp_path):
    adata, ways = cells(180), [PromptTemplate("mixed-or-pure/a", "{cells} mixed or pure :", "{answer}")]
    donors = np.array([f"d{i // 30}" for i in range(180)])
    adata.obs["donor_id"] = donors
    held = split_cells(adata.obs, unit="donor_id").ids("test")
    # The donors that are tested on were sorted: their samples are pure.
    adata.obs.loc[held, "cell_type"] = "B"
    message = r"only answer of the test part is 'pure', \d+ time\(s\): .* split with another seed.*'donor_id'"
    with pytest.warns(C2SWarning, match=message):
        made = train_task(
            adata,
            MixedOrPure(),
            ways,
            out=tmp_path / "model",
            config=SFTConfig(max_steps=2, batch_size=4),
            tiny=TinyConfig(layers=1, hidden_size=16, heads=1),
            show_progress=False,
        )
    model = TaskModel.load(made.path)
    assert model.answers == made.task_model.answers and set(model.answers) == {"mixed", "pure"}
    with pytest.warns(C2SWarning, match=message) as caught:
        result = evaluate_cells(model, MixedOrPure(), adata, metrics=metrics(), n_bootstrap=20)
    assert result.problems == (str(caught[0].message),)
    # Baselines see one cell at a time; the majority needs none.
    assert f"'mixed', {model.answers['mixed']} of {sum(model.answers.values())}" in result.majority
    assert result.value("accuracy", "majority") == 0.0
    with pytest.raises(ConfigError, match="asks about several cells"):
        evaluate_cells(model, MixedOrPure(), adata, metrics=metrics(), baselines=[Baseline("x", max)])
    result.save(tmp_path / "r")
    saved = json.loads((tmp_path / "r" / "results.json").read_text())
    assert saved["problems"] == list(result.problems)
    assert saved["majority"] == result.majority


def test_a_part_without_cells_is_named(trained):
    model, task = trained
    split = split_cells(cells().obs, fractions={"train": 0.8, "test": 0.2})
    with pytest.raises(ObsError, match=r"validation part of the model's split is empty.*--part all"):
        evaluate_cells(replace(model, split=split), task, cells(), metrics=metrics(), part="validation")


def test_a_metric_that_is_the_same_for_all_is_warned_of():
    examples, predictions = tables()
    wrong = predictions.set_column(2, predictions.schema.field("prediction"), pa.array(["z"] * 4))
    message = "The metric accuracy is 0 for language model, majority alike, whatever examples are drawn"
    with pytest.warns(C2SWarning, match=message):
        result = evaluate_task(examples, wrong, metrics(), baselines={"majority": ["w"] * 4})
    assert len(result.problems) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # One predictor cannot be compared, and one that is right now and then differs on some resamples.
        assert evaluate_task(examples, wrong, metrics()).problems == ()
        assert evaluate_task(examples, predictions, metrics(), baselines={"x": ["x"] * 4}).problems == ()


def test_whole_cells_have_no_majority():
    task = default_host().tasks.get("single-cell-language-modeling")()
    templates = default_host().prompts.get(task.prompts)
    examples = task.examples(to_cell_sentences(cells()), templates)
    made, said = majority_predictions(task, None, examples)
    assert made == {}
    assert said.startswith("No majority: answers hardly recur (those of the examples scored")
    lists = default_host().tasks.get("sample-cell-types")(min_cells=2, max_cells=3)
    learned = {"B , B , T": 1, "T , T": 1, "T , B": 1}
    shown = lists.examples(to_cell_sentences(cells()), default_host().prompts.get(lists.prompts))
    made, said = majority_predictions(lists, learned, shown)
    # As many names as there are cells, each the one that most training cells have.
    assert [a.split(" , ") for a in made["majority"]] == [
        ["T"] * len(ids) for ids in shown["cell_ids"].to_pylist()
    ]
    assert said == "majority: what is most frequent in the answers of the training part."


@pytest.mark.parametrize("which", [slice(None), slice(5, 70), slice(None, None, 2)])
def test_training_cells_are_known_by_their_genes_in_a_subset_and_under_other_ids(trained, which):
    model, task = trained
    some = cells()[which].copy()
    some.obs_names = [f"renamed-{i}" for i in range(some.n_obs)]
    used = cells().obs_names[which].isin(model.split.ids("train") + model.split.ids("validation")).sum()
    with pytest.raises(ConfigError, match=rf"{used} of {some.n_obs} cells of the data were used for training"):
        evaluate_cells(model, task, some, metrics=metrics(), part="all")
    # Among enough other cells they are left out, and that is said.
    others = ad.concat([some, cells(160, seed=1)], index_unique="/")
    result = evaluate_cells(model, task, others, metrics=metrics(), part="all", n_bootstrap=5)
    assert f"All cells but {used} that show exactly the genes of a training cell" in result.note
    assert len(result.predictions) == others.n_obs - used


def test_the_test_part_is_found_under_other_ids_too(trained):
    model, task = trained
    data = cells()
    renamed = data.copy()
    renamed.obs_names = [f"renamed-{name}" for name in data.obs_names]
    majority = [default_host().baselines.get("majority")]
    given = {"metrics": metrics(), "baselines": majority, "n_bootstrap": 5}
    result = evaluate_cells(model, task, renamed, **given)
    expected = {f"renamed-{cell}" for cell in model.split.ids("test")}
    assert {ids[0] for ids in result.predictions["cell_ids"].to_pylist()} == expected
    assert result.value("accuracy") == evaluate_cells(model, task, data, **given).value("accuracy")


def test_the_words_that_are_read_are_compared_with_those_of_the_training_cells():
    sentences = to_cell_sentences(cells())
    genes = sentences.genes
    assert known_words(sentences, None) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", C2SWarning)
        assert known_words(sentences, genes[:11]) == {}
    with pytest.warns(C2SWarning, match=r"knows 39\.7% of the words"):
        assert known_words(sentences, genes[:5]) == {}
    with pytest.raises(
        GeneError, match=r"none of the \d+ words of the cells \(such as 'G\d+'\).*\(such as 'XYZ'\)"
    ):
        known_words(sentences, ["XYZ"])


def test_cells_of_unknown_words_get_no_answer(trained):
    model, task = trained
    new = cells(30, seed=1)
    mouse = new[:10].copy()
    mouse.var_names = [f"Mm{name}" for name in mouse.var_names]
    both = ad.concat([mouse, new[10:]], join="outer", fill_value=0)
    with pytest.warns(C2SWarning, match="10 of 30 cells have next to none, and get no answer"):
        predicted = predict_cells(model, task, both)
    assert predicted["abstained"].to_pylist() == [True] * 10 + [False] * 20


def test_baselines_get_training_and_validation_cells_with_their_answers():
    adata = cells(40)
    split = split_cells(adata.obs, stratify="cell_type")
    seen = {}

    def remember(train, answers, test, *, seed):
        seen.update(train=list(train.obs_names), answers=answers, test=list(test.obs_names), seed=seed)
        return ["B"] * test.n_obs

    known = split.ids("train") + split.ids("validation")
    answers = adata.obs.cell_type[known].to_dict()
    made = baseline_predictions([Baseline("remember", remember)], adata, known, answers, split.ids("test"), seed=7)
    assert made == {"remember": ["B"] * len(split.ids("test"))}
    assert seen == {
        "train": known,
        "answers": adata.obs.cell_type[known].tolist(),
        "test": split.ids("test"),
        "seed": 7,
    }
    with pytest.raises(ConfigError, match=r"1 cell\(s\) are on both sides"):
        baseline_predictions([], adata, known, answers, split.ids("train")[:1])


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


def wide_cells():
    """Cells of 40 genes, which a model of sentences of 25 tells apart."""
    rng = np.random.default_rng(3)
    X = rng.uniform(1, 5, (60, 40)) * (rng.uniform(size=(60, 40)) < 0.9)
    kind = np.where(np.arange(60) % 2, "T", "B")
    names = pd.DataFrame({"cell_type": kind}, index=[f"c{i}" for i in range(60)])
    return ad.AnnData(sparse.csr_matrix(X), obs=names, var=pd.DataFrame(index=[f"G{i}" for i in range(40)]))


@pytest.mark.parametrize("given", ["cells", "sentences"])
def test_training_cells_are_known_with_fewer_genes_and_where_only_sentences_were_given(given, tmp_path):
    host = default_host()
    task = host.tasks.get("annotation")()
    data = wide_cells()
    made = train_task(
        data if given == "cells" else to_cell_sentences(data, top_k=25),
        task,
        host.prompts.get(task.prompts),
        out=tmp_path / "model",
        config=SFTConfig(max_steps=1, batch_size=8),
        tiny=TinyConfig(layers=1, hidden_size=16, heads=1),
        top_k=25,
        show_progress=False,
    )
    model = TaskModel.load(made.path)
    assert model.seen.longest == 25
    assert model.seen.cells_of(data, "test") == model.split.ids("test")
    # As after a filter of genes that takes away what the model does not read.
    lowest = data.X.toarray()
    lowest = np.where(lowest < np.sort(lowest, axis=1)[:, [-26]], 0, lowest)  # of each cell the first 26
    shortened = ad.AnnData(sparse.csr_matrix(lowest), obs=data.obs, var=data.var)
    with pytest.raises(ConfigError, match="48 of 60 cells of the data were used for training"):
        evaluate_cells(model, task, shortened, metrics=metrics(), part="all")
    # Other genes among the first are other cells for all that is known, which is said.
    other = data[:, ::2].copy()
    with pytest.warns(C2SWarning, match="have the ids of training cells, but other genes"):
        evaluate_cells(model, task, other, metrics=metrics(), part="all", n_bootstrap=5)
