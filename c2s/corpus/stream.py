"""A corpus that is there: what it holds, whether it is whole, and its examples as a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c2s.corpus.manifest import INDEX, read_manifest
from c2s.errors import ConfigError, InputFileError
from c2s.provenance import checksum

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

#: A sample is drawn from shards that hold so many examples, if there are so many.
_SAMPLED_FROM = 100_000


@dataclass(frozen=True)
class Corpus:
    """A complete corpus.

    Attributes
    ----------
    path
        Its folder.
    manifest
        The content of ``manifest.json``.
    """

    path: Path
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        totals = self.manifest["totals"]
        return f"Corpus({self.manifest['name']}: {totals['rows']:,} examples, {totals['tokens']:,} tokens)"

    @property
    def parts(self) -> tuple[str, ...]:
        """Its parts, of ``train``, ``validation`` and ``test``."""
        return tuple(self.manifest["parts"])

    def files(self, part: str = "train") -> list[Path]:
        """Return the shards of a part, in the order of the manifest.

        Raises
        ------
        ConfigError
            There is no such part.
        """
        if part not in self.parts:
            raise ConfigError(
                f"corpus {self.path}", [f"it has no part {part!r}"], fix=f"choose one of {', '.join(self.parts)}."
            )
        return [self.path / s["path"] for s in self.manifest["shards"] if s["part"] == part and s["rows"]]

    def stream(
        self,
        part: str = "train",
        *,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        buffer_size: int = 10_000,
        tasks: Sequence[str] | None = None,
    ) -> datasets.IterableDataset:
        """Stream the examples of a part without loading its shards.

        Parameters
        ----------
        part
            ``train``, ``validation`` or ``test``.
        rank, world_size
            This process, of how many. Every example goes to exactly one of them: whole shards where their number
            divides by `world_size`, every n-th example otherwise.
        seed
            Of the order; give another for each epoch, or call ``set_epoch``.
        buffer_size
            Examples that are shuffled together, from up to ten shards at a time; 0 keeps the order of the files.
        tasks
            Only these tasks.

        Returns
        -------
        datasets.IterableDataset
            Its ``state_dict`` and ``load_state_dict`` say how far it was read. What was in the shuffle buffer then
            is not part of that state; with ``buffer_size=0`` a resumed stream goes on at the next example.

        Raises
        ------
        ConfigError
            There is no such part or task, or the rank is out of range.
        """
        import datasets
        from datasets.distributed import split_dataset_by_node

        problems = self._unknown(tasks)
        if not 0 <= rank < world_size:
            problems.append(f"rank {rank} is not in 0 to {world_size - 1}")
        if buffer_size < 0:
            problems.append(f"buffer_size is {buffer_size}")
        files = self.files(part)
        if not files:
            problems.append(f"its part {part!r} has no example")
        if problems:
            raise ConfigError(f"corpus {self.path}", problems, fix="see `c2s corpus info`.")
        stream = datasets.load_dataset(
            "parquet", data_files=[str(f) for f in files], split="train", streaming=True
        )
        if tasks is not None:
            wanted = set(tasks)
            stream = stream.filter(lambda task: task in wanted, input_columns="task")
        if buffer_size:
            stream = stream.shuffle(seed=seed, buffer_size=buffer_size)
        return split_dataset_by_node(stream, rank=rank, world_size=world_size) if world_size > 1 else stream

    def sample(
        self, n: int, part: str = "train", *, tasks: Sequence[str] | None = None, seed: int = 0
    ) -> pa.Table:
        """Draw examples of a part at random, each at most once.

        Of a large corpus not every shard is opened: as many as hold ten times what is wanted, and a hundred
        thousand examples at least, are drawn first.

        Parameters
        ----------
        n
            How many; all there are, if there are fewer. From the same shards, a smaller number is the beginning
            of a larger one.
        part
            ``train``, ``validation`` or ``test``.
        tasks
            Only these tasks.
        seed
            Of the draw.

        Returns
        -------
        pyarrow.Table
            With the columns of the shards, in random order.

        Raises
        ------
        ConfigError
            There is no such part or task, or `n` is negative.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        problems = self._unknown(tasks) + ([f"n is {n}"] if n < 0 else [])
        if problems:
            raise ConfigError(f"corpus {self.path}", problems, fix="see `c2s corpus info`.")
        self.files(part)
        wanted = [
            (shard, sum(k for task, k in shard["tasks"].items() if tasks is None or task in tasks))
            for shard in self.manifest["shards"]
            if shard["part"] == part
        ]
        rng = np.random.default_rng(seed)
        chosen, there = [], 0
        for place in rng.permutation(len(wanted)).tolist():
            if there >= max(10 * n, _SAMPLED_FROM):
                break
            chosen.append(place)
            there += wanted[place][1]
        ends = np.cumsum([wanted[place][1] for place in chosen])
        drawn = rng.permutation(there)[:n]
        of_shard = np.searchsorted(ends, drawn, side="right")
        tables, order = [], []
        for which in np.unique(of_shard).tolist():
            shard, k = wanted[chosen[which]]
            places = np.flatnonzero(of_shard == which)
            order.append(places)
            table = pq.read_table(self.path / shard["path"])
            rows = np.arange(len(table))
            if tasks is not None:
                rows = rows[np.isin(table["task"].to_numpy(), list(tasks))]
            tables.append(table.take(rows[drawn[places] - (ends[which] - k)]))
        if not tables:
            return pq.read_schema(self.path / wanted[0][0]["path"]).empty_table()
        return pa.concat_tables(tables).take(np.argsort(np.concatenate(order)))

    def _unknown(self, tasks: Sequence[str] | None) -> list[str]:
        unknown = [t for t in tasks or () if t not in self.manifest["tasks"]]
        return [f"it has no task {', '.join(map(repr, unknown))}"] if unknown else []

    def verify(self, *, advance: Callable[[], object] = lambda: None) -> list[str]:
        """Compare every shard with the manifest; return one line per problem."""
        problems = []
        listed = {s["path"] for s in self.manifest["shards"]}
        for shard in [*self.manifest["shards"], self.manifest["index"]]:
            path = self.path / shard["path"]
            if not path.is_file():
                problems.append(f"{shard['path']} is missing")
            elif (found := checksum(path)) != shard["sha256"]:
                problems.append(f"{shard['path']} has sha256 {found}, and should have {shard['sha256']}")
            advance()
        there = {p.relative_to(self.path).as_posix() for p in self.path.rglob("*.parquet")} - {INDEX}
        problems += [f"{name} is not in the manifest" for name in sorted(there - listed)]
        return problems


def open_corpus(path: str | os.PathLike[str]) -> Corpus:
    """Open a complete corpus.

    Raises
    ------
    InputFileError
        There is none, or its build was stopped.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputFileError(f"there is no folder {folder}.", fix="check the path; `c2s corpus build` makes one.")
    return Corpus(folder, read_manifest(folder))
