"""Processes of a build: killed with it or without it, and what is left then."""

from __future__ import annotations

import json
import multiprocessing
import os
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

SCRIPT = Path(__file__).parent / "killed_builds.py"


def wait_until(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not (met := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(met)


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


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
def test_killed_at_every_stage_it_ends_as_if_nothing_had_happened(tmp_path):
    """SIGKILL of builds by one or two processes; the bytes are those of an undisturbed one."""
    (tmp_path / "sources").mkdir()
    spec = everything_spec(tmp_path / "sources", shard_rows=300)
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    command = [sys.executable, SCRIPT, tmp_path / "spec.yaml", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["ends"] == [0, 0, 0], done.stderr
    assert len(report["one"]) >= 20 and {*report["one"], *report["two"]} == {-signal.SIGKILL}, done.stderr
    stages = [
        "spec.yaml",
        ".work/ranks/",
        ".work/arranged/",
        "train/",
        ".work/done/",
        "index.parquet",
        "manifest.json",
    ]
    assert all(any(place.startswith(stage) for place, _ in report["deaths"]) for stage in stages)
    assert report["outlived"] == [], "processes that went on when their build was killed"
    undisturbed = digests(tmp_path / "peace")
    assert digests(tmp_path / "one") == undisturbed
    assert digests(tmp_path / "two") == undisturbed
    assert len(rows_of(tmp_path / "one")) == open_corpus(tmp_path / "one").manifest["totals"]["rows"]
    assert {path.name for path in tmp_path.iterdir()} == {"sources", "spec.yaml", "peace", "one", "two"}
