"""Run as a program: build a corpus in peace, and others that are killed again and again.

``python killed_builds.py SPEC FOLDER``. Children are forked before any thread starts, so importing is paid once.
Prints one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from c2s.corpus import build_corpus
from c2s.corpus.workers import Workers

#: What becomes of the temporary file before the build is killed.
MANNERS = ("cut short", "before its move", "after its move")


def watch(out: Path, seen: Callable[[str, Path, str], object]) -> None:
    """Call `seen` before every move into a corpus's folder, and every removal, with the file and its place."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and out in Path(arguments[1]).parents:
            seen("move", Path(arguments[0]), Path(arguments[1]).relative_to(out).as_posix())
        elif event in ("os.remove", "os.rmdir", "shutil.rmtree"):
            seen("removal", Path(arguments[0]), "")

    sys.addaudithook(hook)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(out: Path, target: str, manner: str) -> None:
    """Arrange for this process to be killed when it moves a file to `target`."""
    moved = False

    def seen(event: str, file: Path, place: str) -> None:
        nonlocal moved
        if moved:
            die()
        if event == "move" and place == target:
            if manner == "cut short" and file.is_file():
                os.truncate(file, file.stat().st_size // 2)
            moved = manner == "after its move"  # it dies at the next change
            if not moved:
                die()

    watch(out, seen)


def die_removing(out: Path, count: int) -> None:
    """Arrange for this process to be killed after so many removals of its scratch files."""
    left = -1

    def seen(event: str, file: Path, place: str) -> None:
        nonlocal left
        left = count if file == out / ".work" else left - 1
        if not left:
            die()

    watch(out, seen)


def die_after(count: int, processes: Path) -> None:
    """Arrange for this process to be killed when its processes have done so many more units; note them."""
    results = Workers.results

    def deadly(self: Workers, plan: Any, out: Path) -> Iterator[Any]:
        nonlocal count
        done = {note.stem for note in (out / ".work" / "done").glob("*.json")}
        for result in results(self, plan, out):
            count -= result.unit not in done
            if count <= 0:
                processes.write_text("\n".join(str(process.pid) for process in multiprocessing.active_children()))
                die()
            yield result

    Workers.results = deadly


def in_child(spec: str, out: Path, workers: int, first: Callable[..., object] | None = None, *words: Any) -> int:
    """Build in a forked process, with `first` called there before; return how it ended."""
    child = os.fork()
    if not child:
        try:
            if first:
                first(*words)
            build_corpus(spec, out, workers=workers, show_progress=False)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def alive(process: str) -> bool:
    """Whether a process runs that was started to do units; one that waits to be buried has no words left."""
    try:
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def main(spec: str, folder: Path) -> None:
    for name in ("anndata", "matplotlib.figure", "transformers"):  # every child would, when it needs them
        importlib.import_module(name)
    peace, one, two = (folder / name for name in ("peace", "one", "two"))
    places: list[str] = []
    with (folder / "noted").open("w+") as noted:
        ends = [in_child(spec, peace, 1, watch, peace, lambda _, __, place: print(place, file=noted, flush=True))]
        noted.seek(0)
        places += filter(None, noted.read().splitlines())
    # Some of the many, and all that lie beside the folders of the stages.
    chosen = [place for i, place in enumerate(places) if i % 7 == 0 or "/" not in place]
    deaths = [(place, MANNERS[i % 3]) for i, place in enumerate(chosen)]
    by_one = [in_child(spec, one, 1, die_at, one, *death) for death in deaths]
    by_one += [in_child(spec, one, 1, die_removing, one, count) for count in (1, 9)]
    by_two, outlived = [], []
    for count in (2, 6, 4):
        by_two.append(in_child(spec, two, 2, die_after, count, folder / "noted"))
        started = (folder / "noted").read_text().split()
        end = time.monotonic() + 1
        while any(map(alive, started)) and time.monotonic() < end:
            time.sleep(0.02)
        for process in filter(alive, started):
            outlived.append(process)
            os.kill(int(process), signal.SIGKILL)
    ends += [in_child(spec, out, 1) for out in (one, two)]
    (folder / "noted").unlink()
    print(json.dumps({"deaths": deaths, "one": by_one, "two": by_two, "outlived": outlived, "ends": ends}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
