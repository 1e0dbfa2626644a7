"""A trained task on cells: predict new ones, or measure it on the ones it was not trained on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2s.errors import C2SWarning, ConfigError, GeneError, ObsError
from c2s.evaluation import Evaluation, baseline_predictions, evaluate_task, majority_predictions
from c2s.inference.predict import predict_examples
from c2s.missing import known_rows
from c2s.sentences import parse_sentences, to_cell_sentences
from c2s.splits import Answers, split_problems

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.sentences import CellSentences
    from c2s.tasks import Baseline, Metric, Task
    from c2s.training import TaskModel
    from c2s.training.seen import CellPrints

#: Below this share of known words answers come with a warning; below the other, a cell gets none.
FEW_KNOWN_WORDS, TOO_FEW_KNOWN_WORDS = 0.8, 0.05


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
        None of the cells' words was in the training cells; see `known_words`.
    """
    sentences = _sentences(trained, cells, show_progress)
    examples = task.examples(sentences, trained.templates, seed=trained.seed, answers=False)
    known = _unknown_cells(trained, sentences, examples)
    return _predict(trained, task, examples, known, threshold, tokens_per_batch, show_progress)


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
    every = _sentences(trained, adata, show_progress)
    here = None if trained.seen is None else trained.seen.look(adata)
    chosen, note = _cells_of(trained, adata, here, part)
    sentences = every.select(chosen)
    labelled = known_rows(sentences.obs, task.columns)
    if not labelled.all():
        sentences = sentences.select(labelled.index[labelled].tolist())
    examples = task.examples(sentences, trained.templates, seed=trained.seed)
    known = _unknown_cells(trained, sentences, examples)
    predictions = _predict(trained, task, examples, known, threshold, tokens_per_batch, show_progress)
    others = _baselines(trained, task, adata, here, every, examples, baselines, part, seed) if baselines else {}
    learned = _learned(trained, task, here, every, part)
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


def known_words(
    sentences: CellSentences, known: Sequence[str] | None, *, then: str = "get no answer"
) -> dict[str, float]:
    """Compare the words that a model is to read with those of its training cells.

    Parameters
    ----------
    sentences
        As long as those the model was trained on.
    known
        Genes of the training cells; None where they were not kept, and then nothing is compared.
    then
        What happens to cells with next to no known word, for the warning.

    Returns
    -------
    dict
        Share of known words, in [0, 1], of each cell with fewer than `TOO_FEW_KNOWN_WORDS`; about these cells the
        model can say nothing.

    Raises
    ------
    GeneError
        No word is known.

    Warns
    -----
    C2SWarning
        Less than `FEW_KNOWN_WORDS` of the words are known, or cells have too few of them (counted).
    """
    if known is None:
        return {}
    parsed = parse_sentences(sentences.table["cell_sentence"], known)
    n_known = parsed.n_words - parsed.n_unknown - parsed.n_malformed
    total = int(parsed.n_words.sum())
    if total and not n_known.sum():
        words = sentences.table["cell_sentence"].to_pylist()
        first = next(text.split()[0] for text in words if text)
        raise GeneError(
            f"none of the {total} words of the cells (such as {first!r}) was in the training cells "
            f"(such as {min(known, default='none')!r}).",
            fix="give symbols of the same species and spelling, of another column of var (--symbols) maybe.",
        )
    shares = n_known / np.maximum(parsed.n_words, 1)
    few = (shares < TOO_FEW_KNOWN_WORDS) & (parsed.n_words > 0)
    share = n_known.sum() / max(total, 1)
    if (total and share < FEW_KNOWN_WORDS) or few.any():
        left = f" {int(few.sum())} of {len(few)} cells have next to none, and {then}." if few.any() else ""
        warnings.warn(
            f"the model knows {share:.1%} of the words of these cells; expect worse results.{left} Are species "
            "and spelling those of the training cells (--symbols)?",
            C2SWarning,
            stacklevel=3,
        )
    ids = sentences.table["cell_id"].to_pylist()
    return {ids[i]: float(shares[i]) for i in np.flatnonzero(few)}


def _unknown_cells(trained: TaskModel, sentences: CellSentences, examples: pa.Table) -> dict[str, float]:
    """Return what `known_words` does, where the model is shown the genes at all: it may be asked for them."""
    first = examples.slice(0, 1).to_pylist()[0]
    texts = dict(zip(*(sentences.table[c].to_pylist() for c in ("cell_id", "cell_sentence")), strict=True))
    shown = any(" ".join(texts[cell].split()[:3]) in first["prompt"] for cell in first["cell_ids"])
    return known_words(sentences, trained.genes) if shown else {}


def _sentences(trained: TaskModel, cells: AnnData | CellSentences, show_progress: bool) -> CellSentences:
    from c2s.sentences import CellSentences

    if isinstance(cells, CellSentences):
        return cells
    # That there are fewer genes than the model would read needs no warning here.
    top_k = trained.top_k if trained.top_k is not None and trained.top_k < cells.n_vars else None
    return to_cell_sentences(cells, top_k=top_k, show_progress=show_progress)


def _predict(
    trained: TaskModel,
    task: Task,
    examples: pa.Table,
    unknown: Mapping[str, float],
    threshold: float,
    tokens_per_batch: int | None,
    show_progress: bool,
) -> pa.Table:
    predictions = predict_examples(
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
    if not unknown:
        return predictions
    silent = pa.array([all(cell in unknown for cell in ids) for ids in predictions["cell_ids"].to_pylist()])
    place = predictions.schema.get_field_index("abstained")
    return predictions.set_column(place, predictions.schema.field(place), pc.or_(predictions["abstained"], silent))


def _learned(
    trained: TaskModel, task: Task, here: CellPrints | None, sentences: CellSentences, part: str
) -> Mapping[str, int] | None:
    """Return how often each answer occurs in the training part; None where neither model nor data tell."""
    if trained.answers is not None or trained.seen is None or here is None or part == "all":
        return trained.answers
    try:
        train = trained.seen.cells_of(here, "train")
    except ObsError:  # the test cells may have been given alone
        return None
    examples = task.examples(sentences.select(train), trained.templates, seed=trained.seed)
    return Counter(examples["answer"].to_pylist())


def _cells_of(trained: TaskModel, adata: AnnData, here: CellPrints | None, part: str) -> tuple[list[str], str]:
    """Return the ids of the cells to score and how they were chosen; training cells are never among them."""
    if part == "all":
        if trained.seen is None or here is None:  # of an earlier version, which knew cells by their ids
            used = (
                set() if trained.split is None else {*trained.split.ids("train"), *trained.split.ids("validation")}
            )
            cells = [cell for cell in map(str, adata.obs_names) if cell not in used]
            return cells, "All cells but those with ids of training cells; the model knows these by nothing else."
        unseen, n = trained.seen.unseen(here)
        if n:
            return unseen, f"All cells but {n} that show exactly the genes of a training cell, in their order."
        return unseen, "Other data than those of the training: no cell shows exactly the genes of a training cell."
    if trained.seen is None or here is None:
        raise ConfigError(
            "evaluation",
            ["the model does not say by which genes its training cells are known"],
            fix='train it again, or pass part="all" for other data (--part all).',
        )
    if part not in ("validation", "test"):
        raise ConfigError(
            "evaluation",
            [f"there is no part {part!r} of a split"],
            fix='pass part="test", or "all" for other data (--part).',
        )
    return trained.seen.cells_of(here, part), trained.seen.split.note


def _baselines(
    trained: TaskModel,
    task: Task,
    adata: AnnData,
    here: CellPrints | None,
    sentences: CellSentences,
    examples: pa.Table,
    baselines: Sequence[Baseline],
    part: str,
    seed: int,
) -> dict[str, Any]:
    if trained.seen is None or here is None or part != "test":
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
    parts = [name for name in ("train", "validation") if trained.seen.split.sizes[name]]
    known = [i for name in parts for i in trained.seen.cells_of(here, name)]
    learned = task.examples(sentences.select(known), trained.templates, seed=trained.seed)
    answers = {
        ids[0]: a for ids, a in zip(learned["cell_ids"].to_pylist(), learned["answer"].to_pylist(), strict=True)
    }
    return baseline_predictions(baselines, adata, known, answers, [str(i) for i in test], seed=seed)
