"""`build_corpus`: plan, do the units, put the manifest together; any number of times, until it is complete."""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from c2s.corpus.arrangement import arrange
from c2s.corpus.budget import TOKENIZER, save_tokenizer
from c2s.corpus.manifest import MANIFEST, read_manifest, write_manifest
from c2s.corpus.plan import WORK, CorpusPlan, plan_corpus
from c2s.corpus.prompt_files import metadata_wording
from c2s.corpus.source import close_cells
from c2s.corpus.spec import CorpusSpec, absolute, load_spec
from c2s.corpus.units import UnitResult, build_unit
from c2s.errors import ConfigError, OutputError
from c2s.files import atomic_output
from c2s.progress import progress

_SPEC = "spec.yaml"


@dataclass(frozen=True)
class CorpusReport:
    """What a build ended with.

    Attributes
    ----------
    path
        The corpus's folder.
    rows, tokens, shards
        Of the whole corpus.
    units_done
        Units of work that this run did; the others were there already.
    """

    path: Path
    rows: int
    tokens: int
    shards: int
    units_done: int

    def __str__(self) -> str:
        return f"{self.rows:,} examples, {self.tokens:,} tokens, {self.shards} shards in {self.path}"


def build_corpus(
    spec: CorpusSpec | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    workers: int = 1,
    ray: str | None = None,
    show_progress: bool = True,
) -> CorpusReport:
    """Build a corpus, or go on with one that was stopped (section 4.1).

    The bytes depend on the specification and the sources alone: not on the number of workers, nor on how often the
    build was killed and started again.

    Parameters
    ----------
    spec
        A specification, or the path of one.
    out
        Folder of the corpus; new, or that of an earlier, stopped build of the same specification.
    workers
        Processes on this machine.
    ray
        Address of a Ray cluster, or ``"auto"``, instead; all its machines must see `out` and the sources.
    show_progress
        Show a progress bar.

    Returns
    -------
    CorpusReport

    Raises
    ------
    OutputError
        The folder holds something else, or a corpus of another specification; another build is writing to it; the
        disk is full.
    ConfigError
        The number of workers is not positive.
    C2SError
        What `plan_corpus` and `build_unit` raise.
    """
    if workers < 1:
        raise ConfigError("build_corpus", [f"workers is {workers}"], fix="pass workers=1 or more.")
    # The folder's own copy is read from elsewhere: paths must not depend on where this process stands.
    given = absolute(spec, Path.cwd()) if isinstance(spec, CorpusSpec) else load_spec(spec)
    folder = Path(out)
    if _complete(given, folder):
        return _report(folder, 0)
    try:
        # Before the folder is touched: a specification that cannot be built leaves nothing behind.
        plan = plan_corpus(given)
        with _claimed(given, folder):
            _refuse_changes(plan, folder)
            save_tokenizer(plan, folder)
            with _processes(workers if ray is None else 1) as pool:
                done = _run(plan, folder, pool, ray, "reading", show_progress)
                close_cells()  # with what their readers keep of them
                second = arrange(plan, folder)
                done += _run(second, folder, pool, ray, "writing", show_progress)
            write_manifest(second, plan.units, folder)
            shutil.rmtree(folder / WORK)
    finally:
        close_cells()
    return _report(folder, done)


def _run(plan: CorpusPlan, out: Path, pool: _Pool | None, ray: str | None, what: str, show_progress: bool) -> int:
    """Do the units of a stage that are not done yet; return how many there were."""
    waiting = [unit for unit in plan.units if not (out / WORK / "done" / f"{unit.id}.json").exists()]
    # Those that say they are done are asked too, quickly: their shard may be gone or cut short.
    with progress(f"corpus: {what}", len(plan.units), enabled=show_progress) as advance:
        results: Iterator[UnitResult]
        if ray is not None:
            results = iter(importlib.import_module("c2s.distributed").run_units(plan, out, ray))
        elif pool is not None:
            results = pool.results(plan, out)
        else:
            results = (build_unit(plan, unit, out) for unit in plan.units)
        for _ in results:
            advance()
    return len(waiting)


class _Pool:
    """Processes of this machine; each imports what it needs, and none inherits a thread."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))

    def results(self, plan: CorpusPlan, out: Path) -> Iterator[UnitResult]:
        """Yield the results of a plan's units as they come, a few per process in flight."""
        bare = plan.with_units(())  # goes with every unit
        pending: set[Future[UnitResult]] = set()
        for unit in plan.units:
            pending.add(self.executor.submit(build_unit, bare, unit, out))
            if len(pending) >= 4 * self.workers:
                ready, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ready)
        while pending:
            ready, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ready)


@contextmanager
def _processes(workers: int) -> Iterator[_Pool | None]:
    """Keep processes for both stages; none for a single worker, which is this process."""
    if workers == 1:
        yield None
        return
    pool = _Pool(workers)
    try:
        yield pool
    except BrokenProcessPool:
        raise OutputError(
            "a process of the build was killed; the machine may be short of memory.",
            fix="run the same command again, which goes on where it stopped, or with fewer workers.",
        ) from None
    finally:
        pool.executor.shutdown(wait=True, cancel_futures=True)


class _claimed:
    """Hold the folder for one build; make it, or make sure that it is of this specification."""

    def __init__(self, spec: CorpusSpec, folder: Path) -> None:
        from filelock import FileLock

        self.spec, self.folder = spec, folder
        # Beside the folder, which must hold nothing but the corpus.
        self._lock = FileLock(str(folder.parent / f".{folder.name}.lock"), timeout=0)

    def __enter__(self) -> None:
        from filelock import Timeout

        _refuse_strangers(self.spec, self.folder)
        with atomic_output(self.folder.parent / f".{self.folder.name}.writable"):
            pass  # raises what is to be said where nothing can be written
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another build is writing to {self.folder}.", fix="wait for it, or choose another folder."
            ) from None
        (self.folder / WORK).mkdir(parents=True, exist_ok=True)
        # What a killed build was writing.
        for left in [*self.folder.rglob(".*.tmp")]:
            shutil.rmtree(left, ignore_errors=True)
        with atomic_output(self.folder / _SPEC, overwrite=True) as temporary:
            temporary.write_text(self.spec.to_yaml(), encoding="utf-8")

    def __exit__(self, *_: object) -> None:
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


def _refuse_strangers(spec: CorpusSpec, folder: Path) -> None:
    """Refuse a folder that holds something other than this specification's corpus."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file.", fix="choose a folder.")
    stated = folder / _SPEC
    names = {path.name for path in folder.iterdir()}
    if not names:
        return
    if not stated.exists():
        if names <= {WORK} or all(name.startswith(f".{_SPEC}.") or name == WORK for name in names):
            return  # killed before anything was written
        raise OutputError(
            f"{folder} holds other files ({', '.join(sorted(names)[:3])}).",
            fix="choose a new folder, or empty it.",
        )
    if load_spec(stated).digest() != spec.digest():
        raise OutputError(
            f"{folder} holds a corpus of another specification ({_difference(load_spec(stated), spec)}).",
            fix="choose another folder, or give the specification in its spec.yaml.",
        )


def _refuse_changes(plan: CorpusPlan, folder: Path) -> None:
    """Go on with a stopped build only if nothing that its bytes depend on has changed since.

    Raises
    ------
    OutputError
        A source, a template or a version is another.
    """
    now = fingerprint(plan)
    file = folder / WORK / "begun.json"
    if not file.exists():
        with atomic_output(file) as temporary:
            temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    begun = json.loads(file.read_text(encoding="utf-8"))
    changed = sorted(key for key in {*begun, *now} if begun.get(key) != now.get(key))
    if changed:
        raise OutputError(
            f"since the build in {folder} was stopped, this has changed: {', '.join(changed)}.",
            fix="build into a new folder, or delete this one.",
        )


def fingerprint(plan: CorpusPlan) -> dict[str, str]:
    """Return what the bytes of a corpus depend on beside its specification, as far as it is quickly told."""
    import pyarrow as pa

    from c2s import __version__

    texts = repr([*plan.tasks.values(), metadata_wording(plan.spec.templates), sorted(plan.abstracts.items())])
    found = {"c2s": __version__, "pyarrow": pa.__version__}
    found["templates or abstracts"] = hashlib.sha256(texts.encode()).hexdigest()
    for name, path in [*((s.name, s.path) for s in plan.sources), *plan.gene_sets]:
        stat = Path(path).stat()
        found[f"source {name}"] = f"{path} {stat.st_size} {stat.st_mtime_ns}"
    return found


def _difference(old: CorpusSpec, new: CorpusSpec) -> str:
    one, other = old.model_dump(mode="json"), new.model_dump(mode="json")
    return "it differs in " + ", ".join(key for key in one if one[key] != other[key])


def _complete(spec: CorpusSpec, folder: Path) -> bool:
    """Whether the corpus is there, whole; a killed build may have left its scratch files beside it."""
    if not (folder / MANIFEST).exists():
        return False
    _refuse_strangers(spec, folder)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    return True


def _report(folder: Path, done: int) -> CorpusReport:
    totals = read_manifest(folder)["totals"]
    return CorpusReport(folder, totals["rows"], totals["tokens"], totals["shards"], done)


__all__ = ["TOKENIZER", "CorpusReport", "build_corpus"]
