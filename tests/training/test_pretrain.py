"""Pretraining reads every example once an epoch, cuts none, and goes on where it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from c2s.corpus import Corpus, build_corpus, make_spec, open_corpus
from c2s.data.simulate import write_atlas
from c2s.errors import ConfigError, ContextError, OutputError, TrainingError
from c2s.models import TinyConfig
from c2s.training import SFTConfig, pretrain_corpus, read_record
from c2s.training.pretrain import _model
from c2s.training.streaming import Position, StreamedBatches, StreamRecord, read_position

SHAPE = {"layers": 1, "hidden_size": 16, "heads": 2}
TASKS = ["cell-type-annotation", "conditional-cell-generation"]


def built(folder: Path, **options: Any) -> Corpus:
    cells = write_atlas(folder / "atlas.h5ad", 120, seed=5)
    spec = make_spec(
        datasets=[{"name": "atlas", "path": str(cells)}], tasks=TASKS, genes=(4, 30), shard_rows=32,
        conditions=0.0, split={"by": "cell", "fractions": {"train": 0.7, "validation": 0.3}}, **options,
    )  # fmt: skip
    build_corpus(spec, folder / "corpus", show_progress=False)
    return open_corpus(folder / "corpus")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of simulated cells that fits 256 tokens of its own tokenizer."""
    return built(tmp_path_factory.mktemp("budget"), context={"tokenizer": "tiny", "tokens": 256})


@pytest.fixture(scope="module")
def in_words(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same without a tokenizer."""
    return built(tmp_path_factory.mktemp("words"))


def ids_of(corpus: Corpus, part: str = "train") -> list[str]:
    return [i for file in corpus.files(part) for i in pq.read_table(file)["example_id"].to_pylist()]


def train(corpus: Corpus, out: Path, *, resume: bool = False, **changes: Any) -> Any:
    options = {"max_steps": 6, "batch_size": 8, "save_steps": 2, "learning_rate": 1e-2, "loss": "full"} | {
        k: changes.pop(k) for k in list(changes) if k in SFTConfig.model_fields
    }
    shape = TinyConfig(**SHAPE | {"context_length": 256} | changes.pop("shape", {}))
    return pretrain_corpus(
        corpus, out=out, config=SFTConfig.of(options), tiny=shape, device="cpu", resume=resume,
        **{"show_progress": False, "buffer_size": 50, "validation_examples": 4} | changes,
    )  # fmt: skip


def batches(corpus: Corpus, **options: Any) -> StreamedBatches:
    shape = TinyConfig(**SHAPE | {"context_length": options.pop("context", 256)})
    model = _model(corpus, "tiny", shape, None, 0, "cpu")
    return StreamedBatches(
        corpus, model, **{"batch_size": 1, "buffer_size": 50, "seed": 0, "too_long": "skip"} | options
    )


def test_the_loss_of_every_task_falls(corpus: Corpus, tmp_path: Path) -> None:
    result = train(corpus, tmp_path / "out", max_steps=24, eval_every=12, length_window=0)
    assert result.losses[-1] < 0.7 * result.losses[0]
    first, last = (line["evaluation"] for line in result.history if "evaluation" in line)
    assert {key for key in first if "/" in key} == {f"loss/{task}" for task in TASKS}
    assert all(last[key] < first[key] for key in first if key.startswith("loss"))
    assert last["loss"] == pytest.approx(sum(last[f"loss/{task}"] for task in TASKS) / 2)
    steps = [line for line in read_record(tmp_path / "out" / "train.jsonl") if "loss" in line]
    n = len(ids_of(corpus))
    assert [(line["epoch"] * n + line["read"]) // 8 for line in steps[:5]] == [1, 2, 3, 4, 5]
    assert not any(line["too_long"] for line in steps)
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_every_example_is_read_once_an_epoch_and_in_another_order_the_next(corpus: Corpus) -> None:
    n = len(ids_of(corpus))
    seen = [batch.ids[0] for batch in islice(batches(corpus), 2 * n)]
    assert sorted(seen[:n]) == sorted(seen[n:]) == sorted(ids_of(corpus))
    assert seen[:n] != seen[n:]
    assert seen == [batch.ids[0] for batch in islice(batches(corpus), 2 * n)]
    assert seen[:n] != [batch.ids[0] for batch in islice(batches(corpus, seed=1), n)]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_an_epoch_without_overlap(corpus: Corpus, world_size: int) -> None:
    whole = Counter(ids_of(corpus))
    shares = []
    for rank in range(world_size):
        mine = batches(corpus, rank=rank, world_size=world_size)
        share: list[str] = []
        for batch in mine:
            if mine.position(len(share) + 1).epoch:
                break
            share += batch.ids
        shares.append(share)
    assert sum(map(Counter, shares), Counter()) == whole
    assert min(map(len, shares)) > 0


@pytest.mark.parametrize(
    "start", [Position(0, 1), Position(0, 63), Position(0, 64), Position(1, 70), Position(2, 0)]
)
def test_a_stream_goes_on_with_the_very_next_example(corpus: Corpus, start: Position) -> None:
    n = len(ids_of(corpus))
    before = start.epoch * n + start.read
    whole = [batch.ids for batch in islice(batches(corpus), before + 12)]
    assert [batch.ids for batch in islice(batches(corpus, start=start), 12)] == whole[before:]


def test_a_window_pads_less_reads_the_same_examples_and_mixes_short_with_long(corpus: Corpus) -> None:
    n = 8 * 4  # batches of four, in windows of eight
    plain, sorted_ = (list(islice(batches(corpus, batch_size=4, window=w), 24)) for w in (0, 8))
    for first in range(0, 24, 8):
        one, other = ([i for b in found[first : first + 8] for i in b.ids] for found in (plain, sorted_))
        assert len(one) == n and sorted(one) == sorted(other) and one != other

    def padded(found: list[Any]) -> int:
        return sum(4 * max(len(tokens) for tokens, _ in batch.encoded) for batch in found)

    real = sum(len(tokens) for batch in plain for tokens, _ in batch.encoded)
    assert padded(sorted_) - real < 0.4 * (padded(plain) - real)
    longest = [max(len(tokens) for tokens, _ in batch.encoded) for batch in sorted_[:8]]
    assert longest != sorted(longest)
    assert [b.ids for b in sorted_] == [b.ids for b in islice(batches(corpus, batch_size=4, window=8), 24)]


def test_a_windowed_stream_goes_on_with_the_very_next_batch_wherever_it_was_stopped(in_words: Corpus) -> None:
    """Within a window, at its end, in the next epoch, with examples that are left out."""
    options = {"batch_size": 4, "window": 5, "context": 60}
    whole = batches(in_words, **options)
    found, places, told = [], [], []
    for number, batch in enumerate(islice(whole, 60), start=1):
        found.append(batch.ids)
        places.append(whole.position(number))
        told.append(whole.told(number - 1, number))
    assert places[-1].epoch >= 1 and places[-1].too_long > 0
    for stop in (1, 3, 4, 5, 6, 33, 44):
        again = batches(in_words, **options, start=places[stop - 1])
        assert [batch.ids for batch in islice(again, 8)] == found[stop : stop + 8]
        assert [again.position(k) for k in range(1, 9)] == places[stop : stop + 8]
        assert [again.told(k - 1, k) for k in range(1, 9)] == told[stop : stop + 8]


def test_evaluations_read_no_more_than_the_training_unless_told_to(corpus: Corpus, tmp_path: Path) -> None:
    def evaluated(out: str, **options: Any) -> list[int]:
        run = train(corpus, tmp_path / out, max_steps=12, **options)
        return [line["step"] for line in run.history if "evaluation" in line]

    assert evaluated("cheap", validation_examples=1) == list(range(1, 13))
    # Two tasks of 16 examples each are about as much as four steps of eight.
    assert evaluated("dear", validation_examples=16) in ([4, 8, 12], [5, 10, 12])
    assert evaluated("told", validation_examples=16, eval_every=6) == [6, 12]


def test_the_record_tells_tokens_from_padding(corpus: Corpus, tmp_path: Path) -> None:
    result = train(corpus, tmp_path / "out", max_steps=2, gradient_accumulation=2, length_window=0)
    read = list(islice(batches(corpus, batch_size=8), 4))
    steps = [line for line in result.history if "loss" in line]
    for line, pair in zip(steps, (read[:2], read[2:]), strict=True):
        lengths = [[len(tokens) for tokens, _ in batch.encoded] for batch in pair]
        assert line["tokens"] == sum(map(sum, lengths))
        assert line["padded_tokens"] == sum(8 * max(each) for each in lengths) > line["tokens"]
        assert 0 < line["tokens_per_second"] < line["padded_tokens_per_second"]


@pytest.mark.parametrize("stop_at", [3, 5])
def test_a_stopped_run_ends_in_the_same_weights(
    in_words: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Across the end of an epoch, with dropout, two batches a step, and examples that are left out."""
    options = {"max_steps": 6, "batch_size": 16, "gradient_accumulation": 2, "eval_every": 3,
               "shape": {"dropout": 0.1, "context_length": 48}}  # fmt: skip
    whole = train(in_words, tmp_path / "whole", **options)
    add = StreamRecord.add

    def stop(self: StreamRecord, line: dict[str, Any]) -> None:
        add(self, line)
        if line["step"] == stop_at and "loss" in line:
            raise KeyboardInterrupt

    monkeypatch.setattr(StreamRecord, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        train(in_words, tmp_path / "out", **options)
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    result = train(in_words, tmp_path / "out", resume=True, **options)

    def lines(run: Any) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if "second" not in k} for line in run.history]

    assert lines(result) == lines(whole)
    assert lines(whole)[-2]["too_long"] > 0
    assert max(line.get("epoch", 0) for line in lines(whole)) >= 1
    first, second = (tmp_path / name / "model.safetensors" for name in ("whole", "out"))
    assert first.read_bytes() == second.read_bytes()
    assert not (tmp_path / "out.training").exists()


def test_resuming_with_another_shuffle_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    train(corpus, tmp_path / "out", max_steps=1)
    with pytest.raises(TrainingError, match="buffer_size was 50 and is 10"):
        train(corpus, tmp_path / "out", max_steps=1, resume=True, buffer_size=10)
    assert train(corpus, tmp_path / "out", max_steps=1, resume=True).steps == 1
    with pytest.raises(OutputError, match="exists already"):
        train(corpus, tmp_path / "out", max_steps=1)


def test_an_example_that_does_not_fit_is_an_error_or_counted_and_never_cut(in_words: Corpus) -> None:
    lengths = {b.ids[0]: len(b.encoded[0][0]) for b in islice(batches(in_words), len(ids_of(in_words)))}
    limit = sorted(lengths.values())[len(lengths) // 2]
    fit = {name for name, n in lengths.items() if n <= limit}
    assert 0 < len(fit) < len(lengths)
    short = batches(in_words, context=limit)
    kept = {b.ids[0]: len(b.encoded[0][0]) for b in islice(short, len(fit))}
    assert kept == {name: lengths[name] for name in fit}
    assert len(fit) + short.position(len(fit)).too_long <= len(lengths)
    with pytest.raises(ContextError, match=f"more than the context of {limit}") as caught:
        list(islice(batches(in_words, context=limit, too_long="error"), len(lengths)))
    assert "--too-long skip" in caught.value.fix


def test_nothing_that_fits_is_an_error_and_no_endless_search(in_words: Corpus) -> None:
    with pytest.raises(TrainingError, match="no example that fits the context of 8"):
        next(iter(batches(in_words, context=8)))


def test_a_corpus_for_a_longer_context_is_refused_before_training(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="was built for 256 tokens, and tiny reads 64") as caught:
        train(corpus, tmp_path / "out", shape={"context_length": 64})
    assert "context: {tokens: 64}" in caught.value.fix
    assert list(tmp_path.iterdir()) == []
    result = train(corpus, tmp_path / "out", max_steps=2, shape={"context_length": 64}, too_long="skip")
    assert result.steps == 2


def test_tiny_reads_with_the_tokenizer_of_the_corpus(corpus: Corpus, in_words: Corpus) -> None:
    own = _model(corpus, "tiny", None, None, 0, "cpu")
    assert own.context_length == 256
    shards = [row for file in corpus.files() for row in pq.read_table(file).to_pylist()]
    for row in shards[:20]:
        ids = own.tokenizer(f"{row['prompt']} {row['answer']}")["input_ids"]
        assert len(ids) + 1 == row["n_tokens"]
    learned = _model(in_words, "tiny", None, ["cell-type-annotation"], 0, "cpu")
    assert learned.tokenizer.decode(learned.tokenizer("MALAT1 ZZZ9")["input_ids"]) == "MALAT1 ZZZ9"


def test_all_that_a_stream_cannot_do_is_said_at_once(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(
            corpus, tmp_path / "out", gene_dropout=0.2, tasks=["knitting"], buffer_size=-1, validation_examples=-1
        )
    assert len(caught.value.problems) == 4
    assert "cell-type-annotation" in caught.value.fix


def test_a_checkpoint_without_a_position_is_refused(tmp_path: Path) -> None:
    assert read_position(None, 3) == Position()
    with pytest.raises(TrainingError, match="does not say how far process 1 had read"):
        read_position(tmp_path, 1)


def test_the_command_trains_and_says_what_it_did(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from c2s.cli import main

    options = [f"--option={name}={value}" for name, value in SHAPE.items()]
    command = ["train", "pretrain", "--corpus", str(corpus.path), "--out", str(tmp_path / "out"), *options]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--max-steps=3", "--batch-size=4", "--task=cell-type-annotation", "--device=cpu",
              "--option=context_length=256", "--validation-examples=2"])  # fmt: skip
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "Trained 3 steps" in said
    assert re.search(r"tokens/s in \d+ s of steps; \d+% padding", said)
    assert "validation cell-type-annotation" in said
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "finished"
    assert json.loads((tmp_path / "out" / "training.json").read_text())["config"]["loss"] == "full"


@pytest.mark.slow
def test_two_processes_train_together_each_on_its_own_share(corpus: Corpus, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    options = [f"--option={name}={value}" for name, value in SHAPE.items()]
    done = subprocess.run(
        [*command, "-m", "c2s", "train", "pretrain", "--corpus", str(corpus.path), "--out", str(tmp_path / "out"),
         "--max-steps=4", "--batch-size=4", "--device=cpu", "--option=context_length=256",
         "--option=save_steps=2", "--option=length_window=0", *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    steps = [line for line in read_record(tmp_path / "out" / "train.jsonl") if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert [line["read"] for line in steps] == [4, 8, 12, 16]
    assert json.loads((tmp_path / "out" / "training.json").read_text())["config"]["processes"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_adapters_are_pretrained_on_a_model_that_is_there(corpus, tmp_path):
    base = train(corpus, tmp_path / "base").model
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    config = SFTConfig(loss="full", max_steps=4, batch_size=8, lora_rank=2)
    after = pretrain_corpus(
        corpus, out=tmp_path / "out", model=base, config=config,
        device="cpu", show_progress=False,
    ).model.model.state_dict()  # fmt: skip
    changed = {name for name in before if not (before[name] == after[name]).all()}
    assert before.keys() == after.keys()
    assert changed and all(".layers." in name for name in changed)


def test_pretraining_that_diverges_stops_and_names_the_step(corpus, tmp_path):
    with pytest.raises(TrainingError, match=r"diverges at step \d+"):
        train(
            # It learns while the steps are small; the loss of random weights may be as high as any after it.
            corpus, tmp_path / "out", max_steps=80, learning_rate=8.0, warmup_steps=80, divergence=0.5,
        )  # fmt: skip
