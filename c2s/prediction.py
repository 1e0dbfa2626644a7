"""A trained task on cells: predict new ones, or measure it on the ones it was not trained on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from c2s.errors import C2SWarning, ConfigError, GeneError, ObsError
from c2s.evaluation import Evaluation, baseline_predictions, evaluate_task, majority_predictions
from c2s.inference.predict import predict_examples
from c2s.sentences import to_cell_sentences
from c2s.splits import Answers, split_problems

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.sentences import CellSentences
    from c2s.tasks import Baseline, Metric, Task
    from c2s.training import TaskModel

#: Below this share of known words a prediction comes with a warning.
FEW_KNOWN_GENES = 0.5


def predict_cells(
    trained: TaskModel,
    task: Task,
    cells: AnnData | CellSentences,
    *,
    threshold: float = 0.0,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> pa.Table:
    """Predict the task's answer for cells without answers.

    Parameters
    ----------
    trained
        From `c2s.training.TaskModel.load`.
    task
        The task it was trained on, with the same options.
    cells
        Normalised cells (`c2s.read_cells`), or their sentences.
    threshold
        Abstain below this probability, in [0, 1].
    tokens_per_batch, show_progress
        As for `c2s.inference.predict_examples`.

    Returns
    -------
    pyarrow.Table
        `c2s.inference.predict.PREDICTION_SCHEMA`.

    Raises
    ------
    GeneError
        None of the cells' genes was in the training cells.
    """
    sentences = _sentences(trained, cells, show_progress)
    check_known_genes(sentences, trained.genes)
    examples = task.examples(sentences, trained.templates, seed=trained.seed, answers=False)
    return _predict(trained, task, examples, threshold, tokens_per_batch, show_progress)


def evaluate_cells(
    trained: TaskModel,
    task: Task,
    adata: AnnData,
    *,
    metrics: Sequence[Metric],
    baselines: Sequence[Baseline] = (),
    part: str = "test",
    threshold: float = 0.0,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> Evaluation:
    """Measure a trained task on one part of its split, or on other cells, beside the most frequent answer.

    The predictor ``majority`` always gives the most frequent answer of the training part, or, where that is not
    known, of the examples scored; `Evaluation.majority` says which. Tasks about several cells have it too. What
    keeps the numbers from telling how good the model is, is warned of.

    Parameters
    ----------
    trained, task
        As for `predict_cells`.
    adata
        Normalised cells with the task's columns: those the task was trained on, or others.
    metrics
        What to measure.
    baselines
        Fitted on the training and validation cells; only for the data of the split.
    part
        ``"test"`` or ``"validation"`` of the model's own split, or ``"all"`` for cells it has not seen.
    threshold
        Abstain below this probability; `Evaluation.extra` says what that gains.
    n_bootstrap, level, seed
        Of the bootstrap.
    tokens_per_batch, show_progress
        As for `c2s.inference.predict_examples`.

    Returns
    -------
    Evaluation

    Raises
    ------
    ConfigError
        ``part="all"`` would score training cells, or baselines were asked for without a split.
    ObsError
        The cells are not those of the split, or the part has none.
    """
    if trained.split is not None and trained.split.sizes.get(part) == 0:
        raise ObsError(
            f"the {part} part of the model's split is empty: nothing can be scored.",
            fix='score another part (--part validation), or other data with part="all" (--part all).',
        )
    chosen, note = _cells_of(trained, adata, part)
    whole = _sentences(trained, adata, show_progress)
    sentences = whole.select(chosen)
    check_known_genes(sentences, trained.genes)
    examples = task.examples(sentences, trained.templates, seed=trained.seed)
    predictions = _predict(trained, task, examples, threshold, tokens_per_batch, show_progress)
    others = _baselines(trained, task, adata, examples, baselines, part, seed) if baselines else {}
    learned = _learned(trained, task, whole, part)
    majority, said = majority_predictions(task, learned, examples)
    if "majority" in others:
        said = f"majority: the task's own baseline of this name, which says {others['majority'][0]!r}."
    answers: dict[str, Answers] = {} if learned is None else {"train": learned}
    answers[part] = examples["answer"].to_pylist()
    return evaluate_task(
        examples,
        predictions,
        metrics,
        baselines=majority | others,
        note=note,
        majority=said,
        problems=split_problems(answers, unit=trained.split.unit if trained.split is not None else "cell"),
        n_bootstrap=n_bootstrap,
        level=level,
        seed=seed,
    )


def check_known_genes(sentences: CellSentences, known: Sequence[str] | None) -> None:
    """Compare the genes of `sentences` with those of the training cells.

    Raises
    ------
    GeneError
        They share none. Sharing less than half of the expressed genes is a warning.
    """
    if known is None:
        return
    expressed = {
        gene
        for gene, n in zip(
            sentences.vocabulary["gene"].to_pylist(), sentences.vocabulary["n_cells"].to_pylist(), strict=True
        )
        if n
    }
    shared = len(expressed.intersection(known))
    if not shared:
        raise GeneError(
            f"none of the {len(expressed)} expressed genes (such as {min(expressed, default='none')!r}) "
            f"was in the training cells (such as {min(known, default='none')!r}).",
            fix="give symbols of the same species and spelling; --symbols COLUMN names the column of var.",
        )
    if shared < FEW_KNOWN_GENES * len(expressed):
        warnings.warn(
            f"only {shared} of {len(expressed)} expressed genes were in the training cells; "
            "expect worse predictions.",
            C2SWarning,
            stacklevel=3,
        )


def _sentences(trained: TaskModel, cells: AnnData | CellSentences, show_progress: bool) -> CellSentences:
    from c2s.sentences import CellSentences

    if isinstance(cells, CellSentences):
        return cells
    return to_cell_sentences(cells, top_k=trained.top_k, show_progress=show_progress)


def _predict(
    trained: TaskModel,
    task: Task,
    examples: pa.Table,
    threshold: float,
    tokens_per_batch: int | None,
    show_progress: bool,
) -> pa.Table:
    return predict_examples(
        trained.model,
        examples,
        candidates=trained.candidates,
        parse=task.parse,
        calibration=trained.calibration,
        threshold=threshold,
        max_new_tokens=task.longest_answer,
        tokens_per_batch=tokens_per_batch,
        show_progress=show_progress,
    )


def _learned(trained: TaskModel, task: Task, sentences: CellSentences, part: str) -> Mapping[str, int] | None:
    """Return how often each answer occurs in the training part; None where neither model nor data tell."""
    if trained.answers is not None or trained.split is None or part == "all":
        return trained.answers
    train = trained.split.ids("train")
    if not set(train) <= set(sentences.table["cell_id"].to_pylist()):
        return None
    examples = task.examples(sentences.select(train), trained.templates, seed=trained.seed)
    return Counter(examples["answer"].to_pylist())


def _cells_of(trained: TaskModel, adata: AnnData, part: str) -> tuple[list[str], str]:
    """Return the ids of the cells to score and how they were chosen; refuse to score training cells."""
    names = adata.obs_names.astype(str)
    split = trained.split
    if part == "all":
        seen = set(names) & (set(split.ids("train")) | set(split.ids("validation")) if split else set())
        if seen and _same_data(trained, adata):
            raise ConfigError(
                "evaluation",
                [f"{len(seen)} of {len(names)} cells were used for training"],
                fix='pass part="test".',
            )
        return list(names), "All cells of data that were not used for training."
    if split is None or part not in ("validation", "test"):
        raise ConfigError(
            "evaluation",
            [f"there is no part {part!r} of a split"],
            fix='pass part="test", or "all" for other data.',
        )
    wanted = split.ids(part)
    missing = set(wanted) - set(names)
    if missing or not wanted:
        raise ObsError(
            f"{len(missing)} of the {len(wanted)} {part} cells of the model's split are not in the data.",
            fix='give the data the model was trained on, or score other data with part="all" (--part all).',
        )
    return wanted, split.note


def _same_data(trained: TaskModel, adata: AnnData) -> bool:
    """Whether the data have as many cells as the training data: ids alone may collide between datasets."""
    return bool(trained.data.get("cells") == adata.n_obs)


def _baselines(
    trained: TaskModel,
    task: Task,
    adata: AnnData,
    examples: pa.Table,
    baselines: Sequence[Baseline],
    part: str,
    seed: int,
) -> dict[str, Any]:
    if trained.split is None or part != "test":
        raise ConfigError(
            "evaluation",
            ["baselines need the training cells"],
            fix='pass part="test", or leave the baselines out.',
        )
    test = [ids[0] if len(ids) == 1 else None for ids in examples["cell_ids"].to_pylist()]
    if None in test:
        raise ConfigError(
            "evaluation", [f"task {task.name!r} asks about several cells at once"], fix="leave the baselines out."
        )
    known = [i for name in ("train", "validation") for i in trained.split.ids(name)]
    # As long as the model's: an answer may be made of the sentence.
    sentences = to_cell_sentences(adata[known], top_k=trained.top_k)
    learned = task.examples(sentences, trained.templates, seed=trained.seed)
    answers = {
        ids[0]: a for ids, a in zip(learned["cell_ids"].to_pylist(), learned["answer"].to_pylist(), strict=True)
    }
    return baseline_predictions(baselines, adata, trained.split, answers, [str(i) for i in test], seed=seed)
