"""From examples to one prediction each: scored against allowed labels, or generated and parsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from c2s.errors import ConfigError, ObsError
from c2s.inference.calibrate import Calibration, entropy
from c2s.inference.generate import generate
from c2s.inference.score import score

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from c2s.models import LanguageModel

#: What a cell is called when the model abstains, or when the cell has no expressed gene to read.
UNASSIGNED = "unassigned"

PREDICTION_SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("cell_ids", pa.list_(pa.string()), nullable=False),
        pa.field("prediction", pa.string()),
        pa.field("probability", pa.float64()),
        pa.field("entropy", pa.float64()),
        pa.field("abstained", pa.bool_(), nullable=False),
    ]
)


def predict_examples(
    model: LanguageModel,
    examples: pa.Table,
    *,
    candidates: Sequence[str] | None = None,
    parse: Callable[[str], str | None] | None = None,
    calibration: Calibration | None = None,
    threshold: float = 0.0,
    max_new_tokens: int = 64,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> pa.Table:
    """Predict the answer of every example.

    Parameters
    ----------
    model
        The language model.
    examples
        Table with ``example_id``, ``prompt`` and ``cell_ids`` (see `c2s.tasks.EXAMPLE_SCHEMA`).
    candidates
        Allowed answers; each is scored. None generates the answer greedily instead.
    parse
        Reads a generated answer, e.g. ``task.parse``; None keeps the text, stripped.
    calibration
        Its temperature divides the log-probabilities before they are normalised.
    threshold
        Abstain when the probability of the best candidate is below it, in [0, 1].
    max_new_tokens
        Longest generated answer, in tokens.
    tokens_per_batch
        Tokens of prompts that run together; changes memory and speed, never a result.
    show_progress
        Show a progress bar.

    Returns
    -------
    pyarrow.Table
        `PREDICTION_SCHEMA`, one row per example in the given order. ``prediction`` is null where nothing could be
        parsed; ``probability`` (of the prediction, over the candidates) and ``entropy`` (in nats) are null when
        answers were generated. An abstaining row keeps its best guess in ``prediction``.

    Raises
    ------
    ConfigError
        The threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ConfigError("abstention", [f"the threshold is {threshold}, not in [0, 1]"], fix="pass 0.5, say.")
    if not len(examples):
        return PREDICTION_SCHEMA.empty_table()
    prompts = examples["prompt"].to_pylist()
    if candidates is None:
        texts = generate(
            model,
            prompts,
            max_new_tokens=max_new_tokens,
            tokens_per_batch=tokens_per_batch,
            show_progress=show_progress,
        )
        read = parse or (lambda text: text.strip() or None)
        predictions: list[str | None] = [read(text) for text in texts]
        probability = spread = pa.nulls(len(prompts), pa.float64())
        abstained = np.array([prediction is None for prediction in predictions], dtype=bool)
    else:
        scores = score(model, prompts, candidates, tokens_per_batch=tokens_per_batch, show_progress=show_progress)
        probabilities = scores.probabilities(calibration.temperature if calibration else 1.0)
        best = probabilities.argmax(axis=1)
        predictions = [scores.candidates[i] for i in best]
        highest = probabilities[np.arange(len(best)), best]
        probability, spread = pa.array(highest), pa.array(entropy(probabilities))
        abstained = highest < threshold
    columns = [examples["example_id"], examples["cell_ids"], pa.array(predictions, pa.string())]
    return pa.table([*columns, probability, spread, pa.array(abstained)], schema=PREDICTION_SCHEMA)


def write_predictions(adata: AnnData, predictions: pa.Table, column: str) -> None:
    """Write predictions into ``obs`` in place.

    Sets `column` (categorical; ``"unassigned"`` where the model abstained or had nothing to read) and
    ``{column}_probability``, ``{column}_entropy`` (float64; NaN where there is none).

    Raises
    ------
    ObsError
        A predicted cell is not in `adata`.
    """
    import pandas as pd

    cells = _per_cell(predictions)
    unknown = cells.index.difference(adata.obs_names)
    if len(unknown):
        raise ObsError(
            f"{len(unknown)} predicted cell(s) are not in the data, first {unknown[0]!r}.",
            fix="write the predictions into the cells they were made from.",
        )
    cells = cells.reindex(adata.obs_names)
    shown = cells["prediction"].where(~cells["abstained"].fillna(True).astype(bool)).fillna(UNASSIGNED)
    adata.obs[column] = pd.Categorical(shown)
    adata.obs[f"{column}_probability"] = cells["probability"].to_numpy(dtype=float)
    adata.obs[f"{column}_entropy"] = cells["entropy"].to_numpy(dtype=float)


def _per_cell(predictions: pa.Table) -> pd.DataFrame:
    """One row per cell; a cell in several examples keeps the first."""
    frame = predictions.to_pandas().explode("cell_ids").drop_duplicates("cell_ids")
    cells: pd.DataFrame = frame.set_index("cell_ids").rename_axis(None)
    return cells
