"""Bad gene sets and texts get the error class that names the mistake, and a message that ends with the fix.

One row per mistake: what is done, the exact class raised, what the message must say, and what its fix must name.
After every row nothing is in the folder but what was put there.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from bad_inputs import Case

import c2s
from c2s import errors as e
from c2s.data import GeneSets, read_cells, read_gmt
from c2s.metrics import bert_scores, gene_overlaps, load_text_encoder


def _file(folder: Path, content: str | bytes, name: str = "sets.gmt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _sets() -> GeneSets:
    return GeneSets(("INTERFERON", "APOPTOSIS"), ("", ""), (("ISG15", "MX1"), ("CASP3",)), "two.gmt")


CASES = [
    Case(
        "GMT line without tabs",
        e.InputFileError,
        r"sets\.gmt is not a sound GMT file: line 2 has no tab",
        "separated by tabs",
        lambda d: read_gmt(_file(d, "A\t\tG1\nB G2\n")),
    ),
    Case(
        "GMT line without a name",
        e.InputFileError,
        "line 1 has no name",
        "one set a line",
        lambda d: read_gmt(_file(d, "\tdescription\tG1\n")),
    ),
    Case(
        "GMT with a space in a symbol",
        e.InputFileError,
        "line 1 has the gene 'G 1', with a space",
        "separated by tabs",
        lambda d: read_gmt(_file(d, "A\t\tG 1\n")),
    ),
    Case(
        "GMT with one name for two sets",
        e.InputFileError,
        "lines 1 and 2 give different genes to 'A'",
        "each name once",
        lambda d: read_gmt(_file(d, "A\t\tG1\nA\t\tG2\n")),
    ),
    Case(
        "GMT not in UTF-8",
        e.InputFileError,
        "not UTF-8: byte 0xe9 in line 2",
        "iconv",
        lambda d: read_gmt(_file(d, b"A\t\tG1\nR\xe9ponse\t\tG2\n")),
    ),
    Case("empty GMT", e.InputFileError, "holds no gene set", "some", lambda d: read_gmt(_file(d, ""))),
    Case(
        "GMT cut short",
        e.InputFileError,
        r"cut\.gmt\.gz cannot be read",
        "again",
        lambda d: read_gmt(_file(d, gzip.compress(b"A\t\tG1\n" * 50)[:25], "cut.gmt.gz")),
    ),
    Case("no GMT file", e.InputFileError, r"no GMT file .*absent", "path", lambda d: read_gmt(d / "absent.gmt")),
    Case(
        "layer of gene sets",
        e.MatrixError,
        "have no layer 'counts'",
        "leave layer out",
        lambda d: read_cells(_file(d, "A\t\tG1\n"), layer="counts"),
    ),
    Case("unknown gene set", e.DatasetError, "'INTERFERONE'", "INTERFERON", lambda d: _sets()["INTERFERONE"]),
    Case(
        "no gene in common",
        e.DatasetError,
        "none of the 2 gene sets has 1 of the 1 genes",
        "spelling",
        lambda d: _sets().restricted_to(["isg15"]),
    ),
    Case(
        "threshold of near-copies",
        e.ConfigError,
        "the threshold is 0, not in",
        r"0\.4",
        lambda d: _sets().to_anndata(near_copy=0),
    ),
    Case(
        "gene sets without cell types",
        e.ObsError,
        "no obs column 'cell_type'",
        "label",
        lambda d: c2s.load_dataset(_file(d, "A\t\tG1\n"), label="cell_type"),
    ),
    Case(
        "overlap with nothing",
        e.MetricError,
        "reference 0 has no gene",
        "leave out",
        lambda d: gene_overlaps(["A"], [""]),
    ),
    Case(
        "overlap of lists of different lengths",
        e.MetricError,
        "2 predictions but 1 references",
        "one prediction",
        lambda d: gene_overlaps(["A", "B"], ["A"]),
    ),
    Case(
        "encoder that is not here",
        e.ModelError,
        "someone/no-such-bert is not on this machine",
        "hf download",
        lambda d: load_text_encoder("someone/no-such-bert"),
    ),
    Case(
        "encoder folder without a model",
        e.ModelError,
        r"no config\.json",
        "folder",
        lambda d: load_text_encoder(str(d)),
    ),
    Case(
        "BERTScore of different lengths",
        e.MetricError,
        "1 predictions but 2 references",
        "one prediction",
        lambda d: bert_scores(["a"], ["a", "b"]),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_message_says_what_was_wrong_and_how_to_mend_it(case, tmp_path):
    with pytest.raises(e.C2SError) as caught:
        case.do(tmp_path)
    assert type(caught.value) is case.error, repr(caught.value)
    assert re.search(case.says, caught.value.problem, flags=re.DOTALL), caught.value.problem
    assert re.search(case.fix, caught.value.fix), caught.value.fix
    assert {path.suffix for path in tmp_path.iterdir()} <= {".gmt", ".gz"}
