"""Writing answers token by token, many at once, each as if it were alone.

Running answers are the first rows of a preallocated cache. A prompt is read once however many answers it has, and
what prompts begin with is read once for all of them. An answer that ends makes room: the last running row moves
into its place, and waiting requests take the rows at the end, so no row computes what nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from c2s.errors import ModelError
from c2s.inference.batching import families, length_buckets, unwrapped
from c2s.inference.caches import SlotCache, read_stem, repeated
from c2s.inference.masks import AttentionMasks
from c2s.inference.sampling import Sampling, penalised, uniforms
from c2s.inference.tree import MOST_LOGITS


@dataclass(frozen=True)
class Request:
    """One answer to write.

    Attributes
    ----------
    index
        Its place among the caller's requests.
    tokens
        Its prompt.
    seed
        Seed of its random numbers.
    steps
        Most tokens of the answer.
    """

    index: int
    tokens: tuple[int, ...]
    seed: int
    steps: int

    @property
    def longest(self) -> int:
        """Most tokens of prompt and answer together."""
        return len(self.tokens) + self.steps


class Walk(Protocol):
    """Which tokens running answers may take next: a constraint, walked along by all rows at once."""

    def begin(self, first: int, count: int) -> None:
        """Set `count` rows from `first` on to the beginning of an answer."""

    def masked(self, rows: slice, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits of those rows with minus infinity where a token is not allowed."""

    def advance(self, rows: slice, tokens: torch.Tensor) -> None:
        """Take a step in each of those rows."""

    def move(self, holes: torch.Tensor, movers: torch.Tensor) -> None:
        """Copy the state of the rows `movers` over that of the rows `holes`."""

    def whole(self, row: int) -> int:
        """Return how many tokens of a row's answer are whole words."""


class Stopping(Protocol):
    """Tells which running answers should end although the model goes on."""

    def ended(self, answers: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return bool ``[rows]`` for answers ``[rows, tokens]``, of which the first `lengths` are written."""


class _Rows:
    """What is known of each row, besides its keys and values."""

    def __init__(self, slots: int, steps: int, vocabulary: int, sampling: Sampling, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.device = device
        self.lengths, self.step, self.last, self.most = zeros(slots), zeros(slots), zeros(slots), zeros(slots)
        self.answers = zeros(slots, steps)
        self.uniform = zeros(slots, steps if sampling.temperature else 0, dtype=torch.float64)
        self.seen = zeros(slots, vocabulary if sampling.repetition_penalty != 1 else 0, dtype=torch.bool)
        self.requests: list[Request] = []

    @property
    def count(self) -> int:
        return len(self.requests)

    def begin(self, requests: Sequence[Request]) -> slice:
        rows = slice(self.count, self.count + len(requests))
        self.requests += requests
        self.lengths[rows] = torch.tensor([len(r.tokens) for r in requests], device=self.device)
        self.step[rows] = 0
        self.most[rows] = torch.tensor([r.steps for r in requests], device=self.device)
        if self.uniform.shape[1]:
            numbers = uniforms([r.seed for r in requests], self.uniform.shape[1])
            self.uniform[rows] = torch.from_numpy(numbers).to(self.device)
        if self.seen.shape[1]:
            self.seen[rows] = False
            for row, request in enumerate(requests, start=rows.start):
                self.seen[row, torch.tensor(request.tokens, device=self.device)] = True
        return rows

    def move(self, holes: torch.Tensor, movers: torch.Tensor) -> None:
        parts = (self.lengths, self.step, self.last, self.most, self.answers, self.uniform, self.seen)
        for part in parts:
            part[holes] = part[movers]


class Decoder:
    """Writes the answers of requests with one network.

    Parameters
    ----------
    network
        A causal language model of `c2s.inference.masks.OWN_MASK_MODELS`, in evaluation mode.
    end
        Token that ends an answer.
    sampling
        How tokens are chosen.
    tokens_at_once
        Most tokens of running answers, prompts included.
    tokens_per_pass
        Most prompt tokens of one forward pass.
    walk
        Makes the constraint of so many rows; None without one.
    stopping
        Further rules that end an answer.
    share
        Read what prompts begin with once. Off only to measure what it is worth.
    """

    def __init__(
        self,
        network: Any,
        end: int,
        sampling: Sampling,
        *,
        tokens_at_once: int,
        tokens_per_pass: int,
        walk: Any = None,
        stopping: Stopping | None = None,
        share: bool = True,
    ) -> None:
        self.network, self.end, self.sampling = network, end, sampling
        self.tokens_at_once, self.tokens_per_pass = tokens_at_once, tokens_per_pass
        self.new_walk, self.stopping, self.share = walk, stopping, share
        self.masks = AttentionMasks(network)
        self.vocabulary = int(network.config.get_text_config().vocab_size)
        self.layers = int(network.config.get_text_config().num_hidden_layers)

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, list[int]]]:
        """Yield each request's index and the tokens of its answer, the end of text left out, as they end."""
        for similar in self._similar(requests):
            yield from self._run(similar)

    def _similar(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Yield requests of which the longest is at most twice as long as the shortest, longest first.

        Rows are as long as the longest of them. Equal prompts come together.
        """
        part: list[Request] = []
        for request in sorted(requests, key=lambda r: (-r.longest, r.tokens, r.index)):
            if part and 2 * request.longest < part[0].longest:
                yield part
                part = []
            part.append(request)
        if part:
            yield part

    def _run(self, requests: list[Request]) -> Iterator[tuple[int, list[int]]]:
        capacity = requests[0].longest
        # A row costs its keys and values, and its logits.
        slots = max(1, min(len(requests), self.tokens_at_once // capacity, MOST_LOGITS // self.vocabulary))
        reader = _PromptReader(self, requests)
        cache = SlotCache(self.layers, slots, capacity)
        steps = max(r.steps for r in requests)
        rows = _Rows(slots, steps, self.vocabulary, self.sampling, self.network.device)
        walk: Walk | None = self.new_walk(slots) if self.new_walk else None
        waiting = reader.order[::-1]
        while waiting or rows.count:
            free = slots - rows.count
            # Reading prompts costs a pass, so some room gathers first; until then fewer rows run, not idle ones.
            while waiting and free >= max(1, slots // 4):
                taken = [waiting.pop() for _ in range(min(free, len(waiting)))]
                begun = rows.begin(taken)
                logits = reader.read(taken, cache, begun.start)
                if walk:
                    walk.begin(begun.start, len(taken))
                yield from self._step(begun, logits, rows, cache, walk)
                free = slots - rows.count
            if rows.count:
                everyone = slice(0, rows.count)
                yield from self._step(everyone, self._forward(rows, cache), rows, cache, walk)

    def _forward(self, rows: _Rows, cache: SlotCache) -> torch.Tensor:
        """Let the network read the last token of each running row; return the logits after it."""
        lengths = rows.lengths[: rows.count]
        longest = int(lengths.max())
        cache.point(lengths, longest)
        columns = torch.arange(longest + 1, device=lengths.device)
        visible = (columns <= lengths[:, None])[:, None]
        output = self.network(
            input_ids=rows.last[: rows.count, None],
            attention_mask=self.masks.of(visible, columns[None], lengths[:, None]),
            position_ids=lengths[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        rows.lengths[: rows.count] += 1
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _step(
        self, part: slice, logits: torch.Tensor, rows: _Rows, cache: SlotCache, walk: Walk | None
    ) -> Iterator[tuple[int, list[int]]]:
        """Choose the next token of some rows; yield the answers that end, and close their gaps."""
        if rows.seen.shape[1]:
            logits = penalised(logits, rows.seen[part], self.sampling.repetition_penalty)
        if walk:
            logits = walk.masked(part, logits)
        step = rows.step[part]
        uniform = rows.uniform[part].gather(1, step[:, None])[:, 0] if rows.uniform.shape[1] else step
        tokens = self.sampling.choose(logits, uniform)
        rows.last[part] = tokens
        rows.answers[part] = rows.answers[part].scatter(1, step[:, None], tokens[:, None])
        rows.step[part] += 1
        if rows.seen.shape[1]:
            rows.seen[part] = rows.seen[part].scatter(1, tokens[:, None], True)
        if walk:
            walk.advance(part, tokens)
        at_end = tokens == self.end
        ended = at_end | (rows.step[part] >= rows.most[part])
        if self.stopping is not None:
            ended |= self.stopping.ended(rows.answers[part], rows.step[part])
        if not bool(ended.any()):
            return
        gone = (part.start + ended.nonzero()[:, 0]).tolist()
        written = (rows.step[part] - at_end.long())[ended].tolist()
        answers = rows.answers[part][ended].tolist()
        for row, length, answer in zip(gone, written, answers, strict=True):
            kept = min(length, walk.whole(row)) if walk else length
            yield rows.requests[row].index, answer[:kept]
        self._close(gone, rows, cache, walk)

    def _close(self, gone: list[int], rows: _Rows, cache: SlotCache, walk: Walk | None) -> None:
        """Move the last running rows into the places of rows that ended."""
        left = rows.count - len(gone)
        ended = set(gone)
        holes = [row for row in gone if row < left]
        movers = [row for row in range(left, rows.count) if row not in ended]
        if holes:
            longest = int(rows.lengths[movers].max())
            to, source = (torch.tensor(x, device=rows.device) for x in (holes, movers))
            cache.move(to, source, longest)
            rows.move(to, source)
            if walk:
                walk.move(to, source)
            for hole, mover in zip(holes, movers, strict=True):
                rows.requests[hole] = rows.requests[mover]
        del rows.requests[left:]


class _PromptReader:
    """Reads prompts into the rows of a cache: equal ones once, and what several begin with once."""

    def __init__(self, decoder: Decoder, requests: Sequence[Request]) -> None:
        self.decoder, self.network = decoder, decoder.network
        self.prompts = list(dict.fromkeys(r.tokens for r in requests))
        alone = [(0, list(range(len(self.prompts))))]
        self.stem_of: dict[tuple[int, ...], int] = {}
        place: dict[tuple[int, ...], int] = {}
        for stem, members in families(self.prompts) if decoder.share else alone:
            # Longest first, as batches are cut: what is read together is then also asked for together.
            for member in sorted(members, key=lambda i: -len(self.prompts[i])):
                self.stem_of[self.prompts[member]] = stem
                place[self.prompts[member]] = len(place)
        #: Requests in the order in which they should be read: family by family.
        self.order = sorted(requests, key=lambda r: (place[r.tokens], r.index))
        self._stem: tuple[tuple[int, ...], Any] = ((), read_stem(self.network, ()))
        self._kept: dict[tuple[int, ...], tuple[Any, int, torch.Tensor]] = {}

    def read(self, requests: Sequence[Request], cache: SlotCache, first: int) -> torch.Tensor:
        """Fill the rows from `first` on; return the logits after each prompt, ``[requests, vocabulary]``."""
        parts: list[torch.Tensor] = []
        start = 0
        while start < len(requests):
            tokens = requests[start].tokens
            if tokens not in self._kept:
                self._read_some(list(dict.fromkeys(r.tokens for r in requests[start:])))
            batch, _, _ = self._kept[tokens]
            stop = start
            while stop < len(requests) and self._kept.get(requests[stop].tokens, (None,))[0] is batch:
                stop += 1
            known = [self._kept[r.tokens] for r in requests[start:stop]]
            source = torch.tensor([row for _, row, _ in known], device=self.network.device)
            cache.fill(first + start, batch, source)
            parts.append(torch.stack([logits for _, _, logits in known]))
            start = stop
        return torch.cat(parts)

    def _read_some(self, prompts: list[tuple[int, ...]]) -> None:
        """Read the first of `prompts`, and as many after it as share its stem and fit one pass."""
        length = self.stem_of[prompts[0]]
        stem = prompts[0][:length]
        alike = 0
        while alike < len(prompts) and self.stem_of[prompts[alike]] == length and prompts[alike][:length] == stem:
            alike += 1
        rests = [p[length:] for p in prompts[:alike]]
        batch = next(b for b in length_buckets([len(r) for r in rests], self.decoder.tokens_per_pass) if 0 in b)
        if self._stem[0] != stem:
            self._stem = (stem, read_stem(self.network, stem))
        chosen = [rests[i] for i in batch]
        widest = max(map(len, chosen))
        # Padding on the right: what a prompt's own tokens see is then the plain causal mask.
        ids = torch.tensor([[*r, *[0] * (widest - len(r))] for r in chosen], device=self.network.device)
        read = repeated(self._stem[1], len(batch))
        last = torch.tensor([len(r) - 1 for r in chosen], device=self.network.device)
        positions = torch.arange(length, length + widest, device=ids.device)[None]
        with _logits_at(self.network, last):
            output = self.network(input_ids=ids, position_ids=positions, past_key_values=read, use_cache=True)
        logits = output.logits[:, -1]
        if bool(logits.isnan().any()):
            raise ModelError(
                "the model gives NaN for a prompt.",
                fix="its weights are damaged or overflow in this dtype: load it in float32, or train it again.",
            )
        # Only what was read last may be asked for again: requests of one prompt come one after another.
        self._kept = {prompts[i]: (read, row, logits[row]) for row, i in enumerate(batch)}


@contextmanager
def _logits_at(network: Any, last: torch.Tensor) -> Iterator[None]:
    """Compute the output layer only at one position per row, int64 ``[rows]``."""
    rows = torch.arange(len(last), device=last.device)

    def cut(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][rows, last][:, None], *inputs[1:])

    hook = unwrapped(network).get_output_embeddings().register_forward_pre_hook(cut)
    try:
        yield
    finally:
        hook.remove()
