"""The name of a set of genes (table 1, *gene set naming*)."""

from __future__ import annotations

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
class NamingTask(Task):
    """Name a set from its genes; the answer is free text, so that a set may get a name never seen before."""

    name: ClassVar[str] = "gene-set-naming"
    version: ClassVar[str] = "0.1.0"
    title: ClassVar[str] = "Gene set naming"
    paper_section: ClassVar[str] = "table 1"
    prompts: ClassVar[str] = "gene-set-naming"
    metrics: ClassVar[tuple[str, ...]] = ("bert_score", "exact_match")
    rewards: ClassVar[tuple[str, ...]] = ("gene_set_name_bert_score",)
    baselines: ClassVar[tuple[str, ...]] = ("any_known_name", "name_of_nearest_set", "name_of_most_similar_text")
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "smoke": {"top_k": 20, "max_steps": 20, "eval_every": 20, "batch_size": 16, "learning_rate": 3e-3},
        "laptop": {
            "top_k": 100,
            "max_steps": 400,
            "eval_every": 400,  # the loss on new sets only rises: keep the last weights
            "batch_size": 16,
            "learning_rate": 3e-3,
            "warmup_steps": 20,
            "gene_dropout": 0.3,
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
        return f"c2s_{NAME_COLUMN}"

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
        """Make one example per set that has a gene."""
        ids = sentences.table["cell_id"].to_pylist()
        texts = sentences.table["cell_sentence"].to_pylist()
        names = checked_names(sentences.obs) if answers else [None] * len(ids)
        records = []
        for set_id, genes, name in zip(ids, texts, names, strict=True):
            if not genes:
                continue
            template = choose_template(templates, set_id, seed)
            record = {"cell_sentence": genes, "gene_set_name": name}
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
