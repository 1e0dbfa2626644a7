"""``c2s corpus`` and ``c2s prompts`` as a person uses them."""

from __future__ import annotations

import json

import pytest
from small_corpora import everything_spec

from c2s.cli import main
from c2s.corpus import TASKS


def run(capsys, *words) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(w) for w in words])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_build_info_verify(tmp_path, capsys):
    spec = everything_spec(tmp_path, tasks=["cell-type-annotation", "gene-set-naming"])
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    out = tmp_path / "out"
    code, text, _ = run(capsys, "corpus", "build", tmp_path / "spec.yaml", "--out", out)
    assert code == 0 and "examples" in text
    code, text, _ = run(capsys, "corpus", "info", out)
    assert code == 0 and "cell-type-annotation" in text and "Split by donor" in text
    stated = json.loads((out / "manifest.json").read_text())["fingerprint"]
    assert {f"{name} {value[:16]}" for name, value in stated.items()} <= {
        " ".join(x.split()) for x in text.split("\n")
    }
    code, text, _ = run(capsys, "corpus", "info", out, "--json")
    assert json.loads(text)["totals"]["rows"] > 0
    assert run(capsys, "corpus", "verify", out)[0] == 0
    next((out / "train").glob("*.parquet")).unlink()
    code, text, _ = run(capsys, "corpus", "verify", out)
    assert code == 1 and "is missing" in text


def test_a_build_leaves_a_record_beside_its_folder_and_begins_again_when_told_to(tmp_path, capsys):
    spec = everything_spec(tmp_path, tasks=["cell-type-annotation"])
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    out, file = tmp_path / "v1.0", tmp_path / "v1.0.run.json"
    command = ["corpus", "build", tmp_path / "spec.yaml", "--out", out]
    assert run(capsys, *command)[0] == 0
    record = json.loads(file.read_text())
    assert record["status"] == "finished" and record["seeds"] == {"seed": 0}
    assert [entry["name"] for entry in record["data"]] == ["specification", "corpus", "a", "b"]
    assert all(len(entry["sha256"]) == 64 for entry in record["data"])
    assert not list(out.glob("*run.json"))
    before = file.read_bytes()
    code, text, _ = run(capsys, *command)
    assert code == 0 and "complete already" in text and file.read_bytes() == before
    (tmp_path / "spec.yaml").write_text(
        everything_spec(tmp_path, tasks=["cell-type-annotation"], seed=1).to_yaml()
    )
    code, _, said = run(capsys, *command)
    assert code == 2 and "it differs in seed" in said and "--overwrite" in said and file.read_bytes() == before
    assert run(capsys, *command, "--overwrite")[0] == 0
    assert json.loads(file.read_text())["seeds"] == {"seed": 1}


def test_a_build_that_fails_in_the_middle_says_so_in_its_record(tmp_path, capsys, monkeypatch):
    from c2s.errors import OutputError

    def full(*_):
        raise OutputError("the disk is full.", fix="free some space.")

    monkeypatch.setattr("c2s.corpus.build.arrange", full)
    (tmp_path / "spec.yaml").write_text(everything_spec(tmp_path, tasks=["cell-type-annotation"]).to_yaml())
    code, _, _ = run(capsys, "corpus", "build", tmp_path / "spec.yaml", "--out", tmp_path / "out")
    assert code == 2
    record = json.loads((tmp_path / "out.run.json").read_text())
    assert record["status"] == "failed" and "disk is full" in record["error"]


def test_workers_beside_ray_are_refused(tmp_path, capsys):
    (tmp_path / "spec.yaml").write_text(everything_spec(tmp_path, tasks=["cell-type-annotation"]).to_yaml())
    words = [
        "corpus",
        "build",
        tmp_path / "spec.yaml",
        "--out",
        tmp_path / "out",
        "--ray",
        "auto",
        "--workers",
        "1",
    ]
    code, _, said = run(capsys, *words)
    assert code == 2 and "--ray auto uses the cluster's instead" in said
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.run.json").exists()


def test_ray_is_handed_the_plan(tmp_path, monkeypatch, capsys):
    import sys
    import types

    from c2s.corpus import build_unit

    seen = []

    def run_units(plan, out, address):
        seen.append(address)
        return (build_unit(plan, unit, out) for unit in reversed(plan.units))

    monkeypatch.setitem(sys.modules, "c2s.distributed", types.SimpleNamespace(run_units=run_units))
    spec = everything_spec(tmp_path, tasks=["cell-type-annotation"])
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    code, _, _ = run(capsys, "corpus", "build", tmp_path / "spec.yaml", "--out", tmp_path / "out", "--ray", "auto")
    assert code == 0 and seen == ["auto", "auto"]
    assert run(capsys, "corpus", "verify", tmp_path / "out")[0] == 0


def test_prompts_list_names_all_tasks(capsys):
    code, text, _ = run(capsys, "prompts", "list")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()[1:]] == list(TASKS)


def test_prompts_show_fills_templates_in_colour_on_a_terminal(everything, capsys, monkeypatch):
    cells = everything.folder / "a.h5ad"
    code, text, _ = run(capsys, "prompts", "show", "cell-type-annotation", "--data", cells, "--genes", "5")
    assert code == 0 and text.count("PROMPT") == text.count("ANSWER") == 4
    assert "\x1b[" not in text
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run(capsys, "prompts", "show", "cell-type-annotation", "--data", cells, "--genes", "5")[1]


def test_prompts_show_takes_columns_and_constants(everything, capsys):
    words = ["prompts", "show", "tissue-annotation", "--data", everything.folder / "a.h5ad", "--cells", "2"]
    code, text, _ = run(capsys, *words, "--column", "donor_id=sex", "--constant", "tissue=moon rock")
    assert code == 0 and text.count("ANSWER  moon rock") == 3
    code, _, shown = run(capsys, *words, "--constant", "tissue")
    assert code == 2 and "is not NAME=VALUE" in shown


def test_prompts_show_says_how_to_give_a_column_that_is_missing(everything, tmp_path, capsys):
    import anndata as ad

    cells = ad.read_h5ad(everything.folder / "a.h5ad")
    del cells.obs["donor_id"]
    cells.write_h5ad(tmp_path / "a.h5ad")
    code, _, said = run(capsys, "prompts", "show", "tissue-annotation", "--data", tmp_path / "a.h5ad")
    assert code == 2 and "cannot make tissue-annotation: it has no donor_id" in said
    assert "--column donor_id=NAME" in said and "--constant" in said
