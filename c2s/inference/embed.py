"""A vector per text: the mean of the last hidden state (section 4.6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c2s.inference.batching import (
    as_texts,
    batch_tokens,
    check_context,
    decoder,
    encode,
    evaluating,
    length_buckets,
    pad_left,
    padding_token,
)
from c2s.progress import progress

if TYPE_CHECKING:
    from c2s.models import LanguageModel


def embed(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> npt.NDArray[np.float32]:
    """Embed texts as the mean of the last hidden state over their real tokens.

    Padding is not averaged in, so an embedding does not depend on the other texts of its batch. The hidden state
    is the one the output layer sees (after the last normalisation), and tokens that the tokenizer adds at the
    beginning count as real.

    Parameters
    ----------
    model
        A causal language model and its tokenizer.
    texts
        Texts, usually prompts that hold a cell sentence.
    tokens_per_batch
        Most tokens of one forward pass after padding; by default what suits the device.
    show_progress
        Show a progress bar.

    Returns
    -------
    numpy.ndarray
        float32 ``[texts, hidden]``.

    Raises
    ------
    PromptError
        A text is not a string or is empty.
    ConfigError
        `tokens_per_batch` is not positive.
    ContextError
        A text does not fit the context.
    """
    listed = as_texts(texts, what="text")
    per_batch = batch_tokens(model, tokens_per_batch)
    tokens = encode(model, listed)
    check_context(model, [len(t) for t in tokens], 0, "")
    result = np.empty((len(listed), decoder(model.model).config.hidden_size), dtype=np.float32)
    with evaluating(model) as network, progress("embedding", len(listed), enabled=show_progress) as advance:
        body = decoder(network)
        for batch in length_buckets([len(t) for t in tokens], per_batch):
            padded = pad_left([tokens[i] for i in batch], padding_token(model), network.device)
            output = body(
                input_ids=padded.input_ids,
                attention_mask=padded.mask,
                position_ids=padded.positions,
                use_cache=False,
            )
            hidden = output.last_hidden_state.float()
            # Padding may hold anything, NaN included: leave it out before adding up.
            total = hidden.masked_fill(padded.mask[..., None] == 0, 0).sum(1)
            result[batch] = (total / padded.mask.sum(1, keepdim=True)).cpu().numpy()
            advance(len(batch))
    return result
