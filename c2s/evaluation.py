"""A model's predictions on held-out cells, next to baselines that saw the same cells and genes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.errors import ConfigError, MetricError
from c2s.files import atomic_output
from c2s.metrics import confusion_matrix, evaluate_predictions
from c2s.results import FILE, ResultsTable
from c2s.splits import warn_of

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.tasks import Baseline, Metric, Task

#: What the language model is called in the tables.
OURS = "language model"


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one set of cells.

    Attributes
    ----------
    table
        One row per predictor and metric: ``predictor, metric, value, low, high, n``; the language model first.
    predictions
        One row per example: ``example_id, cell_ids, answer, prediction, probability, entropy, abstained`` and one
        column ``baseline:NAME`` per baseline.
    note
        How the cells were split.
    extra
        Further numbers, by name (calibration, share answered).
    majority
        One sentence: whose most frequent answer the predictor ``majority`` gives, or why there is none.
    problems
        What keeps the numbers from telling how good the model is, as sentences; see `c2s.splits.split_problems`.
    """

    table: pd.DataFrame
    predictions: pa.Table
    note: str
    extra: Mapping[str, float]
    majority: str = ""
    problems: tuple[str, ...] = ()

    def value(self, metric: str, predictor: str = OURS) -> float:
        """Return one value of the table.

        Raises
        ------
        MetricError
            There is no such row.
        """
        rows = self.table[(self.table["predictor"] == predictor) & (self.table["metric"] == metric)]
        if rows.empty:
            raise MetricError(
                f"{metric!r} of {predictor!r} was not measured.",
                fix=f"ask for one of {', '.join(sorted(set(self.table['metric'])))}.",
            )
        return float(rows["value"].iloc[0])

    def confusion(self, predictor: str = OURS) -> pd.DataFrame:
        """Return counts: true labels in rows, predicted labels in columns (fig. 5B)."""
        column = "prediction" if predictor == OURS else f"baseline:{predictor}"
        return confusion_matrix(self.predictions[column].to_pylist(), self.predictions["answer"].to_pylist())

    def fill(
        self, results: ResultsTable, *, task: str = "", unit: str = "examples", data: str = ""
    ) -> ResultsTable:
        """Add what was measured to a table of results: the rows of `table`, then those of `extra`.

        Parameters
        ----------
        results
            The table; see `c2s.results.ResultsTable`.
        task, unit, data
            As for `c2s.results.ResultsRow`; `unit` is what `n` counts.
        """
        same: dict[str, Any] = {"task": task, "unit": unit, "data": data, "note": self.note}
        for row in self.table[["metric", "value", "predictor", "low", "high", "n"]].to_dict("records"):
            results.add(**same, **{str(name): value for name, value in row.items()})
        for name, value in self.extra.items():
            results.add(name, value, predictor=OURS, n=len(self.predictions), **same)
        return results

    def save(self, folder: str | Path, *, overwrite: bool = False, results: ResultsTable | None = None) -> None:
        """Write ``results.json``, ``predictions.parquet`` and ``confusion.csv`` into a new folder.

        Parameters
        ----------
        folder, overwrite
            Where to, and whether an existing folder is replaced.
        results
            What `fill` made; default a table that does not say which data were scored.
        """
        results = self.fill(ResultsTable(source="evaluation")) if results is None else results
        with atomic_output(folder, overwrite=overwrite) as temporary:
            temporary.mkdir()
            more = {"majority": self.majority, "problems": list(self.problems)}
            results.to_json(temporary / FILE, note=self.note, extra=dict(self.extra), **more)
            pq.write_table(self.predictions, temporary / "predictions.parquet")
            self.confusion().to_csv(temporary / "confusion.csv")


def evaluate_task(
    examples: pa.Table,
    predictions: pa.Table,
    metrics: Sequence[Metric],
    *,
    baselines: Mapping[str, Sequence[str]] | None = None,
    note: str = "",
    majority: str = "",
    problems: Sequence[str] = (),
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Measure predictions, and those of baselines, against the answers of the same examples.

    Parameters
    ----------
    examples
        Table with answers, see `c2s.tasks.EXAMPLE_SCHEMA`.
    predictions
        Table of `c2s.inference.predict_examples`, one row per example in the same order.
    metrics
        What to measure; the first is the headline.
    baselines
        Predictions of each baseline by name, from `baseline_predictions`.
    note, majority, problems
        As `Evaluation` keeps them. If there is no problem, a first metric that tells no predictor from another is
        one. All are warned of.
    n_bootstrap, level, seed
        Of the percentile bootstrap over examples.

    Returns
    -------
    Evaluation

    Raises
    ------
    MetricError
        The tables do not hold the same examples, or an answer is missing.
    """
    if examples["example_id"].to_pylist() != predictions["example_id"].to_pylist():
        raise MetricError(
            "examples and predictions are not of the same examples in the same order.",
            fix="predict exactly the table that is evaluated.",
        )
    answers = examples["answer"].to_pylist()
    columns = {name: examples[name].to_pylist() for name in examples.column_names if name != "answer"}
    given: dict[str, Sequence[str | None]] = {OURS: predictions["prediction"].to_pylist(), **(baselines or {})}
    tables = []
    for predictor, predicted in given.items():
        table = evaluate_predictions(
            metrics, predicted, answers, columns=columns, n_bootstrap=n_bootstrap, level=level, seed=seed
        )
        table.insert(0, "predictor", predictor)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    problems = tuple(problems or _constant(metrics[:1], table))
    warn_of(problems)
    joined = predictions.append_column("answer", examples["answer"])
    for name, predicted in (baselines or {}).items():
        joined = joined.append_column(f"baseline:{name}", pa.array(predicted, pa.string()))
    return Evaluation(table, joined, note, _extra(joined), majority, problems)


def _constant(metrics: Sequence[Metric], table: pd.DataFrame) -> list[str]:
    """Say which of the metrics are the same for every predictor, whatever examples are drawn."""
    problems = []
    for metric in metrics:
        rows = table[table["metric"] == metric.name]
        if len(rows) > 1 and rows["value"].nunique() == 1 and (rows["low"] == rows["high"]).all():
            problems.append(
                f"The metric {metric.name} is {rows['value'].iloc[0]:g} for {', '.join(rows['predictor'])} alike, "
                "whatever examples are drawn: it tells nothing of the model; score other examples, or by another "
                "metric."
            )
    return problems


def _extra(joined: pa.Table) -> dict[str, float]:
    """How far the probabilities can be believed, and what abstaining gained."""
    from c2s.metrics.classification import ece_of_confidence

    probability = joined["probability"].to_numpy()
    if len(probability) == 0 or np.isnan(probability).any():
        return {}
    right = np.array(joined["prediction"].to_pylist(), dtype=object) == np.array(
        joined["answer"].to_pylist(), dtype=object
    )
    answered = ~joined["abstained"].to_numpy()
    return {
        "ece": ece_of_confidence(probability, right),
        "answered": float(answered.mean()),
        "accuracy_answered": float(right[answered].mean()) if answered.any() else float("nan"),
    }


def majority_predictions(
    task: Task, learned: Mapping[str, int] | None, examples: pa.Table
) -> tuple[dict[str, list[str]], str]:
    """Answer examples without looking at a cell, see `c2s.Task.majority`.

    Parameters
    ----------
    task
        Whose examples they are.
    learned
        How often each answer occurs in the training part; None where that is not known.
    examples
        Table with answers, which stand in for those of the training part.

    Returns
    -------
    dict, str
        The predictions as a predictor called ``majority``, or nothing; and a sentence that says whose answers were
        counted.
    """
    known: Mapping[str, int] = Counter(examples["answer"].to_pylist()) if learned is None else learned
    whose = (
        "the training part" if learned is not None else "the examples scored, since the training part is not known"
    )
    answers = task.majority(known, examples)
    if answers is None:
        return (
            {},
            f"No majority: answers hardly recur (those of {whose}), so that the most frequent one would be any.",
        )
    said = f"majority: what is most frequent in the answers of {whose}."
    if len(set(answers)) == 1 and answers[0] in known:
        n, total = known[answers[0]], sum(known.values())
        said = f"majority: always {answers[0]!r}, {n} of {total} answers of {whose}."
    return {"majority": answers}, said


def baseline_predictions(
    baselines: Sequence[Baseline],
    adata: AnnData,
    known: Sequence[str],
    answers: Mapping[str, str],
    test_ids: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, list[str]]:
    """Fit each baseline on the training and validation cells and let it predict the test cells.

    The language model uses the validation cells to stop and to calibrate; a baseline has no such need and gets
    them for fitting, so that both have seen the same cells.

    Parameters
    ----------
    baselines
        What to fit.
    adata
        All cells with all genes, log-normalised.
    known
        Ids of the training and validation cells.
    answers
        The answer of each training and validation cell, by cell id.
    test_ids
        The cells to predict, in order.
    seed
        Handed to each baseline.

    Returns
    -------
    dict
        The predictions of each baseline, in the order of `test_ids`.

    Raises
    ------
    ConfigError
        A test cell is also a training cell.
    """
    known = [i for i in known if i in answers]
    both = set(known) & set(test_ids)
    if both:
        raise ConfigError("baselines", [f"{len(both)} cell(s) are on both sides of the split"], fix="split again.")
    train, test = adata[known], adata[list(test_ids)]
    labels = [answers[i] for i in known]
    return {baseline.name: list(baseline.function(train, labels, test, seed=seed)) for baseline in baselines}
