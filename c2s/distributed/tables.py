"""A trained task on a large table of cells, by actors that each hold the model.

The table is cut into parts of so many rows. Ray Data hands the parts to a pool of actors; each actor loads the
model once, reads its part from the Parquet files, predicts, and writes the part's predictions whole or not at all.
A part that is there is not done again, so a stopped run goes on, and a lost actor's part is done by another.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from c2s.distributed.connection import CONNECT_SECONDS, check_machines, connected
from c2s.errors import C2SError, ClusterError, ConfigError, InputFileError, OutputError
from c2s.files import atomic_output
from c2s.progress import progress
from c2s.provenance import checksum

if TYPE_CHECKING:
    from c2s.sentences import CellSentences
    from c2s.tasks import Task
    from c2s.training import TaskModel

SETTINGS_FILE = "predictions.json"


@dataclass(frozen=True)
class TablePredictions:
    """Predictions of a table, in parts.

    Attributes
    ----------
    path
        The folder: ``part-000000.parquet`` and so on, in the order of the table.
    rows
        Cells of the table; those that express nothing have no prediction.
    parts_done
        Parts that this run did; the others were there already.
    """

    path: Path
    rows: int
    parts_done: int

    @property
    def files(self) -> list[Path]:
        """The parts, in the order of the table."""
        return sorted(self.path.glob("part-*.parquet"))

    def read(self) -> pa.Table:
        """Read all predictions, one row per example in the order of the table."""
        return pa.concat_tables([pq.read_table(file) for file in self.files])


@dataclass(frozen=True)
class _Job:
    """What every actor is told; plain values."""

    model: str
    files: tuple[str, ...]
    rows: tuple[int, ...]
    out: str
    rows_per_part: int
    threshold: float
    tokens_per_batch: int | None
    device: str
    dtype: str


def predict_table(
    model_folder: str | os.PathLike[str],
    table: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: Task | None = None,
    address: str | None = None,
    actors: int | None = None,
    cpus: float = 1,
    gpus: float = 0,
    rows_per_part: int = 4096,
    threshold: float = 0.0,
    tokens_per_batch: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    timeout: float = CONNECT_SECONDS,
    overwrite: bool = False,
    show_progress: bool = True,
) -> TablePredictions:
    """Predict the answer of a trained task for every row of a Parquet table.

    Parameters
    ----------
    model_folder
        Folder that ``c2s train sft`` wrote.
    table
        Parquet file of cell sentences (``c2s transform``), or a folder of such files, which are read in the order
        of their names.
    out
        Folder for the predictions; that of a stopped run goes on.
    task
        The task the model was trained on; None looks it up by its name.
    address
        Ray cluster (``"auto"``, ``"local"``, ``HOST:PORT``); None works in this process, with the same result.
    actors
        Models held at the same time; default one for each processor (or GPU) of the cluster.
    cpus, gpus
        Of one actor.
    rows_per_part
        Rows of a part, the work that is lost at most.
    threshold, tokens_per_batch, device, dtype
        As for ``c2s predict``.
    timeout
        Seconds to wait for the cluster to answer.
    overwrite
        Throw away the predictions that the folder holds, of whatever settings, and begin again; a folder of other
        files is refused all the same.
    show_progress
        Show a progress bar of parts.

    Returns
    -------
    TablePredictions
        The same rows, in the same order, as `c2s.prediction.predict_cells` of the whole table.

    Raises
    ------
    InputFileError
        The table is missing or empty, or a file is not of cell sentences.
    ConfigError
        A number is out of range, or the task asks about several cells at once.
    OutputError
        The folder holds something else, or predictions of other settings.
    ClusterError
        The cluster cannot do the work, see `c2s.distributed.run_units`.
    """
    problems = [
        f"{name} is {value}"
        for name, value, bad in (
            ("rows_per_part", rows_per_part, rows_per_part < 1),
            ("actors", actors, actors is not None and actors < 1),
            ("cpus", cpus, cpus < 0),
            ("gpus", gpus, gpus < 0),
            ("threshold", threshold, not 0 <= threshold <= 1),
        )
        if bad
    ]
    if problems:
        raise ConfigError(
            "prediction of a table", problems, fix="pass positive numbers, and a threshold in [0, 1]."
        )
    if address is None and (actors is not None or gpus):
        given = f"actors is {actors}" if actors is not None else f"gpus is {gpus:g}"
        raise ConfigError(
            "prediction of a table",
            [f"{given}, and no cluster is named that would have them"],
            fix='name one with address="auto" (--ray auto), or leave it out.',
        )
    files = _files(Path(table))
    job = _Job(
        str(Path(model_folder).resolve()), tuple(map(str, files)), tuple(_rows(f) for f in files),
        str(Path(out).resolve()), rows_per_part, threshold, tokens_per_batch, device, dtype,
    )  # fmt: skip
    if not sum(job.rows):
        raise InputFileError(f"{table} has no row.", fix="give a table with cells.")
    _claim(job, overwrite)
    parts = -(-sum(job.rows) // rows_per_part)
    waiting = [part for part in range(parts) if not _place(job, part).exists()]
    with progress("parts", parts, enabled=show_progress) as advance:
        advance(parts - len(waiting))
        for _ in _run(job, task, waiting, address, actors, cpus, gpus, timeout):
            advance()
    return TablePredictions(Path(job.out), sum(job.rows), len(waiting))


def _run(
    job: _Job,
    task: Task | None,
    waiting: Sequence[int],
    address: str | None,
    actors: int | None,
    cpus: float,
    gpus: float,
    timeout: float,
) -> Iterator[int]:
    if not waiting:
        return
    if address is None:
        here = Predictor(job, task)
        for part in waiting:
            here.do(part)
            yield part
        return
    with connected(address, timeout=timeout) as ray:
        check_machines(ray, Path(job.out), [*job.files, Path(job.model) / "config.json"])
        data = importlib.import_module("ray.data")
        data.DataContext.get_current().enable_progress_bars = False
        size = actors or max(1, int(_room(ray, cpus, gpus)))
        # One part a block and a batch: Ray Data keeps the actors busy and restarts those that are lost.
        done = data.from_items([{"part": part} for part in waiting], override_num_blocks=len(waiting)).map_batches(
            Predictor,
            fn_constructor_args=(job, task),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(size, len(waiting))),
            num_cpus=cpus,
            num_gpus=gpus or None,
        )
        try:
            for row in done.iter_rows():
                if row["error"]:
                    raise pickle.loads(row["error"])
                yield int(row["part"])
        except ray.exceptions.RayError as error:
            raise _cause(error) from None


def _room(ray: Any, cpus: float, gpus: float) -> float:
    """Return how many actors the cluster has room for."""
    has = ray.cluster_resources()
    rooms: list[float] = [has.get(name, 0) / need for name, need in (("CPU", cpus), ("GPU", gpus)) if need]
    return min(rooms, default=1)


def _cause(error: BaseException) -> C2SError:
    """Return the error of ours that Ray wrapped, or say what Ray said."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, C2SError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    reason = " ".join(str(error).split())[-300:]
    return ClusterError(
        f"the cluster gave up: {reason}",
        fix="look at the memory of the workers (`ray status`); then run the same command again: parts that are "
        "done stay done.",
    )


class Predictor:
    """Holds a model and does one part after the other; the actor of `predict_table`.

    Parameters
    ----------
    job
        What to do.
    task
        The task, or None to look it up.
    """

    def __init__(self, job: _Job, task: Task | None) -> None:
        from c2s.plugins import default_host
        from c2s.training import TaskModel

        self.job = job
        self.trained: TaskModel = TaskModel.load(job.model, device=job.device, dtype=job.dtype)
        if task is None:
            task = default_host().tasks.get(self.trained.task_name).from_options(self.trained.options)
        self.task: Task = task

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do the parts of a batch, as Ray Data hands them over."""
        said = []
        for part in batch["part"]:
            try:
                self.do(int(part))
                said.append(b"")
            except C2SError as error:
                # Ray Data would keep its text only.
                said.append(pickle.dumps(error))
        return {"part": batch["part"], "error": said}

    def do(self, part: int) -> None:
        """Predict one part and write it."""
        from c2s.prediction import predict_cells

        place = _place(self.job, part)
        if place.exists():
            return
        sentences = _part(self.job, part)
        found = predict_cells(
            self.trained,
            self.task,
            sentences,
            threshold=self.job.threshold,
            tokens_per_batch=self.job.tokens_per_batch,
        )
        asked = [cell for cells in found["cell_ids"].to_pylist() for cell in cells]
        known = set(asked)  # not of cells that express nothing
        if [cell for cell in sentences.table["cell_id"].to_pylist() if cell in known] != asked or len(
            asked
        ) != len(found):
            raise ConfigError(
                f"task {self.task.name!r}",
                ["it does not ask about every cell by itself, so a table cannot be done in parts"],
                fix="predict the cells of one file with `c2s predict IN.h5ad OUT.h5ad`.",
            )
        with atomic_output(place, overwrite=True) as temporary:
            pq.write_table(found, temporary, compression="zstd")


def _place(job: _Job, part: int) -> Path:
    return Path(job.out) / f"part-{part:06d}.parquet"


def _files(source: Path) -> list[Path]:
    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not files or not all(file.is_file() for file in files):
        raise InputFileError(
            f"there is no Parquet file {source}." if not source.is_dir() else f"{source} has no *.parquet.",
            fix="make a table of cell sentences with `c2s transform`.",
        )
    return [file.resolve() for file in files]


def _rows(file: Path) -> int:
    try:
        with pq.ParquetFile(file) as opened:
            return int(opened.metadata.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputFileError(
            f"{file} is not a readable Parquet file ({reason}).", fix="make it again with `c2s transform`."
        ) from error


def _claim(job: _Job, overwrite: bool) -> None:
    """Write down what is predicted, or make sure that the folder is of the same."""
    out = Path(job.out)
    told = {key: value for key, value in asdict(job).items() if key not in ("out", "tokens_per_batch", "device")}
    # Paths and row counts stay the same when a model is trained again, or a table written again.
    model = Path(job.model)
    read = [*map(Path, job.files), *sorted(model.glob("*.safetensors")), *sorted(model.glob("c2s_task.json"))]
    told["contents"] = {path.name: checksum(path) for path in read}
    now = json.loads(json.dumps(told))
    if out.is_dir() and any(out.iterdir()):
        try:
            before = json.loads((out / SETTINGS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise OutputError(f"{out} holds other files.", fix="choose a new folder.") from None
        if overwrite:
            # The settings last: killed in between, the folder is still known for what it is.
            for file in [*out.glob("part-*.parquet"), out / SETTINGS_FILE]:
                file.unlink()
            before = now
            with atomic_output(out / SETTINGS_FILE) as temporary:
                temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        changed = [key for key in now if before.get(key) != now[key]]
        if changed:
            raise OutputError(
                f"{out} holds predictions of other settings ({', '.join(changed)}).",
                fix="choose a new folder, give the settings it had, or begin again with overwrite=True "
                "(--overwrite).",
            )
        return
    with atomic_output(out / SETTINGS_FILE) as temporary:
        temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def _part(job: _Job, part: int) -> CellSentences:
    """Read the rows of a part, of one file or of several; only the row groups that hold them."""
    from c2s.sentences import CellSentences

    first = part * job.rows_per_part
    last = min(first + job.rows_per_part, sum(job.rows))
    starts = [0, *accumulate(job.rows)]
    pieces: list[CellSentences] = []
    for number in range(bisect_right(starts, first) - 1, len(job.rows)):
        begin, end = max(first - starts[number], 0), min(last - starts[number], job.rows[number])
        if begin >= end:
            break
        pieces.append(CellSentences.read_parquet(job.files[number], rows=(begin, end)))
    table = pa.concat_tables([piece.table for piece in pieces], promote_options="default")
    return CellSentences(table, pieces[0].vocabulary, pieces[0].provenance)
