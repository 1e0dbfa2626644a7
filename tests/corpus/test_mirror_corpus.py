"""The twelve tasks from every real dataset of cells that has the columns."""

from __future__ import annotations

import collections
import warnings

import pyarrow.parquet as pq
import pytest
from examples_check import SourceCells, check_example

from c2s.corpus import build_corpus, load_spec, make_spec, open_corpus, preview
from c2s.corpus.plan import plan_corpus
from c2s.data import load_dataset
from c2s.data.collections import read_abstracts

pytestmark = pytest.mark.mirror

DATASETS = (
    *("pbmc_zheng_facs", "pbmc3k", "kang_ifnb", "kang_control", "liver_he2020", "breast_wu2021", "tcell_wu2020"),
    *("gbm_panobinostat", "jurkat_datlinger", "pbmc68k_reduced"),
)
CELL_TASKS = (
    *("single-cell-language-modeling", "cell-type-annotation", "conditional-cell-generation"),
    *("multi-cell-language-modeling", "tissue-annotation", "sample-cell-types"),
    *("conditional-sample-generation-tissue", "conditional-sample-generation-cell-types"),
    *("conditional-sample-generation-abstract", "interpretation"),
)


@pytest.mark.parametrize("name", DATASETS)
def test_every_example_of_a_real_dataset_can_be_read_back(name, mirror, tmp_path):
    spec = make_spec(
        datasets=[name],
        tasks={t: 0.03 if i < 3 else 0.5 for i, t in enumerate(CELL_TASKS)},
        context={"tokenizer": None, "tokens": 1500},
        split={"by": "cell"},
        missing="skip",
    )
    build_corpus(spec, tmp_path / "out", show_progress=False)
    corpus = open_corpus(tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells = load_dataset(name)
    abstracts = {str(k): str(v) for k, v in read_abstracts()["abstract"].items()}
    source = SourceCells(cells, {}, abstracts)
    made = collections.Counter()
    for part in corpus.parts:
        for file in corpus.files(part):
            for row in pq.read_table(file).to_pylist():
                check_example(row, source, spec.genes, spec.cells)
                made[row["task"]] += 1
    has = set(cells.obs.columns) & {"cell_type", "tissue", "donor_id", "abstract_id"}
    expected = {t for t in CELL_TASKS if _needs(t) <= has}
    assert set(made) == expected


def _needs(task: str) -> set[str]:
    from c2s.corpus import corpus_task

    return set(corpus_task(task).requires)


def test_the_corpus_of_all_mirror_datasets_is_planned_with_all_twelve_tasks(mirror, pytestconfig):
    spec = load_spec(pytestconfig.rootpath / "corpora" / "mirror.yaml")
    plan = plan_corpus(spec)
    assert len(plan.tasks) == 12 and len(plan.gene_sets) == 3
    assert {t for s in plan.sources for t in s.tasks} == set(CELL_TASKS)


def test_prompts_of_a_real_abstract(mirror):
    found = preview("interpretation", "breast_wu2021", genes=10, cells=(2, 2))
    assert all("breast" in p.answer for p in found)
    assert not any(p.answer in p.prompt for p in found)
