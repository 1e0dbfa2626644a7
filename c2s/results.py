"""The one table of results that chapters, commands and plugins write, and how many of them are read into one."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.errors import ConfigError, InputFileError
from c2s.files import atomic_output

if TYPE_CHECKING:
    import pandas as pd

#: The file in which a run leaves its table.
FILE = "results.json"
#: Version of the file's layout.
SCHEMA = 1
_SHOWN = ("metric", "paper", "this run", "interval", "data")
_WORDS = "white-space:normal;min-width:8em"
_NUMBER = "white-space:nowrap"


@dataclass(frozen=True)
class ResultsRow:
    """One number, and what has to stand beside it. The fields, in this order, are the columns of the table.

    Attributes
    ----------
    source
        Who measured it: ``"chapter annotation"``, ``"c2s evaluate"``.
    task
        The task or question it belongs to, where a run has several or the metric does not say it.
    predictor
        Whose number it is: a model, a baseline, an embedder, a setting; empty where only one thing was measured.
    metric
        What was measured.
    value
        This run's value; None where the run could not measure it, and then `note` says why.
    low, high
        Ends of its interval.
    level
        Level of the interval.
    n, unit
        Over how many it was measured, and of what: ``140``, ``"test cells"``.
    data
        The dataset or datasets, by name or path.
    sha256
        Their checksums, as in ``run.json``; several with spaces between.
    profile
        The profile that a chapter's parameters equal, or what is nearest to it.
    paper
        The paper's value: a number, or text where the paper gives no number.
    note
        What a reader must know.
    """

    source: str = ""
    task: str = ""
    predictor: str = ""
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int | None = None
    unit: str = ""
    data: str = ""
    sha256: str = ""
    profile: str = ""
    paper: float | str | None = None
    note: str = ""


#: Columns of a table of results, in order.
COLUMNS = tuple(column.name for column in fields(ResultsRow))


@dataclass
class ResultsTable:
    """Rows of ``metric / paper / this run / interval / data``; the first row is the headline.

    Parameters
    ----------
    title
        Stands above the table.
    level
        Level of the intervals, named in the column's heading.
    source, profile
        As for `ResultsRow`; those of every row that is added. The profile stands beside the title.
    inputs
        What the run read, as in `c2s.provenance.RunRecord.data`. Where it is given, the data of each row are among
        it, and are shown as what they are: simulated, or in place of what was asked for.

    Examples
    --------
    >>> table = ResultsTable("Cell types", profile="smoke")
    >>> table.add("accuracy", 0.81, paper=0.9543, low=0.74, high=0.87, n=140, unit="cells", data="pbmc68k_reduced")
    >>> print(table)
    Cell types (profile: smoke)
    metric    paper   this run  95% interval  data
    accuracy  0.9543  0.8100    0.740–0.870   pbmc68k_reduced, 140 cells
    """

    title: str = ""
    level: float = 0.95
    rows: list[ResultsRow] = field(default_factory=list)
    source: str = ""
    profile: str = ""
    inputs: Sequence[Mapping[str, object]] = field(default=(), compare=False, repr=False)

    def add(
        self,
        metric: str,
        value: float | None,
        *,
        predictor: str = "",
        task: str = "",
        paper: float | str | None = None,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        unit: str = "",
        data: str | Sequence[str] = "",
        note: str = "",
    ) -> None:
        """Append a row; see `ResultsRow`. NaN counts as not measured; `data` may be several names.

        Raises
        ------
        ConfigError
            The data are none that the run read.
        """
        numbers = [None if v is None or math.isnan(v) else float(v) for v in (value, low, high)]
        names = [data] if isinstance(data, str) else list(data)
        known = {str(entry["name"]): entry for entry in self.inputs}
        if self.inputs and not (names and set(names) <= set(known)):
            raise ConfigError(
                f"results {self.title!r}",
                [f"{metric} is said to come from {', '.join(names) or 'no data'}, which the run has not recorded"],
                fix=f"name its data, of {', '.join(known)}; record.add_cells or add_data records more.",
            )
        self.rows.append(
            ResultsRow(
                source=self.source,
                task=task,
                predictor=predictor,
                metric=metric,
                value=numbers[0],
                low=numbers[1],
                high=numbers[2],
                level=self.level,
                n=None if n is None else int(n),
                unit=unit,
                data=", ".join(input_name(known[name]) if name in known else name for name in names),
                sha256=" ".join(str(known[name]["sha256"]) for name in names if name in known),
                profile=self.profile,
                paper=paper,
                note=note,
            )
        )

    def __iter__(self) -> Iterator[ResultsRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame of `COLUMNS`; what the paper says is text there."""
        return _frame(self.rows)

    def _caption(self) -> str:
        return f"{self.title} (profile: {self.profile})".strip() if self.profile else self.title

    def _cells(self) -> list[tuple[str, ...]]:
        several = len({row.task for row in self.rows}) > 1
        return [(_what(r, several), _number(r.paper), _number(r.value), _interval(r), _data(r)) for r in self.rows]

    def _heading(self) -> tuple[str, ...]:
        return tuple(f"{self.level:.0%} interval" if c == "interval" else c for c in _SHOWN)

    def _notes(self) -> list[str]:
        """Return each note once, with the first of the rows that have it."""
        several = len({row.task for row in self.rows}) > 1
        first: dict[str, ResultsRow] = {}
        for row in self.rows:
            if row.note:
                first.setdefault(row.note, row)
        return [f"{_what(row, several)}: {note}" for note, row in first.items()]

    def __str__(self) -> str:
        head = [caption] if (caption := self._caption()) else []
        return "\n".join([*head, *aligned([self._heading(), *self._cells()]), *self._notes()])

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
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._notes())
        title = html.escape(self._caption())
        caption = f'<caption style="text-align:left">{title}</caption>' if title else ""
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

    def to_json(self, path: str | os.PathLike[str] | None = None, **more: Any) -> str:
        """Return the table as JSON, and write it to `path` (replacing an older one) if given.

        Parameters
        ----------
        path
            A file; by custom `FILE` in the run's folder.
        **more
            Further keys of the file, beside its rows.
        """
        told = {"schema": SCHEMA, "title": self.title, "source": self.source, "profile": self.profile}
        value = told | {"level": self.level, **more, "rows": [asdict(r) for r in self.rows]}
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
        again = "run what made it again, e.g. c2s chapters run NAME, c2s evaluate or c2s scaling run."
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            if "rows" in value and "schema" not in value:
                raise ValueError("it has the layout of an older c2s")
            rows = [ResultsRow(**row) for row in value["rows"]]
            return cls(value["title"], value["level"], rows, value["source"], value["profile"])
        except OSError as error:
            raise InputFileError(f"{path} cannot be read ({error.strerror}).", fix="check the path.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputFileError(f"{path} is not a table of results ({error}).", fix=again) from error


def gather_results(places: Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Read the results of many runs into one table.

    Parameters
    ----------
    places
        Folders that hold a ``results.json``, or such files.

    Returns
    -------
    pandas.DataFrame
        ``run``, the folder as it was given, and `COLUMNS`; one row per number.

    Raises
    ------
    ConfigError
        Some hold no results, or what cannot be read; all are named.
    """
    import pandas as pd

    problems, parts = [], []
    for place in map(Path, places):
        file = place / FILE if place.is_dir() else place
        if not place.exists():
            problems.append(f"there is no folder {place}")
        elif not file.exists():
            inside = sorted(str(found.parent) for found in place.glob(f"*/{FILE}"))
            more = (
                f"; there is one in {', '.join(inside[:3])}{' ...' if len(inside) > 3 else ''}" if inside else ""
            )
            problems.append(f"{place} holds no {FILE}{more}")
        else:
            try:
                table = ResultsTable.from_json(file)
            except InputFileError as error:
                problems.append(error.problem.rstrip("."))
                continue
            part = table.frame()
            part.insert(0, "run", str(place.parent if place == file else place))
            parts.append(part)
    if problems or not parts:
        raise ConfigError(
            "results",
            problems or ["no folder was named"],
            fix="name folders that chapters, c2s evaluate, c2s embedding-report or c2s scaling run wrote.",
        )
    return pd.concat(parts, ignore_index=True)


def _frame(rows: Sequence[ResultsRow]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS))
    frame["n"] = frame["n"].astype("Int64")
    frame["paper"] = ["" if row.paper is None else str(row.paper) for row in rows]
    return frame.astype(dict.fromkeys(("value", "low", "high", "level"), "float64"))


def input_name(entry: Mapping[str, object]) -> str:
    """Say what an input of a run is: an entry of `c2s.provenance.RunRecord.data`."""
    name = f"{entry['source']} (in place of {entry['name']})" if "instead_of" in entry else str(entry["name"])
    return f"{name} (SIMULATED)" if entry.get("simulated") else name


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of texts, each column as wide as its widest."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]


def _what(row: ResultsRow, with_task: bool) -> str:
    task = f"{row.task}: " if with_task and row.task else ""
    return f"{task}{row.metric}{f', {row.predictor}' if row.predictor else ''}"


def _data(row: ResultsRow) -> str:
    counted = "" if row.n is None else f"{row.n:,} {row.unit}".strip()
    return ", ".join(part for part in (row.data, counted or row.unit) if part)


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
