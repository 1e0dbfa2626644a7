"""Bad input to the simulators: the error class names the kind of mistake, and the message ends with the fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
After every row nothing is left in the folder.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import Case

from c2s import errors as e
from c2s.data import simulate


def _cells(n=40):
    return simulate.shipped_counts().sample(n)


def _normalised():
    adata = _cells()
    adata.X.data = np.log1p(adata.X.data * 0.7)
    return adata


def _twice():
    adata = _cells()
    adata.var_names = ["ACTB", "ACTB", *adata.var_names[2:]]
    return adata


def _file(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.json"
    path.write_text(text)
    return path


def _load(folder: Path, text: str) -> object:
    path = _file(folder / "given", text)
    try:
        return simulate.CountModel.load(path)
    finally:
        path.unlink()
        path.parent.rmdir()


def _impossible() -> str:
    return simulate.shipped_counts().to_json().replace('"library_quantiles": [', '"library_quantiles": [99999, ')


CASES = [
    Case("no cells", e.ConfigError, "n_cells.*got 0", "it takes n_cells", lambda d: simulate.atlas(n_cells=0)),
    Case(
        "unknown tissue",
        e.ConfigError,
        "no tissue 'spleem'",
        "tissues",
        lambda d: simulate.atlas(tissues=["spleem"]),
    ),
    Case("no tissue", e.ConfigError, "one tissue or more", "tissues", lambda d: simulate.atlas(tissues=[])),
    Case(
        "a tissue twice",
        e.ConfigError,
        "each once",
        "tissues",
        lambda d: simulate.atlas(tissues=["blood", "blood"]),
    ),
    Case(
        "unknown option",
        e.ConfigError,
        "unknown option 'n_cell'",
        "n_cells",
        lambda d: simulate.atlas(n_cell=5),
    ),
    Case(
        "share above one", e.ConfigError, "sick_share.*got 2", "sick_share", lambda d: simulate.atlas(sick_share=2)
    ),
    Case(
        "chunk of nothing",
        e.ConfigError,
        "chunk must be 1 or more, got 0",
        "chunk=4096",
        lambda d: simulate.write_atlas(d / "a.h5ad", 5, chunk=0),
    ),
    Case(
        "an output that exists",
        e.OutputError,
        "the output .* exists already",
        "overwrite=True",
        lambda d: simulate.write_atlas(__file__, 5),
    ),
    Case(
        "unknown cytokine",
        e.ConfigError,
        "no cytokine 'IL-99'; there are IFN-beta",
        "synergy",
        lambda d: simulate.cytokines(synergy={"TNF+IL-99": 0}),
    ),
    Case(
        "synergy of one",
        e.ConfigError,
        "'TNF' is not a combination",
        "synergy",
        lambda d: simulate.cytokines(synergy={"TNF": 0}),
    ),
    Case(
        "no duration",
        e.ConfigError,
        "one duration or more",
        "durations",
        lambda d: simulate.cytokines(durations=[]),
    ),
    Case("a dose of zero", e.ConfigError, r"doses\.0.*got 0", "doses", lambda d: simulate.drug_screen(doses=[0])),
    Case(
        "unknown niche",
        e.ConfigError,
        "no niche 'mantle'",
        "niche_shares",
        lambda d: simulate.spatial(niche_shares={"mantle": 1}),
    ),
    Case(
        "negative coupling", e.ConfigError, "coupling.*got -1", "coupling", lambda d: simulate.spatial(coupling=-1)
    ),
    Case(
        "fit to normalised values",
        e.MatrixError,
        "raw counts, and these are log1p",
        "normalise='never'",
        lambda d: simulate.fit_counts(_normalised()),
    ),
    Case(
        "fit to a handful of cells",
        e.MatrixError,
        "3 cells with counts",
        "at least 20 cells",
        lambda d: simulate.fit_counts(_cells(3)),
    ),
    Case(
        "fit to a gene twice",
        e.GeneError,
        "'ACTB' is there more than once",
        "var_names_make_unique",
        lambda d: simulate.fit_counts(_twice()),
    ),
    Case(
        "fit within no such groups",
        e.ObsError,
        "no column 'type'",
        "name one of them",
        lambda d: simulate.fit_counts(_cells(), group="type"),
    ),
    Case(
        "missing count model",
        e.InputFileError,
        "there is no count model",
        "fit_counts",
        lambda d: simulate.CountModel.load(d / "gone.json"),
    ),
    Case(
        "not a count model",
        e.InputFileError,
        r"model\.json is no count model",
        "fit_counts",
        lambda d: _load(d, '{"genes": []}'),
    ),
    Case(
        "impossible count model",
        e.ConfigError,
        "library_quantiles must be",
        "fit_counts",
        lambda d: _load(d, _impossible()),
    ),
    Case(
        "no truth",
        e.ObsError,
        "carry no truth",
        "c2s.data.simulate",
        lambda d: simulate.truth_of(_cells()),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_message_says_what_was_wrong_and_how_to_mend_it(case, tmp_path):
    with pytest.raises(e.C2SError) as caught:
        case.do(tmp_path)
    assert type(caught.value) is case.error
    assert re.search(case.says, caught.value.problem, flags=re.DOTALL) or re.search(case.says, str(caught.value))
    assert re.search(case.fix, caught.value.fix)
    assert not list(tmp_path.iterdir())
