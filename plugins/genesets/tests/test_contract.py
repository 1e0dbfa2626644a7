"""The contract that every task must hold; `c2s.testing` has its clauses."""

from __future__ import annotations

import pytest

from c2s.testing import TaskContract

pytest.importorskip("bert_score", reason="the extra c2s[text] is not installed")


class GeneSetContract(TaskContract):
    # Near-copies are what a split of gene sets must not cut.
    kept_whole = "overlap_group"


class TestEnumeration(GeneSetContract):
    task = "gene-set-enumeration"


class TestNaming(GeneSetContract):
    task = "gene-set-naming"


del GeneSetContract
