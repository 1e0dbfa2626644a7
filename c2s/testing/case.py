"""One task with everything its checks need: cells, sentences, templates, metrics and rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from anndata import AnnData

    from c2s.plugins import PluginHost
    from c2s.prompts import PromptTemplate
    from c2s.sentences import CellSentences
    from c2s.splits import Split
    from c2s.tasks import Baseline, Metric, Reward, Task


@dataclass
class Case:
    """A task under test.

    Attributes
    ----------
    task
        The task with its options.
    templates, metrics, rewards, baselines
        What the task names, looked up in the host.
    adata, sentences
        The cells.
    kept_whole
        Column whose values no split may cut, or None.
    """

    task: Task
    templates: Sequence[PromptTemplate]
    metrics: list[Metric]
    rewards: list[Reward]
    baselines: list[Baseline]
    adata: AnnData
    sentences: CellSentences
    kept_whole: str | None = "donor_id"
    _examples: dict[int, pa.Table] = field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls,
        task: str,
        *,
        options: Mapping[str, Any] | None = None,
        host: PluginHost | None = None,
        adata: AnnData | None = None,
        top_k: int | None = 16,
        kept_whole: str | None = "donor_id",
    ) -> Case:
        """Look a task up and make its cells into sentences.

        Parameters
        ----------
        task
            Registered name.
        options
            Options of the task.
        host
            Where names are looked up; default `c2s.default_host`.
        adata
            Normalised cells with the columns that the task needs; default the task's example cells, else
            `c2s.testing.simulated_cells`.
        top_k
            Genes per sentence.
        kept_whole
            Column whose values no split may cut, or None.
        """
        from c2s.plugins import default_host
        from c2s.sentences import to_cell_sentences
        from c2s.testing.cells import simulated_cells

        host = host or default_host()
        task_class = host.tasks.get(task)
        made = task_class.from_options(options or {})
        if adata is None:
            adata = made.example_cells()
        if adata is None:
            adata = simulated_cells()
        return cls(
            task=made,
            templates=host.prompts.get(task_class.prompts),
            metrics=[host.metrics.get(name) for name in task_class.metrics],
            rewards=[host.rewards.get(name) for name in task_class.rewards],
            baselines=[host.baselines.get(name) for name in task_class.baselines],
            adata=adata,
            sentences=to_cell_sentences(adata, top_k=top_k),
            kept_whole=kept_whole,
        )

    @property
    def obs(self) -> pd.DataFrame:
        """Columns of the cells, as the sentences carry them."""
        return self.sentences.obs

    def examples(self, seed: int = 0) -> pa.Table:
        """Examples of all cells, made once per seed."""
        if seed not in self._examples:
            self._examples[seed] = self.task.examples(self.sentences, self.templates, seed=seed)
        return self._examples[seed]

    def split(self, seed: int = 0) -> Split:
        """Split of all cells."""
        return self.task.split(self.obs, seed=seed)

    def part(self, name: str, seed: int = 0) -> pa.Table:
        """Examples of one part of the split."""
        chosen = self.sentences.select(self.split(seed).ids(name))
        return self.task.examples(chosen, self.templates, seed=seed)

    def without(self, columns: Sequence[str]) -> CellSentences:
        """Sentences of the same cells, lacking some columns of ``obs``."""
        present = [c for c in columns if c in self.sentences.table.column_names]
        return dataclasses.replace(self.sentences, table=self.sentences.table.drop_columns(present))

    def columns(self, examples: pa.Table) -> dict[str, list[Any]]:
        """Return the columns that rewards and metrics get as keywords."""
        return {name: examples[name].to_pylist() for name in examples.column_names if name != "prompt"}
