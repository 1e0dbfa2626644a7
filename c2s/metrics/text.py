"""BERTScore: how alike two texts are, token by token, in the eyes of an encoder (section 4.4)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s.errors import MetricError, ModelError
from c2s.metrics.classification import checked_answers
from c2s.metrics.multi_reference import with_alternatives
from c2s.metrics.resampling import mean_of_examples
from c2s.tasks import Metric

if TYPE_CHECKING:
    from c2s.metrics.encoder import Encoded, TextEncoder

Floats = npt.NDArray[np.float64]

#: Encoder of BioBERTScore, and the variable that names a folder or another id instead.
BIOBERT, BIOBERT_CONFIGURED = "dmis-lab/biobert-base-cased-v1.2", "C2S_BIOBERT"
# Pairs whose scores are kept, texts whose vectors are kept, and how long these may be; tokens that run together.
_MOST_KEPT, _MOST_VECTORS, _SHORT = 100_000, 2_000, 64
_TOKENS_PER_BATCH = 4096


def bert_scores(
    predictions: Sequence[str | None],
    references: Sequence[str],
    *,
    encoder: TextEncoder | None = None,
    batch_size: int = 64,
) -> dict[str, Floats]:
    """Return BERTScore's precision, recall and F1 of each example (section 4.4), by the library ``bert-score``.

    Each token of one text is matched with the token of the other whose vector has the highest cosine; recall is
    the mean over the tokens of the reference, precision over those of the prediction. Special tokens may be
    matched with, but are not averaged over; no token weighs more than another, and nothing is rescaled.

    Parameters
    ----------
    predictions
        Generated texts; None, or a text without a token, scores 0.
    references
        True texts.
    encoder
        Default `c2s.metrics.load_text_encoder`; another encoder gives other scores, so that a table names it.
    batch_size
        Pairs that run together; changes speed, and values by rounding only.

    Returns
    -------
    dict
        ``precision``, ``recall`` and ``f1``, float64 ``[examples]``, at most 1; identical texts score exactly 1.

    Raises
    ------
    MetricError
        A reference holds no token, or as `checked_answers`.
    ModelError
        bert-score or the encoder is not on this machine.

    Warns
    -----
    C2SWarning
        Texts are longer than the encoder reads (counted).
    """
    from c2s.metrics.encoder import load_text_encoder

    predicted, truth = checked_answers(predictions, references)
    encoder = encoder or load_text_encoder()
    pairs = [((text or "").strip(), reference.strip()) for text, reference in zip(predicted, truth, strict=True)]
    new = sorted({pair for pair in pairs if pair not in encoder.scores})
    if new:
        if len(encoder.scores) + len(new) > _MOST_KEPT:
            encoder.scores.clear()
            new = sorted(set(pairs))
        encoder.scores.update(_score_pairs(new, encoder, batch_size))
    values = np.array([encoder.scores[pair] for pair in pairs]).reshape(-1, 3)
    return dict(zip(("precision", "recall", "f1"), values.T, strict=True))


def _score_pairs(
    pairs: Sequence[tuple[str, str]], encoder: TextEncoder, batch_size: int
) -> dict[tuple[str, str], tuple[float, float, float]]:
    texts = sorted({text for pair in pairs for text in pair})
    tokens = dict(zip(texts, encoder.lengths(texts), strict=True))
    if empty := [reference for _, reference in pairs if not tokens[reference]]:
        raise MetricError(
            f"the reference {empty[0]!r} holds no token for {encoder.name}.",
            fix="leave out examples without a true text.",
        )
    done = {pair: (0.0, 0.0, 0.0) for pair in pairs if not tokens[pair[0]]}
    # The cosine of a vector with itself is 1; rounding would make it a little more or less.
    done |= {pair: (1.0, 1.0, 1.0) for pair in pairs if pair[0] == pair[1]}
    left = sorted({*pairs} - done.keys(), key=lambda pair: (tokens[pair[0]], tokens[pair[1]], pair))
    if left:
        given, true = (list(column) for column in zip(*left, strict=True))
        for pair, (precision, recall) in zip(
            left, _library(given, true, tokens, encoder, batch_size), strict=True
        ):
            total = precision + recall
            done[pair] = (precision, recall, 2 * precision * recall / total if total > 0 else 0.0)
    return done


def _library(
    given: list[str], true: list[str], tokens: Mapping[str, int], encoder: TextEncoder, batch_size: int
) -> Floats:
    """Return precision and recall, ``[pairs, 2]``, as ``bert_score`` computes them.

    The library would encode every text again at each call, padded to the longest of its batch; here texts of like
    length run together, and short ones are encoded once per process.
    """
    import torch

    try:
        from bert_score.utils import greedy_cos_idf
    except ImportError as error:
        raise ModelError("the package bert-score is not installed.", fix="pip install 'c2s[text]'") from error
    vectors = _vectors({*given, *true}, tokens, encoder)
    found = []
    with torch.inference_mode():
        for start in range(0, len(given), batch_size):
            chosen = slice(start, start + batch_size)
            x, y = ([vectors[text] for text in texts[chosen]] for texts in (true, given))
            precision, recall, _ = greedy_cos_idf(*_padded(x), *_padded(y))
            found.append(torch.stack((precision, recall), dim=-1))
    # Text made of special tokens alone has a mean over nothing.
    values: Floats = np.clip(np.nan_to_num(torch.cat(found).double().numpy()), -1.0, 1.0)
    return values


def _vectors(texts: set[str], tokens: Mapping[str, int], encoder: TextEncoder) -> dict[str, Encoded]:
    """Return each text's token vectors ``[tokens, width]`` and token weights ``[tokens]``, on the CPU."""
    import torch
    from bert_score.utils import get_bert_embedding

    tokenizer = encoder.tokenizer
    weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
    weights |= {tokenizer.cls_token_id: 0.0, tokenizer.sep_token_id: 0.0}
    known = {text: encoder.vectors[text] for text in texts if text in encoder.vectors}
    waiting = sorted(texts - known.keys(), key=lambda text: (tokens[text], text))
    while waiting:
        # Sorted by length, so that the last of a batch is the longest.
        n = max(1, sum(1 for i, text in enumerate(waiting) if (i + 1) * (tokens[text] + 2) <= _TOKENS_PER_BATCH))
        batch, waiting = waiting[:n], waiting[n:]
        with torch.inference_mode():
            hidden, mask, weight = get_bert_embedding(
                batch, encoder.model, tokenizer, weights, device=encoder.model.device
            )
        for place, text in enumerate(batch):
            length = int(mask[place].sum())
            known[text] = hidden[place, :length].float().cpu(), weight[place, :length].cpu()
    if len(encoder.vectors) + len(known) > _MOST_VECTORS:
        encoder.vectors.clear()
    short = [text for text in known if tokens[text] <= _SHORT]
    encoder.vectors.update({text: known[text] for text in short[:_MOST_VECTORS]})
    return known


def _padded(encoded: Sequence[Encoded]) -> tuple[Any, Any, Any]:
    """Return vectors, mask and weights of a batch as ``bert_score`` wants them."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    vectors, weights = [each for each, _ in encoded], [each for _, each in encoded]
    lengths = torch.tensor([len(each) for each in vectors])
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    # Not padded with zeros: a vector of no length has no direction.
    return (
        pad_sequence(vectors, batch_first=True, padding_value=2.0),
        mask,
        pad_sequence(weights, batch_first=True),
    )


def bert_score_with(
    name: str = "bert_score",
    encoder: str | None = None,
    *,
    layer: int | None = None,
    configured: str | None = None,
) -> Metric:
    """Return the metric BERTScore with an encoder of your own.

    Parameters
    ----------
    name
        Name of the metric, and the key of its headline, the mean F1; ``NAME_precision`` and ``NAME_recall`` stand
        beside it.
    encoder, layer
        As for `c2s.metrics.load_text_encoder`.
    configured
        Environment variable that, if set, names another encoder.
    """

    def values(
        predictions: Sequence[str | None], references: Sequence[str], **columns: object
    ) -> dict[str, Floats]:
        from c2s.metrics.encoder import load_text_encoder

        checked_answers(predictions, references)  # before a model is loaded
        chosen = (os.environ.get(configured) if configured else None) or encoder
        scores = bert_scores(predictions, references, encoder=load_text_encoder(chosen, layer=layer))
        return {name: scores["f1"], f"{name}_precision": scores["precision"], f"{name}_recall": scores["recall"]}

    return Metric(name, mean_of_examples(with_alternatives(values)), range=(-1.0, 1.0))


bert_score_metric = bert_score_with()
biobert_score_metric = bert_score_with("biobert_score", BIOBERT, configured=BIOBERT_CONFIGURED)
