"""A corpus built on a cluster has the bytes of one process, also when a machine goes away in the middle."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import c2s
from c2s.corpus import CorpusSpec, build_corpus, open_corpus
from c2s.corpus.plan import Unit
from c2s.distributed import run_units
from c2s.distributed.connection import answer, check_machines, connected
from c2s.errors import ClusterError, ContextError

from .conftest import contents


def test_a_node_killed_in_the_middle_changes_no_byte(
    two_nodes: Any, spec: CorpusSpec, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import c2s.corpus.build as build
    import c2s.distributed as distributed

    killed: list[int] = []
    done: Counter[str] = Counter()

    def with_a_loss(plan: Any, out: Path, address: str) -> Any:
        for number, result in enumerate(run_units(plan, out, address)):
            done[result.unit] += 1
            if plan.units[0].part and number == 1 and not killed:  # shards are being written
                killed.append(len(plan.units))
                node = two_nodes.worker_nodes.copy().pop()
                two_nodes.remove_node(node, allow_graceful=False)
            yield result

    monkeypatch.setattr(distributed, "run_units", with_a_loss)
    report = build.build_corpus(spec, tmp_path / "ray", ray=two_nodes.address, show_progress=False)
    assert killed and killed[0] > 6
    assert set(done.values()) == {1}
    assert contents(tmp_path / "ray") == undisturbed
    assert report.rows == open_corpus(tmp_path / "ray").manifest["totals"]["rows"]
    two_nodes.add_node(num_cpus=1, object_store_memory=100_000_000)


def test_a_build_begun_by_one_process_goes_on_on_a_cluster(
    two_nodes: Any, spec: CorpusSpec, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import c2s.corpus.build as build

    kept = build.build_unit

    def stops(plan: Any, unit: Unit, out: Path) -> Any:
        if unit.part and unit.block == 1:
            raise KeyboardInterrupt
        return kept(plan, unit, out)

    monkeypatch.setattr(build, "build_unit", stops)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(spec, tmp_path / "both", show_progress=False)
    report = build_corpus(spec, tmp_path / "both", ray=two_nodes.address, show_progress=False)
    assert 0 < report.units_done < report.shards
    assert contents(tmp_path / "both") == undisturbed


def test_an_error_on_a_worker_comes_back_as_it_was_raised(
    two_nodes: Any, spec: CorpusSpec, tmp_path: Path
) -> None:
    tight = spec.model_copy(update={"context": spec.context.model_copy(update={"tokens": 5})})
    with pytest.raises(ContextError) as caught:
        build_corpus(tight, tmp_path / "tight", ray=two_nodes.address, show_progress=False)
    assert "tokens" in caught.value.problem
    assert "context" in caught.value.fix
    # What another worker was still writing has a hidden name of its own, and goes with the next build.
    shards = [path.relative_to(tmp_path / "tight") for path in (tmp_path / "tight").rglob("*.parquet")]
    assert not [shard for shard in shards if not any(part.startswith(".") for part in shard.parts)]


def test_machines_that_do_not_see_the_files_are_all_named(
    two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import c2s.distributed.connection as connection

    data = tmp_path / "cells.h5ad"
    data.write_text("12345")
    with connected(two_nodes.address) as ray:
        assert check_machines(ray, tmp_path, [data, tmp_path]) == 2
        # Here the file is longer than the machines find it to be.
        monkeypatch.setattr(connection, "_size", lambda path: 6)
        with pytest.raises(ClusterError) as caught:
            check_machines(ray, tmp_path, [data])
    assert caught.value.problem.count(f"does not see {data} as it is here") == 2
    assert "shared file system" in caught.value.fix
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cells.h5ad"]


def test_a_machine_whose_c2s_fails_is_named_with_the_reason(
    two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import c2s.distributed.connection as connection

    def fails(token: str, files: object, version: str) -> list[str]:
        raise ModuleNotFoundError("No module named 'c2s'")

    monkeypatch.setattr(connection, "answer", fails)
    with (
        connected(two_nodes.address) as ray,
        pytest.raises(ClusterError, match=r"cannot run c2s .*No module named"),
    ):
        check_machines(ray, tmp_path, [])


def test_the_answer_of_a_machine_names_what_it_lacks(tmp_path: Path) -> None:
    token, version = tmp_path / ".seen-x", c2s.__version__
    assert answer(str(token), [], version) == [f"does not see the output folder {tmp_path}"]
    token.write_text(".seen-x")
    assert answer(str(token), [(str(tmp_path), 0)], version) == []
    assert answer(str(token), [], "0.0.1") == [f"has c2s {version}, and here it is 0.0.1"]
    assert answer(str(token), [(str(tmp_path / "no.h5ad"), 7)], version) == [
        f"does not see {tmp_path / 'no.h5ad'} as it is here"
    ]
    assert [p.name for p in tmp_path.iterdir()] == [".seen-x"]  # what was tried is gone
