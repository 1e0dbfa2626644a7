"""The results table says the same in text, in HTML and in JSON."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from c2s.chapters import ResultsTable
from c2s.cli import main
from c2s.errors import ConfigError, InputFileError
from c2s.results import COLUMNS, gather_results

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


def chapter_table() -> ResultsTable:
    inputs = [
        {"name": "pbmc", "sha256": "a" * 64},
        {"name": "atlas", "sha256": "b" * 64, "simulated": True},
        {"name": "wanted", "sha256": "c" * 64, "source": "stand_in", "instead_of": "wanted"},
    ]
    return ResultsTable("Cells", source="chapter x", profile="laptop, with top_k=50", inputs=inputs)


def test_the_profile_stands_beside_the_title_and_the_data_beside_every_number() -> None:
    result = chapter_table()
    result.add("accuracy", 0.5, predictor="model", n=1200, unit="test cells", data="pbmc")
    result.add("accuracy", 0.25, predictor="majority", data=["pbmc", "atlas"], unit="2 splits")
    result.add("accuracy", 0.25, predictor="other", data="wanted")
    assert str(result).splitlines() == [
        "Cells (profile: laptop, with top_k=50)",
        "metric              paper  this run  95% interval  data",
        "accuracy, model     —      0.5000    —             pbmc, 1,200 test cells",
        "accuracy, majority  —      0.2500    —             pbmc, atlas (SIMULATED), 2 splits",
        "accuracy, other     —      0.2500    —             stand_in (in place of wanted)",
    ]
    assert "<caption" in result._repr_html_() and "laptop, with top_k=50" in result._repr_html_()
    assert [row.sha256 for row in result] == ["a" * 64, f"{'a' * 64} {'b' * 64}", "c" * 64]
    assert {(row.source, row.profile) for row in result} == {("chapter x", "laptop, with top_k=50")}


@pytest.mark.parametrize("data", ["", "unheard of", ["pbmc", "unheard of"], []])
def test_a_number_without_recorded_data_is_refused_where_data_are_recorded(data: str | list[str]) -> None:
    with pytest.raises(ConfigError, match=r"accuracy is said to come from .*name its data, of pbmc, atlas"):
        chapter_table().add("accuracy", 0.5, data=data)


def test_tasks_are_named_where_there_are_several_and_a_note_is_said_once() -> None:
    result = ResultsTable()
    result.add("overlap", 0.5, predictor="model", task="enumeration", note="few sets")
    result.add("overlap", 0.25, predictor="model", task="naming", note="few sets")
    lines = str(result).splitlines()
    assert lines[1].startswith("enumeration: overlap, model")
    assert lines[2:] == [lines[2], "enumeration: overlap, model: few sets"]


def test_a_table_becomes_a_data_frame_of_the_schema() -> None:
    frame = table().frame()
    assert tuple(frame.columns) == COLUMNS
    assert frame["paper"].tolist() == ["0.9543", "not given"]
    assert frame["value"].isna().tolist() == [False, True]
    assert ResultsTable().frame().empty


def test_results_of_many_runs_are_gathered_and_keep_where_they_are_from(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        table().to_json(tmp_path / name / "results.json")
    found = gather_results([tmp_path / "a", tmp_path / "b" / "results.json"])
    assert tuple(found.columns) == ("run", *COLUMNS)
    assert found["run"].tolist() == [str(tmp_path / name) for name in "aabb"]
    assert found["metric"].tolist() == ["accuracy", "overlap"] * 2


def test_all_folders_without_results_are_named(tmp_path: Path) -> None:
    (tmp_path / "parent" / "inner").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    table().to_json(tmp_path / "parent" / "inner" / "results.json")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.json").write_text('{"title": "", "level": 0.95, "rows": []}')
    places = [tmp_path / name for name in ("parent", "empty", "gone", "old")]
    with pytest.raises(ConfigError) as caught:
        gather_results(places)
    assert [re.sub(str(tmp_path), "", problem) for problem in caught.value.problems] == [
        "/parent holds no results.json; there is one in /parent/inner",
        "/empty holds no results.json",
        "there is no folder /gone",
        "/old/results.json is not a table of results (it has the layout of an older c2s)",
    ]
    with pytest.raises(ConfigError, match="no folder was named"):
        gather_results([])


@pytest.mark.parametrize(
    "words, said",
    [
        (["EMPTY"], "EMPTY holds no results.json"),
        (["GOOD", "--out", "all.xlsx"], "ends in none of .csv, .parquet and .json"),
        (["GOOD", "--out", "there.csv"], "exists already"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EMPTY", "GOOD"):
        Path(name).mkdir()
    table().to_json("GOOD/results.json")
    Path("there.csv").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["results", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert Path("there.csv").read_text() == "mine"


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
