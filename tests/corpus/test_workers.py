"""Processes of a build: killed with it or without it, and what is left then."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_corpora import digests, everything_spec, quick_spec, rows_of

from c2s.corpus import build_corpus, open_corpus
from c2s.corpus.workers import end_with_parent
from c2s.errors import OutputError

SCRIPT = str(Path(__file__).parent / "killed_builds.py")


def children(process: int) -> list[int]:
    """Processes that a process has started, its resource tracker aside."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    found = [int(child) for child in (listed.read_text().split() if listed.exists() else ())]
    return [child for child in found if "spawn_main" in _command(child)]


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_until(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(met)


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")


@linux
def test_the_processes_of_a_killed_build_end_with_it(tmp_path):
    (tmp_path / "spec.yaml").write_text(everything_spec(tmp_path, shard_rows=16).to_yaml())
    command = [sys.executable, SCRIPT, str(tmp_path / "spec.yaml"), str(tmp_path / "out"), "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as build:
        done = tmp_path / "out" / ".work" / "done"
        assert wait_until(lambda: done.exists() and any(done.iterdir()), 120)
        workers = children(build.pid)
        assert len(workers) == 2
        build.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not any(_command(worker) for worker in workers), 1)


@linux
def test_a_worker_that_is_killed_is_told_of_and_the_next_build_goes_on(tmp_path):
    spec = quick_spec(tmp_path, shard_rows=16)
    build_corpus(spec, tmp_path / "good", show_progress=False)

    def kill() -> None:
        done = tmp_path / "out" / ".work" / "done"
        wait_until(lambda: done.exists() and any(done.iterdir()), 120)
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(OutputError, match=r"one of the 2 worker processes died.*memory") as error:
        build_corpus(spec, tmp_path / "out", workers=2, show_progress=False)
    killer.join()
    assert "run the same command again" in error.value.fix and "fewer workers" in error.value.fix
    assert not (tmp_path / "out" / "manifest.json").exists()
    build_corpus(spec, tmp_path / "out", show_progress=False)
    assert digests(tmp_path / "out") == digests(tmp_path / "good")


def test_a_process_that_nobody_started_watches_nobody():
    before = threading.active_count()
    end_with_parent()
    assert threading.active_count() == before


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(tmp_path):
    """SIGKILL at 24 moments of builds by one or two processes; the bytes are those of an undisturbed one."""
    sources = tmp_path / "sources"
    sources.mkdir()
    spec = everything_spec(sources, shard_rows=40)
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    command = [sys.executable, SCRIPT, str(tmp_path / "spec.yaml")]
    whole = {}
    for workers in (1, 2):
        started = time.monotonic()
        good = tmp_path / f"good-{workers}"
        subprocess.run([*command, str(good), str(workers)], check=True, stdout=subprocess.DEVNULL)
        whole[workers] = time.monotonic() - started
    undisturbed = digests(tmp_path / "good-1")
    assert digests(tmp_path / "good-2") == undisturbed
    drawn = random.Random(7)
    out, kills = tmp_path / "out", {1: 0, 2: 0}
    while sum(kills.values()) < 24:
        workers = drawn.choice((1, 2))
        process = subprocess.Popen([*command, str(out), str(workers)], stdout=subprocess.PIPE)
        process.stdout.readline()
        try:
            process.wait(drawn.uniform(0, 0.5 * whole[workers]))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills[workers] += 1
        process.wait()
        process.stdout.close()
        if (out / "manifest.json").exists():
            # It got to the end between two kills: compare, and begin again.
            subprocess.run([*command, str(out), "1"], check=True, stdout=subprocess.DEVNULL)
            assert digests(out) == undisturbed
            shutil.rmtree(out)
    assert min(kills.values()) > 4
    subprocess.run([*command, str(out), "1"], check=True, stdout=subprocess.DEVNULL)
    assert digests(out) == undisturbed
    assert len(rows_of(out)) == open_corpus(out).manifest["totals"]["rows"]
