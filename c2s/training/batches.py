"""Which examples a step reads, and how they become tokens.

Both are functions of the configuration alone: the order of examples and every draw of the augmentation depend on
the seed, the epoch and the example's id, never on what ran before. So a resumed run sees the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from c2s.errors import ContextError, TrainingError
from c2s.prompts import stable_hash

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

#: Makes a new record from a record of the example table; it must return a ``prompt`` and an ``answer``.
Augment = Callable[[dict[str, Any], np.random.Generator], Mapping[str, Any]]

IGNORED = -100  # the label torch's cross-entropy leaves out

# Independent streams of random numbers under one seed.
_ORDER, _WINDOWS, _AUGMENT = 0, 1, 2


@dataclass(frozen=True)
class Visits:
    """The examples in the order they are read.

    Attributes
    ----------
    epochs, examples
        Epoch and position in the table of each visit, int32 of shape (steps * per_step,).
    """

    epochs: npt.NDArray[np.int32]
    examples: npt.NDArray[np.int32]


def plan_visits(lengths: npt.NDArray[np.int64], *, steps: int, per_step: int, window: int, seed: int) -> Visits:
    """Plan which example is read when.

    Each epoch is a permutation of the examples; the epochs follow each other without a gap, so that every step is
    full. Within windows of `window` steps the visits are sorted by length and cut into steps, whose order is then
    shuffled again.

    Parameters
    ----------
    lengths
        Tokens of each example, of shape (examples,).
    steps, per_step
        Optimizer steps, and examples per step.
    window
        Steps that are sorted together; 0 or 1 keeps the permutation.
    seed
        Of the permutations.
    """
    n, total = len(lengths), steps * per_step
    n_epochs = -(-total // n)
    order = np.concatenate([np.random.default_rng([seed, _ORDER, e]).permutation(n) for e in range(n_epochs)])
    examples = order[:total].astype(np.int32)
    epochs = (np.arange(total) // n).astype(np.int32)
    if window > 1:
        for number, start in enumerate(range(0, total, window * per_step)):
            stop = min(start + window * per_step, total)
            by_length = np.argsort(lengths[examples[start:stop]], kind="stable")
            chunks = by_length.reshape(-1, per_step)
            np.random.default_rng([seed, _WINDOWS, number]).shuffle(chunks)
            chosen = start + chunks.ravel()
            examples[start:stop], epochs[start:stop] = examples[chosen], epochs[chosen]
    return Visits(epochs, examples)


def encode(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], answers: Sequence[str]
) -> list[tuple[list[int], int]]:
    """Tokenise each prompt and answer as one text, and find where the answer begins.

    Parameters
    ----------
    tokenizer
        Any tokenizer; what it puts before a text (a BOS token) is put there once.
    prompts, answers
        Joined by one space; the end-of-text token is added after the answer.

    Returns
    -------
    list of (ids, start)
        Token ids, and the position of the first token that holds a character of the answer.
    """
    texts = [f"{prompt} {answer}" for prompt, answer in zip(prompts, answers, strict=True)]
    eos: Any = tokenizer.eos_token_id
    fast = bool(getattr(tokenizer, "is_fast", False))
    batch = tokenizer(texts, return_offsets_mapping=fast, return_attention_mask=False, verbose=False)
    result = []
    for i, prompt in enumerate(prompts):
        ids = list(batch["input_ids"][i])
        if ids and ids[-1] == eos:
            ids.pop()  # some tokenizers add it themselves
        if fast:
            ends = batch["offset_mapping"][i]
            start = len(ids)
            # From the end, since answers are short and prompts long.
            while start and ends[start - 1][1] > len(prompt):
                start -= 1
        else:
            start = _common_prefix(tokenizer(prompt, return_attention_mask=False)["input_ids"], ids)
        result.append(([*ids, eos], start))
    return result


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two texts share from their start."""
    shared = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        shared += 1
    return shared


def padded_batch(
    encoded: Sequence[tuple[list[int], int]],
    ids: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    loss: Literal["answer", "full"],
) -> dict[str, Any]:
    """Return ``input_ids`` and ``labels``, int64 of shape (examples, longest), and what the record needs.

    Padding stands at the end, where a causal model cannot see it; so no attention mask is needed.
    """
    import torch

    pad: Any = tokenizer.pad_token_id
    input_ids = torch.full((len(encoded), max(len(tokens) for tokens, _ in encoded)), pad, dtype=torch.int64)
    labels = torch.full_like(input_ids, IGNORED)
    for row, (tokens, start) in enumerate(encoded):
        values = torch.tensor(tokens)
        input_ids[row, : len(tokens)] = values
        # The first token has nothing before it to be predicted from.
        first = max(start, 1) if loss == "answer" else 1
        labels[row, first : len(tokens)] = values[first:]
    return {
        "input_ids": input_ids,
        "labels": labels,
        "n_tokens": sum(len(tokens) for tokens, _ in encoded),
        "example_ids": [str(name) for name in ids],
    }


def joined_batch(
    encoded: Sequence[tuple[list[int], int]], ids: Sequence[str], loss: Literal["answer", "full"]
) -> dict[str, Any]:
    """Return the examples end to end, in one row without padding: what `padded_batch` does, and ``position_ids``.

    Positions begin anew with each example, from which the attention knows where one ends (transformers masks the
    others out when it is given positions and no mask).
    """
    import torch

    lengths = [len(tokens) for tokens, _ in encoded]
    input_ids = torch.tensor([[token for tokens, _ in encoded for token in tokens]])
    labels = torch.full_like(input_ids, IGNORED)
    offset = 0
    for (tokens, start), length in zip(encoded, lengths, strict=True):
        first = max(start, 1) if loss == "answer" else 1
        labels[0, offset + first : offset + length] = torch.tensor(tokens[first:])
        offset += length
    return {
        "input_ids": input_ids,
        "labels": labels,
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "n_tokens": sum(lengths),
        "example_ids": [str(name) for name in ids],
    }


def check_apart(network: Any) -> None:
    """Make sure that examples laid end to end do not see each other in this network.

    Raises
    ------
    TrainingError
        They do.
    """
    import torch

    size = int(network.config.get_text_config().vocab_size)
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, size, n).tolist() for n in (7, 5)]
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            joined = joined_batch([(t, 0) for t in texts], ["a", "b"], "full")
            together = network(
                input_ids=joined["input_ids"].to(network.device),
                position_ids=joined["position_ids"].to(network.device),
                use_cache=False,
            ).logits[0]
            rows = [torch.tensor([text], device=network.device) for text in texts]
            alone = [network(input_ids=row, use_cache=False).logits[0] for row in rows]
    finally:
        network.train(training)
    difference = float((together - torch.cat(alone)).abs().max())
    largest = float(together.abs().max())
    # Another example's tokens change logits by far more than rounding does.
    if not difference <= largest * (1e-3 if together.dtype == torch.float32 else 0.05):
        raise TrainingError(
            f"with attention {network.config._attn_implementation!r}, {type(network).__name__} lets examples that "
            f"lie end to end see each other: logits differ by {difference:.3g}.",
            fix="leave padding_free out, or load the model with another attn_implementation.",
        )


class Collator:
    """Turns visits into padded batches, drawing the augmentation of each.

    Parameters
    ----------
    table
        The examples.
    tokenizer
        Of the model.
    augment
        Called with a record and a generator seeded by (seed, epoch, example id); None leaves examples as they are.
    loss
        Which tokens are labels.
    seed
        Of the augmentation.
    context_length
        Longest text; an augmented example that exceeds it is an error.
    padding_free
        Lay examples end to end, see `joined_batch`.
    """

    def __init__(
        self,
        table: pa.Table,
        tokenizer: PreTrainedTokenizerBase,
        *,
        augment: Augment | None,
        loss: Literal["answer", "full"],
        seed: int,
        context_length: int,
        padding_free: bool = False,
    ) -> None:
        self.padding_free = padding_free
        self.table, self.tokenizer, self.augment = table, tokenizer, augment
        self.loss, self.seed, self.context_length = loss, seed, context_length

    def __call__(self, visits: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        """Return the batch of these visits, see `padded_batch`."""
        records = self.records(visits)
        encoded = encode(self.tokenizer, [r["prompt"] for r in records], [r["answer"] for r in records])
        longest = max(len(ids) for ids, _ in encoded)
        if longest > self.context_length:
            worst = next(
                r["example_id"] for r, (ids, _) in zip(records, encoded, strict=True) if len(ids) == longest
            )
            raise ContextError(
                f"example {worst!r} has {longest} tokens after augmentation, more than the context of "
                f"{self.context_length}.",
                fix="use fewer genes, or an augmentation that does not lengthen prompts.",
            )
        ids = [r["example_id"] for r in records]
        if self.padding_free:
            return joined_batch(encoded, ids, self.loss)
        return padded_batch(encoded, ids, self.tokenizer, self.loss)

    def records(self, visits: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
        """Return the records of these visits, augmented."""
        rows: list[dict[str, Any]] = self.table.take([visit["example"] for visit in visits]).to_pylist()
        if self.augment is None:
            return rows
        drawn = []
        for visit, row in zip(visits, rows, strict=True):
            rng = np.random.default_rng([self.seed, _AUGMENT, visit["epoch"], stable_hash(row["example_id"])])
            drawn.append({**row, **self.augment(row, rng)})
        return drawn
