"""`TaskContract`: what every task must hold, inherited by a plugin's tests in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from c2s.testing import checks, running, scoring
from c2s.testing.case import Case

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.plugins import PluginHost


class TaskContract:
    """The contract of a task: inherit, name the task, and pytest checks it.

    ::

        class TestMyTask(TaskContract):
            task = "my-task"

    Attributes
    ----------
    task
        Registered name.
    options
        Options of the task other than its defaults.
    top_k
        Genes per sentence.
    kept_whole
        Column whose values no split may cut. Set None only for a task that is split otherwise (by coordinates,
        say).
    """

    task: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    top_k: ClassVar[int | None] = 16
    kept_whole: ClassVar[str | None] = "donor_id"
    _case: ClassVar[Case]

    def cells(self) -> AnnData | None:
        """Return the cells to test with: normalised, with every column the task states.

        None stands for the task's own `example_cells`, else `c2s.testing.simulated_cells`. Override as needed.
        """
        return None

    def host(self) -> PluginHost:
        """Return the host that knows the task; the default one unless a test brings its own."""
        from c2s.plugins import default_host

        return default_host()

    @pytest.fixture
    def case(self) -> Case:
        """Build the task with its cells, once per class."""
        cls = type(self)
        if "_case" not in vars(cls):
            cls._case = Case.build(
                self.task,
                options=self.options,
                host=self.host(),
                adata=self.cells(),
                top_k=self.top_k,
                kept_whole=self.kept_whole,
            )
        return cls._case

    @pytest.mark.parametrize("check", [*checks.CHECKS, *scoring.CHECKS], ids=lambda check: check.__name__)
    def test_contract(self, case: Case, check: Callable[[Case], None]) -> None:
        """Check one clause of the contract; none of these trains anything."""
        check(case)

    def test_same_examples_in_another_process(self, case: Case) -> None:
        """Make the examples in a process with another hash seed."""
        checks.same_examples_in_another_process(case)

    def test_prompts_fit_the_context(self, case: Case) -> None:
        """Measure every prompt with the tiny model's tokenizer."""
        running.prompts_fit_the_context(case)

    def test_baselines_answer(self, case: Case) -> None:
        """Run every baseline that the task names."""
        running.baselines_answer(case)

    def test_trains_and_predicts(self, case: Case, tmp_path: Path) -> None:
        """Train the tiny model for a few steps and predict with it."""
        running.trains_and_predicts(case, tmp_path)
