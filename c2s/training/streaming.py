"""Batches from a corpus's stream, and the trainer that reads them; import it only to train.

The stream is cut into windows of so many batches. The examples of a window are sorted by length before they are
cut into batches, which are then shuffled: little padding, and still short and long ones in turn. The position
in the data is plain numbers: how many examples of which epoch came before the window, and how many of its
batches were handed out. The stream is the same for the same seed and epoch, so a resumed run reads past that
many, without tokenising them, makes the same window again, and goes on with the very next batch.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from c2s.corpus import Corpus
from c2s.errors import ContextError, TrainingError
from c2s.models.loading import LanguageModel
from c2s.training.batches import encode, padded_batch
from c2s.training.record import TrainingRecord
from c2s.training.trainer import AnswerTrainer

#: Examples that are tokenised together.
_AT_ONCE = 64
_COLUMNS = ["example_id", "prompt", "answer"]


@dataclass(frozen=True)
class Position:
    """How far a process has read.

    Attributes
    ----------
    epoch
        Pass over the corpus, from 0.
    read
        Examples of this epoch that were read before the window.
    too_long
        Examples of all epochs before the window that were left out because the context is too short for them.
    batches
        Batches of the window that were handed out.
    """

    epoch: int = 0
    read: int = 0
    too_long: int = 0
    batches: int = 0


@dataclass(frozen=True)
class _HandedOut:
    """A batch that was handed out: its number, where to go on after it, and what the record says of it."""

    number: int
    after: Position
    epoch: int = 0
    read: int = 0
    too_long: int = 0
    padded: int = 0


@dataclass(frozen=True)
class Batch:
    """Tokenised examples: their ids, and their tokens with the place where the answer begins."""

    ids: list[str]
    encoded: list[tuple[list[int], int]]


class StreamedBatches(IterableDataset[Batch]):
    """Batches of a corpus, epoch after epoch without an end.

    Parameters
    ----------
    corpus, part, tasks, buffer_size
        As for `c2s.corpus.Corpus.stream`.
    model
        Whose tokenizer reads, and whose context must not be exceeded.
    rank, world_size
        This process, of how many.
    batch_size
        Examples of a batch; every batch is full.
    seed
        Of the order.
    too_long
        ``"error"`` for an example that does not fit the context; ``"skip"`` leaves it out, and counts it. None is
        ever cut.
    window
        Batches whose examples are sorted by length together; 0 or 1 keeps the order of the stream.
    start
        Where to begin.

    Raises
    ------
    ContextError
        An example does not fit, and ``too_long="error"``.
    TrainingError
        No example of a whole epoch fits.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: LanguageModel,
        *,
        part: str = "train",
        tasks: Sequence[str] | None = None,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int,
        buffer_size: int,
        seed: int,
        too_long: Literal["skip", "error"],
        window: int = 0,
        start: Position = Position(),
    ) -> None:
        self.corpus, self.model, self.part, self.tasks = corpus, model, part, tasks
        self.rank, self.world_size, self.batch_size = rank, world_size, batch_size
        self.buffer_size, self.seed, self.too_long, self.start = buffer_size, seed, too_long, start
        self.window = max(window, 1)
        # A loader may ask for a batch before it needs it, so what was said of each of the last ones is kept.
        self._handed_out = deque([_HandedOut(0, start)], maxlen=4096)

    def position(self, batches: int) -> Position:
        """Return where to go on after the first `batches` batches since the start."""
        return self._after(batches).after

    def told(self, first: int, last: int) -> dict[str, int]:
        """Return how far was read for batch `last`, and the tokens with padding of the batches after `first`."""
        at = self._after(last)
        padded = sum(self._after(number).padded for number in range(first + 1, last + 1))
        return {"epoch": at.epoch, "read": at.read, "too_long": at.too_long, "padded_tokens": padded}

    def _after(self, batches: int) -> _HandedOut:
        return next(batch for batch in reversed(self._handed_out) if batch.number == batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield full batches for ever."""
        number, skip = 0, self.start.batches
        before = Position(self.start.epoch, self.start.read, self.start.too_long)
        for examples, after in self._windows(before):
            lengths = np.array([len(tokens) for _, (tokens, _) in examples])
            order = np.arange(len(examples)) if self.window == 1 else np.argsort(lengths, kind="stable")
            chunks = order.reshape(-1, self.batch_size)
            np.random.default_rng([self.seed, before.epoch, before.read]).shuffle(chunks)
            for place, chunk in enumerate(chunks.tolist()):
                if place < skip:
                    continue
                number += 1
                last = place + 1 == len(chunks)
                batch = [examples[i] for i in chunk]
                self._handed_out.append(
                    _HandedOut(
                        number,
                        after if last else replace(before, batches=place + 1),
                        after.epoch,
                        after.read,
                        after.too_long,
                        int(lengths[chunk].max()) * self.batch_size,
                    )
                )
                yield Batch([name for name, _ in batch], [tokens for _, tokens in batch])
            before, skip = after, 0

    def _windows(self, start: Position) -> Iterator[tuple[list[tuple[str, tuple[list[int], int]]], Position]]:
        """Yield the examples of each window in the order of the stream, and where the next window begins."""
        waiting: list[tuple[str, tuple[list[int], int]]] = []
        epoch, too_long, before = start.epoch, start.too_long, start.read
        while True:
            found = False
            for read, name, tokens in self._examples(epoch, before):
                if tokens is None:
                    too_long += 1
                    continue
                found = True
                waiting.append((name, tokens))
                if len(waiting) == self.window * self.batch_size:
                    yield waiting, Position(epoch, read, too_long)
                    waiting = []
            if not found and not before:
                raise TrainingError(
                    f"the stream of process {self.rank} holds no example that fits the context of "
                    f"{self.model.context_length} tokens.",
                    fix="choose a model with a longer context, or build the corpus for this one "
                    f"(context: {{tokens: {self.model.context_length}}}).",
                )
            epoch, before = epoch + 1, 0

    def _examples(self, epoch: int, skip: int) -> Iterator[tuple[int, str, tuple[list[int], int] | None]]:
        """Yield, of each example after the first `skip`, how many were read with it, its id and its tokens."""
        stream = self.corpus.stream(
            self.part,
            rank=self.rank,
            world_size=self.world_size,
            seed=int(np.random.default_rng([self.seed, epoch]).integers(2**31)),
            buffer_size=self.buffer_size,
            tasks=self.tasks,
        )
        read = 0
        for table in stream.select_columns(_COLUMNS).with_format("arrow").iter(batch_size=_AT_ONCE):
            n = len(table)
            if read + n <= skip:
                read += n
                continue
            rows = table.slice(max(0, skip - read)).to_pydict()
            read = max(read, skip)
            texts = encode(self.model.tokenizer, rows["prompt"], rows["answer"])
            for name, tokens in zip(rows["example_id"], texts, strict=True):
                read += 1
                fits = len(tokens[0]) <= self.model.context_length
                if not fits and self.too_long == "error":
                    raise ContextError(
                        f"example {name!r} has {len(tokens[0])} tokens, more than the context of "
                        f"{self.model.context_length}.",
                        fix="build the corpus for this context (context: {tokens: ...}), or leave such "
                        'examples out with too_long="skip" (--too-long skip).',
                    )
                yield read, name, tokens if fits else None


class StreamRecord(TrainingRecord):
    """A record whose steps also say how far the data were read and what padding cost (of the first process)."""

    batches: StreamedBatches
    per_step: int = 1
    first_step: int = 0

    def add(self, line: dict[str, Any]) -> None:
        """Append one line."""
        if "loss" in line:
            last = (line["step"] - self.first_step) * self.per_step
            told = self.batches.told(last - self.per_step, last)
            seconds = max(line["seconds"], 1e-9)
            rates = {
                "tokens_per_second": round(line["tokens"] / seconds, 1),
                "padded_tokens_per_second": round(told["padded_tokens"] / seconds, 1),
            }
            line = line | told | rates
        super().add(line)


class StreamTrainer(AnswerTrainer):
    """The trainer of `c2s.train_sft` on a stream: the position in the data goes into every checkpoint.

    Parameters
    ----------
    batches
        What this process reads.
    first_step
        Steps before the start.
    """

    def __init__(self, *args: Any, batches: StreamedBatches, first_step: int, **kwargs: Any) -> None:
        self.batches, self.first_step = batches, first_step
        super().__init__(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return a loader of this process's own share; the stream was divided already."""
        # A generator of its own: a loader draws a number when it begins, which dropout must not notice.
        return DataLoader(
            self.batches, batch_size=None, collate_fn=self.data_collator, generator=torch.Generator()
        )

    def _save_rng_state(self, output_dir: str) -> None:
        """Save with the random numbers also how far this process has read."""
        super()._save_rng_state(output_dir)
        steps = self.state.global_step - self.first_step
        position = self.batches.position(steps * self.args.gradient_accumulation_steps)
        file = position_file(Path(output_dir), self.args.process_index)
        file.write_text(json.dumps(asdict(position)) + "\n", encoding="utf-8")


def position_file(checkpoint: Path, rank: int) -> Path:
    """Return where a checkpoint keeps the position of a process."""
    return checkpoint / f"stream_{rank}.json"


def read_position(checkpoint: Path | None, rank: int) -> Position:
    """Return how far a process had read at a checkpoint; the beginning for none.

    Raises
    ------
    TrainingError
        The checkpoint does not say.
    """
    if checkpoint is None:
        return Position()
    try:
        stated: Mapping[str, int] = json.loads(position_file(checkpoint, rank).read_text(encoding="utf-8"))
        return Position(**stated)
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(
            f"{checkpoint} does not say how far process {rank} had read ({error}).",
            fix="remove the folder and train again without resume.",
        ) from None


def collator(model: LanguageModel, loss: Literal["answer", "full"]) -> Any:
    """Return the function that makes tensors of a batch."""

    def collate(batch: Batch) -> dict[str, Any]:
        return padded_batch(batch.encoded, batch.ids, model.tokenizer, loss)

    return collate
