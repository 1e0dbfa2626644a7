"""A small language model made on the spot from training cells, as an embedder, and its untrained control."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s import Embedder, PromptTemplate, SFTConfig, example_table, load_model, train_sft
from c2s.errors import ConfigError, ObsError
from c2s.models import TinyConfig
from c2s_embedding.templates import CELL
from c2s_embedding.vectors import TOP_K, cell_prompts, embed_cells

if TYPE_CHECKING:
    import pyarrow as pa
    from anndata import AnnData

    from c2s import LanguageModel
    from c2s.tasks import Transform

#: The prompt of a model that has never seen a cell type.
SENTENCE = PromptTemplate("embedding/sentence", "Cell sentence :", "{cell_sentence} .")
#: What such a model reads when a vector is wanted: the same text, whole.
WHOLE = PromptTemplate("embedding/whole", "Cell sentence : {cell_sentence} .", "")
#: Next-token loss on whole texts, as in pretraining (section 4.3.4).
DEFAULTS = SFTConfig(
    loss="full", max_steps=400, batch_size=32, learning_rate=2e-3, warmup_steps=20, length_window=0
)


def template_of(label: str | None) -> PromptTemplate:
    """Return the template to embed with, of a model trained with these labels or without any."""
    return WHOLE if label is None else CELL


def pretraining_examples(cells: AnnData, *, label: str | None = None, top_k: int = TOP_K) -> pa.Table:
    """Make one text per cell for next-token prediction: its sentence, and behind it its label if there is one.

    Parameters
    ----------
    cells
        Training cells, counts or log1p values.
    label
        Column of ``obs`` whose value ends the text, as in the corpus of the paper; None for sentences alone.
    top_k
        Most genes of a sentence.

    Raises
    ------
    C2SError
        As `c2s_embedding.vectors.cell_prompts`.
    """
    template = SENTENCE if label is None else PromptTemplate(CELL.name, CELL.text, f"{{{label}}}")
    read = WHOLE if label is None else PromptTemplate(CELL.name, CELL.text + f"{{{label}}}", "")
    records = cell_prompts(cells, template=read, top_k=top_k)
    return example_table(
        [
            {
                "example_id": str(name),
                "prompt": template.render(record),
                "answer": template.render_answer(record),
                "template": template.name,
                "cell_ids": [str(name)],
                "cell_sentence": record["cell_sentence"],
            }
            for name, record in zip(cells.obs_names, records, strict=True)
        ]
    )


def train_tiny(
    cells: AnnData,
    *,
    out: str | os.PathLike[str],
    label: str | None = None,
    top_k: int = TOP_K,
    config: SFTConfig | None = None,
    model: str | os.PathLike[str] = "tiny",
    tiny: TinyConfig | None = None,
    seed: int = 0,
    untrained: bool = False,
    resume: bool = False,
    show_progress: bool = False,
) -> LanguageModel:
    """Train a small model from nothing to predict the next word of training cells' texts.

    Parameters
    ----------
    cells
        Training cells; never those that are embedded to be compared.
    out
        Folder for the model. Nothing is written with `untrained`.
    label, top_k
        As for `pretraining_examples`.
    config
        How to train; default `DEFAULTS`.
    model, tiny
        ``"tiny"`` and its shape; or the name or folder of a model to train on.
    seed
        Of the first weights and the order of the cells.
    untrained
        Return the model as it is before the first step: the control, which has the same words.
    resume
        Take up a run that was stopped, or the finished model.
    show_progress
        Show a progress bar.

    Raises
    ------
    OutputError
        `out` exists and `resume` is false.
    C2SError
        As `pretraining_examples` and `c2s.train_sft`.
    """
    examples = pretraining_examples(cells, label=label, top_k=top_k)
    texts = [f"{row['prompt']} {row['answer']}" for row in examples.select(["prompt", "answer"]).to_pylist()]
    built = os.fspath(model) == "tiny"
    loaded = load_model(model, corpus=texts if built else None, config=tiny if built else None, seed=seed)
    if untrained:
        return loaded
    chosen = (config or DEFAULTS).model_copy(update={"seed": seed})
    return train_sft(loaded, examples, out=out, config=chosen, resume=resume, show_progress=show_progress).model


def _fit(
    train: AnnData,
    *,
    seed: int = 0,
    label: str | None = None,
    top_k: int = TOP_K,
    max_steps: int = 400,
    hidden_size: int = 128,
    untrained: bool = False,
) -> Transform:
    problems = [
        f"{name}={value} is below 1" for name, value in (("top_k", top_k), ("max_steps", max_steps)) if value < 1
    ]
    if problems:
        raise ConfigError("embedder 'c2s_tiny'", problems, fix="top_k=200 and max_steps=400 are usual.")
    if label is not None and label not in train.obs:
        raise ObsError(
            f"the training cells have no column {label!r}; they have {', '.join(map(str, train.obs)) or 'none'}.",
            fix="name one of them, or leave label out to train on sentences alone.",
        )
    with tempfile.TemporaryDirectory() as folder:
        model = train_tiny(
            train,
            out=Path(folder) / "model",
            label=label,
            top_k=top_k,
            config=DEFAULTS.model_copy(update={"max_steps": max_steps, "warmup_steps": min(20, max_steps // 10)}),
            tiny=TinyConfig.of(hidden_size=hidden_size),
            seed=seed,
            untrained=untrained,
        )

    def transform(adata: AnnData) -> npt.NDArray[np.float32]:
        return embed_cells(model, adata, template=template_of(label), top_k=top_k)

    return transform


def _fit_untrained(train: AnnData, *, seed: int = 0, **options: Any) -> Transform:
    return _fit(train, seed=seed, untrained=True, **options)


TINY = Embedder(
    "c2s_tiny",
    _fit,
    summary="a small language model trained on the spot, on the training cells' sentences",
    needs_training=True,
    options=("label", "top_k", "max_steps", "hidden_size"),
)
UNTRAINED = Embedder(
    "c2s_untrained",
    _fit_untrained,
    summary="the same model before its first step: what random weights make of a sentence",
    needs_training=True,
    options=("label", "top_k", "hidden_size"),
)
