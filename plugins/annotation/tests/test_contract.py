"""The contract that every task must hold; `c2s.testing` has its clauses."""

from __future__ import annotations

from c2s.testing import TaskContract


class TestAnnotation(TaskContract):
    task = "annotation"


class TestTissue(TaskContract):
    task = "tissue"
    options = {"min_cells": 2, "max_cells": 4}


class TestCellTypesOfASample(TaskContract):
    task = "sample-cell-types"
    options = {"min_cells": 2, "max_cells": 4}
