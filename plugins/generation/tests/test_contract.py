"""The contract that every task must hold; `c2s.testing` has its clauses."""

from __future__ import annotations

from c2s.testing import TaskContract


class TestConditionalCell(TaskContract):
    task = "conditional-cell-generation"


class TestHeldOutCombination(TaskContract):
    task = "conditional-cell-generation"
    options = {"conditions": ["cell_type", "tissue"], "held_out": ["cell_type=B cell & tissue=spleen"]}
    # What a held-out condition keeps whole is the condition: its cells come from donors that are trained on too.
    kept_whole = None


class TestUnconditionalCell(TaskContract):
    task = "single-cell-language-modeling"


class TestUnconditionalSample(TaskContract):
    task = "multi-cell-language-modeling"
    options = {"min_cells": 2, "max_cells": 4}


class TestTissueSample(TaskContract):
    task = "conditional-sample-generation-tissue"
    options = {"min_cells": 2, "max_cells": 4}


class TestCellTypesSample(TaskContract):
    task = "conditional-sample-generation-cell-types"
    options = {"min_cells": 2, "max_cells": 4}


class TestAbstractSample(TaskContract):
    task = "conditional-sample-generation-abstract"
    options = {"min_cells": 2, "max_cells": 4}
