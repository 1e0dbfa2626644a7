"""Several cells of one donor: their tissue, or the type of each (table 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from c2s import CellSentences, PromptTemplate, Split, Task, choose_template, example_table
from c2s.contexts import Context, draw_contexts
from c2s.errors import ObsError
from c2s_annotation.labels import checked_labels, label_name, split_by_donor_or_cell
from c2s_annotation.metrics import listed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SAMPLE_PROFILES: Mapping[str, Mapping[str, object]] = {
    "smoke": {"top_k": 20, "epochs": 2, "batch_size": 8, "learning_rate": 3e-3},
    "laptop": {"top_k": 50, "epochs": 8, "batch_size": 8, "learning_rate": 1e-3, "gene_dropout": 0.0},
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
class _SampleTask(Task):
    """What both tasks share: contexts of cells of one donor and one tissue.

    Parameters
    ----------
    label
        Column of ``obs`` to predict.
    donor, tissue
        Columns whose values all cells of a context share. A table without the donor column counts as one donor.
    min_cells, max_cells
        Cells per context.
    """

    label: str = "tissue"
    donor: str = "donor_id"
    tissue: str = "tissue"
    min_cells: int = 5
    max_cells: int = 20

    profiles: ClassVar[Mapping[str, Mapping[str, object]]] = _SAMPLE_PROFILES

    @property
    def columns(self) -> tuple[str, ...]:
        """The label column; when answers are wanted, the cells of a context must have one tissue too."""
        return (self.label,)

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """The donor and tissue columns."""
        return tuple(c for c in (self.donor, self.tissue) if c != self.label)

    @property
    def output_column(self) -> str:
        """``c2s_`` and the name of the label column, without the slashes that no file of cells may have in it."""
        return f"c2s_{self.label.replace('/', '|')}"

    def split(self, obs: pd.DataFrame, *, seed: int = 0) -> Split:
        """Split by donor where there are at least three, by cell within label otherwise."""
        return split_by_donor_or_cell(obs, label=self.label, donor=self.donor, seed=seed)

    def answer_of(self, labels: Sequence[str]) -> str:
        """Write the answer for cells with these labels."""
        return labels[0]

    def examples(
        self,
        sentences: CellSentences,
        templates: Sequence[PromptTemplate],
        *,
        seed: int = 0,
        answers: bool = True,
    ) -> pa.Table:
        """Make one example per context; cells without expressed genes are left out first."""
        obs = sentences.obs
        obs = obs[obs["n_genes"] > 0]
        # Without answers the tissue may be what is asked for: then cells are grouped by donor alone.
        within = [c for c in (self.donor, self.tissue) if c in obs and (answers or c != self.label)]
        text = dict(zip(*(sentences.table[c].to_pylist() for c in ("cell_id", "cell_sentence")), strict=True))
        labels = checked_labels(obs, self.label) if answers else None
        records = []
        for context in draw_contexts(obs, within=within, n_cells=(self.min_cells, self.max_cells), seed=seed):
            template = choose_template(templates, context.context_id, seed)
            record = {
                "cell_sentences": [text[cell_id] for cell_id in context.cell_ids],
                "label_name": label_name(self.label),
                "label": None if labels is None else self._answer(context, labels),
            }
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

    def _answer(self, context: Context, labels: pd.Series) -> str:
        return self.answer_of([str(labels[cell_id]) for cell_id in context.cell_ids])


@dataclass(frozen=True)
class TissueTask(_SampleTask):
    """Name the tissue that cells of one donor come from (table 1, *tissue sample annotation*)."""

    name: ClassVar[str] = "tissue"
    title: ClassVar[str] = "Tissue of a sample"
    paper_section: ClassVar[str] = "table 1"
    prompts: ClassVar[str] = "tissue"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    rewards: ClassVar[tuple[str, ...]] = ("label_match",)

    def answer_of(self, labels: Sequence[str]) -> str:
        """Return the tissue that all cells share.

        Raises
        ------
        ObsError
            They do not share it: the label is another column than the tissue the cells were grouped by.
        """
        if len(set(labels)) > 1:
            raise ObsError(
                f"one sample has several values of {self.label!r}: {', '.join(sorted(set(labels)))}.",
                fix=f"group by it too: pass tissue={self.label!r}.",
            )
        return labels[0]

    def candidates(self, examples: pa.Table) -> list[str] | None:
        """List the tissues of these examples; None when no answer is known."""
        return sorted({a for a in examples["answer"].to_pylist() if a is not None}) or None


@dataclass(frozen=True)
class CellTypesTask(_SampleTask):
    """Name the type of each cell of a sample, in order (table 1, *sample cell type(s) annotation*)."""

    label: str = "cell_type"

    name: ClassVar[str] = "sample-cell-types"
    title: ClassVar[str] = "Cell types of a sample"
    paper_section: ClassVar[str] = "table 1"
    prompts: ClassVar[str] = "sample-cell-types"
    metrics: ClassVar[tuple[str, ...]] = ("cell_types_f1", "exact_match")
    rewards: ClassVar[tuple[str, ...]] = ("label_match",)

    def answer_of(self, labels: Sequence[str]) -> str:
        """Write the labels in order, separated by commas (a comma in a label becomes ``;``)."""
        return " , ".join(label.replace(",", ";") for label in labels)

    def majority(self, known: Mapping[str, int], examples: pa.Table) -> list[str] | None:
        """Name the type that is most frequent in the known answers, once for each cell."""
        counts: Counter[str] = Counter()
        for answer, times in known.items():
            for name in listed(answer):
                counts[name] += times
        if not counts:
            return None
        most = min(counts, key=lambda name: (-counts[name], name))
        return [" , ".join([most] * len(cells)) for cells in examples["cell_ids"].to_pylist()]

    def parse(self, answer: str) -> str | None:
        """Read a list of names; None when there is none."""
        return " , ".join(listed(answer)) or None
