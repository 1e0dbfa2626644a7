"""Answers written as they come: what a kill leaves is gone on from, and nothing comes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from c2s.errors import ConfigError, InputFileError, OutputError, PromptError
from c2s.inference import Genes, generate, generate_to
from c2s.inference.sampling import Sampling
from c2s.inference.to_file import fingerprint, read_answers

from .conftest import GENES, make_prompts, tiny

OPTIONS = {"max_new_tokens": 4, "temperature": 1.0, "seed": 3, "show_progress": False}
REQUESTS = {f"r{i}": prompt for i, prompt in enumerate(make_prompts(20))}


def expected(model):
    texts = generate(
        model, list(REQUESTS.values()), request_ids=list(REQUESTS), max_new_tokens=4, temperature=1.0, seed=3
    )
    return dict(zip(REQUESTS, texts, strict=True))


@pytest.mark.parametrize("name", ["answers.jsonl", "answers"])
def test_answers_are_those_of_generate_and_a_second_call_writes_nothing(neox, tmp_path, name):
    path = generate_to(tmp_path / name, neox, REQUESTS, every=7, **OPTIONS)
    assert read_answers(path) == expected(neox)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    table = pa.table({"example_id": list(REQUESTS), "prompt": list(REQUESTS.values())})
    generate_to(path, neox, table, every=3, tokens_per_batch=50, **OPTIONS)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["answers.jsonl", "answers"])
def test_a_run_that_broke_off_goes_on(neox, tmp_path, name, monkeypatch):
    import c2s.inference.generate as module

    real, calls = generate, []

    def breaking(model, prompts, **options):
        calls.append(len(prompts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(model, prompts, **options)

    monkeypatch.setattr(sys.modules["c2s.inference.generate"], "generate", breaking)
    assert module is not None
    with pytest.raises(KeyboardInterrupt):
        generate_to(tmp_path / name, neox, REQUESTS, every=6, **OPTIONS)
    assert len(read_answers(tmp_path / name)) == 12
    generate_to(tmp_path / name, neox, REQUESTS, every=6, **OPTIONS)
    assert calls[3:] == [6, 2]
    assert read_answers(tmp_path / name) == expected(neox)


def test_a_line_cut_off_by_a_kill_is_written_again(neox, tmp_path):
    path = generate_to(tmp_path / "a.jsonl", neox, REQUESTS, **OPTIONS)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    assert len(read_answers(path)) == 19
    generate_to(path, neox, REQUESTS, **OPTIONS)
    assert path.read_bytes() == whole


KILLED = """
import json, pathlib, sys, time
import c2s
from c2s.inference import generate_to, to_file
folder, requests, path = sys.argv[1:]
append = to_file._Lines.append
def slow(self, rows):
    append(self, rows)
    print(len(rows), flush=True)
    time.sleep(0.2)
to_file._Lines.append = slow
options = json.loads(pathlib.Path(requests).read_text())
generate_to(path, c2s.load_model(folder, device="cpu"), options.pop("requests"), every=2, **options)
"""


def test_a_killed_process_is_gone_on_from(neox, tmp_path):
    path, asked, folder = tmp_path / "a.jsonl", tmp_path / "requests.json", tmp_path / "model"
    tiny().save(folder)
    asked.write_text(json.dumps({"requests": REQUESTS, **OPTIONS}))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(asked), str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == b"2\n"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    partial = read_answers(path)
    assert 6 <= len(partial) < len(REQUESTS)
    # The same weights in memory are the same model.
    generate_to(path, neox, REQUESTS, **OPTIONS)
    assert read_answers(path) == expected(neox)
    ids = [json.loads(line)["id"] for line in path.read_text().splitlines()[1:]]
    assert sorted(ids) == sorted(REQUESTS)


def test_another_model_or_setting_is_refused_with_the_difference(neox, tmp_path):
    path = generate_to(tmp_path / "a.jsonl", neox, REQUESTS, **OPTIONS)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"answers of another run: temperature was 1\.0, is 0\.5"):
        generate_to(path, neox, REQUESTS, **{**OPTIONS, "temperature": 0.5})
    with pytest.raises(OutputError, match="answers of another model: model was"):
        generate_to(path, tiny(layers=1), REQUESTS, **OPTIONS)
    with pytest.raises(OutputError, match="constraint was None, is 'genes "):
        generate_to(path, neox, REQUESTS, constraint=Genes(GENES, n=2), **OPTIONS)
    with pytest.raises(
        OutputError, match=r"holds 1 answer\(s\) to requests that are not among these, first 'r19'"
    ):
        generate_to(path, neox, dict(list(REQUESTS.items())[:-1]), **OPTIONS)
    with pytest.raises(OutputError, match=r"holds 1 answer\(s\) to other prompts of the same id, first 'r0'"):
        generate_to(path, neox, {**REQUESTS, "r0": "Another?"}, **OPTIONS)
    assert path.read_bytes() == before


def test_other_files_are_not_touched(neox, tmp_path):
    for name, content in (
        ("a.jsonl", "not json\n"),
        ("b.jsonl", '{"format": "other"}\n'),
        ("c.jsonl", "[1]\n[2]\n"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputFileError):
            generate_to(tmp_path / name, neox, REQUESTS, **OPTIONS)
        assert (tmp_path / name).read_text() == content
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputFileError, match="was not written by generate_to"):
        generate_to(tmp_path / "folder", neox, REQUESTS, **OPTIONS)
    with pytest.raises(InputFileError, match="there is no file"):
        read_answers(tmp_path / "none.jsonl")


def test_bad_requests(neox, tmp_path):
    with pytest.raises(PromptError, match="no column 'example_id'"):
        generate_to(tmp_path / "a.jsonl", neox, pa.table({"prompt": ["x"]}), **OPTIONS)
    with pytest.raises(PromptError, match="the request id 'a' is given more than once"):
        table = pa.table({"example_id": ["a", "a"], "prompt": ["x", "y"]})
        generate_to(tmp_path / "a.jsonl", neox, table, **OPTIONS)
    with pytest.raises(PromptError, match="the request id 1 is not a text"):
        generate_to(tmp_path / "a.jsonl", neox, {1: "x"}, **OPTIONS)
    with pytest.raises(ConfigError, match="there is no setting 'temprature'"):
        generate_to(tmp_path / "a.jsonl", neox, REQUESTS, temprature=1.0)
    with pytest.raises(ConfigError, match="every is 0"):
        generate_to(tmp_path / "a.jsonl", neox, REQUESTS, every=0, **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_a_fingerprint_is_of_the_weights(neox):
    assert fingerprint(tiny()) == fingerprint(neox)
    assert fingerprint(tiny(layers=1)) != fingerprint(neox)
    other = tiny()
    other.model.get_output_embeddings().weight.data[0, 0] += 1
    assert fingerprint(other) != fingerprint(neox)


def test_a_folder_without_one_of_its_parts_is_gone_on_from(neox, tmp_path):
    path = generate_to(tmp_path / "answers", neox, REQUESTS, every=6, **OPTIONS)
    (path / "part-000001.parquet").unlink()
    assert len(read_answers(path)) == 14
    generate_to(path, neox, REQUESTS, every=4, **OPTIONS)
    assert read_answers(path) == expected(neox)
    assert [p.name for p in sorted(path.glob("part-*"))] == [f"part-{i:06d}.parquet" for i in (0, 2, 3, 4, 5)]


def test_numbers_of_numpy_are_those_of_python(neox, tmp_path):
    requests = dict(list(REQUESTS.items())[:2])
    plain = {"seed": 3, "max_new_tokens": 12, "top_k": 5, "temperature": 0.5, "show_progress": False}
    numpy = {
        "seed": np.int64(3),
        "max_new_tokens": np.int32(12),
        "top_k": np.int64(5),
        "temperature": np.float32(0.5),
    }
    path = generate_to(tmp_path / "a.jsonl", neox, requests, constraint=Genes(GENES, n=2), **plain)
    before = path.read_bytes()
    again = Genes(np.array(GENES), n=np.int64(2), repeats=np.False_)
    generate_to(path, neox, requests, constraint=again, **numpy, show_progress=False)
    assert path.read_bytes() == before
    other = generate_to(tmp_path / "b.jsonl", neox, requests, constraint=again, **numpy, show_progress=False)
    assert other.read_bytes() == before


def test_what_is_no_number_is_named():
    with pytest.raises(ConfigError) as error:
        Sampling(max_new_tokens=4.5, temperature="0.5", top_p=None, seed="x", top_k=-1)
    assert error.value.problems == [
        "max_new_tokens is 4.5, not a whole number",
        "temperature is '0.5', not a number",
        "top_p is None, not a number",
        "top_k is -1, not 0 or more",
        "seed is 'x', not a whole number",
    ]
    with pytest.raises(ConfigError, match=r"not a whole number; at_most is 1\.5, not a whole number"):
        Genes(GENES, n="2", at_most=1.5)
