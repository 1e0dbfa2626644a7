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
    code, text, _ = run(capsys, "corpus", "info", out, "--json")
    assert json.loads(text)["totals"]["rows"] > 0
    assert run(capsys, "corpus", "verify", out)[0] == 0
    next((out / "train").glob("*.parquet")).unlink()
    code, text, _ = run(capsys, "corpus", "verify", out)
    assert code == 1 and "is missing" in text


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
