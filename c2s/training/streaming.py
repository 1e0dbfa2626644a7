"""Batches from a corpus's stream, and the trainer that reads them; import it only to train.

The position in the data is a plain number: how many examples of which epoch this process has read. The stream is
the same for the same seed and epoch, so a resumed run reads past that many, without tokenising them, and goes on
with the very next one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
        Examples of this epoch that were read.
    too_long
        Examples of all epochs that were left out because the context is too short for them.
    """

    epoch: int = 0
    read: int = 0
    too_long: int = 0


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
        start: Position = Position(),
    ) -> None:
        self.corpus, self.model, self.part, self.tasks = corpus, model, part, tasks
        self.rank, self.world_size, self.batch_size = rank, world_size, batch_size
        self.buffer_size, self.seed, self.too_long, self.start = buffer_size, seed, too_long, start
        self._handed_out = 0
        # A loader may ask for a batch before it needs it, so the position is kept for each of the last ones.
        self._positions: deque[tuple[int, Position]] = deque([(0, start)], maxlen=4096)

    def position(self, batches: int) -> Position:
        """Return how far the first `batches` batches since the start have read."""
        return next(position for number, position in reversed(self._positions) if number == batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield full batches for ever."""
        ids: list[str] = []
        encoded: list[tuple[list[int], int]] = []
        epoch, too_long, before = self.start.epoch, self.start.too_long, self.start.read
        while True:
            found = False
            for read, name, tokens in self._examples(epoch, before):
                if tokens is None:
                    too_long += 1
                    continue
                found = True
                ids.append(name)
                encoded.append(tokens)
                if len(ids) == self.batch_size:
                    self._handed_out += 1
                    self._positions.append((self._handed_out, Position(epoch, read, too_long)))
                    yield Batch(ids, encoded)
                    ids, encoded = [], []
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
    """A record whose steps also say how far the data were read (of the first process)."""

    batches: StreamedBatches
    per_step: int = 1
    first_step: int = 0

    def add(self, line: dict[str, Any]) -> None:
        """Append one line."""
        if "loss" in line:
            at = self.batches.position((line["step"] - self.first_step) * self.per_step)
            line = line | {"read": at.read, "too_long": at.too_long, "epoch": at.epoch}
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
