"""Which columns of a file can be learned, for people with data of their own."""

from __future__ import annotations

import warnings
from typing import Any

from c2s import load_dataset
from c2s.errors import C2SWarning, ObsError
from c2s.missing import missing_values
from c2s_annotation.cells import AnnotationTask
from c2s_annotation.labels import checked_labels, require_several


def label_columns(data: str, *, donor: str | None = None, **how: Any) -> list[dict[str, object]]:
    """Describe each column of ``obs``: usable as a label or why not, how many values, the rarest one's count.

    A usable one also says how it would be split, and what is wrong with that.

    Parameters
    ----------
    data
        A file of cells, or the name of a dataset.
    donor
        Column that a split keeps whole; default that of the task.
    **how
        As for `c2s.load_dataset`.
    """
    obs = load_dataset(data, **how).obs
    options = {} if donor is None else {"donor": donor}
    rows = []
    for column in map(str, obs.columns):
        missing = missing_values(obs[column])
        told = obs if missing.all() else obs[~missing]
        row: dict[str, object] = {"column": column, "values": int(told[column].nunique())}
        try:
            labels = checked_labels(told, column)
            require_several(labels, column)
            row |= {"usable": True, "smallest": int(labels.value_counts().min())}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", C2SWarning)  # told in the note
                split = AnnotationTask(label=column, **options).split(told)
            row |= {"split": split.note, "note": " ".join(split.problems)}
            if missing.any():
                row["note"] = f"{missing.sum()} cells without a label are left out. {row['note']}".strip()
        except ObsError as error:
            row |= {"usable": False, "smallest": 0, "split": "", "note": error.problem}
        rows.append(row)
    return rows


def print_label_columns(data: str, *, donor: str | None = None, **how: Any) -> None:
    """Print the table of `label_columns`, usable ones first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = sorted(label_columns(data, donor=donor, **how), key=lambda row: not row["usable"])
    splits = {str(row["split"]) for row in rows if row["split"]}
    table = Table("column", "values", "fewest cells", "label?", "note", title=escape(f"obs columns of {data}"))
    for row in rows:
        usable = "yes" if row["usable"] else "no"
        note = f"{row['split']} {row['note']}".strip() if len(splits) > 1 else str(row["note"])
        table.add_row(escape(str(row["column"])), str(row["values"]), str(row["smallest"]), usable, escape(note))
    console = Console()
    console.print(table)
    if len(splits) == 1:  # of all
        console.print(escape(splits.pop()))
