"""Columns of any name are labels, donors and conditions of every command."""

from __future__ import annotations

import json
import shlex

import anndata as ad
import pytest
from bad_inputs import cli
from layouts import counted_cells

from c2s.errors import ObsError

UGLY = 'Cell Type (fine), it\'s "x"=$HOME [äöü]'
TINY = ("--option", "layers=1", "--option", "hidden_size=16", "--option", "heads=1")


@pytest.fixture
def cells():
    """Two kinds of cells of six donors."""
    found = counted_cells(120)
    found.obs["Patient ID"] = [f"P {i % 6}" for i in range(found.n_obs)]
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("column", "written"), [(UGLY, UGLY), ("--x", "--x"), (" cell/type", " cell|type")])
def test_a_label_of_any_name_is_learned_predicted_and_scored(column, written, cells, tmp_path, capsys):
    cells.obs[column] = cells.obs.pop("cell_type").astype(str)
    path = tmp_path / "my cells.h5ad"
    cells.write_h5ad(path)
    cli("labels", path, "--donor", "Patient ID")
    table = capsys.readouterr().out.replace("\n", "")
    assert column.split()[0] in table
    assert "no value of Patient ID is on two sides" in table
    model = tmp_path / "my model"
    how = ("--label", column, "--donor", "Patient ID", "--max-steps", 2, *TINY, "--genes", 6)
    cli("train", "sft", "--task", "annotation", "--data", path, "--out", model, *how)
    told = capsys.readouterr().out
    cli("predict", path, tmp_path / "predicted.h5ad", "--model", model)
    predicted = ad.read_h5ad(tmp_path / "predicted.h5ad").obs
    assert set(predicted[f"c2s_{written}"]) <= {"B cell", "T cell"}
    assert set(predicted[written]) == {"B cell", "T cell"}
    capsys.readouterr()
    following = told.rsplit("Next: ", 1)[1].strip()
    cli(*shlex.split(following)[1:])
    assert "Split by Patient ID: no value of Patient ID is on two sides" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.filterwarnings("ignore")
def test_conditions_and_samples_of_any_name(cells, tmp_path, capsys):
    cells.obs['x=1,"y"'] = cells.obs["cell_type"].astype(str)
    cells.write_h5ad(path := tmp_path / "my cells.h5ad")
    columns = json.dumps(["Patient ID", 'x=1,"y"'])
    model, made = tmp_path / "model", tmp_path / "made.h5ad"
    how = ("--max-steps", 1, *TINY, "--genes", 6, "--option", f"conditions={columns}")
    cli("train", "sft", "--task", "conditional-cell-generation", "--data", path, "--out", model, *how)
    following = shlex.split(capsys.readouterr().out.rsplit("Next: ", 1)[1])
    cli(*(made if word == "generated.h5ad" else word for word in following[1:]))
    written = ad.read_h5ad(made).obs
    assert set(written['x=1,"y"']) <= {"B cell", "T cell"}
    assert set(written["Patient ID"]) == {following[following.index("--condition") + 1].split("=")[1]}
    samples = tmp_path / "samples.h5ad"
    cli("embed", path, samples, "--model", model, "--samples", columns, "--cells", "3-5")
    assert set(ad.read_h5ad(samples).obs['x=1,"y"']) == {"B cell", "T cell"}
    with pytest.raises(ObsError, match=r"no column 'x=1'.*written in a list: '\[\"x=1,"):
        cli("embed", path, tmp_path / "other.h5ad", "--model", model, "--samples", "Patient ID,x=1,y")
