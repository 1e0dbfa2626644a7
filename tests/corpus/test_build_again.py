"""Building again into a folder: what is left alone, what is refused, what is thrown away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata as ad
import pytest
import yaml
from small_corpora import digests, quick_spec, rows_of, write_cells, write_gene_sets

from c2s.corpus import build_corpus, corpus_task, make_spec, open_corpus, plan_corpus
from c2s.corpus.fingerprint import contents, quick_look, stamp
from c2s.corpus.plan import read_gene_sets
from c2s.corpus.prompt_files import SHIPPED, metadata_wording
from c2s.errors import ConfigError, OutputError


def stopped(spec, out: Path, monkeypatch) -> None:
    """Leave a build that was stopped between its two stages."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("c2s.corpus.build.arrange", stop)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(spec, out, show_progress=False)
    monkeypatch.undo()


def own_templates(folder: Path, word: str) -> str:
    """A folder with one template file of one's own, whose words are all as long."""
    folder.mkdir(exist_ok=True)
    content = yaml.safe_load((SHIPPED / "tissue-annotation.yaml").read_text())
    content["templates"] = [{"name": "mine", "text": f"{{cells}}. {word} tissue:", "answer": "{tissue}"}]
    (folder / "tissue-annotation.yaml").write_text(yaml.safe_dump(content))
    return str(folder)


def test_a_complete_corpus_is_left_alone_and_another_specification_is_refused(tmp_path):
    spec = quick_spec(tmp_path)
    first = build_corpus(spec, tmp_path / "out", show_progress=False)
    before = digests(tmp_path / "out")
    again = build_corpus(spec, tmp_path / "out", show_progress=False)
    assert again.units_done == 0 and (again.rows, again.tokens) == (first.rows, first.tokens)
    with pytest.raises(OutputError, match=r"another specification .*seed"):
        build_corpus(quick_spec(tmp_path, seed=1), tmp_path / "out", show_progress=False)
    assert digests(tmp_path / "out") == before
    assert {p.name for p in tmp_path.iterdir()} == {"a.h5ad", "abstracts.parquet", "out"}


def test_a_complete_corpus_whose_cells_have_changed_is_refused_and_with_overwrite_built_anew(tmp_path):
    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "out", show_progress=False)
    before = digests(tmp_path / "out")
    write_cells(tmp_path, "a", seed=5)
    with pytest.raises(OutputError, match=r"has changed: source a\..*--overwrite"):
        build_corpus(spec, tmp_path / "out", show_progress=False)
    assert digests(tmp_path / "out") == before
    report = build_corpus(spec, tmp_path / "out", overwrite=True, show_progress=False)
    build_corpus(spec, tmp_path / "fresh", show_progress=False)
    assert report.units_done > 0
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh") != before


def test_a_file_that_was_only_touched_is_the_same_source(tmp_path):
    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "out", show_progress=False)
    copied = tmp_path / "copy.h5ad"
    shutil.copyfile(tmp_path / "a.h5ad", copied)
    copied.replace(tmp_path / "a.h5ad")
    assert build_corpus(spec, tmp_path / "out", show_progress=False).units_done == 0


def test_a_complete_corpus_whose_templates_have_changed_is_refused(tmp_path):
    folder = own_templates(tmp_path / "mine", "Which")
    spec = quick_spec(tmp_path, templates=folder)
    build_corpus(spec, tmp_path / "out", show_progress=False)
    assert build_corpus(spec, tmp_path / "out", show_progress=False).units_done == 0
    own_templates(tmp_path / "mine", "Whose")
    with pytest.raises(OutputError, match=r"has changed: templates\."):
        build_corpus(spec, tmp_path / "out", show_progress=False)
    build_corpus(spec, tmp_path / "out", overwrite=True, show_progress=False)
    prompts = [r["prompt"] for r in rows_of(tmp_path / "out").values() if r["task"] == "tissue-annotation"]
    assert prompts and all("Whose tissue:" in prompt for prompt in prompts)


def test_templates_wording_and_gene_sets_are_read_again_when_their_files_change(tmp_path):
    folder = own_templates(tmp_path / "mine", "Which")
    assert "Which" in corpus_task("tissue-annotation", folder).templates[0].text
    own_templates(tmp_path / "mine", "Whose")
    assert "Whose" in corpus_task("tissue-annotation", folder).templates[0].text
    assert metadata_wording(folder).separator == "; "
    wording = (SHIPPED / "metadata.yaml").read_text().replace('separator: "; "', 'separator: " & "')
    (tmp_path / "mine" / "metadata.yaml").write_text(wording)
    assert metadata_wording(folder).separator == " & "
    sets = write_gene_sets(tmp_path, 3)
    assert len(read_gene_sets(str(sets)).names) == 3
    write_gene_sets(tmp_path, 4)
    assert len(read_gene_sets(str(sets)).names) == 4


def test_a_chunk_of_a_zarr_folder_that_changed_is_noticed(tmp_path):
    quick_spec(tmp_path)
    ad.read_h5ad(tmp_path / "a.h5ad").write_zarr(tmp_path / "a.zarr")
    spec = quick_spec(tmp_path, datasets=[{"path": str(tmp_path / "a.zarr"), "name": "a"}])
    before, look = contents(plan_corpus(spec)), quick_look(plan_corpus(spec))
    chunk = max((p for p in (tmp_path / "a.zarr" / "X").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    folder = (tmp_path / "a.zarr").stat()
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\x00")
    now = (tmp_path / "a.zarr").stat()
    assert (folder.st_size, folder.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
    assert quick_look(plan_corpus(spec))["source a"] != look["source a"]
    assert contents(plan_corpus(spec))["source a"] != before["source a"]
    assert stamp(tmp_path / "a.zarr") == stamp(tmp_path / "a.zarr")


def test_a_stopped_build_does_not_go_on_with_other_sources(tmp_path, monkeypatch):
    spec = quick_spec(tmp_path)
    stopped(spec, tmp_path / "out", monkeypatch)
    write_cells(tmp_path, "a", seed=5)
    with pytest.raises(OutputError, match=r"changed: .*source a"):
        build_corpus(spec, tmp_path / "out", show_progress=False)
    assert build_corpus(spec, tmp_path / "out", overwrite=True, show_progress=False).rows > 0


def test_a_source_that_changes_while_the_corpus_is_built_is_an_error(tmp_path, monkeypatch):
    from c2s.corpus import arrange

    spec = quick_spec(tmp_path)

    def meddle(plan, out):
        (tmp_path / "a.h5ad").touch()
        return arrange(plan, out)

    monkeypatch.setattr("c2s.corpus.build.arrange", meddle)
    with pytest.raises(OutputError, match=r"since the build in .* began, this has changed: source a"):
        build_corpus(spec, tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_manifest_holds_a_checksum_of_everything_the_corpus_is_made_from(tmp_path):
    folder = own_templates(tmp_path / "mine", "Which")
    spec = quick_spec(tmp_path, templates=folder, context={"tokenizer": "tiny", "tokens": 400})
    build_corpus(spec, tmp_path / "out", show_progress=False)
    manifest = open_corpus(tmp_path / "out").manifest
    stated = manifest["fingerprint"]
    assert set(stated) == {"specification", "templates", "abstracts", "tokenizer", "source a"}
    assert stated["source a"] == manifest["datasets"]["a"]["sha256"]
    assert stated["tokenizer"] == "tiny"
    # The words, not the place or the time of the file.
    other = own_templates(tmp_path / "elsewhere", "Which")
    moved = contents(plan_corpus(spec.model_copy(update={"templates": other})))
    assert {key for key in stated if stated[key] != moved[key]} == {"specification"}


def test_the_tokenizer_of_a_folder_is_part_of_the_fingerprint(tmp_path):
    build_corpus(quick_spec(tmp_path, context={"tokenizer": "tiny"}), tmp_path / "one", show_progress=False)
    folder = tmp_path / "tokenizer"
    shutil.copytree(tmp_path / "one" / "tokenizer", folder)
    spec = quick_spec(tmp_path, context={"tokenizer": str(folder)})
    build_corpus(spec, tmp_path / "out", show_progress=False)
    assert build_corpus(spec, tmp_path / "out", show_progress=False).units_done == 0
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation": None}) + "\n")
    with pytest.raises(OutputError, match=r"has changed: tokenizer"):
        build_corpus(spec, tmp_path / "out", show_progress=False)


def test_a_corpus_of_an_older_version_without_a_fingerprint_is_left_alone(tmp_path):
    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "out", show_progress=False)
    file = tmp_path / "out" / "manifest.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "fingerprint"}))
    assert build_corpus(spec, tmp_path / "out", show_progress=False).units_done == 0


def test_overwrite_takes_another_specification_keeps_other_files_and_needs_a_corpus(tmp_path):
    build_corpus(quick_spec(tmp_path), tmp_path / "out", show_progress=False)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    other = quick_spec(tmp_path, tasks=["single-cell-language-modeling"], seed=3)
    build_corpus(other, tmp_path / "out", overwrite=True, show_progress=False)
    build_corpus(other, tmp_path / "fresh", show_progress=False)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert {k: v for k, v in digests(tmp_path / "out").items() if k != "notes.txt"} == digests(tmp_path / "fresh")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "spec.yaml").write_text("mine: too")
    with pytest.raises(OutputError, match="holds no corpus that could be overwritten"):
        build_corpus(other, tmp_path / "thesis", overwrite=True, show_progress=False)
    with pytest.raises(OutputError, match="is a file"):
        build_corpus(other, tmp_path / "a.h5ad", overwrite=True, show_progress=False)
    assert (tmp_path / "thesis" / "spec.yaml").read_text() == "mine: too"
    build_corpus(other, tmp_path / "new", overwrite=True, show_progress=False)
    assert digests(tmp_path / "new") == digests(tmp_path / "fresh")


def test_scratch_files_beside_a_complete_corpus_go_but_not_while_another_build_holds_the_folder(tmp_path):
    from filelock import FileLock

    spec = quick_spec(tmp_path)
    build_corpus(spec, tmp_path / "out", show_progress=False)
    before = digests(tmp_path / "out")
    (tmp_path / "out" / ".work").mkdir()
    (tmp_path / "out" / ".work" / "scratch").write_text("of the other build")
    with FileLock(str(tmp_path / ".out.lock")), pytest.raises(OutputError, match="another build"):
        build_corpus(spec, tmp_path / "out", show_progress=False)
    assert (tmp_path / "out" / ".work" / "scratch").exists()
    assert build_corpus(spec, tmp_path / "out", show_progress=False).units_done == 0
    assert digests(tmp_path / "out") == before


def test_workers_beside_ray_and_no_workers_are_refused_at_once(tmp_path):
    spec = quick_spec(tmp_path)
    with pytest.raises(ConfigError, match="workers=2 are of this machine") as error:
        build_corpus(spec, tmp_path / "out", workers=2, ray="auto", show_progress=False)
    assert "not both" in error.value.fix
    with pytest.raises(ConfigError, match="workers is 0"):
        build_corpus(spec, tmp_path / "out", workers=0, show_progress=False)
    assert not (tmp_path / "out").exists()


def test_a_condition_that_no_prompt_can_state_is_refused_and_who_could_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no prompt of the chosen tasks states 'cell_type' \(nor can those"):
        quick_spec(tmp_path, conditions={"cell_type": 0.5})
    with pytest.raises(ConfigError, match=r"states 'tissue' \(those of single-cell-language-modeling, cell-type-"):
        quick_spec(tmp_path, tasks=["tissue-annotation"], conditions={"tissue": 0.3})
    # One share for all means all that can be stated; what is written out can be read back.
    spec = quick_spec(tmp_path, tasks=["tissue-annotation"], conditions=0.4)
    assert spec.conditions["tissue"] == spec.conditions["cell_type"] == 0 and spec.conditions["sex"] == 0.4
    for given in (spec, quick_spec(tmp_path, conditions={"sex": 0.2})):
        assert make_spec(**yaml.safe_load(given.to_yaml())) == given


def test_a_condition_that_ones_own_templates_state_is_stated(tmp_path):
    (tmp_path / "mine").mkdir()
    content = yaml.safe_load((SHIPPED / "tissue-annotation.yaml").read_text())
    content["conditions"] = ["cell_type", "sex"]
    (tmp_path / "mine" / "tissue-annotation.yaml").write_text(yaml.safe_dump(content))
    options = {"tasks": ["tissue-annotation"], "templates": str(tmp_path / "mine"), "cells": (1, 1)}
    build_corpus(
        quick_spec(tmp_path, conditions={"cell_type": 1}, **options), tmp_path / "out", show_progress=False
    )
    cells = ad.read_h5ad(tmp_path / "a.h5ad").obs["cell_type"]
    rows = rows_of(tmp_path / "out").values()
    assert rows and all(f"cell type: {cells[r['cell_ids'][0]]}" in r["prompt"] for r in rows)
    with pytest.raises(ConfigError, match="states 'disease'"):
        plan_corpus(quick_spec(tmp_path, conditions={"disease": 1}, **options))
