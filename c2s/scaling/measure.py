"""What a model does on the held-out samples: its loss, and what the answers it writes are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from c2s.corpus import Corpus
from c2s.corpus.prompt_files import corpus_tasks
from c2s.errors import ConfigError
from c2s.models.loading import LanguageModel

#: The columns of a table of results: one row per held-out sample and metric.
RESULT_COLUMNS = ("task", "example_id", "metric", "value")


def held_out_samples(
    corpus: Corpus, tasks: Sequence[str], n: int, *, part: str = "test", seed: int = 0
) -> pa.Table:
    """Draw samples of a part of the corpus, the same number of each task as far as there are so many.

    Returns
    -------
    pyarrow.Table
        ``example_id``, ``task``, ``prompt``, ``answer``.

    Raises
    ------
    ConfigError
        The corpus has no sample of a task there.
    """
    rows: list[dict[str, Any]] = []
    for place, task in enumerate(tasks):
        share = n // len(tasks) + (place < n % len(tasks))
        rows += training_rows(corpus, [task], share, part=part, seed=seed)
    missing = sorted(set(tasks) - {row["task"] for row in rows})
    if missing:
        raise ConfigError(
            f"corpus {corpus.path}",
            [f"its part {part!r} has no sample of {task!r}" for task in missing],
            fix="build it with more cells or with other fractions, or leave the task out.",
        )
    return pa.Table.from_pylist(rows)


def training_rows(
    corpus: Corpus, tasks: Sequence[str] | None, n: int, *, part: str = "train", seed: int = 0
) -> list[dict[str, Any]]:
    """Return up to `n` examples of a part."""
    drawn = corpus.sample(n, part, tasks=tasks, seed=seed)
    rows: list[dict[str, Any]] = drawn.select(["example_id", "task", "prompt", "answer"]).to_pylist()
    return rows


def measure(
    model: LanguageModel,
    samples: pa.Table,
    *,
    max_new_tokens: int,
    bert_score: bool = True,
    batch_size: int = 16,
) -> list[dict[str, Any]]:
    """Measure a model on held-out samples (section 4.4).

    Parameters
    ----------
    model
        The language model.
    samples
        Of `held_out_samples`.
    max_new_tokens
        Longest generated answer; answers are greedy. A task whose true answers are shorter, or whose prompts leave
        less room in the context, gets less.
    bert_score
        Whether to measure BERTScore of texts.
    batch_size
        Samples of a forward pass for the loss.

    Returns
    -------
    list of dict
        `RESULT_COLUMNS`. ``loss`` is the mean over the tokens of an answer and its end, in nats; ``overlap`` is
        the share of the true genes that were written, where the answer is cells or genes; ``exact_match`` and
        ``bert_score`` (F1) are of answers that are text. All but the loss lie from 0 to 1, higher being better.
    """
    from c2s.inference import generate
    from c2s.training.validation import example_losses

    known = corpus_tasks()
    tasks: list[str] = samples["task"].to_pylist()
    names: list[str] = samples["example_id"].to_pylist()
    truth: list[str] = samples["answer"].to_pylist()
    found: dict[str, npt.NDArray[np.float64]] = {"loss": example_losses(model, samples, batch_size=batch_size)}
    answers = [""] * len(tasks)
    for task in dict.fromkeys(tasks):
        places = [i for i, name in enumerate(tasks) if name == task]
        prompts = [samples["prompt"][i].as_py() for i in places]
        room = _room(model, prompts, [truth[i] for i in places], max_new_tokens)
        for place, text in zip(places, generate(model, prompts, max_new_tokens=room), strict=True):
            answers[place] = text
    genes = np.array([known[task].metric == "overlap" for task in tasks])
    shared = np.full(len(tasks), np.nan)
    for row in np.flatnonzero(genes):
        true, given = (set(text.rstrip(" .").split()) for text in (truth[row], answers[row]))
        shared[row] = len(true & given) / len(true)
    found["overlap"] = shared
    texts = np.flatnonzero(~genes)
    exact, like = np.full(len(tasks), np.nan), np.full(len(tasks), np.nan)
    exact[texts] = [answers[i].strip() == truth[i].strip() for i in texts]
    found["exact_match"] = exact
    if bert_score and len(texts):
        from c2s.metrics import bert_scores

        scores = bert_scores([answers[i] or None for i in texts], [truth[i] for i in texts])
        like[texts] = scores["f1"]
        found["bert_score"] = like
    return [
        dict(zip(RESULT_COLUMNS, (tasks[i], names[i], metric, float(values[i])), strict=True))
        for metric, values in found.items()
        for i in range(len(tasks))
        if not np.isnan(values[i])
    ]


def _room(model: LanguageModel, prompts: Sequence[str], answers: Sequence[str], most: int) -> int:
    """Return how many tokens an answer may have: as the longest true one and a few more, if they fit."""
    from c2s.inference.batching import encode

    longest = max(map(len, encode(model, prompts)))
    true = max(map(len, encode(model, [f" {answer}" for answer in answers])))
    return max(1, min(most, true + 4, model.context_length - longest))
