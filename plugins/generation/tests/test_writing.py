"""Cells on request: what is asked for comes back, whatever runs beside it; bad requests are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from c2s_generation import Wanted, generate_cells
from c2s_generation.cells import ConditionalCellTask, UnconditionalCellTask
from c2s_generation.conditions import split_values
from c2s_generation.samples import CellTypesSampleTask, TissueSampleTask

import c2s
from c2s.errors import C2SWarning, ConfigError, ModelError, OutputError, PromptError
from c2s.models import TinyConfig
from c2s.testing import simulated_cells
from c2s.training import SFTConfig, TaskModel, train_task

TINY = TinyConfig(layers=1, hidden_size=32, heads=2)
TASKS = {
    "cell": ConditionalCellTask(max_tokens=40),
    "any": UnconditionalCellTask(),
    "types": CellTypesSampleTask(min_cells=2, max_cells=3, max_tokens=60),
    "tissue": TissueSampleTask(min_cells=2, max_cells=3),
}


@pytest.fixture(scope="module")
def adata():
    return simulated_cells(96)


@pytest.fixture(scope="module")
def inverse(adata):
    return c2s.RankExpressionModel.fit(adata, top_k=6)


@pytest.fixture(scope="module")
def trained(adata, tmp_path_factory):
    """A model of each task, of a few steps: enough to write words, too few to write them well."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    adata.write_h5ad(folder / "cells.h5ad")

    def model(name) -> TaskModel:
        if name not in made:
            task = TASKS[name]
            made[name] = train_task(
                adata,
                task,
                c2s.default_host().prompts.get(task.prompts),
                out=folder / name,
                config=SFTConfig(max_steps=12 if name != "cell" else 60, batch_size=16, learning_rate=1e-2),
                tiny=TINY,
                top_k=6,
                data_name=str(folder / "cells.h5ad"),
                device="cpu",
                show_progress=False,
            ).task_model
        return made[name]

    return model


def written(trained, name, wanted, inverse, **settings):
    return generate_cells(trained(name), TASKS[name], wanted, inverse=inverse, **settings)


def test_cells_are_of_known_genes_without_repeats_and_carry_their_condition(trained, inverse):
    wanted = [Wanted({"cell_type": "B cell"}, n=5), Wanted({"cell_type": "T cell"}, n=3)]
    cells = written(trained, "cell", wanted, inverse)
    known = set(trained("cell").genes)
    assert cells.obs["cell_type"].tolist() == ["B cell"] * 5 + ["T cell"] * 3
    for sentence, row in zip(cells.obs["cell_sentence"], cells.X.toarray(), strict=True):
        genes = sentence.split()
        assert len(genes) == len(set(genes)) == 6 and set(genes) <= known
        assert [cells.var_names[i] for i in np.argsort(-row, kind="stable")[:6]] == genes
    assert cells.obs[["n_unknown", "n_repeated"]].to_numpy().sum() == 0
    assert cells.uns["c2s"]["generated"] is True
    assert json.loads(cells.uns["c2s"]["settings"])["n_genes"] == 6


def test_a_cell_depends_on_its_condition_its_place_and_the_seed_alone(trained, inverse):
    few = written(trained, "cell", [Wanted({"cell_type": "B cell"}, n=3)], inverse)
    more = written(trained, "cell", [Wanted({"cell_type": k}, n=6) for k in ("T cell", "B cell")], inverse)
    again = more.obs.loc[few.obs_names, "cell_sentence"].tolist()
    assert again == few.obs["cell_sentence"].tolist()
    other = written(trained, "cell", [Wanted({"cell_type": "B cell"}, n=3)], inverse, seed=1)
    assert other.obs["cell_sentence"].tolist() != again
    with pytest.warns(C2SWarning, match="all cells of a condition are the same"):
        same = written(trained, "cell", [Wanted({"cell_type": "B cell"}, n=2)], inverse, temperature=0.0)
    assert same.obs["cell_sentence"].nunique() == 1


def test_unconstrained_answers_are_counted(trained, inverse):
    cells = written(
        trained,
        "cell",
        [Wanted({"cell_type": "B cell"}, n=20)],
        inverse,
        constrained=False,
        genes=list(trained("cell").genes)[:20],
        temperature=2.0,
    )
    assert cells.n_vars == 20 and cells.n_obs == 20
    assert cells.obs["n_unknown"].sum() > 0
    found = [len(set(text.split()) & set(cells.var_names)) for text in cells.obs["cell_sentence"]]
    assert (cells.X > 0).sum(axis=1).A1.tolist() == found
    assert cells.uns["c2s"]["cells_without_a_gene"] == found.count(0)


def test_samples_have_as_many_cells_as_asked_each_with_its_type(trained, inverse):
    cells = written(trained, "types", [Wanted({"cell_type": "B cell, T cell, B cell"}, n=2)], inverse)
    assert cells.obs["cell_type"].tolist() == ["B cell", "T cell", "B cell"] * 2
    assert cells.obs["cell_in_sample"].tolist() == [1, 2, 3] * 2
    assert cells.obs["sample"].nunique() == 2
    assert cells.obs["n_words"].tolist() == [6] * 6
    free = written(trained, "types", [Wanted({"cell_type": "B cell, T cell"}, n=2)], inverse, constrained=False)
    assert free.n_obs == 4
    blood = written(trained, "tissue", [Wanted({"tissue": "blood"}, n=1, n_cells=4)], inverse)
    assert blood.obs["tissue"].tolist() == ["blood"] * 4


CD4 = "CD4-positive, alpha-beta T cell"


@pytest.mark.parametrize(
    ("text", "known", "parts"),
    [
        ("B cell,T  cell, ", (), ["B cell", "T cell"]),
        (f"{CD4}, B cell", (), ["CD4-positive", "alpha-beta T cell", "B cell"]),
        (f"B cell,{CD4},B cell", (CD4, "B cell"), ["B cell", CD4, "B cell"]),
        ("CD4-positive,  alpha-beta T cell", (CD4,), [CD4]),
        (f"a, {CD4}, memory", (CD4, f"{CD4}, memory", "memory"), ["a", f"{CD4}, memory"]),
        ("CD4-positive, B cell", (CD4,), ["CD4-positive", "B cell"]),
        (" , ", (CD4,), []),
    ],
)
def test_a_list_is_split_at_commas_but_not_within_a_known_name(text, known, parts):
    assert split_values(text, known) == parts


def test_names_with_commas_are_kept_whole_in_lists(trained, inverse):
    cells = written(trained, "types", [Wanted({"cell_type": [CD4, "B cell"]}, n=1)], inverse)
    assert cells.obs["cell_type"].tolist() == [CD4, "B cell"]
    # The prompt tells commas within a name from those between names, as in training.
    asked = TASKS["types"].asked([{"cell_type": CD4}, {"cell_type": "B cell"}], 6)
    assert asked["condition"] == "cell type : CD4-positive; alpha-beta T cell , B cell"
    listed, told = Wanted({"cell_type": ["B cell", "T cell"]}), Wanted({"cell_type": "B cell, T cell"})
    first, second = (written(trained, "types", [each], inverse) for each in (listed, told))
    assert first.obs.equals(second.obs)


@pytest.mark.parametrize(
    ("name", "wanted", "says"),
    [
        ("types", [{"cell_type": []}], "'cell_type' is missing or empty"),
        ("types", [{"cell_type": " , "}], "'cell_type' is missing or empty"),
        ("types", [{"cell_type": ["B cell", " "]}], "'cell_type' has an empty value"),
        ("types", [{"cell_type": ["B cell", "T cell"]}, {"cell_type": "B cell, T cell"}], "wanted twice"),
        ("cell", [{"cell_type": ["B cell"]}], "'cell_type' is a list, but this model takes one value"),
    ],
)
def test_bad_lists_are_refused(trained, inverse, name, wanted, says):
    with pytest.raises(ConfigError, match=says):
        written(trained, name, [Wanted(each) for each in wanted], inverse)


def test_without_conditions_any_cell_is_written(trained, inverse):
    assert written(trained, "any", [Wanted(n=4)], inverse).n_obs == 4


@pytest.mark.parametrize(("name", "wanted"), [("cell", {"cell_type": "B cell"}), ("tissue", {"tissue": "blood"})])
def test_a_run_that_was_stopped_goes_on_and_ends_the_same(trained, inverse, tmp_path, name, wanted):
    whole = written(trained, name, [Wanted(wanted, n=4)], inverse)
    partial = tmp_path / "out.answers.jsonl"
    written(trained, name, [Wanted(wanted, n=4)], inverse, partial=partial)
    for file in tmp_path.glob("*.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[:3]) + lines[3][:5])
    resumed = written(trained, name, [Wanted(wanted, n=4)], inverse, partial=partial)
    assert resumed.obs["cell_sentence"].tolist() == whole.obs["cell_sentence"].tolist()
    with pytest.raises(OutputError, match=r"temperature was 1\.0, is 0\.5"):
        written(trained, name, [Wanted(wanted, n=4)], inverse, partial=partial, temperature=0.5)


B = Wanted({"cell_type": "B cell"})


@pytest.mark.parametrize(
    ("wanted", "settings", "says"),
    [
        ([Wanted()], {}, "'cell_type' is missing or empty"),
        ([Wanted({"cell_type": " "})], {}, "'cell_type' is missing or empty"),
        ([Wanted({"cell_type": "B cell", "tisue": "x"})], {}, "'tisue' is no condition of this model"),
        ([dataclasses.replace(B, n=0)], {}, "n is 0"),
        ([dataclasses.replace(B, n_cells=0)], {}, "n_cells is 0"),
        ([B, B], {}, "wanted twice"),
        ([], {}, "nothing is wanted"),
        ([B], {"n_genes": 0}, "n_genes is 0"),
        ([B], {"n_genes": 1000}, "n is 1000, but there are"),
        ([B], {"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_bad_requests_are_refused_with_what_the_model_takes(trained, inverse, wanted, settings, says):
    with pytest.raises(ConfigError, match=says) as caught:
        written(trained, "cell", wanted, inverse, **settings)
    assert caught.value.fix


def test_other_bad_uses_are_refused(trained, inverse):
    annotation = c2s.default_host().tasks.get("annotation")()
    with pytest.raises(ConfigError, match="does not write cells"):
        generate_cells(trained("cell"), annotation, [B], inverse=inverse)
    forgetful = dataclasses.replace(trained("cell"), genes=None)
    with pytest.raises(ModelError, match="does not know the genes"):
        generate_cells(forgetful, TASKS["cell"], [B], inverse=inverse)
    with pytest.raises(ConfigError, match="the number of genes must be given"):
        generate_cells(dataclasses.replace(forgetful, top_k=None), TASKS["cell"], [B], inverse=inverse)
    pair = CellTypesSampleTask(conditions=("cell_type", "tissue"))
    with pytest.raises(PromptError, match="2 of cell_type, 1 of tissue"):
        generate_cells(trained("types"), pair, [Wanted({"cell_type": "a, b", "tissue": "x"})], inverse=inverse)


def cli(*words):
    from c2s.cli import app

    app([str(word) for word in words], standalone_mode=False)


def test_the_command_writes_a_file_that_says_it_is_generated(trained, tmp_path, capsys):
    model, out = trained("cell").path, tmp_path / "b.h5ad"
    cli("generate", "--model", model, "--cell-type", "B cell", "--n", 4, "--seed", 3, out)
    cells = ad.read_h5ad(out)
    assert bool(cells.uns["c2s"]["generated"]) and cells.n_obs == 4
    assert cells.obs["cell_type"].tolist() == ["B cell"] * 4
    # The genes of the training data, so that real and generated cells can stand in one table.
    assert cells.var_names.tolist() == simulated_cells(96).var_names.tolist()
    assert "they are generated, not measured" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.h5ad", "b.run.json"]
    (recorded,) = json.loads((tmp_path / "b.run.json").read_text())["data"]
    assert recorded["cells"] == 96 and recorded["sha256"]
    with pytest.raises(OutputError, match="exists already"):
        cli("generate", "--model", model, "--cell-type", "B cell", out)
    cli("generate", "--model", model, "--condition", "cell_type=B cell", "--n", 4, "--seed", 3, out, "--overwrite")
    assert (ad.read_h5ad(out).X != cells.X).nnz == 0


def test_the_command_takes_a_fitted_inverse_and_warns_of_a_type_never_seen(trained, inverse, tmp_path):
    inverse.save(tmp_path / "inverse.json")
    common = ("generate", "--model", trained("cell").path, "--n", 2)
    cli(*common, "--cell-type", "B cell", "--inverse", tmp_path / "inverse.json", tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").n_vars == len(trained("cell").genes)
    with pytest.warns(C2SWarning, match="has seen no cell with cell_type 'astrocyte'"):
        cli(*common, "--cell-type", "astrocyte", tmp_path / "b.h5ad")


def test_the_command_keeps_known_names_whole_and_warns_of_each_unknown_one(trained, inverse, tmp_path):
    renamed = simulated_cells(96)
    renamed.obs["cell_type"] = renamed.obs["cell_type"].astype(str).replace("T cell", CD4)
    renamed.write_h5ad(tmp_path / "renamed.h5ad")
    inverse.save(tmp_path / "inverse.json")
    common = ("generate", "--model", trained("types").path, "--n", 1)
    words = (f"B cell, {CD4}, astrocyte, microglia", "--data", tmp_path / "renamed.h5ad")
    with pytest.warns(C2SWarning) as caught:
        cli(*common, "--cell-type", *words, tmp_path / "a.h5ad")
    told = [str(each.message) for each in caught if issubclass(each.category, C2SWarning)]
    assert ["'astrocyte'" in text for text in told] == [True, False]
    assert ["'microglia'" in text for text in told] == [False, True]
    asked = ["B cell", CD4, "astrocyte", "microglia"]
    assert ad.read_h5ad(tmp_path / "a.h5ad").obs["cell_type"].tolist() == asked
    assert json.loads((tmp_path / "a.run.json").read_text())["config"]["conditions"] == {"cell_type": asked}
    with pytest.warns(C2SWarning, match="read as 2 cells, split at each comma"):
        cli(*common, "--cell-type", CD4, "--inverse", tmp_path / "inverse.json", tmp_path / "b.h5ad")


def test_bad_commands_are_refused_and_leave_nothing(trained, tmp_path):
    model = trained("cell").path
    file = tmp_path / "abstract.txt"
    file.write_text("Cells\nof a study.")

    def refused(error, says, *words, out="x.h5ad"):
        with pytest.raises(error, match=says):
            cli("generate", "--model", model, *words, tmp_path / out)
        assert [path for path in tmp_path.iterdir() if path != file and path.suffix != ".json"] == []

    refused(OutputError, "does not end in .h5ad", "--cell-type", "B cell", out="x.csv")
    refused(ConfigError, "'cell_type' is not NAME=VALUE", "--condition", "cell_type")
    refused(ConfigError, "given twice", "--cell-type", "B cell", "--condition", "cell_type=T cell")
    refused(ConfigError, "'cell_type' is missing", "--n", 3)
    refused(ConfigError, "'abstract' is no condition", "--cell-type", "B cell", "--abstract", file)
    refused(ConfigError, "nowhere.h5ad are not to be had", "--cell-type", "B", "--data", tmp_path / "nowhere.h5ad")
    refused(ConfigError, "--data and --inverse are both given", "--data", "x.h5ad", "--inverse", "y.json")
    refused(ConfigError, "--cells is given.* writes single cells", "--cell-type", "B cell", "--cells", 5)
    model = trained("types").path
    listed = "--cells is given.* one cell for each cell_type that is listed"
    refused(ConfigError, listed, "--cell-type", "B cell, T cell", "--cells", 2)
    refused(ModelError, "there is no model folder", "--model", tmp_path / "none", "--cell-type", "B cell")


@pytest.mark.parametrize(("options", "n_cells"), [((), 5), (("--cells", 3), 3)])
def test_the_record_says_how_many_cells_a_sample_has(trained, tmp_path, options, n_cells):
    model = trained("tissue").path
    cli("generate", "--model", model, "--tissue", "blood", "--n", 2, *options, tmp_path / "a.h5ad")
    assert ad.read_h5ad(tmp_path / "a.h5ad").n_obs == 2 * n_cells
    assert json.loads((tmp_path / "a.run.json").read_text())["config"]["cells"] == n_cells


@pytest.mark.parametrize("length", [40, 255, 256, 999, 5000])
def test_an_abstract_of_any_length_is_a_text_where_no_file_has_its_name(length, tmp_path, monkeypatch):
    from c2s_generation.command import _conditions

    monkeypatch.chdir(tmp_path)
    text = ("cells of a study " * 300)[:length]
    assert _conditions([], abstract=text) == {"abstract": text}
    (tmp_path / "abstract.txt").write_text("Cells\nof a study.")
    assert _conditions([], abstract="abstract.txt") == {"abstract": "Cells of a study."}


def test_a_model_that_labels_cells_does_not_write_them(adata, tmp_path):
    task = c2s.default_host().tasks.get("annotation")()
    templates = c2s.default_host().prompts.get("annotation")
    config = SFTConfig(max_steps=1)
    train_task(adata, task, templates, out=tmp_path / "m", config=config, tiny=TINY, top_k=6, show_progress=False)
    with pytest.raises(ModelError, match="was trained on 'annotation', which does not write cells"):
        cli("generate", "--model", tmp_path / "m", "--cell-type", "B cell", Path(tmp_path) / "x.h5ad")


def test_data_without_a_name_must_be_given(trained, tmp_path):
    import shutil

    copy = tmp_path / "m"
    shutil.copytree(trained("cell").path, copy)
    facts = json.loads((copy / "c2s_task.json").read_text())
    facts["data"]["name"] = ""
    (copy / "c2s_task.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="does not say what it was trained on"):
        cli("generate", "--model", copy, "--cell-type", "B cell", tmp_path / "x.h5ad")
