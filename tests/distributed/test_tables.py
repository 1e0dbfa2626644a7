"""Predictions of a table, in parts or on a cluster, are those of one process, row for row."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import c2s
from c2s.cli import main
from c2s.distributed import predict_table
from c2s.errors import C2SError, ConfigError, InputFileError, OutputError
from c2s.models import TinyConfig
from c2s.prediction import predict_cells
from c2s.sentences import CellSentences, to_cell_sentences
from c2s.testing import simulated_cells
from c2s.training import SFTConfig, train_task

N = 50


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, CellSentences]:
    """A model of annotation, its task, and cells it has not seen."""
    host = c2s.default_host()
    task = host.tasks.get("annotation")()
    made = train_task(
        simulated_cells(60, seed=0), task, host.prompts.get(task.prompts),
        out=tmp_path_factory.mktemp("m") / "model",
        config=SFTConfig(max_steps=4, batch_size=4), tiny=TinyConfig(layers=1, hidden_size=16, heads=2), top_k=8,
        show_progress=False, device="cpu",
    )  # fmt: skip
    return made.task_model, task, to_cell_sentences(simulated_cells(N, seed=1), top_k=8)


@pytest.fixture
def table(trained: Any, tmp_path: Path) -> Path:
    """The sentences in three files of unlike size, with several row groups in the first."""
    folder = tmp_path / "table"
    folder.mkdir()
    whole: CellSentences = trained[2]
    ids = whole.table["cell_id"].to_pylist()
    for name, (first, last) in {"a": (0, 23), "b": (23, 24), "c": (24, N)}.items():
        whole.select(ids[first:last]).write_parquet(folder / f"{name}.parquet")
    with pq.ParquetFile(folder / "a.parquet") as file:
        rows, metadata = file.read(), file.metadata.metadata
    with pq.ParquetWriter(folder / "a.parquet", rows.schema.remove_metadata()) as writer:
        writer.write_table(rows.replace_schema_metadata(None), row_group_size=5)
        writer.add_key_value_metadata({k: v for k, v in metadata.items() if k != b"ARROW:schema"})
    return folder


def same(found: pa.Table, expected: pa.Table) -> None:
    for column in ("example_id", "cell_ids", "prediction", "abstained"):
        assert found[column].to_pylist() == expected[column].to_pylist()
    for column in ("probability", "entropy"):
        np.testing.assert_allclose(found[column].to_numpy(), expected[column].to_numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows_per_part", [7, 1000])
def test_parts_are_the_rows_of_one_process_in_its_order(
    trained: Any, table: Path, tmp_path: Path, rows_per_part: int
):
    model, task, sentences = trained
    found = predict_table(
        model.path, table, tmp_path / "out", task=task, rows_per_part=rows_per_part, device="cpu",
        show_progress=False,
    )  # fmt: skip
    assert (found.rows, found.parts_done) == (N, -(-N // rows_per_part))
    same(found.read(), predict_cells(model, task, sentences))


def test_a_stopped_run_does_only_what_is_missing(trained: Any, table: Path, tmp_path: Path) -> None:
    model, task, _ = trained
    options = {"task": task, "rows_per_part": 10, "device": "cpu", "show_progress": False}
    first = predict_table(model.path, table, tmp_path / "out", **options)
    before = {file: file.read_bytes() for file in first.files}
    first.files[3].unlink()
    again = predict_table(model.path, table, tmp_path / "out", **options)
    assert again.parts_done == 1
    assert {file: file.read_bytes() for file in again.files} == before
    with pytest.raises(OutputError, match=r"other settings \(threshold\)"):
        predict_table(model.path, table, tmp_path / "out", threshold=0.5, **options)


def test_actors_give_the_same_rows_also_when_one_is_lost(
    two_nodes: Any, trained: Any, table: Path, tmp_path: Path
) -> None:
    model, task, sentences = trained
    found = predict_table(
        model.path, table, tmp_path / "out", task=lethal(task, tmp_path / "died"),
        address=two_nodes.address, actors=1, rows_per_part=20, device="cpu", show_progress=False,
    )  # fmt: skip
    assert (tmp_path / "died").exists()
    same(found.read(), predict_cells(model, task, sentences))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *(f"part-{i:06d}.parquet" for i in range(3)),
        "predictions.json",
    ]


def lethal(task: Any, mark: Path) -> Any:
    """A task that kills the process of its second part, once; a class made here, so that it is sent whole."""

    @dataclasses.dataclass(frozen=True)
    class Lethal(type(task)):  # type: ignore[misc]
        def examples(self, sentences: Any, *args: Any, **kwargs: Any) -> pa.Table:
            if not mark.exists() and sentences.table["cell_id"][0].as_py() != first:
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().examples(sentences, *args, **kwargs)

    first = to_cell_sentences(simulated_cells(N, seed=1), top_k=8).table["cell_id"][0].as_py()
    return Lethal(**dataclasses.asdict(task))


def test_an_error_of_an_actor_comes_back_as_it_was_raised(two_nodes: Any, trained: Any, tmp_path: Path) -> None:
    model, task, sentences = trained
    renamed = sentences.table.set_column(1, "cell_sentence", pa.array(["NOGENE"] * N, pa.string()))
    vocabulary = pa.table({"gene": ["NOGENE"], "n_cells": pa.array([N], pa.int64())})
    CellSentences(renamed, vocabulary, {}).write_parquet(tmp_path / "cells.parquet")
    with pytest.raises(C2SError, match=r"none of the \d+ words of the cells .such as 'NOGENE'"):
        predict_table(
            model.path, tmp_path / "cells.parquet", tmp_path / "out", task=task,
            address=two_nodes.address, actors=1, device="cpu", show_progress=False,
        )  # fmt: skip


def test_bad_numbers_and_files_are_refused_before_anything_is_written(trained: Any, tmp_path: Path) -> None:
    model, task, _ = trained
    with pytest.raises(ConfigError) as caught:
        predict_table(model.path, tmp_path, tmp_path / "out", rows_per_part=0, actors=0, cpus=-1, threshold=2)
    assert len(caught.value.problems) == 4
    with pytest.raises(InputFileError, match=r"there is no Parquet file .*no\.parquet"):
        predict_table(model.path, tmp_path / "no.parquet", tmp_path / "out", task=task)
    with pytest.raises(InputFileError, match=r"has no \*\.parquet"):
        predict_table(model.path, tmp_path, tmp_path / "out", task=task)
    (tmp_path / "bad.parquet").write_text("text")
    with pytest.raises(InputFileError, match="not a readable Parquet file"):
        predict_table(model.path, tmp_path / "bad.parquet", tmp_path / "out", task=task)
    assert not (tmp_path / "out").exists()


def test_parts_of_another_table_are_not_kept(trained: Any, table: Path, tmp_path: Path) -> None:
    model, task, _ = trained
    copied = tmp_path / "cells.parquet"
    copied.write_bytes(sorted(table.glob("*.parquet"))[0].read_bytes())
    predict_table(model.path, copied, tmp_path / "out", task=task, device="cpu", show_progress=False)
    cells = CellSentences.read_parquet(copied)
    cells.select(cells.table["cell_id"].to_pylist()[::-1]).write_parquet(copied, overwrite=True)
    with pytest.raises(OutputError, match=r"other settings \(contents\)"):
        predict_table(model.path, copied, tmp_path / "out", task=task, device="cpu", show_progress=False)


def test_a_folder_of_other_files_is_not_written_into(trained: Any, table: Path) -> None:
    model, task, _ = trained
    with pytest.raises(OutputError, match="holds other files"):
        predict_table(model.path, table, table, task=task, device="cpu", show_progress=False)


def test_the_command_predicts_a_table_and_refuses_ray_for_cells(
    trained: Any, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(trained[0].path)
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(table), str(tmp_path / "out"), "--model", model, "--device=cpu"])
    assert not ended.value.code
    assert f"{N} cells in 1 parts" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["predict", "cells.h5ad", str(tmp_path / "x.h5ad"), "--model", model, "--ray", "auto"])
    assert ended.value.code == 2
    assert "c2s transform cells.h5ad" in capsys.readouterr().err


def test_the_command_leaves_a_record_and_begins_again_only_when_told_to(
    trained: Any, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def predict(*more: str) -> tuple[int, str]:
        words = ["predict", str(table), str(tmp_path / "out"), "--model", str(trained[0].path), "--device=cpu"]
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        return int(ended.value.code or 0), capsys.readouterr().err

    assert predict()[0] == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "finished" and record["data"][0]["rows"] == N
    code, said = predict("--threshold=1")
    assert code == 2 and "other settings (threshold)" in said and "--overwrite" in said
    first = pq.read_table(tmp_path / "out" / "part-000000.parquet")
    assert predict("--threshold=1", "--overwrite")[0] == 0
    second = pq.read_table(tmp_path / "out" / "part-000000.parquet")
    assert not all(first["abstained"].to_pylist()) and all(second["abstained"].to_pylist())
    for option in ("--actors=2", "--gpus=1"):
        code, said = predict(option)
        assert code == 2 and "no cluster is named" in said
        with pytest.raises(SystemExit):
            main(["predict", "cells.h5ad", "x.h5ad", "--model", str(trained[0].path), option])
        assert f"{option[:-2]} was given" in capsys.readouterr().err


def test_overwrite_spares_a_folder_of_other_files(trained: Any, table: Path) -> None:
    before = {file: file.read_bytes() for file in table.iterdir()}
    with pytest.raises(OutputError, match="holds other files"):
        predict_table(trained[0].path, table, table, task=trained[1], overwrite=True, show_progress=False)
    assert {file: file.read_bytes() for file in table.iterdir()} == before
