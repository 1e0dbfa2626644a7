"""Text that continues prompts, one answer per request, whatever the other requests are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from c2s.errors import ConfigError, PromptError
from c2s.inference.batching import (
    as_texts,
    batch_tokens,
    check_context,
    encode,
    end_of_text,
    evaluating,
    length_buckets,
    pad_left,
    padding_token,
    unwrapped,
)
from c2s.progress import progress
from c2s.prompts import stable_hash

if TYPE_CHECKING:
    from c2s.models import LanguageModel


def generate(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    request_ids: Sequence[str] | None = None,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> list[str]:
    """Continue each prompt until the end of text or `max_new_tokens`.

    Batch size, order and neighbours change no answer: each request draws its own random numbers, from the seed,
    its prompt and its id alone. (In half precision, rounding can tip a near tie.)

    Parameters
    ----------
    model
        A causal language model and its tokenizer.
    prompts
        Texts that end where the answer begins, without a trailing space.
    max_new_tokens
        Most tokens of an answer.
    temperature
        0 takes the most probable token; above 0, tokens are drawn from the probabilities at this temperature.
    top_p
        Draw only from the fewest tokens that hold this share of the probability, in (0, 1].
    seed
        Seed of the draws.
    request_ids
        What tells requests with the same prompt apart; by default, how many times the prompt came before. Give ids
        where the requests of one experiment are spread over several calls.
    tokens_per_batch
        Most tokens of one batch, new ones included; by default what suits the device.
    show_progress
        Show a progress bar.

    Returns
    -------
    list of str
        The new text of each request without surrounding whitespace, in the order of `prompts`.

    Raises
    ------
    ConfigError
        An argument is out of range; all problems are named.
    PromptError
        A prompt is not a text or is empty, or there are not as many ids as prompts.
    ContextError
        A prompt and its answer may not fit the context.
    """
    texts = as_texts(prompts)
    per_batch = batch_tokens(model, tokens_per_batch)
    _check_arguments(max_new_tokens, temperature, top_p)
    seeds = _request_seeds(texts, request_ids, seed)
    tokens = encode(model, texts)
    check_context(model, [len(t) for t in tokens], max_new_tokens, "the answer (max_new_tokens)")
    answers = [""] * len(texts)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end_of_text(model),
        pad_token_id=padding_token(model),
    )
    with (
        evaluating(model) as network,
        _without_own_settings(network) as plain,
        progress("generating", len(texts), enabled=show_progress) as advance,
    ):
        for batch in length_buckets([len(t) + max_new_tokens for t in tokens], per_batch):
            padded = pad_left([tokens[i] for i in batch], padding_token(model), network.device)
            processors = LogitsProcessorList()
            if temperature > 0:
                processors.append(_Draw([seeds[i] for i in batch], temperature, top_p))
            output = plain.generate(
                input_ids=padded.input_ids,
                attention_mask=padded.mask,
                generation_config=config,
                logits_processor=processors,
            )
            new = output[:, padded.input_ids.shape[1] :]
            decoded = model.tokenizer.batch_decode(new, skip_special_tokens=True)
            for index, text in zip(batch, decoded, strict=True):
                answers[index] = text.strip()
            advance(len(batch))
    return answers


@contextmanager
def _without_own_settings(network: Any) -> Iterator[Any]:
    """Yield the network without the generation settings of its checkpoint, and put them back afterwards.

    transformers fills whatever a call leaves open from them: a checkpoint's repetition penalty or top-k would
    change answers although nobody asked for it.
    """
    inner = unwrapped(network)
    own, inner.generation_config = inner.generation_config, GenerationConfig()
    try:
        yield inner
    finally:
        inner.generation_config = own


def _check_arguments(max_new_tokens: int, temperature: float, top_p: float) -> None:
    problems = []
    if max_new_tokens < 1:
        problems.append(f"max_new_tokens is {max_new_tokens}, not at least 1")
    if not 0 <= temperature < float("inf"):
        problems.append(f"temperature is {temperature}, not 0 or a positive number")
    if not 0 < top_p <= 1:
        problems.append(f"top_p is {top_p}, not in (0, 1]")
    if problems:
        raise ConfigError("generation", problems, fix="e.g. max_new_tokens=32, temperature=0.3, top_p=1.0.")


def _request_seeds(prompts: Sequence[str], request_ids: Sequence[str] | None, seed: int) -> list[int]:
    """Return a seed per request: of the prompt and what tells it from its equals, never of its place."""
    if request_ids is not None:
        if len(request_ids) != len(prompts):
            raise PromptError(
                f"{len(prompts)} prompts but {len(request_ids)} request ids.", fix="give one id per prompt."
            )
        return [stable_hash("request", seed, p, i) for p, i in zip(prompts, request_ids, strict=True)]
    seen: dict[str, int] = {}
    seeds = []
    for prompt in prompts:
        seen[prompt] = seen.get(prompt, -1) + 1
        seeds.append(stable_hash("request", seed, prompt, seen[prompt]))
    return seeds


class _Draw(LogitsProcessor):
    """Draw each row's next token with a random number of that row's own, and leave only that token.

    The numbers come from NumPy on the CPU, one per token, so they are the same on every device.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self.temperature, self.top_p = temperature, top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        uniform = torch.tensor([g.random() for g in self.generators], dtype=torch.float64, device=scores.device)
        chosen = draw(scores, uniform, self.temperature, self.top_p)
        return torch.full_like(scores, float("-inf")).scatter_(1, chosen[:, None], 0.0)


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Draw one token per row by inverting the cumulative distribution in the order of the vocabulary.

    The order is fixed on purpose: sorted by probability, two nearly equal tokens could change places with the
    rounding of another batch, and every later token's interval with them.

    Parameters
    ----------
    logits
        ``[batch, vocabulary]``.
    uniform
        One number in [0, 1) per row, float64 ``[batch]``.
    temperature
        Above 0.
    top_p
        Share of the probability to draw from: the fewest most probable tokens that hold at least this much.

    Returns
    -------
    torch.Tensor
        Tokens, int64 ``[batch]``.
    """
    probabilities = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ranked = probabilities.sort(dim=-1, descending=True).values
        # A token belongs to the nucleus while those before it hold less than top_p; the first one always does.
        size = ((ranked.cumsum(-1) - ranked) < top_p).sum(-1, keepdim=True).clamp(min=1)
        probabilities = probabilities.masked_fill(probabilities < ranked.gather(1, size - 1), 0)
    cumulative = probabilities.cumsum(-1)
    mass = cumulative[:, -1:]
    # Below the mass also after rounding, so that the token found has a probability above 0.
    target = torch.minimum(uniform[:, None] * mass, torch.nextafter(mass, torch.zeros_like(mass)))
    return torch.searchsorted(cumulative, target, right=True)[:, 0]
