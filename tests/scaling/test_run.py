"""A small grid from a corpus to its figure: whole, repeatable, and resumed where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import datasets  # noqa: F401  before its first stream waits, see `_no_wait_for_reading_threads`
import numpy as np
import pandas as pd
import pytest

import c2s.scaling.run as scaling_run
from c2s.cli import main
from c2s.corpus import build_corpus, make_spec
from c2s.data.simulate import write_atlas
from c2s.errors import ConfigError, InputFileError
from c2s.metrics import overlap
from c2s.models import load_model
from c2s.scaling import read_results, run_grid
from c2s.scaling.grid import make_grid
from c2s.scaling.measure import held_out_samples, measure
from c2s.training import validation_loss
from c2s.training.validation import example_losses

TASKS = ("cell-type-annotation", "conditional-cell-generation")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaling")
    cells = write_atlas(folder / "atlas.h5ad", 300, seed=0)
    spec = make_spec(
        datasets=[{"name": "simulated_atlas", "path": str(cells)}], tasks=list(TASKS), genes=[10, 20],
        context={"tokenizer": "tiny", "tokens": 128}, missing="skip", conditions=0.0, shard_rows=64,
        split={"by": "donor", "fractions": {"train": 0.6, "validation": 0.1, "test": 0.3}},
    )  # fmt: skip
    build_corpus(spec, folder / "corpus", show_progress=False)
    return folder / "corpus"


def grid(corpus: Path, **options: object):
    return make_grid(
        {
            "corpus": str(corpus), "tasks": TASKS, "sizes": [50_000, 100_000], "ways": ["full", "lora"],
            "samples": [32], "pretrain": {"samples": 48}, "held_out": 12, "max_new_tokens": 24,
            "context_length": 128, "bert_score": False,
        }
        | options
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(corpus: Path, tmp_path_factory: pytest.TempPathFactory):
    return run_grid(grid(corpus), tmp_path_factory.mktemp("out") / "results", device="cpu", show_progress=False)


def test_every_run_measures_the_same_samples(results) -> None:
    table = results.table
    assert set(table["metric"]) == {"loss", "overlap", "exact_match"}
    runs = table.groupby(["size", "way"])["example_id"].agg(lambda names: frozenset(names))
    assert len(runs) == 4
    assert len(set(runs)) == 1
    assert len(runs.iloc[0]) == 12
    assert np.isfinite(table["value"]).all()
    assert results.means()["n"].tolist().count(6) == 4 * 4


def test_runs_say_how_large_they_are(results) -> None:
    runs = results.runs.set_index(["size", "way"])
    for size in ("50000", "100000"):
        # The table may have been written with numbers for sizes.
        row = runs.loc[(size, "full")]
        assert row["parameters"] == pytest.approx(int(size), rel=0.1)
        assert row["trained_parameters"] == row["parameters"]
        assert 0 < runs.loc[(size, "lora"), "trained_parameters"] < row["parameters"]
        assert row["steps"] == 2


def test_results_are_read_back(results) -> None:
    again = read_results(results.path)
    pd.testing.assert_frame_equal(again.table, results.table)
    assert again.grid == results.grid


def test_the_models_are_gone_and_a_finished_grid_is_not_run_again(results, monkeypatch) -> None:
    assert not list(results.path.rglob("*.safetensors"))
    monkeypatch.setattr(scaling_run, "_run", lambda *args: pytest.fail("ran again"))
    again = run_grid(results.grid, results.path, show_progress=False)
    pd.testing.assert_frame_equal(again.table, results.table)


def test_a_grid_that_is_stopped_goes_on_to_the_same_results(corpus: Path, results, tmp_path, monkeypatch) -> None:
    real, runs = scaling_run.measure, iter(range(100))

    def stop_at_third(*args, **kwargs):
        if next(runs) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(scaling_run, "measure", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run_grid(grid(corpus), tmp_path / "out", device="cpu", show_progress=False)
    done = {p.parent.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "runs").glob("*/result.json")}
    assert len(done) == 2
    again = run_grid(grid(corpus), tmp_path / "out", device="cpu", show_progress=False)
    pd.testing.assert_frame_equal(again.table, results.table)
    for name, when in done.items():
        assert (tmp_path / "out" / "runs" / name / "result.json").stat().st_mtime_ns == when


def test_results_of_another_grid_are_refused_with_the_difference(corpus: Path, results) -> None:
    with pytest.raises(ConfigError, match=r"held_out was 12 and is 14"):
        run_grid(grid(corpus, held_out=14), results.path, show_progress=False)


def test_a_folder_of_something_else_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="something else"):
        run_grid(grid(corpus), tmp_path, show_progress=False)
    with pytest.raises(InputFileError, match="no results"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": [16_000]}, "16000 samples are wanted"),
        ({"pretrain": {"samples": 16_000}}, "pretraining reads 16000 samples"),
        ({"tasks": ["interpretation"], "held_out": 5}, "no task 'interpretation'"),
    ],
)
def test_a_corpus_that_is_too_small_is_named(change, words: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        run_grid(grid(corpus, **change), tmp_path / "out", show_progress=False)


def test_what_is_measured_is_what_its_names_say(corpus: Path) -> None:
    from c2s.corpus import open_corpus
    from c2s.inference import generate

    opened = open_corpus(corpus)
    samples = held_out_samples(opened, TASKS, 9)
    assert samples["task"].to_pylist().count(TASKS[0]) == 5
    texts = [f"{p} {a}" for p, a in zip(samples["prompt"].to_pylist(), samples["answer"].to_pylist(), strict=True)]
    model = load_model("tiny", corpus=texts, device="cpu")
    found = pd.DataFrame(measure(model, samples, max_new_tokens=24, bert_score=True))
    assert set(found["metric"]) == {"loss", "overlap", "exact_match", "bert_score"}
    for task, part in found.groupby("task"):
        of_task = samples.filter([t == task for t in samples["task"].to_pylist()])
        losses = example_losses(model, of_task, batch_size=2)
        alone = [validation_loss(model, of_task.slice(i, 1)) for i in range(len(of_task))]
        np.testing.assert_allclose(losses, alone, rtol=1e-5)
        measured = part[part["metric"] == "loss"].set_index("example_id")["value"]
        np.testing.assert_allclose(measured[of_task["example_id"].to_pylist()], alone, rtol=1e-5)
        answers = generate(model, of_task["prompt"].to_pylist(), max_new_tokens=24)
        truth = [text.rstrip(".") for text in of_task["answer"].to_pylist()]
        if task == TASKS[1]:
            given = [text.rstrip(" .") for text in answers]
            expected = overlap(given, truth)["overlap"]
            assert part[part["metric"] == "overlap"]["value"].mean() == pytest.approx(expected)
        else:
            assert "overlap" not in set(part["metric"])


def call(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["scaling", *words])
    assert ended.value.code == 0


def test_the_command_runs_plans_and_draws(corpus: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "grid.yaml"
    said = grid(corpus, sizes=[50_000, 75_000, 100_000], ways=["full"], samples=[16, 32]).model_dump(mode="json")
    file.write_text(json.dumps(said))
    call("plan", str(file))
    assert "9 runs" in capsys.readouterr().out
    call("run", str(file), "--out", str(tmp_path / "out"), "--device", "cpu")
    assert "conditional-cell-generation" in capsys.readouterr().out
    fits = pd.read_csv(tmp_path / "out" / "fits.csv")
    assert np.isfinite(fits[fits["metric"] == "loss"]["exponent"]).all()
    assert (tmp_path / "out" / "scaling.svg").read_text().count("parameters") >= 2
    assert json.loads((tmp_path / "out.run.json").read_text())["command"]
