"""The label of one cell (section 4.6.1; table 1, *cell type annotation*)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from c2s import CellSentences, PromptTemplate, Split, Task, choose_template, example_table
from c2s_annotation.labels import checked_labels, label_name, split_by_donor_or_cell

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class AnnotationTask(Task):
    """Name the label of a cell from its sentence.

    Parameters
    ----------
    label
        Column of ``obs`` to predict: a cell type, a tissue, a disease, anything with a few values.
    donor
        Column that a split must keep whole. When it is missing, or has fewer than three values, the split is by
        cell within label, and its note says so.
    """

    label: str = "cell_type"
    donor: str = "donor_id"

    name: ClassVar[str] = "annotation"
    version: ClassVar[str] = "0.1.0"
    title: ClassVar[str] = "Cell type annotation"
    paper_section: ClassVar[str] = "4.6.1"
    prompts: ClassVar[str] = "annotation"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    rewards: ClassVar[tuple[str, ...]] = ("label_match",)
    baselines: ClassVar[tuple[str, ...]] = (
        "majority",
        "knn",
        "logistic_regression",
        "logistic_regression_hvg",
    )
    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "smoke": {"top_k": 50, "max_steps": 30, "batch_size": 32, "learning_rate": 5e-3},
        # For the tiny model; tried out on splits 0 to 2 of pbmc68k_reduced and pbmc_zheng_facs.
        "laptop": {
            "top_k": 200,
            "max_steps": 600,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 20,
            "adam_epsilon": 3e-6,
            "gene_dropout": 0.4,
            "length_window": 0,
            "intermediate_size": 128,
        },
        # Section 4.3.5: learning rate 1e-5 with linear decay, weight decay 0.01.
        "paper": {
            "top_k": 1000,
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 1e-5,
            "lr_schedule": "linear",
            "weight_decay": 0.01,
        },
    }

    @property
    def columns(self) -> tuple[str, ...]:
        """The label column."""
        return (self.label,)

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """The donor column."""
        return (self.donor,)

    @property
    def output_column(self) -> str:
        """``c2s_`` and the name of the label column, without the slashes that no file of cells may have in it."""
        return f"c2s_{self.label.replace('/', '|')}"

    def split(self, obs: pd.DataFrame, *, seed: int = 0) -> Split:
        """Split 70/10/20 by donor where there are at least three, by cell within label otherwise."""
        checked_labels(obs, self.label)
        return split_by_donor_or_cell(obs, label=self.label, donor=self.donor, seed=seed)

    def examples(
        self,
        sentences: CellSentences,
        templates: Sequence[PromptTemplate],
        *,
        seed: int = 0,
        answers: bool = True,
    ) -> pa.Table:
        """Make one example per cell that has at least one expressed gene."""
        ids = sentences.table["cell_id"].to_pylist()
        texts = sentences.table["cell_sentence"].to_pylist()
        labels = checked_labels(sentences.obs, self.label).tolist() if answers else [None] * len(ids)
        records = []
        for cell_id, text, label in zip(ids, texts, labels, strict=True):
            if not text:
                continue
            template = choose_template(templates, cell_id, seed)
            record = {"cell_sentence": text, "label_name": label_name(self.label), "label": label}
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
        return example_table(records)

    def candidates(self, examples: pa.Table) -> list[str] | None:
        """List the labels of these examples; None when no answer is known."""
        found = {answer for answer in examples["answer"].to_pylist() if answer is not None}
        return sorted(found) or None
