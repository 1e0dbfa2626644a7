"""Bad input to a corpus: a table like that of ``test_bad_inputs.py``, for ``c2s corpus`` and ``c2s prompts``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from bad_inputs import Case

from c2s import errors as e
from c2s.corpus import build_corpus, load_spec, make_spec, preview
from c2s.testing.cells import simulated_cells

TASKS = {"single-cell-language-modeling": 1}
MANY = {"single-cell-language-modeling": 1, "tissue-annotation": 1}


def cells(folder: Path, change: Callable[[ad.AnnData], Any] = lambda a: None, name: str = "in.h5ad") -> str:
    adata = simulated_cells(60)
    change(adata)
    adata.write_h5ad(folder / name)
    return str(folder / name)


def build(folder: Path, change: Callable[[ad.AnnData], Any] = lambda a: None, **options: Any) -> object:
    dataset = {"name": "x", "path": cells(folder, change)}
    given = {"datasets": [dataset], "tasks": TASKS, "genes": (5, 20)} | options
    return build_corpus(make_spec(**given), folder / "out", show_progress=False)


def spec(folder: Path, text: str | bytes) -> object:
    path = folder / "spec.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_spec(path)


def no_tissue(adata: ad.AnnData) -> None:
    del adata.obs["tissue"]


def one_donor(adata: ad.AnnData) -> None:
    adata.obs["donor_id"] = "only"


def nan_value(adata: ad.AnnData) -> None:
    adata.X.data[5] = np.nan


def scaled(adata: ad.AnnData) -> None:
    adata.X.data -= 5


def ensembl(adata: ad.AnnData) -> None:
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]


def gmt(folder: Path, text: bytes) -> str:
    (folder / "sets.gmt").write_bytes(text)
    return str(folder / "sets.gmt")


def of_sets(folder: Path, text: bytes) -> object:
    given = {"gene_sets": [gmt(folder, text)], "tasks": ["gene-set-naming"]}
    return build_corpus(make_spec(**given), folder / "out", show_progress=False)


def other_files(folder: Path) -> object:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.docx").write_text("precious")
    return build(folder)


def abstracts(folder: Path) -> object:
    table = pd.DataFrame({"collection_id": ["a"], "title": ["a"], "doi": [None], "description": ["A."]})
    table.to_parquet(folder / "abstracts.parquet")
    dataset = {"name": "x", "path": cells(folder), "columns": {"abstract_id": {"value": "b"}}}
    return build(folder, datasets=[dataset], tasks=["interpretation"], abstracts=str(folder / "abstracts.parquet"))


CASES = [
    # --- the specification
    Case("missing spec", e.InputFileError, "no specification", "corpora/", lambda d: load_spec(d / "no.yaml")),
    Case("spec is not YAML", e.InputFileError, "not readable YAML", "line", lambda d: spec(d, "tasks: [")),
    Case("spec is not UTF-8", e.InputFileError, "not readable YAML", "line", lambda d: spec(d, b"name: \xff\xfe")),
    Case("spec is a list", e.ConfigError, "not a mapping", "datasets", lambda d: spec(d, "- a\n- b\n")),
    Case("spec with a stranger's key", e.ConfigError, "'colour'", "tasks", lambda d: build(d, colour=1)),
    Case(
        "weight zero",
        e.ConfigError,
        "weight of 'tissue-annotation' is 0",
        "takes",
        lambda d: build(d, tasks={"tissue-annotation": 0}),
    ),
    Case(
        "task misspelt",
        e.ConfigError,
        r"did you mean 'tissue-annotation'\?",
        "takes",
        lambda d: build(d, tasks=["tissue-anotation"]),
    ),
    Case("no task", e.ConfigError, "no task is named", "takes", lambda d: build(d, tasks={})),
    Case("no dataset", e.ConfigError, "no dataset is named", "takes", lambda d: make_spec(tasks=TASKS)),
    Case(
        "gene set task without gene sets",
        e.ConfigError,
        "gene-set-naming need gene sets",
        "takes",
        lambda d: build(d, tasks=["gene-set-naming"]),
    ),
    Case(
        "two datasets of one name",
        e.ConfigError,
        "two datasets are named 'a'",
        "takes",
        lambda d: make_spec(tasks=TASKS, datasets=["a", "a"]),
    ),
    Case(
        "collection named as a dataset",
        e.ConfigError,
        "'sets'",
        "rename",
        lambda d: build(
            d,
            datasets=[{"name": "sets", "path": cells(d)}],
            gene_sets=[gmt(d, b"A\tx\tG1\tG2\nB\tx\tG3\nC\tx\tG4\n")],
            tasks=[*TASKS, "gene-set-naming"],
        ),
    ),
    Case(
        "range of genes upside down",
        e.ConfigError,
        "20 to 5 is no range",
        "takes",
        lambda d: build(d, genes=(20, 5)),
    ),
    Case(
        "shares that do not add up",
        e.ConfigError,
        r"add up to 1\.1",
        "takes",
        lambda d: build(d, split={"fractions": {"train": 0.8, "test": 0.3}}),
    ),
    Case(
        "unknown part",
        e.ConfigError,
        "unknown part 'dev'",
        "takes",
        lambda d: build(d, split={"fractions": {"train": 0.5, "dev": 0.5}}),
    ),
    Case("split by batch", e.ConfigError, "split.by", "takes", lambda d: build(d, split={"by": "batch"})),
    Case(
        "share of metadata above one",
        e.ConfigError,
        "share of 'sex' is 2",
        "takes",
        lambda d: build(d, conditions={"sex": 2}),
    ),
    Case(
        "unknown metadata",
        e.ConfigError,
        "unknown condition 'weather'",
        "takes",
        lambda d: build(d, conditions={"weather": 1}),
    ),
    Case(
        "column of no standard name",
        e.ConfigError,
        "age is no standard column",
        "takes",
        lambda d: build(d, datasets=[{"name": "x", "columns": {"age": "a"}}]),
    ),
    Case(
        "name with a slash back",
        e.ConfigError,
        "name",
        "takes",
        lambda d: build(d, datasets=[{"name": "../x", "path": "a.h5ad"}]),
    ),
    Case("tiny context", e.ConfigError, "32", "takes", lambda d: build(d, context={"tokens": 3})),
    # --- the sources
    Case(
        "missing file",
        e.InputFileError,
        "nowhere",
        "check the path",
        lambda d: build(d, datasets=[str(d / "nowhere.h5ad")]),
    ),
    Case(
        "dataset without cells",
        e.DatasetError,
        "msigdb_hallmark",
        ".",
        lambda d: build(d, datasets=["msigdb_hallmark"]),
    ),
    Case(
        "cells as gene sets",
        e.DatasetError,
        "no gene sets",
        "GMT",
        lambda d: build(d, gene_sets=["pbmc68k_reduced"], tasks=["gene-set-naming"]),
    ),
    Case(
        "missing column",
        e.ObsError,
        "no obs column 'patient'",
        "'patient'",
        lambda d: build(d, datasets=[{"name": "x", "path": cells(d), "columns": {"donor_id": "patient"}}]),
    ),
    Case(
        "missing layer",
        e.MatrixError,
        "no layer 'counts'",
        "layer",
        lambda d: build(d, datasets=[{"name": "x", "path": cells(d), "layer": "counts"}]),
    ),
    Case(
        "missing symbols",
        e.GeneError,
        "no column 'symbol'",
        "symbols",
        lambda d: build(d, datasets=[{"name": "x", "path": cells(d), "symbols": "symbol"}]),
    ),
    Case("Ensembl ids", e.GeneError, "Ensembl", "symbols", lambda d: build(d, ensembl)),
    Case("scaled values", e.MatrixError, "scaled", r"before sc\.pp\.scale", lambda d: build(d, scaled)),
    Case(
        "NaN in the matrix",
        e.MatrixError,
        "'cell0000'.*NaN",
        "layer",
        lambda d: build(d, nan_value, split={"by": "cell"}),
    ),
    Case(
        "nothing can be made",
        e.ConfigError,
        "has no tissue",
        "columns",
        lambda d: build(d, no_tissue, tasks=["tissue-annotation"], missing="skip"),
    ),
    Case(
        "study with one donor",
        e.ObsError,
        r"1 donor\(s\), too few for 3 parts",
        "split by cell",
        lambda d: build(d, one_donor),
    ),
    Case(
        "one study",
        e.ObsError,
        r"1 study\(s\), too few",
        "add datasets",
        lambda d: build(d, split={"by": "study"}),
    ),
    Case("abstract of no collection", e.DatasetError, "in no collection, first 'b'", "abstracts", abstracts),
    Case(
        "too few gene sets",
        e.ObsError,
        "1 gene sets",
        "another collection",
        lambda d: of_sets(d, b"A\tx\tG1\tG2\n"),
    ),
    # --- the build
    Case("folder with other files", e.OutputError, "thesis", "new folder", other_files),
    Case(
        "nothing to train on",
        e.ObsError,
        "No example of the corpus is in the train part, split by cell",
        "another seed, or more datasets",
        lambda d: build(d, split={"by": "cell", "fractions": {"train": 0.0001, "test": 0.9999}}),
    ),
    Case(
        "context too short for a cell",
        e.ContextError,
        "needs .* tokens with one gene per cell",
        "tokens",
        lambda d: build(
            d,
            tasks=["sample-cell-types"],
            cells=(15, 20),
            context={"tokens": 40},
            split={"by": "cell", "fractions": {"train": 1}},
            datasets=[
                {
                    "name": "x",
                    "path": cells(d),
                    "columns": {"donor_id": {"value": "all"}, "tissue": {"value": "blood"}},
                }
            ],
        ),
    ),
    Case(
        "missing tokenizer",
        e.ModelError,
        "nowhere",
        ".",
        lambda d: build(d, context={"tokenizer": str(d / "nowhere"), "tokens": 100}),
    ),
    # --- prompts
    Case(
        "prompts without the column",
        e.ConfigError,
        "has no tissue",
        "map",
        lambda d: preview("tissue-annotation", cells(d, no_tissue)),
    ),
    Case(
        "prompts with too many cells",
        e.ObsError,
        "no donor of 'data' has 500 cells",
        "fewer cells",
        lambda d: preview("tissue-annotation", cells(d), cells=(500, 500)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(case: Case, tmp_path: Path) -> None:
    with pytest.raises(e.C2SError) as raised:
        case.do(tmp_path)
    assert isinstance(raised.value, case.error)
    assert re.search(case.says, raised.value.problem), raised.value.problem
    assert re.search(case.fix, raised.value.fix), raised.value.fix
    # Nothing half-written: a build that was begun holds its scratch folder and what it says of itself, no shard.
    out = tmp_path / "out"
    assert not list(tmp_path.rglob("*.parquet")) or case.name in {"abstract of no collection"}
    assert not list(tmp_path.rglob("*.tmp")) and not (out / "manifest.json").exists()
