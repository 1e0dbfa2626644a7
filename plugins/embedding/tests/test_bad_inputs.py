"""Bad input to embedding gets the error class that names the mistake, and a message that ends with the fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
After every row nothing is in the folder but what was put there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from c2s_embedding import (
    bulk_integration,
    bulk_pairs,
    compare_embedders,
    donor_halves,
    embed_cells,
    embed_file,
    embed_prompts,
    embed_samples,
    foscttm_of_knowing,
    integration_scores,
    label_transfer,
    pseudo_bulk,
    separation,
)
from c2s_embedding.files import embed_texts_file

import c2s
from c2s import errors as e
from c2s.testing import simulated_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s import LanguageModel

CELLS = simulated_cells(240)
BY = ("donor_id", "cell_type")
POINTS = np.random.default_rng(0).normal(size=(20, 3))
TYPES = ["a", "b"] * 10


@dataclass(frozen=True)
class Case:
    """One mistake."""

    name: str
    error: type[e.C2SError]
    says: str
    fix: str
    do: Callable[[LanguageModel, Path], object]


def _changed(change: Callable[[AnnData], object]) -> AnnData:
    adata = CELLS.copy()
    adata.obs = adata.obs.astype(str)
    change(adata)
    return adata


def _without_donor(adata: AnnData) -> None:
    adata.obs = adata.obs.drop(columns="donor_id")


def _one_unknown_type(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[3], "cell_type"] = None


def _not_a_number(adata: AnnData) -> None:
    adata.X.data[0] = np.nan


def _empty_cell(adata: AnnData) -> None:
    adata.X = adata.X.toarray()
    adata.X[5] = 0


def _pca(train: AnnData, seed: int) -> object:
    return c2s.default_host().embedders.get("pca").fitted(train, seed=seed)


def _with_nan(points: np.ndarray) -> np.ndarray:
    copy = points.copy()
    copy[4, 1] = np.nan
    return copy


def _dimensions_differ(folder: Path) -> object:
    pairs = bulk_pairs(CELLS, by=BY, n_cells=4)
    return bulk_integration(pairs, lambda side: np.ones((side.n_obs, 2 if side is pairs.cells else 3)))


def _saved(model: LanguageModel, folder: Path) -> Path:
    place = folder / "model"
    model.model.save_pretrained(place)
    model.tokenizer.save_pretrained(place)
    return place


def _file(folder: Path, adata: AnnData = CELLS) -> Path:
    adata.write_h5ad(folder / "in.h5ad")
    return folder / "in.h5ad"


def _left_by_another_run(model: LanguageModel, folder: Path) -> object:
    left = folder / "out.h5ad.embedding"
    left.mkdir()
    settings = {"format": "c2s vectors 1", "model": "another", "prompts": "others", "block": 1024}
    (left / "settings.json").write_text(json.dumps(settings))
    return embed_file(_file(folder), folder / "out.h5ad", _saved(model, folder), top_k=4, show_progress=False)


def _has_vectors(model: LanguageModel, folder: Path) -> object:
    adata = CELLS.copy()
    adata.obsm["X_c2s"] = np.zeros((adata.n_obs, 2))
    return embed_file(_file(folder, adata), folder / "out.h5ad", _saved(model, folder), show_progress=False)


def _text(folder: Path, content: bytes) -> Path:
    (folder / "in.txt").write_bytes(content)
    return folder / "in.txt"


CASES = [
    Case(
        "pairs without a donor column",
        e.ObsError,
        "no column 'donor_id'",
        "instead of 'donor_id'",
        lambda m, d: bulk_pairs(_changed(_without_donor), by=BY),
    ),
    Case(
        "a cell without a type",
        e.ObsError,
        "'cell_type' is empty for 1 cell",
        "leave these cells out",
        lambda m, d: bulk_pairs(_changed(_one_unknown_type), by=BY),
    ),
    Case(
        "fewer than ten cells in every group",
        e.ObsError,
        "0 of 24 groups .* have 20 cells.*largest has 10",
        "n_cells",
        lambda m, d: bulk_pairs(CELLS, by=BY),
    ),
    Case(
        "no cell to pair",
        e.ConfigError,
        "n_cells=0 is below 1",
        "draws 10",
        lambda m, d: bulk_pairs(CELLS, by=BY, n_cells=0),
    ),
    Case(
        "cell ids twice",
        e.ObsError,
        "is there twice",
        "obs_names_make_unique",
        lambda m, d: bulk_pairs(_changed(lambda a: setattr(a, "obs_names", ["x"] * a.n_obs)), by=BY),
    ),
    Case(
        "nothing to group by",
        e.ConfigError,
        "no column to group by",
        "by=",
        lambda m, d: pseudo_bulk(CELLS, by=()),
    ),
    Case(
        "a layer that is not there",
        e.ConfigError,
        "no layer 'counts'",
        "leave it out",
        lambda m, d: pseudo_bulk(CELLS, by=BY, layer="counts"),
    ),
    Case(
        "NaN in the expression",
        e.MatrixError,
        "NaN",
        "counts or log1p",
        lambda m, d: pseudo_bulk(_changed(_not_a_number), by=BY),
    ),
    Case(
        "a sample of nothing",
        e.MatrixError,
        "all cells of 1 sample",
        "min_genes=1",
        lambda m, d: pseudo_bulk(
            _changed(lambda a: (_empty_cell(a), a.obs.__setitem__("donor_id", list("a" * 5 + "b" + "a" * 234)))),
            by=("donor_id",),
        ),
    ),
    Case(
        "a column the samples are not by",
        e.ObsError,
        "not by 'tissue'",
        "donor_id, cell_type",
        lambda m, d: foscttm_of_knowing(bulk_pairs(CELLS, by=BY, n_cells=4), "tissue"),
    ),
    Case(
        "cells and samples of other dimensions",
        e.MetricError,
        "embedded as .*2.* the samples as .*3",
        "same fitted embedder",
        lambda m, d: _dimensions_differ(d),
    ),
    Case(
        "training and test vectors of other dimensions",
        e.MetricError,
        "3 dimensions, test vectors 2",
        "same fitted embedder",
        lambda m, d: label_transfer(POINTS, TYPES, POINTS[:, :2]),
    ),
    Case(
        "NaN in the vectors",
        e.MetricError,
        "1 of the training vectors hold NaN.*first row 4",
        "leave them out",
        lambda m, d: label_transfer(_with_nan(POINTS), TYPES, POINTS),
    ),
    Case(
        "vectors that are a list",
        e.MetricError,
        "shape",
        "one vector per cell",
        lambda m, d: label_transfer([1.0, 2.0], TYPES[:2], POINTS),
    ),
    Case(
        "labels that are too few",
        e.MetricError,
        "3 labels for 20 vectors",
        "one per vector",
        lambda m, d: separation(POINTS, TYPES[:3]),
    ),
    Case(
        "a label that is missing",
        e.MetricError,
        "1 of the labels are missing, first row 0",
        "leave these cells out",
        lambda m, d: separation(POINTS, [None, *TYPES[1:]]),
    ),
    Case(
        "no neighbour to vote",
        e.ConfigError,
        "k=0 is below 1",
        "15 is usual",
        lambda m, d: label_transfer(POINTS, TYPES, POINTS, k=0),
    ),
    Case(
        "one type has no silhouette",
        e.MetricError,
        r"1 type\(s\) of 20 cells",
        "at least two types",
        lambda m, d: separation(POINTS, ["a"] * 20),
    ),
    Case(
        "one batch has nothing to mix",
        e.MetricError,
        "of one batch",
        "at least two (batch)",
        lambda m, d: integration_scores(POINTS, TYPES, ["x"] * 20),
    ),
    Case(
        "more neighbours than cells",
        e.ConfigError,
        "90 neighbours of 20 cells",
        "n_neighbors between",
        lambda m, d: integration_scores(POINTS, TYPES, TYPES),
    ),
    Case(
        "one donor cannot be halved",
        e.ObsError,
        "'donor_id' has one value",
        "two donors",
        lambda m, d: donor_halves(pd.DataFrame({"donor_id": ["a", "a"]}, index=["x", "y"])),
    ),
    Case(
        "nothing to compare, by the wrong columns",
        e.ConfigError,
        "by lacks 'donor_id'; no embedder",
        "give embedders",
        lambda m, d: compare_embedders(CELLS, {}, by=("cell_type",)),
    ),
    Case(
        "an empty cell",
        e.MatrixError,
        "1 cell.s. express no gene, first 'cell0005'",
        "min_genes=1",
        lambda m, d: embed_cells(m, _changed(_empty_cell), top_k=5),
    ),
    Case(
        "no gene to show",
        e.ConfigError,
        "top_k=0 is below 1",
        "200 is usual",
        lambda m, d: embed_cells(m, CELLS, top_k=0),
    ),
    Case(
        "a prompt that shows no cell",
        e.PromptError,
        "reads nothing of a cell",
        "{cell_sentence}",
        lambda m, d: embed_cells(m, CELLS, template="cell"),
    ),
    Case(
        "a prompt with a column that is not there",
        e.ObsError,
        "no column 'stage'",
        "instead of 'stage'",
        lambda m, d: embed_cells(m, CELLS, template="{stage} {cell_sentence}"),
    ),
    Case(
        "no prompt",
        e.PromptError,
        "nothing to embed",
        "at least one record",
        lambda m, d: embed_prompts(m, "x", []),
    ),
    Case(
        "a sample's prompt without cells",
        e.PromptError,
        "no field {cells}",
        "write {cells}",
        lambda m, d: embed_samples(m, CELLS, template="{tissue}"),
    ),
    Case(
        "a sample's prompt with what its cells do not share",
        e.PromptError,
        "needs sex",
        "give the column",
        lambda m, d: embed_samples(m, CELLS, template="{sex} {cells}", n_cells=(2, 3)),
    ),
    Case(
        "no group with enough cells for a sample",
        e.ObsError,
        "no group of donor_id, tissue has 50 cells",
        "lower n_cells",
        lambda m, d: embed_samples(m, CELLS, n_cells=(50, 60)),
    ),
    Case(
        "an output that is no h5ad",
        e.OutputError,
        "does not end in .h5ad or .zarr",
        "out.h5ad",
        lambda m, d: embed_file(_file(d), d / "out.csv", d / "model"),
    ),
    Case("vectors are there already", e.ConfigError, r"obsm\['X_c2s'\] already", "--key", _has_vectors),
    Case(
        "what another run left",
        e.OutputError,
        "another model and another prompts",
        "delete that folder",
        _left_by_another_run,
    ),
    Case(
        "blocks of no cell",
        e.ConfigError,
        "block=0 is below 1",
        "1024",
        lambda m, d: embed_file(_file(d), d / "out.h5ad", d / "model", block=0),
    ),
    Case(
        "texts that are none",
        e.InputFileError,
        "holds no text",
        "one text a line",
        lambda m, d: embed_texts_file(_text(d, b"\n\n"), d / "out.h5ad", d / "model"),
    ),
    Case(
        "texts that are bytes",
        e.InputFileError,
        "cannot be read as text",
        "UTF-8",
        lambda m, d: embed_texts_file(_text(d, b"\xff\xfe\x00"), d / "out.h5ad", d / "model"),
    ),
    Case(
        "an embedder with a column that is not there",
        e.ObsError,
        "no column 'stage'",
        "leave label out",
        lambda m, d: c2s.default_host().embedders.get("c2s_tiny").fitted(CELLS, label="stage"),
    ),
    Case(
        "an embedder that takes no step",
        e.ConfigError,
        "max_steps=0 is below 1",
        "max_steps=400",
        lambda m, d: c2s.default_host().embedders.get("c2s_tiny").fitted(CELLS, max_steps=0),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_mistake_is_named_and_the_fix_is_told(case: Case, c2s_tiny_model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(e.C2SError) as caught:
        case.do(c2s_tiny_model, tmp_path)
    assert type(caught.value) is case.error, caught.value
    assert re.search(case.says, caught.value.problem), caught.value
    assert case.fix in caught.value.fix, caught.value
    given = {"in.h5ad", "in.txt", "model", "out.h5ad.embedding"}
    assert {path.name for path in tmp_path.iterdir()} <= given
