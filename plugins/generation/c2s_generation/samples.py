"""Several cells of one donor at once: of any sample, of a tissue, of given types, of a study (table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from c2s import CellSentences, PromptTemplate, choose_template, example_table
from c2s.contexts import draw_contexts
from c2s_generation.answers import numbered
from c2s_generation.cells import GenerationTask
from c2s_generation.conditions import condition_table, conditions_of_cells, described

if TYPE_CHECKING:
    import pyarrow as pa
    from anndata import AnnData

_SAMPLE_PROFILES: Mapping[str, Mapping[str, object]] = {
    "smoke": {"top_k": 10, "max_steps": 10, "eval_every": 10, "batch_size": 8, "learning_rate": 3e-3},
    "laptop": {"top_k": 25, "max_steps": 300, "batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 20},
    "paper": {
        "top_k": 200,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 1e-5,
        "lr_schedule": "linear",
        "weight_decay": 0.01,
    },
}


@dataclass(frozen=True)
class SampleTask(GenerationTask):
    """Write several cells of one donor and one tissue.

    Parameters
    ----------
    tissue
        Column that all cells of a sample share, where it is there.
    min_cells, max_cells
        Cells per prompt.
    """

    tissue: str = "tissue"
    min_cells: int = 5
    max_cells: int = 20

    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = _SAMPLE_PROFILES
    paper_section: ClassVar[str] = "table 1"
    metrics: ClassVar[tuple[str, ...]] = ("cells_overlap",)
    rewards: ClassVar[tuple[str, ...]] = ("cell_overlap_f1",)
    #: Whether the condition is one value per cell, told in the order of the cells, or one for the sample.
    told_per_cell: ClassVar[bool] = False

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """The donor and tissue columns."""
        return tuple(c for c in (self.donor, self.tissue) if c not in self.conditions)

    def examples(
        self,
        sentences: CellSentences,
        templates: Sequence[PromptTemplate],
        *,
        seed: int = 0,
        answers: bool = True,
    ) -> pa.Table:
        """Make one example per sample; cells without expressed genes are left out first."""
        obs = sentences.obs
        obs = obs[obs["n_genes"] > 0]
        table = condition_table(obs, self.conditions)
        known = dict(zip(table.index, conditions_of_cells(table), strict=True))
        shared = () if self.told_per_cell else self.conditions
        within = [*(c for c in (self.donor, self.tissue) if c in obs and c not in shared), *shared]
        text = dict(zip(*(sentences.table[c].to_pylist() for c in ("cell_id", "cell_sentence")), strict=True))
        records = []
        for context in draw_contexts(obs, within=within, n_cells=(self.min_cells, self.max_cells), seed=seed):
            template = choose_template(templates, context.context_id, seed)
            cells = [text[cell_id] for cell_id in context.cell_ids]
            per_cell = [known[cell_id] for cell_id in context.cell_ids]
            record = self.asked(per_cell, max(len(cell.split()) for cell in cells))
            record |= {"cells": numbered(cells) if answers else None}
            records.append(
                {
                    "example_id": context.context_id,
                    "prompt": template.render(record),
                    "answer": template.render_answer(record) if answers else None,
                    "template": template.name,
                    "cell_ids": list(context.cell_ids),
                    **record,
                }
            )
        return example_table(records)

    def asked(self, conditions: Sequence[Mapping[str, str]], n_genes: int) -> dict[str, object]:
        """Return what a template needs to ask for a sample, given the conditions of each of its cells."""
        if self.told_per_cell:
            # A comma within a value must not look like one between values; only the prompt says it this way.
            listed = {c: " , ".join(cell[c].replace(",", ";") for cell in conditions) for c in self.conditions}
            condition = described(listed)
        else:
            condition = described(conditions[0])
        return {"condition": condition or "any", "n_cells": len(conditions), "n_listed": n_genes}


@dataclass(frozen=True)
class UnconditionalSampleTask(SampleTask):
    """Write cells of any sample (table 1, *multiple cell language modeling*)."""

    name: ClassVar[str] = "multi-cell-language-modeling"
    title: ClassVar[str] = "Generation of any sample"
    prompts: ClassVar[str] = "multi-cell-language-modeling"


@dataclass(frozen=True)
class TissueSampleTask(SampleTask):
    """Write cells of a tissue (table 1, *conditional sample generation (tissue)*)."""

    conditions: tuple[str, ...] = ("tissue",)

    name: ClassVar[str] = "conditional-sample-generation-tissue"
    title: ClassVar[str] = "Generation of a sample of a tissue"
    prompts: ClassVar[str] = "conditional-sample-generation-tissue"


@dataclass(frozen=True)
class CellTypesSampleTask(SampleTask):
    """Write one cell of each type that is named, in order (table 1, cell type condition)."""

    conditions: tuple[str, ...] = ("cell_type",)

    name: ClassVar[str] = "conditional-sample-generation-cell-types"
    title: ClassVar[str] = "Generation of a sample of given cell types"
    prompts: ClassVar[str] = "conditional-sample-generation-cell-types"
    told_per_cell: ClassVar[bool] = True


@dataclass(frozen=True)
class AbstractSampleTask(SampleTask):
    """Write cells of the study that an abstract is of (table 1, *conditional sample generation (abstract)*)."""

    conditions: tuple[str, ...] = ("abstract",)

    name: ClassVar[str] = "conditional-sample-generation-abstract"
    title: ClassVar[str] = "Generation of a sample of a study"
    prompts: ClassVar[str] = "conditional-sample-generation-abstract"

    def example_cells(self) -> AnnData:
        """Return simulated cells whose abstract is a sentence about their tissue."""
        from c2s.testing import simulated_cells

        adata = simulated_cells()
        adata.obs["abstract"] = "We sampled the " + adata.obs["tissue"].astype(str) + " of six donors ."
        return adata
