"""A corpus as a stream: every example once over all ranks, shuffled, filtered, and resumed."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from c2s.corpus import open_corpus
from c2s.errors import ConfigError, InputFileError


def ids(stream) -> list[str]:
    return [row["example_id"] for row in stream]


def test_each_example_goes_to_one_rank_once(everything):
    whole = [row["example_id"] for row in everything.rows if row["part"] == "train"]
    for world_size in (1, 3):
        parts = [ids(everything.corpus.stream(rank=r, world_size=world_size, seed=3)) for r in range(world_size)]
        assert sorted(i for part in parts for i in part) == sorted(whole)
        assert min(map(len, parts)) > 0


def test_order_depends_on_the_seed_alone_and_tasks_are_mixed(everything):
    one = ids(everything.corpus.stream(seed=1, buffer_size=100))
    assert one == ids(everything.corpus.stream(seed=1, buffer_size=100))
    assert one != ids(everything.corpus.stream(seed=2, buffer_size=100))
    first = {i.split("/")[0] for i in one[:60]}
    assert len(first) >= 5


def test_only_the_tasks_asked_for(everything):
    stream = everything.corpus.stream("test", tasks=["interpretation", "gene-set-naming"])
    rows = list(stream)
    assert {row["task"] for row in rows} == {"interpretation", "gene-set-naming"}


def test_a_stream_goes_on_where_it_was(everything):
    stream = everything.corpus.stream(buffer_size=0)
    whole = ids(stream)
    iterator = iter(stream)
    seen = [next(iterator)["example_id"] for _ in range(40)]
    state = stream.state_dict()
    again = everything.corpus.stream(buffer_size=0)
    again.load_state_dict(state)
    assert seen + ids(again) == whole


def test_a_sample_holds_examples_of_the_part_once_and_a_smaller_one_is_its_beginning(everything):
    whole = {row["example_id"]: row for row in everything.rows if row["part"] == "train"}
    tasks = ["interpretation", "cell-type-annotation"]
    of_tasks = {i for i, row in whole.items() if row["task"] in tasks}
    drawn = everything.corpus.sample(30, tasks=tasks, seed=1).to_pylist()
    names = [row["example_id"] for row in drawn]
    assert len(set(names)) == 30 and set(names) <= of_tasks
    assert all(row["prompt"] == whole[row["example_id"]]["prompt"] for row in drawn)
    assert everything.corpus.sample(10, tasks=tasks, seed=1)["example_id"].to_pylist() == names[:10]
    assert everything.corpus.sample(30, tasks=tasks, seed=2)["example_id"].to_pylist() != names
    assert set(everything.corpus.sample(10**6, tasks=tasks)["example_id"].to_pylist()) == of_tasks
    assert set(everything.corpus.sample(10**6)["example_id"].to_pylist()) == set(whole)
    assert everything.corpus.sample(0).num_rows == 0


def test_samples_are_drawn_evenly(everything):
    """From every shard as often as from any other, in the long run."""
    whole = [row["example_id"] for row in everything.rows if row["part"] == "train"]
    times = dict.fromkeys(whole, 0)
    draws, n = 400, len(whole) // 4
    for seed in range(draws):
        for name in everything.corpus.sample(n, seed=seed)["example_id"].to_pylist():
            times[name] += 1
    counts = np.array(list(times.values()))
    expected = draws * n / len(whole)
    spread = np.sqrt(expected * (1 - n / len(whole)))
    assert counts.sum() == draws * n
    assert abs(counts - expected).max() < 5 * spread


def test_of_many_shards_only_some_are_opened(everything, monkeypatch):
    monkeypatch.setattr("c2s.corpus.stream._SAMPLED_FROM", 5)
    opened = []
    real = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda path, **more: opened.append(path) or real(path, **more))
    assert everything.corpus.sample(1, seed=0).num_rows == 1
    assert len(opened) == 1


def test_bad_requests_are_named_all_at_once(everything):
    with pytest.raises(ConfigError) as error:
        everything.corpus.stream(rank=2, world_size=2, buffer_size=-1, tasks=["x"])
    assert len(error.value.problems) == 3
    with pytest.raises(ConfigError) as error:
        everything.corpus.sample(-1, tasks=["x"])
    assert len(error.value.problems) == 2
    for read in (everything.corpus.stream, lambda part: everything.corpus.sample(1, part)):
        with pytest.raises(ConfigError, match="no part 'dev'"):
            read("dev")


def test_what_is_no_corpus_is_refused(tmp_path, everything):
    with pytest.raises(InputFileError, match="no folder"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(InputFileError, match="holds no corpus"):
        open_corpus(tmp_path)
    (tmp_path / ".work").mkdir()
    with pytest.raises(InputFileError, match="was stopped"):
        open_corpus(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputFileError, match="damaged"):
        open_corpus(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(InputFileError, match="format 99"):
        open_corpus(tmp_path)
    assert "examples" in repr(everything.corpus)
