"""Embedding by a language model of cell sentences, and of sentences by models of expression."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2s.errors import ConfigError
from c2s.tasks import Embedder, Transform

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.models import LanguageModel
    from c2s.sentences import RankExpressionModel


def _fit_c2s(
    train: AnnData | None = None,
    *,
    seed: int = 0,
    model: LanguageModel | str | os.PathLike[str] | None = None,
    top_k: int = 200,
    prompt: str = "{cell_sentence}",
) -> Transform:
    from c2s.models import LanguageModel, load_model

    problems = []
    if model is None:
        problems.append("no model")
    if "{cell_sentence}" not in prompt:
        problems.append(f"the prompt {prompt!r} holds no {{cell_sentence}}")
    if problems:
        raise ConfigError(
            "embedder 'c2s'", problems, fix="pass model='FOLDER', and a prompt with {cell_sentence} or none."
        )
    loaded = model if isinstance(model, LanguageModel) else load_model(model)  # type: ignore[arg-type]

    def transform(adata: AnnData) -> npt.NDArray[np.float32]:
        from c2s.inference import embed
        from c2s.sentences import to_cell_sentences

        sentences = to_cell_sentences(adata, top_k=min(top_k, adata.n_vars), obs_columns=[], expects="any")
        texts = sentences.table["cell_sentence"].to_pylist()
        return embed(loaded, [prompt.replace("{cell_sentence}", text) for text in texts])

    return transform


C2S = Embedder(
    "c2s",
    _fit_c2s,
    summary="a language model's last hidden state, averaged over the cell sentence (section 4.6.3)",
    options=("model", "top_k", "prompt"),
)


def embed_sentences(
    transform: Transform,
    sentences: Sequence[str | None],
    inverse: RankExpressionModel,
    genes: Sequence[str],
) -> npt.NDArray[np.float32]:
    """Embed cell sentences with an embedder of expression, by way of the inverse (sections 4.2 and 4.7).

    Parameters
    ----------
    transform
        A fitted embedder, `c2s.Embedder.fitted`.
    sentences
        Cell sentences, generated ones, say.
    inverse
        Makes expression of ranks; fitted on real cells of the same data.
    genes
        The genes the expression has, as the real cells do.

    Returns
    -------
    numpy.ndarray
        float32 ``[sentences, dimensions]``.

    Raises
    ------
    C2SError
        As the embedder raises for cells it cannot embed: a sentence without a known gene is an empty cell.
    """
    return transform(inverse.invert(list(sentences), genes))
