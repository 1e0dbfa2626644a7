"""`build_corpus`: plan, do the units, put the manifest together; any number of times, until it is complete."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from c2s.corpus.arrangement import arrange
from c2s.corpus.budget import TOKENIZER, save_tokenizer
from c2s.corpus.fingerprint import changes, contents, quick_look
from c2s.corpus.manifest import INDEX, MANIFEST, read_manifest, write_manifest
from c2s.corpus.plan import WORK, CorpusPlan, plan_corpus
from c2s.corpus.source import close_cells
from c2s.corpus.spec import CorpusSpec, absolute, load_spec
from c2s.corpus.units import UnitResult, build_unit
from c2s.corpus.workers import Workers, processes
from c2s.errors import ConfigError, InputFileError, OutputError
from c2s.files import atomic_output
from c2s.progress import progress
from c2s.splits import PARTS

_SPEC = "spec.yaml"
#: Everything that a build writes into its folder.
_OWN = (MANIFEST, INDEX, "DATASHEET.md", "figures", TOKENIZER, *PARTS, _SPEC, WORK)
_ANEW = "build into a new folder, or begin again in this one with overwrite=True (--overwrite)."


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
    overwrite: bool = False,
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
    overwrite
        Throw away what the folder holds of a corpus, of whatever specification, and begin again; other files in it
        stay, and a folder that holds no corpus is refused all the same.
    show_progress
        Show a progress bar.

    Returns
    -------
    CorpusReport

    Raises
    ------
    OutputError
        The folder holds something else, or a corpus of another specification, or of other sources, templates or
        tokenizer; another build is writing to it; a worker died; the disk is full.
    ConfigError
        The number of workers is not positive, or was given beside `ray`.
    C2SError
        What `plan_corpus` and `build_unit` raise.
    """
    problems = [f"workers is {workers}"] if workers < 1 else []
    if ray is not None and workers > 1:
        problems.append(f"workers={workers} are of this machine, and ray={ray!r} uses the cluster's instead")
    if problems:
        raise ConfigError(
            "build_corpus", problems, fix="pass workers=1 or more (--workers), or ray=ADDRESS (--ray), not both."
        )
    # The folder's own copy is read from elsewhere: paths must not depend on where this process stands.
    given = absolute(spec, Path.cwd()) if isinstance(spec, CorpusSpec) else load_spec(spec)
    folder = Path(out)
    _refuse(given, folder, overwrite)
    try:
        # Before the folder is touched: a specification that cannot be built leaves nothing behind.
        plan = plan_corpus(given)
        if (folder / MANIFEST).exists() and not (folder / WORK).exists() and not overwrite:
            # Nothing is written, so it may lie where nobody can write.
            _refuse_other_inputs(plan, folder)
            return _report(folder, 0)
        with _claimed(given, folder, overwrite):
            if (folder / MANIFEST).exists():  # a build was killed while it took its scratch files away
                _refuse_other_inputs(plan, folder)
                shutil.rmtree(folder / WORK)
                return _report(folder, 0)
            _refuse_changes(plan, folder)
            with processes(workers) as pool:
                save_tokenizer(plan, folder)  # while the processes start
                done = _run(plan, folder, pool, ray, "reading", show_progress)
                close_cells()  # with what their readers keep of them
                second = arrange(plan, folder)
                done += _run(second, folder, pool, ray, "writing", show_progress)
            _refuse_changes(plan, folder)
            write_manifest(second, plan.units, folder)
            shutil.rmtree(folder / WORK)
    finally:
        close_cells()
    return _report(folder, done)


def _run(
    plan: CorpusPlan, out: Path, pool: Workers | None, ray: str | None, what: str, show_progress: bool
) -> int:
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


class _claimed:
    """Hold the folder for one build; make it, empty it, or make sure that it is of this specification."""

    def __init__(self, spec: CorpusSpec, folder: Path, overwrite: bool) -> None:
        from filelock import FileLock

        self.spec, self.folder, self.overwrite = spec, folder, overwrite
        # Beside the folder, which must hold nothing but the corpus.
        self._lock = FileLock(str(folder.parent / f".{folder.name}.lock"), timeout=0)

    def __enter__(self) -> None:
        from filelock import Timeout

        with atomic_output(self.folder.parent / f".{self.folder.name}.writable"):
            pass  # raises what is to be said where nothing can be written
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another build is writing to {self.folder}.", fix="wait for it, or choose another folder."
            ) from None
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise

    def _prepare(self) -> None:
        # Again, now that nobody else writes: another build may have come between.
        _refuse(self.spec, self.folder, self.overwrite)
        (self.folder / WORK).mkdir(parents=True, exist_ok=True)
        if self.overwrite:
            # The manifest first and the scratch files last: killed in between, it is a stopped build.
            for name in _OWN:
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            (self.folder / WORK).mkdir()
        # What a killed build was writing.
        for left in [*self.folder.rglob(".*.tmp")]:
            shutil.rmtree(left, ignore_errors=True)
        with atomic_output(self.folder / _SPEC, overwrite=True) as temporary:
            temporary.write_text(self.spec.to_yaml(), encoding="utf-8")

    def __exit__(self, *_: object) -> None:
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


def _refuse(spec: CorpusSpec, folder: Path, overwrite: bool) -> None:
    """Refuse a folder that this build may not write into."""
    if overwrite:
        _refuse_no_corpus(folder)
    else:
        _refuse_strangers(spec, folder)


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
            fix="choose another folder, give the specification in its spec.yaml, or begin again in this one with "
            "overwrite=True (--overwrite).",
        )


def _refuse_no_corpus(folder: Path) -> None:
    """Refuse to overwrite a folder that no build of a corpus has made."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file.", fix="choose a folder.")
    if not any(folder.iterdir()) or (folder / WORK).is_dir():
        return
    try:
        read_manifest(folder)
    except InputFileError:
        raise OutputError(
            f"{folder} holds no corpus that could be overwritten.", fix="choose a new folder, or empty it."
        ) from None


def _refuse_changes(plan: CorpusPlan, folder: Path) -> None:
    """Go on with a stopped build only if nothing that its bytes depend on has changed since.

    Raises
    ------
    OutputError
        A source, a template, the tokenizer or a version is another.
    """
    now = quick_look(plan)
    file = folder / WORK / "begun.json"
    if not file.exists():
        with atomic_output(file) as temporary:
            temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    changed = changes(json.loads(file.read_text(encoding="utf-8")), now)
    if changed:
        raise OutputError(f"since the build in {folder} began, this has changed: {', '.join(changed)}.", fix=_ANEW)


def _refuse_other_inputs(plan: CorpusPlan, folder: Path) -> None:
    """Take a complete corpus for the one that is asked for only if it was made from the same contents.

    Raises
    ------
    OutputError
        A source, a template or the tokenizer is another.
    """
    stated = read_manifest(folder).get("fingerprint")
    changed = changes(stated, contents(plan)) if stated else []
    if changed:
        raise OutputError(
            f"{folder} holds a complete corpus of this specification, but since then this has changed: "
            f"{', '.join(changed)}.",
            fix=_ANEW,
        )


def _difference(old: CorpusSpec, new: CorpusSpec) -> str:
    one, other = old.model_dump(mode="json"), new.model_dump(mode="json")
    return "it differs in " + ", ".join(key for key in one if one[key] != other[key])


def _report(folder: Path, done: int) -> CorpusReport:
    totals = read_manifest(folder)["totals"]
    return CorpusReport(folder, totals["rows"], totals["tokens"], totals["shards"], done)


__all__ = ["TOKENIZER", "CorpusReport", "build_corpus"]
