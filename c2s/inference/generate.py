"""Text that continues prompts, one answer per request, whatever the other requests are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig, LogitsProcessorList

from c2s.errors import C2SWarning
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
from c2s.inference.constrain import Constraint, Spelled, Speller, answer_tokens, spelled_for
from c2s.inference.decode import Decoder, Request
from c2s.inference.masks import takes_own_masks
from c2s.inference.memory import cached_tokens, explained_memory
from c2s.inference.processors import Constrain, Draw, Penalise
from c2s.inference.sampling import DEFAULT_NEW_TOKENS, Sampling, request_seeds
from c2s.inference.stopping import StopRules, check_stop
from c2s.inference.word_tree import TreeWalk
from c2s.progress import progress

if TYPE_CHECKING:
    from c2s.models import LanguageModel


def generate(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop: Sequence[str] = (),
    max_genes: int | None = None,
    constraint: Constraint | None = None,
    seed: int = 0,
    request_ids: Sequence[str] | None = None,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
) -> list[str]:
    """Continue each prompt until the end of text, a stop rule or `max_new_tokens`.

    Batch size, order and neighbours change no answer: each request draws its own random numbers, from the seed,
    its prompt and its id alone. (In half precision, rounding can tip a near tie.)

    Parameters
    ----------
    model
        A causal language model and its tokenizer.
    prompts
        Texts that end where the answer begins, without a trailing space.
    max_new_tokens
        Most tokens of an answer; by default what the constraint needs, or 32.
    temperature
        0 takes the most probable token; above 0, tokens are drawn from the probabilities at this temperature.
    top_p
        Draw only from the fewest tokens that hold this share of the probability, in (0, 1].
    top_k
        Draw only from this many most probable tokens; 0 for all.
    min_p
        Draw only from tokens at least this share as probable as the most probable one.
    repetition_penalty
        Above 1, makes tokens that were there before less probable.
    stop
        Texts before which an answer ends.
    max_genes
        Most words of an answer.
    constraint
        `c2s.inference.Genes` or `c2s.inference.Labels`: answers say nothing else, and end with a whole word.
    seed
        Seed of the draws.
    request_ids
        What tells requests with the same prompt apart; by default, how many times the prompt came before. Give ids
        where the requests of one experiment are spread over several calls.
    tokens_per_batch
        Most tokens that run together, new ones included; by default what suits the device and its memory.
    show_progress
        Show a progress bar.

    Returns
    -------
    list of str
        The new text of each request without surrounding whitespace, in the order of `prompts`.

    Raises
    ------
    ConfigError
        An argument is out of range, or a stop string occurs inside a word of the constraint; all are named.
    PromptError
        A prompt is not a text or is empty, or there are not as many ids as prompts.
    ContextError
        A prompt and its answer may not fit the context.
    GeneError
        The tokenizer cannot spell a gene of the constraint.
    ModelError
        The model gives NaN, or ran out of memory.
    """
    sampling = Sampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=tuple([stop] if isinstance(stop, str) else stop),
        max_genes=max_genes,
        seed=seed,
    )
    answers = generated(
        model,
        prompts,
        sampling,
        constraint=constraint,
        request_ids=request_ids,
        tokens_per_batch=tokens_per_batch,
        show_progress=show_progress,
    )
    found = dict(answers)
    return [found[i] for i in range(len(found))]


def generated(
    model: LanguageModel,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    constraint: Constraint | None = None,
    request_ids: Sequence[str] | None = None,
    tokens_per_batch: int | None = None,
    show_progress: bool = False,
    share: bool = True,
) -> Iterator[tuple[int, str]]:
    """Yield the place and the answer of each request, as they end; see `generate` for the parameters.

    ``share=False`` reads every prompt whole, to measure what sharing is worth.
    """
    check_stop(sampling.stop, constraint)
    texts = as_texts(prompts)
    per_pass = batch_tokens(model, tokens_per_batch)
    seeds = request_seeds(texts, request_ids, sampling.seed)
    tokens = encode(model, texts)
    spelled, anew = spelled_for(Speller(model, constraint) if constraint else None, texts, tokens)
    lengths = [len(t) for t in tokens]
    asked = sampling.max_new_tokens
    if constraint is None or asked:
        check_context(model, lengths, asked or DEFAULT_NEW_TOKENS, "the answer (max_new_tokens)")
    steps = [answer_tokens(model, one, asked, n) for one, n in zip(spelled, lengths, strict=True)]
    rules = StopRules(model.tokenizer, sampling.stop, sampling.max_genes, anew)
    requests = [Request(i, tuple(t), s, n) for i, (t, s, n) in enumerate(zip(tokens, seeds, steps, strict=True))]
    short = 0
    with (
        evaluating(model) as network,
        progress("generating", len(texts), enabled=show_progress) as advance,
    ):
        at_once = tokens_per_batch or cached_tokens(network)
        # Nearly always one constraint, spelled alike behind all prompts; its answers run together.
        for one in dict.fromkeys(spelled):
            part = [r for r in requests if spelled[r.index] is one]
            writer = _own(network, model, sampling, one, rules, at_once, per_pass, share)
            if not takes_own_masks(network):
                writer = _transformers(model, network, sampling, one, at_once)
            with explained_memory(model.name, at_once):
                for index, new in writer(part):
                    text = str(model.tokenizer.decode(new, skip_special_tokens=True))
                    text = rules.cut(text.removeprefix(anew[index]))
                    short += one is not None and one.least > 1 and len(text.split()) < one.least
                    yield index, text
                    advance(1)
    if short:
        warnings.warn(
            f"{short} of {len(texts)} answers hold fewer genes than asked for, because their tokens were over: "
            "raise max_new_tokens, or shorten the prompts if the context is full.",
            C2SWarning,
            stacklevel=3,
        )


def _own(
    network: Any,
    model: LanguageModel,
    sampling: Sampling,
    spelled: Spelled | None,
    rules: StopRules,
    at_once: int,
    per_pass: int,
    share: bool,
) -> Any:
    """Return a function that writes answers with `c2s.inference.decode`."""

    def new_walk(slots: int) -> TreeWalk:
        assert spelled is not None
        return TreeWalk(spelled, slots, int(network.config.get_text_config().vocab_size), network.device)

    decoder = Decoder(
        network,
        end_of_text(model),
        sampling,
        tokens_at_once=at_once,
        tokens_per_pass=per_pass,
        walk=new_walk if spelled else None,
        stopping=rules if rules else None,
        share=share,
    )
    return decoder.run


def _transformers(
    model: LanguageModel, network: Any, sampling: Sampling, spelled: Spelled | None, at_once: int
) -> Any:
    """Return a function that writes answers with transformers' own generation, for networks of other families."""
    end, pad = end_of_text(model), padding_token(model)

    def write(requests: Sequence[Request]) -> Iterator[tuple[int, list[int]]]:
        for steps in sorted({r.steps for r in requests}, reverse=True):
            alike = [r for r in requests if r.steps == steps]
            for batch in length_buckets([r.longest for r in alike], at_once):
                yield from write_batch([alike[i] for i in batch], steps)

    def write_batch(part: Sequence[Request], steps: int) -> Iterator[tuple[int, list[int]]]:
        padded = pad_left([r.tokens for r in part], pad, network.device)
        processors = LogitsProcessorList()
        if sampling.repetition_penalty != 1:
            processors.append(Penalise(sampling.repetition_penalty, [r.tokens for r in part]))
        constrain = Constrain(spelled) if spelled else None
        if constrain:
            processors.append(constrain)
        if sampling.temperature > 0:
            processors.append(Draw(sampling, [r.seed for r in part], steps))
        config = GenerationConfig(max_new_tokens=steps, do_sample=False, eos_token_id=end, pad_token_id=pad)
        with _without_own_settings(network) as plain:
            output = plain.generate(
                input_ids=padded.input_ids,
                attention_mask=padded.mask,
                generation_config=config,
                logits_processor=processors,
            )
        new = output[:, padded.input_ids.shape[1] :]
        if constrain and constrain.walk:
            constrain.walk.advance(slice(0, len(part)), new[:, -1])
        for row, (request, ids) in enumerate(zip(part, new.tolist(), strict=True)):
            ids = ids[: ids.index(end)] if end in ids else ids
            yield request.index, ids[: constrain.walk.whole(row)] if constrain and constrain.walk else ids

    return write


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
