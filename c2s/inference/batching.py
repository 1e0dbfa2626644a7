"""Batches of similar length, and the tokens that go into them.

A cell's result must not depend on the cells beside it. Batches are therefore only a way of going faster: texts
are sorted by length so that little is padded, padding is on the left and masked, positions are counted from each
text's own first token, and results go back to the caller's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from c2s.errors import ConfigError, ContextError, ModelError, PromptError

if TYPE_CHECKING:
    from c2s.models import LanguageModel

#: Padded tokens per forward pass where the caller says nothing. On a CPU, activations that stay in its caches are
#: fastest; a GPU wants more work at once.
TOKENS_PER_BATCH = {"cpu": 4096, "other": 32768}
#: A family of texts is worth reading its beginning apart if it shares so many tokens (more than the family it is
#: cut from) and has so many members.
_STEM_TOKENS, _STEM_TEXTS = 8, 4


class Reads(Protocol):
    """What is needed of a model to tokenise texts for it; a `LanguageModel` has it all.

    Attributes
    ----------
    tokenizer
        Of transformers.
    name
        What the model is called in messages.
    context_length
        Tokens of prompt and answer together that it can read.
    """

    tokenizer: Any
    name: str
    context_length: int


class PaddedBatch(NamedTuple):
    """Left-padded texts.

    Attributes
    ----------
    input_ids
        Tokens, int64 ``[batch, length]``.
    mask
        1 for real tokens and 0 for padding, int64 ``[batch, length]``.
    positions
        Position of each token in its own text, int64 ``[batch, length]``; 0 for padding.
    """

    input_ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor


def batch_tokens(model: LanguageModel, tokens_per_batch: int | None) -> int:
    """Return the most padded tokens of a forward pass: what the caller said, else what suits the device.

    Raises
    ------
    ConfigError
        `tokens_per_batch` is not positive.
    """
    if tokens_per_batch is None:
        return TOKENS_PER_BATCH["cpu" if model.model.device.type == "cpu" else "other"]
    if tokens_per_batch < 1:
        raise ConfigError(
            "inference",
            [f"tokens_per_batch is {tokens_per_batch}, not at least 1"],
            fix="leave it out, or pass e.g. 4096.",
        )
    return tokens_per_batch


def length_buckets(lengths: Sequence[int], tokens_per_batch: int, *, rows: int | None = None) -> list[list[int]]:
    """Group indices into batches of similar length, longest first.

    Parameters
    ----------
    lengths
        Number of tokens of each text.
    tokens_per_batch
        Most tokens of a batch after padding. A text that is longer than this has a batch of its own.
    rows
        Most texts of a batch.

    Returns
    -------
    list of list of int
        Every index exactly once. The longest come first, so that a batch too large for memory fails at once.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        full = batches and rows is not None and len(batches[-1]) >= rows
        if not batches or full or (len(batches[-1]) + 1) * longest > tokens_per_batch:
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def families(sequences: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Group token sequences that begin alike (prompts of one template), so that the beginning is computed once.

    Parameters
    ----------
    sequences
        Tokens of each text.

    Returns
    -------
    list of (int, list of int)
        Length of the common beginning and the members, by index; every index exactly once. At least one token of
        each member is not part of the beginning. Sequences without a family come together, last, with 0.
    """
    result: list[tuple[int, list[int]]] = []
    alone: list[int] = []
    # Groups whose members share at least `known` tokens; each is cut into the groups that share many more.
    waiting = [(0, list(range(len(sequences))))] if sequences else []
    while waiting:
        known, members = waiting.pop()
        branches: dict[tuple[int, ...], list[int]] = {}
        for index in members:
            branches.setdefault(tuple(sequences[index][known : known + _STEM_TOKENS]), []).append(index)
        left = []
        for branch in branches.values():
            stem = _stem(sequences, branch)
            if len(branch) >= _STEM_TEXTS and stem >= known + _STEM_TOKENS:
                waiting.append((stem, branch))
            else:
                left += branch
        if known and len(left) >= _STEM_TEXTS:
            result.append((known, sorted(left)))
        else:
            alone += left
    return result + [(0, sorted(alone))] * bool(alone)


def _stem(sequences: Sequence[Sequence[int]], members: Sequence[int]) -> int:
    """Return how many tokens all members begin with, leaving each at least one of its own."""
    first = sequences[members[0]]
    return min(min(common_prefix(first, sequences[i]), len(sequences[i]) - 1) for i in members)


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common beginning of two token sequences."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def pad_left(sequences: Sequence[Sequence[int]], pad: int, device: torch.device) -> PaddedBatch:
    """Pad token sequences on the left to the longest of them.

    Parameters
    ----------
    sequences
        Tokens of each text.
    pad
        Token to pad with; masked, so any valid token will do.
    device
        Where the tensors go.
    """
    length = max(map(len, sequences))
    ids = torch.tensor([[pad] * (length - len(s)) + list(s) for s in sequences], dtype=torch.int64)
    mask = torch.tensor([[0] * (length - len(s)) + [1] * len(s) for s in sequences], dtype=torch.int64)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return PaddedBatch(ids.to(device), mask.to(device), positions.to(device))


def as_texts(texts: Any, *, what: str = "prompt") -> list[str]:
    """Return a list of non-empty strings from a sequence, an Arrow array or a pandas series.

    Raises
    ------
    PromptError
        `texts` is one string, or an entry is not a string or is empty; the message names its place.
    """
    if isinstance(texts, str):
        raise PromptError(f"expected a list of {what}s, got one string.", fix=f"pass [{what}].")
    listed = texts.to_pylist() if hasattr(texts, "to_pylist") else list(texts)
    for place, text in enumerate(listed):
        if not isinstance(text, str) or not text:
            raise PromptError(f"{what} {place} is {text!r}.", fix=f"give every {what} some text, or leave it out.")
    return listed


def encode(model: Reads, texts: Sequence[str]) -> list[list[int]]:
    """Tokenise texts as the beginning of a longer text: with a leading special token, without a trailing one.

    Parameters
    ----------
    model
        The model whose tokenizer is used.
    texts
        Texts; each is tokenised as a whole.

    Returns
    -------
    list of list of int
        Tokens of each text. An end-of-text token that the tokenizer appends by itself is taken off.
    """
    if not texts:
        return []
    end = end_of_text(model)
    encoded = _token_ids(model.tokenizer, list(texts))
    appends = bool(encoded[0]) and encoded[0][-1] == end and not texts[0].endswith(str(model.tokenizer.eos_token))
    return [list(tokens[:-1]) if appends else list(tokens) for tokens in encoded]


def _token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Return what ``tokenizer(texts)["input_ids"]`` does, without offsets and masks where they can be left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "encode_batch_fast"):
        return list(tokenizer(texts, return_attention_mask=False)["input_ids"])
    # transformers sets these two anew at each of its own calls.
    backend.no_truncation()
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(texts)]


def end_of_text(model: Reads) -> int:
    """Return the token that ends an answer.

    Raises
    ------
    ModelError
        The tokenizer has none.
    """
    end = model.tokenizer.eos_token_id
    if end is None:
        raise ModelError(
            f"the tokenizer of {model.name} has no end-of-text token, so no answer can end.",
            fix="set tokenizer.eos_token to the token the model was trained to stop with.",
        )
    return int(end)


def padding_token(model: Reads) -> int:
    """Return the token to pad with; the end of text where the tokenizer names none (padding is masked)."""
    pad = model.tokenizer.pad_token_id
    return end_of_text(model) if pad is None else int(pad)


def check_context(model: Reads, lengths: Sequence[int], extra: int, what: str) -> None:
    """Refuse texts that do not fit the context; nothing is ever cut silently.

    Parameters
    ----------
    model
        Its ``context_length`` is the limit.
    lengths
        Tokens of each text.
    extra
        Tokens that follow it.
    what
        What follows, for the message, e.g. ``"the longest label"``; unused when `extra` is 0.

    Raises
    ------
    ContextError
        A text and what follows it are longer than the context; names the first such text and the counts.
    """
    limit = model.context_length
    too_long = [i for i, length in enumerate(lengths) if length + extra > limit]
    if too_long:
        first = too_long[0]
        follows = f" and {extra} for {what}" if extra else ""
        raise ContextError(
            f"example {first} needs {lengths[first] + extra} tokens ({lengths[first]} of the prompt{follows}); "
            f"the context of {model.name} is {limit}; {len(too_long)} of {len(lengths)} examples do not fit.",
            fix="use fewer genes per cell (top_k), or a model with a longer context.",
        )


def unwrapped(network: Any) -> Any:
    """Return the network inside PEFT's wrapper; adapters (LoRA) sit inside its layers and stay in use."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def decoder(network: Any) -> Any:
    """Return a network without its output layer."""
    return unwrapped(network).get_decoder()


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[Any]:
    """Yield the network in evaluation mode without gradients; put back each module's mode afterwards."""
    network = model.model
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            yield network
    finally:
        for module, mode in modes:
            module.training = mode
