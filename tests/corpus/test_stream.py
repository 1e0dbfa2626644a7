"""A corpus as a stream: every example once over all ranks, shuffled, filtered, and resumed."""

from __future__ import annotations

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


def test_bad_requests_are_named_all_at_once(everything):
    with pytest.raises(ConfigError) as error:
        everything.corpus.stream(rank=2, world_size=2, buffer_size=-1, tasks=["x"])
    assert len(error.value.problems) == 3
    with pytest.raises(ConfigError, match="no part 'dev'"):
        everything.corpus.stream("dev")


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
