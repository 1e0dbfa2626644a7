"""The genes of a named set (table 1, *gene set enumeration*)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from c2s import CellSentences, PromptTemplate, Split, Task, choose_template, example_table
from c2s_genesets.sets import GROUP_COLUMN, NAME_COLUMN, checked_names, example_sets, split_sets

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from anndata import AnnData


@dataclass(frozen=True)
class EnumerationTask(Task):
    """List the genes of a set from its name.

    Parameters
    ----------
    max_tokens
        Most tokens of a generated list. A symbol is one token for the tiny model, about three for Pythia.
    """

    max_tokens: int = 640

    name: ClassVar[str] = "gene-set-enumeration"
    version: ClassVar[str] = "0.1.0"
    title: ClassVar[str] = "Gene set enumeration"
    paper_section: ClassVar[str] = "table 1"
    prompts: ClassVar[str] = "gene-set-enumeration"
    metrics: ClassVar[tuple[str, ...]] = ("overlap",)
    rewards: ClassVar[tuple[str, ...]] = ("gene_set_overlap",)
    baselines: ClassVar[tuple[str, ...]] = ("most_frequent_genes", "genes_of_nearest_name")
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "smoke": {"top_k": 20, "max_steps": 20, "eval_every": 20, "batch_size": 16, "learning_rate": 3e-3},
        "laptop": {
            "top_k": 200,
            "max_steps": 400,
            "eval_every": 400,  # the loss on new sets only rises: keep the last weights
            "batch_size": 16,
            "learning_rate": 3e-3,
            "warmup_steps": 20,
            "length_window": 0,
        },
        # Section 4.3.5: learning rate 1e-5 with linear decay, weight decay 0.01.
        "paper": {
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 1e-5,
            "lr_schedule": "linear",
            "weight_decay": 0.01,
        },
    }

    @property
    def columns(self) -> tuple[str, ...]:
        """The readable name."""
        return (NAME_COLUMN,)

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """The group of near-copies."""
        return (GROUP_COLUMN,)

    def example_cells(self) -> AnnData:
        """Return the first sets of the collection that comes with this plugin."""
        return example_sets()

    @property
    def output_column(self) -> str:
        """Where predictions go."""
        return "c2s_genes"

    @property
    def longest_answer(self) -> int:
        """The option `max_tokens`."""
        return self.max_tokens

    def split(self, obs: pd.DataFrame, *, seed: int = 0) -> Split:
        """Split 70/10/20 by set, near-copies on one side."""
        return split_sets(obs, seed=seed)

    def examples(
        self,
        sentences: CellSentences,
        templates: Sequence[PromptTemplate],
        *,
        seed: int = 0,
        answers: bool = True,
    ) -> pa.Table:
        """Make one example per set that has a gene; the answer is its genes in the order of its file."""
        ids = sentences.table["cell_id"].to_pylist()
        texts = sentences.table["cell_sentence"].to_pylist()
        records = []
        for set_id, genes, name in zip(ids, texts, checked_names(sentences.obs), strict=True):
            if answers and not genes:
                continue
            template = choose_template(templates, set_id, seed)
            record = {"gene_set_name": name, "genes": genes if answers else None}
            records.append(
                {
                    "example_id": set_id,
                    "prompt": template.render(record),
                    "answer": template.render_answer(record) if answers else None,
                    "template": template.name,
                    "cell_ids": [set_id],
                    **record,
                }
            )
        return example_table(records)

    def parse(self, answer: str) -> str | None:
        """Read a list of genes, separated by spaces or commas; each counts once. None when there is none."""
        return " ".join(dict.fromkeys(word for word in re.split(r"[\s,;]+", answer) if word)) or None
