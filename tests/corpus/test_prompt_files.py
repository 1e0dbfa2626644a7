"""Template files: those that come with c2s are sound, and a person's own are checked before they are used."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from c2s.corpus import TASKS, corpus_task, corpus_tasks, preview
from c2s.corpus.prompt_files import CONDITIONS, SHIPPED, metadata_wording
from c2s.errors import ConfigError, InputFileError, RegistryError

#: Table 1 of the paper: what each task shows and what it wants.
TABLE = {
    "single-cell-language-modeling": ("", "cell_sentence", "overlap"),
    "cell-type-annotation": ("cell_sentence", "cell_type", "bert_score"),
    "conditional-cell-generation": ("cell_type", "cell_sentence", "overlap"),
    "multi-cell-language-modeling": ("", "cells", "overlap"),
    "tissue-annotation": ("cells", "tissue", "bert_score"),
    "sample-cell-types": ("cells", "cell_types", "bert_score"),
    "conditional-sample-generation-tissue": ("tissue", "cells", "overlap"),
    "conditional-sample-generation-cell-types": ("cell_types", "cells", "overlap"),
    "conditional-sample-generation-abstract": ("abstract", "cells", "overlap"),
    "interpretation": ("cells", "abstract", "bert_score"),
    "gene-set-enumeration": ("gene_set", "genes", "overlap"),
    "gene-set-naming": ("genes", "gene_set", "bert_score"),
}


def test_inputs_targets_and_metrics_are_those_of_table_1():
    tasks = corpus_tasks()
    assert tuple(tasks) == TASKS == tuple(TABLE)
    for name, (shown, wanted, metric) in TABLE.items():
        for template in tasks[name].templates:
            about = set(template.fields) - {"n_genes", "n_cells", "metadata"}
            assert about == ({shown} if shown else set()), template.name
            assert re.findall(r"\{(\w+)\}", template.answer) == [wanted]
        assert tasks[name].metric == metric
        assert len(tasks[name].templates) >= 3


def test_every_piece_of_metadata_can_be_stated_by_every_task_of_cells_that_does_not_ask_for_it():
    assert set(metadata_wording().fields) == set(CONDITIONS)
    for task in corpus_tasks().values():
        if task.kind == "gene-set":
            continue
        for condition in ("organism", "disease", "perturbation", "sex", "development_stage"):
            assert condition in task.conditions


def test_a_task_of_ones_own_words_replaces_the_shipped_one(tmp_path, everything):
    content = yaml.safe_load((SHIPPED / "cell-type-annotation.yaml").read_text())
    content["templates"] = [{"name": "mine", "text": "Name it: {cell_sentence}. So:", "answer": "{cell_type}!"}]
    (tmp_path / "cell-type-annotation.yaml").write_text(yaml.safe_dump(content))
    assert [t.name for t in corpus_task("cell-type-annotation", tmp_path).templates] == [
        "cell-type-annotation/mine"
    ]
    assert len(corpus_tasks(tmp_path)) == 12
    shown = preview("cell-type-annotation", str(everything.folder / "a.h5ad"), templates=str(tmp_path), genes=4)
    assert re.fullmatch(r"Name it: (\S+ ){3}\S+\. So:", shown[0].prompt)
    assert shown[0].answer.endswith("!")


def broken(folder: Path, **changes) -> Path:
    content = yaml.safe_load((SHIPPED / "tissue-annotation.yaml").read_text())
    (folder / "tissue-annotation.yaml").write_text(yaml.safe_dump({**content, **changes}))
    return folder


@pytest.mark.parametrize(
    "text, answer, problem",
    [
        ("{cells}. Tissue {tissue}:", "{tissue}", "asked for and given away"),
        ("Tissue:", "{tissue}", "exactly once"),
        ("{cells} {cells}", "{tissue}", "exactly once"),
        ("{cells}. {colour}", "{tissue}", "'?colour.* not a field"),
        ("{cells}. Types {cell_types}", "{tissue}", "needs 'cell_type' in requires"),
        ("{cells}. Tissue: ", "{tissue}", "ends with a space"),
        ("Cells:{cells}.", "{tissue}", "must follow a space"),
        ("{cells} {", "{tissue}", "malformed"),
    ],
)
def test_a_template_that_would_make_wrong_examples_is_refused(tmp_path, text, answer, problem):
    folder = broken(tmp_path, templates=[{"name": "x", "text": text, "answer": answer}])
    with pytest.raises(ConfigError, match=problem):
        corpus_tasks(folder)


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"requires": ["tissue"]}, "requires: 'donor_id' is missing"),
        ({"requires": ["donor_id", "tissue", "colour"]}, "'colour' is no standard column"),
        ({"kind": "cell"}, "kind is 'cell', and this task's is 'sample'"),
        (
            {
                "requires": ["donor_id", "tissue", "cell_type"],
                "templates": [
                    {"name": "one", "text": "{cells}. Tissue:", "answer": "{tissue}"},
                    {"name": "two", "text": "{cells}. Types:", "answer": "{cell_types}"},
                ],
            },
            r"two asks for {cell_types}, and one for {tissue}; all must ask for the same",
        ),
    ],
)
def test_a_task_file_that_cannot_be_dealt_or_scored_is_refused(tmp_path, changes, problem):
    with pytest.raises(ConfigError, match=problem):
        corpus_tasks(broken(tmp_path, **changes))


def test_all_problems_of_a_template_file_are_reported_at_once(tmp_path):
    twice = {"name": "x", "text": "{cells}. Tissue:", "answer": "{tissue}"}
    folder = broken(tmp_path, conditions=["tissue", "weather"], templates=[twice, twice])
    with pytest.raises(ConfigError) as error:
        corpus_tasks(folder)
    assert len(error.value.problems) >= 3


def test_files_that_belong_to_no_task_and_broken_yaml_are_named(tmp_path):
    (tmp_path / "my-task.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"my-task\.yaml belongs to no task"):
        corpus_tasks(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "tissue-annotation.yaml").write_text("a: [")
    with pytest.raises(InputFileError, match=r"tissue-annotation\.yaml is not readable YAML"):
        corpus_tasks(other)
    with pytest.raises(InputFileError, match="no folder of templates"):
        corpus_tasks(tmp_path / "nowhere")
    with pytest.raises(RegistryError, match="did you mean 'tissue-annotation'"):
        corpus_task("tissue-anotation")


def test_the_wording_of_metadata_is_checked(tmp_path):
    shutil.copy(SHIPPED / "metadata.yaml", tmp_path)
    content = yaml.safe_load((tmp_path / "metadata.yaml").read_text())
    del content["fields"]["sex"]
    content["fields"]["organism"] = "no place for it"
    content["fields"]["weather"] = "{value}"
    content["forms"] = ["nothing "]
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as error:
        metadata_wording(str(tmp_path))
    assert len(error.value.problems) == 4


@pytest.mark.parametrize("task", [name for name in TASKS if "gene-set" not in name])
def test_a_preview_fills_every_template_with_cells_of_the_data(everything, task, monkeypatch):
    texts = pd.DataFrame({"abstract": ["About something."]}, index=["study-a"])
    monkeypatch.setattr("c2s.data.collections.read_abstracts", lambda path: texts)
    found = preview(task, str(everything.folder / "a.h5ad"), genes=6, cells=(2, 3))
    assert [p.template for p in found] == [t.name for t in corpus_task(task).templates]
    known = set(everything.cells["a"].obs_names)
    assert all(p.prompt and p.answer and set(p.cell_ids) <= known for p in found)
    assert found == preview(task, str(everything.folder / "a.h5ad"), genes=6, cells=(2, 3))


def test_a_preview_of_gene_sets(everything):
    found = preview("gene-set-naming", str(everything.folder / "sets.gmt"), genes=5)
    assert len(found) == 3 and all("process" in p.answer for p in found)
