"""The results table says the same in text, in HTML and in JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from c2s.chapters import ResultsTable
from c2s.errors import InputFileError

FLOATS = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def table() -> ResultsTable:
    result = ResultsTable("Cell types")
    result.add("accuracy", 0.8125, paper=0.9543, low=0.75, high=0.875, data="pbmc <140> cells", note="other cells")
    result.add("overlap", None, paper="not given")
    return result


def test_text_has_a_line_per_row_and_the_notes() -> None:
    assert str(table()).splitlines() == [
        "Cell types",
        "metric    paper      this run  95% interval  data",
        "accuracy  0.9543     0.8125    0.750–0.875   pbmc <140> cells",
        "overlap   not given  —         —",
        "accuracy: other cells",
    ]


def test_html_escapes_and_scrolls_in_its_own_box() -> None:
    text = table()._repr_html_()
    assert "pbmc &lt;140&gt; cells" in text
    assert text.startswith('<div class="c2s-results" style="overflow-x:auto">')
    assert "<li>accuracy: other cells</li>" in text


def test_large_numbers_are_shown_with_fewer_digits() -> None:
    result = ResultsTable()
    result.add("words", 1249.13, low=1246.848, high=1251.497)
    assert str(result).splitlines()[1].split() == ["words", "—", "1,249.1", "1,246.8–1,251.5"]


def test_small_numbers_are_not_shown_as_nothing() -> None:
    result = ResultsTable()
    result.add("difference", 3.2e-7)
    result.add("none", 0.0)
    lines = str(result).splitlines()
    assert "3.2e-07" in lines[1]
    assert "0.0000" in lines[2]


def test_nan_is_not_measured() -> None:
    result = ResultsTable()
    result.add("x", math.nan, low=math.nan, high=1.0)
    assert (result.rows[0].value, result.rows[0].low) == (None, None)
    assert "NaN" not in result.to_json()


@given(st.lists(st.tuples(st.text(), FLOATS, FLOATS, FLOATS | st.text(), st.text()), max_size=4), st.text())
def test_json_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]], title: str
) -> None:
    path = tmp_path_factory.mktemp("results") / "results.json"
    result = ResultsTable(title)
    for metric, value, low, paper, data in rows:
        result.add(metric, value, low=low, high=low, paper=paper, data=data)  # type: ignore[arg-type]
    result.to_json(path)
    assert ResultsTable.from_json(path) == result
    assert len(result) == len(list(result)) == len(rows)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"title": 1}', json.dumps({"title": "", "level": 1, "rows": [{"a": 1}]})]
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputFileError, match="is not a table of results"):
        ResultsTable.from_json(path)


def test_show_prints_outside_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    table().show()
    assert capsys.readouterr().out == f"{table()}\n"
