"""The contract that every task must hold; `c2s.testing` has its clauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from c2s_genesets.collections import TEXTBOOK_FILE

from c2s.data import read_gmt
from c2s.testing import TaskContract

if TYPE_CHECKING:
    from anndata import AnnData

pytest.importorskip("bert_score", reason="the extra c2s[text] is not installed")


class GeneSetContract(TaskContract):
    # Near-copies are what a split of gene sets must not cut.
    kept_whole = "overlap_group"

    def cells(self) -> AnnData:
        sets = read_gmt(TEXTBOOK_FILE)
        return sets.select(sets.names[:40]).to_anndata()


class TestEnumeration(GeneSetContract):
    task = "gene-set-enumeration"


class TestNaming(GeneSetContract):
    task = "gene-set-naming"


del GeneSetContract
