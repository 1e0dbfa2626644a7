"""The table "paper / this run" that every chapter ends its run with."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from c2s.errors import InputFileError
from c2s.files import atomic_output

_COLUMNS = ("metric", "paper", "this run", "interval", "data")
_WORDS = "white-space:normal;min-width:8em"
_NUMBER = "white-space:nowrap"


@dataclass(frozen=True)
class ResultsRow:
    """One line of the table.

    Attributes
    ----------
    metric
        What was measured, in the words of the page.
    ours
        This run's value; None where the run could not measure it, and then `note` says why.
    paper
        The paper's value: a number, or text where the paper gives no number.
    low, high
        Ends of this run's interval.
    data
        The data this run's value comes from, with the number of cells.
    note
        What a reader must know to compare the two.
    """

    metric: str
    ours: float | None
    paper: float | str | None = None
    low: float | None = None
    high: float | None = None
    data: str = ""
    note: str = ""


@dataclass
class ResultsTable:
    """Rows of ``metric / paper / this run / interval / data``; the first row is the headline.

    Parameters
    ----------
    title
        Stands above the table.
    level
        Level of the intervals, named in the column's heading.

    Examples
    --------
    >>> table = ResultsTable("Cell types")
    >>> table.add("accuracy", 0.81, paper=0.9543, low=0.74, high=0.87, data="pbmc68k_reduced, 140 cells")
    >>> print(table)
    Cell types
    metric    paper   this run  95% interval  data
    accuracy  0.9543  0.8100    0.740–0.870   pbmc68k_reduced, 140 cells
    """

    title: str = ""
    level: float = 0.95
    rows: list[ResultsRow] = field(default_factory=list)

    def add(
        self,
        metric: str,
        ours: float | None,
        *,
        paper: float | str | None = None,
        low: float | None = None,
        high: float | None = None,
        data: str = "",
        note: str = "",
    ) -> None:
        """Append a row; see `ResultsRow`. NaN counts as not measured."""
        numbers = [None if v is None or math.isnan(v) else float(v) for v in (ours, low, high)]
        self.rows.append(ResultsRow(metric, numbers[0], paper, numbers[1], numbers[2], data, note))

    def __iter__(self) -> Iterator[ResultsRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def _cells(self) -> list[tuple[str, ...]]:
        return [(r.metric, _number(r.paper), _number(r.ours), _interval(r), r.data) for r in self.rows]

    def _heading(self) -> tuple[str, ...]:
        return tuple(f"{self.level:.0%} interval" if c == "interval" else c for c in _COLUMNS)

    def __str__(self) -> str:
        lines = [self._heading(), *self._cells()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
        body = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
        notes = [f"{r.metric}: {r.note}" for r in self.rows if r.note]
        return "\n".join([*([self.title] if self.title else []), *body, *notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Draw the table for a notebook; it scrolls inside its own box on a narrow screen."""
        head = "".join(f'<th style="text-align:left">{html.escape(c)}</th>' for c in self._heading())
        # Numbers stay whole; words may wrap, so that the numbers are in sight on a phone.
        styles = ["text-align:left;" + s for s in (_WORDS, _NUMBER, _NUMBER, _NUMBER, _WORDS)]
        body = "".join(
            "<tr>" + "".join(f'<td style="{s}">{html.escape(c)}</td>' for s, c in zip(styles, line)) + "</tr>"
            for line in self._cells()
        )
        notes = "".join(f"<li>{html.escape(r.metric)}: {html.escape(r.note)}</li>" for r in self.rows if r.note)
        caption = f'<caption style="text-align:left">{html.escape(self.title)}</caption>' if self.title else ""
        return (
            '<div class="c2s-results" style="overflow-x:auto"><table>'
            f"{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"{f'<ul>{notes}</ul>' if notes else ''}</div>"
        )

    def show(self) -> None:
        """Display the table in a notebook, print it elsewhere."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        if get_ipython() is None:
            print(self)
        else:
            display(self)  # type: ignore[no-untyped-call]

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the table as JSON, and write it to `path` (replacing an older one) if given."""
        value = {"title": self.title, "level": self.level, "rows": [asdict(r) for r in self.rows]}
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        if path is not None:
            with atomic_output(path, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> ResultsTable:
        """Read a table that `to_json` wrote.

        Raises
        ------
        InputFileError
            The file is missing or is not such a table.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            rows = [ResultsRow(**row) for row in value["rows"]]
            return cls(value["title"], value["level"], rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputFileError(
                f"{path} is not a table of results ({error}).", fix="run the chapter again: c2s chapters run NAME."
            ) from error


def _number(value: float | str | None) -> str:
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    if 0 < abs(value) < 5e-4:  # four places would say little or nothing of it
        return f"{value:.1e}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def _interval(row: ResultsRow) -> str:
    if row.low is None or row.high is None:
        return "—"
    digits = 3 if max(abs(row.low), abs(row.high)) < 10 else 1
    return f"{row.low:,.{digits}f}–{row.high:,.{digits}f}"
