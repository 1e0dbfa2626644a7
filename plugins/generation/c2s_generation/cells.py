"""One cell, with and without conditions (section 4.6.2; the single-cell rows of table 1)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from c2s import CellSentences, PromptTemplate, Split, Task, choose_template, example_table
from c2s.errors import ConfigError, ObsError
from c2s_generation.conditions import (
    as_conditions,
    condition_table,
    conditions_of_cells,
    described,
    split_for_generation,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_CELL_PROFILES: Mapping[str, Mapping[str, object]] = {
    "smoke": {"top_k": 20, "max_steps": 20, "eval_every": 20, "batch_size": 16, "learning_rate": 3e-3},
    "laptop": {
        "top_k": 100,
        "max_steps": 400,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "warmup_steps": 20,
        "length_window": 0,
    },
    # Section 4.6.2 lists 1,000 genes; section 4.3.5: learning rate 1e-5 with linear decay, weight decay 0.01.
    "paper": {
        "top_k": 1000,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 1e-5,
        "lr_schedule": "linear",
        "weight_decay": 0.01,
    },
}


@dataclass(frozen=True)
class GenerationTask(Task):
    """What all tasks of generation share: conditions, and how cells are split by them.

    Parameters
    ----------
    conditions
        Columns of ``obs`` that the prompt states.
    donor
        Column that a split keeps whole where it has three values or more and nothing is held out.
    held_out
        Conditions whose cells are all kept for the test, e.g. ``"cell_type=B cell & condition=stimulated"``.
    max_tokens
        Most tokens of an answer. A gene is one token for the tiny model, about three for Pythia.
    """

    conditions: tuple[str, ...] = ()
    donor: str = "donor_id"
    held_out: tuple[str, ...] = ()
    max_tokens: int = 640

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", as_conditions(self.conditions))
        held_out = (self.held_out,) if isinstance(self.held_out, str) else tuple(self.held_out)
        object.__setattr__(self, "held_out", held_out)
        if self.max_tokens < 1:
            raise ConfigError(f"task {self.name!r}", [f"max_tokens is {self.max_tokens}"], fix="pass 640, say.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The conditions."""
        return self.conditions

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """The donor column."""
        return tuple(c for c in (self.donor,) if c not in self.conditions)

    @property
    def output_column(self) -> str:
        """Where answers of ``c2s predict`` go."""
        return "c2s_generated"

    @property
    def longest_answer(self) -> int:
        """The option `max_tokens`."""
        return self.max_tokens

    def next_command(self, model: str, obs: pd.DataFrame) -> str:
        """Return the command that writes cells like the first training cell with a trained model."""
        asked = [f"{name}={' '.join(str(obs[name].iloc[0]).split())}" for name in self.conditions]
        given = [word for pair in asked for word in ("--condition", pair)]
        return shlex.join(["c2s", "generate", "--model", model, *given, "--n", "100", "generated.h5ad"])

    def split(self, obs: pd.DataFrame, *, seed: int = 0) -> Split:
        """Keep held-out conditions for the test; else split 70/10/20 by donor, else by cell."""
        return split_for_generation(
            obs, conditions=self.conditions, donor=self.donor, held_out=self.held_out, seed=seed
        )


@dataclass(frozen=True)
class CellTask(GenerationTask):
    """Write one cell; the prompt states the conditions and the number of genes (see `GenerationTask`)."""

    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = _CELL_PROFILES

    def examples(
        self,
        sentences: CellSentences,
        templates: Sequence[PromptTemplate],
        *,
        seed: int = 0,
        answers: bool = True,
    ) -> pa.Table:
        """Make one example per cell that has an expressed gene; the answer is its sentence."""
        ids = sentences.table["cell_id"].to_pylist()
        texts = sentences.table["cell_sentence"].to_pylist()
        known = conditions_of_cells(condition_table(sentences.obs, self.conditions))
        records = []
        for cell_id, text, conditions in zip(ids, texts, known, strict=True):
            if not text:
                continue
            template = choose_template(templates, cell_id, seed)
            record = self.asked(conditions, len(text.split())) | {"genes": text if answers else None}
            records.append(
                {
                    "example_id": cell_id,
                    "prompt": template.render(record),
                    "answer": template.render_answer(record) if answers else None,
                    "template": template.name,
                    "cell_ids": [cell_id],
                    **record,
                }
            )
        if not records:
            raise ObsError("no cell has an expressed gene to write.", fix="give cells with counts.")
        return example_table(records)

    def asked(self, conditions: Mapping[str, str], n_genes: int) -> dict[str, object]:
        """Return what a template needs to ask for a cell of these conditions."""
        return {"condition": described(conditions) or "any", "n_listed": n_genes}


@dataclass(frozen=True)
class UnconditionalCellTask(CellTask):
    """Write any cell (table 1, *single cell language modeling*)."""

    name: ClassVar[str] = "single-cell-language-modeling"
    title: ClassVar[str] = "Generation of any cell"
    paper_section: ClassVar[str] = "4.6.2"
    prompts: ClassVar[str] = "single-cell-language-modeling"
    metrics: ClassVar[tuple[str, ...]] = ("overlap",)
    rewards: ClassVar[tuple[str, ...]] = ("cell_overlap_f1", "cell_rank_distance")
    baselines: ClassVar[tuple[str, ...]] = ("resampled_cell", "mean_ranking", "independent_genes")


@dataclass(frozen=True)
class ConditionalCellTask(CellTask):
    """Write a cell of given conditions (table 1, *conditional cell generation*)."""

    conditions: tuple[str, ...] = ("cell_type",)

    name: ClassVar[str] = "conditional-cell-generation"
    title: ClassVar[str] = "Generation of a cell of given conditions"
    paper_section: ClassVar[str] = "4.6.2"
    prompts: ClassVar[str] = "conditional-cell-generation"
    metrics: ClassVar[tuple[str, ...]] = ("overlap",)
    rewards: ClassVar[tuple[str, ...]] = ("cell_overlap_f1", "cell_rank_distance")
    baselines: ClassVar[tuple[str, ...]] = (
        "resampled_cell_of_type",
        "mean_ranking_of_type",
        "independent_genes_of_type",
    )
