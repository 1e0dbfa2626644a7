"""From cells to a trained model, its vectors and its command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from c2s_embedding import train_tiny
from c2s_embedding.tiny import DEFAULTS, pretraining_examples
from typer.testing import CliRunner

import c2s
from c2s.errors import ConfigError
from c2s.models import TinyConfig
from c2s.provenance import checksum
from c2s.results import ResultsTable
from c2s.testing import simulated_cells

if TYPE_CHECKING:
    from anndata import AnnData

SHAPE = TinyConfig(layers=1, hidden_size=32, heads=2)
FEW = DEFAULTS.model_copy(update={"max_steps": 4, "warmup_steps": 0, "batch_size": 8})


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return simulated_cells(240)


@pytest.fixture(scope="module")
def model(cells: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    train_tiny(cells, out=out, label="cell_type", top_k=8, config=FEW, tiny=SHAPE)
    return out


def test_texts_hold_the_sentence_and_the_label_only_if_asked_for(cells: AnnData) -> None:
    some = cells[:4].copy()
    alone, labelled = (pretraining_examples(some, label=label, top_k=5) for label in (None, "cell_type"))
    sentence = alone["cell_sentence"][0].as_py()
    assert alone["prompt"][0].as_py() + " " + alone["answer"][0].as_py() == f"Cell sentence : {sentence} ."
    assert labelled["answer"].to_pylist() == cells.obs["cell_type"][:4].astype(str).tolist()
    assert f"Cell sentence : {sentence} . cell type :" == labelled["prompt"][0].as_py()
    assert not any("cell type" in text for text in alone["prompt"].to_pylist())


def test_the_embedders_are_registered_and_the_control_has_the_same_words(cells: AnnData) -> None:
    host = c2s.default_host()
    trained = host.embedders.get("c2s_tiny").fitted(cells, top_k=8, max_steps=3, hidden_size=32)
    control = host.embedders.get("c2s_untrained").fitted(cells, top_k=8, hidden_size=32)
    one, other = trained(cells[:5].copy()), control(cells[:5].copy())
    assert one.shape == other.shape == (5, 32)
    assert not np.allclose(one, other, atol=1e-4)
    again = host.embedders.get("c2s_untrained").fitted(cells, top_k=8, hidden_size=32)
    np.testing.assert_allclose(other, again(cells[:5].copy()), atol=1e-5)
    assert host.embedders.owner("c2s_tiny").plugin == "embedding"


def run(*arguments: str) -> str:
    from c2s.cli import app

    result = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_embed_from_the_command_line(cells: AnnData, model: Path, tmp_path: Path) -> None:
    import anndata as ad

    source = tmp_path / "cells.h5ad"
    cells.write_h5ad(source)
    told = run("embed", "--model", str(model), "--genes", "8", str(source), str(tmp_path / "out.h5ad"))
    assert "240 cells x 32 dimensions" in told
    assert ad.read_h5ad(tmp_path / "out.h5ad").obsm["X_c2s"].shape == (240, 32)
    assert (tmp_path / "out.run.json").is_file()
    samples = ("--samples", "donor_id, tissue", "--cells", "4-6", "--genes", "4")
    told = run("embed", "--model", str(model), *samples, str(source), str(tmp_path / "s.h5ad"))
    assert "samples by donor_id, tissue" in told
    (tmp_path / "t.txt").write_text("B cell\n")
    assert "1 texts" in run("embed", "--model", str(model), str(tmp_path / "t.txt"), str(tmp_path / "t.h5ad"))


def test_a_model_trained_on_a_task_is_asked_as_it_was_trained(cells: AnnData, tmp_path: Path) -> None:
    from c2s_embedding.files import embed_file

    from c2s.training import SFTConfig, train_task

    host = c2s.default_host()
    if "annotation" not in host.tasks:
        pytest.skip("the plugin annotation is not installed")
    task = host.tasks.get("annotation")()
    ways = [t for t in host.prompts.get("annotation") if t.name == "annotation/plain"]
    trained = train_task(
        cells,
        task,
        ways,
        out=tmp_path / "model",
        tiny=SHAPE,
        config=SFTConfig(max_steps=2),
        top_k=6,
        show_progress=False,
    )
    source = tmp_path / "cells.h5ad"
    cells.write_h5ad(source)
    found = embed_file(source, tmp_path / "out.h5ad", tmp_path / "model", show_progress=False)
    prompts = task.examples(trained.sentences, ways, answers=False)["prompt"].to_pylist()
    np.testing.assert_allclose(found.obsm["X_c2s"], c2s.embed(trained.model, prompts), atol=1e-5)


def test_copies_of_a_cell_get_one_vector_in_the_file_and_in_the_report(cells: AnnData, tmp_path: Path) -> None:
    from c2s_embedding.files import Reader, embed_file

    from c2s.training import SFTConfig, train_task

    host = c2s.default_host()
    if "annotation" not in host.tasks:
        pytest.skip("the plugin annotation is not installed")
    ways = host.prompts.get("annotation")
    assert len(ways) > 1
    few = {"tiny": SHAPE, "config": SFTConfig(max_steps=1), "top_k": 6, "show_progress": False}
    train_task(cells, host.tasks.get("annotation")(), ways, out=tmp_path / "model", **few)
    copies = cells[[0] * 24].copy()
    copies.obs_names = [f"copy{i}" for i in range(24)]
    copies.write_h5ad(tmp_path / "copies.h5ad")
    told: list[str] = []
    found = embed_file(
        tmp_path / "copies.h5ad",
        tmp_path / "out.h5ad",
        tmp_path / "model",
        show_progress=False,
        on_wording=told.append,
    )
    vectors = found.obsm["X_c2s"]
    np.testing.assert_allclose(vectors, np.tile(vectors[0], (24, 1)), atol=1e-5)
    assert told == [ways[0].name]
    reader = Reader(tmp_path / "model").settle(copies)
    assert (reader.wording, reader.top_k) == (ways[0].name, 6)
    np.testing.assert_allclose(reader(copies), vectors, atol=1e-5)


def test_the_report_from_the_command_line(cells: AnnData, model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "cells.h5ad", tmp_path / "report"
    cells.write_h5ad(source)
    told = run(
        "embedding-report",
        str(source),
        "--out",
        str(out),
        "--model",
        str(model),
        "--embedders",
        "pca,hvg",
        "--genes",
        "8",
        "--cells",
        "4",
        "--n-bootstrap",
        "50",
        "--max-cells",
        "60",
    )
    assert "Two halves of the donors" in told
    table = ResultsTable.from_json(out / "results.json")
    assert {row.predictor for row in table} == {"pca", "hvg", "model"}
    assert all(0 <= row.value <= 1 for row in table if row.value is not None)
    assert {(row.data, row.sha256) for row in table} == {(str(source), checksum(source))}
    assert set(pd.read_parquet(out / "pairs.parquet")["embedder"]) == {"pca", "hvg", "model"}
    recorded = json.loads((out / "run.json").read_text())
    assert (recorded["status"], recorded["data"][0]["name"]) == ("finished", str(source))


def test_the_report_asks_a_trained_model_as_c2s_embed_does(cells: AnnData, tmp_path: Path) -> None:
    from c2s.training import SFTConfig, train_task

    if "annotation" not in c2s.default_host().tasks:
        pytest.skip("the plugin annotation is not installed")
    source, out, trained = tmp_path / "cells.h5ad", tmp_path / "report", tmp_path / "trained"
    cells.write_h5ad(source)
    task = c2s.default_host().tasks.get("annotation")()
    ways = c2s.default_host().prompts.get(task.prompts)
    train_task(
        cells, task, ways, out=trained, tiny=SHAPE, config=SFTConfig(max_steps=1), top_k=6, show_progress=False
    )
    common = ["--genes", "6", "--cells", "4", "--n-bootstrap", "20", "--max-cells", "40", "--embedders", "pca"]
    run("embedding-report", str(source), "--out", str(out), "--model", str(trained), *common)
    recorded = json.loads((out / "run.json").read_text())
    assert recorded["config"]["wordings"] == {"trained": ways[0].name}
    with pytest.raises(ConfigError, match="trained' is given twice"):
        run("embedding-report", str(source), "--out", str(tmp_path / "b"), *["--model", str(trained)] * 2, *common)


def test_models_of_one_name_are_told_apart_by_their_folders(
    cells: AnnData, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells.write_h5ad("cells.h5ad")
    for folder in ("a/model", "b/model", "pca"):
        shutil.copytree(model, folder)
    common = ["--genes", "6", "--cells", "4", "--n-bootstrap", "20", "--max-cells", "40", "--embedders", "pca"]
    models = ["--model", "a/model", "--model", "b/model", "--model", "pca"]
    run("embedding-report", "cells.h5ad", "--out", "report", *models, *common)
    found = {row.predictor for row in ResultsTable.from_json("report/results.json")}
    assert found == {"pca", "a/model", "b/model", "pca-2"}
    config = json.loads(Path("report/run.json").read_text())["config"]
    assert config["models"] == {"a/model": "a/model", "b/model": "b/model", "pca-2": "./pca"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["embedding-report", "IN", "--out", "OUT", "--option", "scgpt.model=x"],
            "'scgpt' is none of the embedders",
        ),
        (["embedding-report", "IN", "--out", "OUT", "--option", "model=x"], "is not EMBEDDER.NAME=VALUE"),
        (
            ["embedding-report", "IN", "--out", "OUT", "--cells", "4", "--option", "pca.size=3"],
            "unknown option 'size'",
        ),
        (["embed", "IN", "OUT.h5ad", "--model", "m", "--cells", "2-3"], "--cells has no meaning for single cells"),
        (
            ["embed", "IN", "OUT.h5ad", "--model", "m", "--samples", "donor_id", "--key", "X_a"],
            "--key has no meaning",
        ),
        (["embed", "a.txt", "OUT.h5ad", "--model", "m", "--genes", "5"], "--genes has no meaning for texts"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    words: list[str], says: str, cells: AnnData, tmp_path: Path
) -> None:
    source = tmp_path / "cells.h5ad"
    cells.write_h5ad(source)
    known = {"IN": str(source), "OUT": str(tmp_path / "report"), "OUT.h5ad": str(tmp_path / "out.h5ad")}
    with pytest.raises(ConfigError, match=says):
        run(*[known.get(word, word) for word in words])
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]
