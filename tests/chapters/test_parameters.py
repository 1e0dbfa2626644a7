"""Parameters are declared by the chapter, checked before anything runs, and converted by the default's type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from c2s.chapters.catalogue import (
    chapter_notebook,
    chapter_parameters,
    find_chapter,
    parameters_of,
    profile_of,
    resolve_parameters,
)
from c2s.chapters.parameters import convert, declared_parameters, with_values
from c2s.errors import ChapterError, ConfigError, RegistryError
from c2s.tasks import Chapter

from .conftest import CHAPTER

Register = Callable[..., Chapter]
DECLARED = {
    "top_k": 20,
    "rate": 0.5,
    "names": ["a", "b"],
    "strict": False,
    "label": "cell_type",
    "out": "out/small",
}


def test_declared_parameters_are_the_literals_of_the_tagged_cell(chapters: Register) -> None:
    assert chapter_parameters(chapters()) == DECLARED


def test_annotated_parameters_count_too(chapters: Register) -> None:
    chapter = chapters(CHAPTER.replace("top_k = 20", "top_k: int = 21"))
    assert chapter_parameters(chapter)["top_k"] == 21


@pytest.mark.parametrize("line", ["import os", "top_k = len([1])", "a = b = 2", "print(1)"])
def test_a_parameters_cell_that_computes_is_refused(chapters: Register, line: str) -> None:
    chapter = chapters(CHAPTER.replace("rate = 0.5", line))
    with pytest.raises(ChapterError, match=r"Fix: (keep to lines|write a number)"):
        chapter_parameters(chapter)


@pytest.mark.parametrize(
    "tags, count", [("[]", 0), ("[parameters]\n\nx = 1\n```\n\n```{code-cell} python\n:tags: [parameters]", 2)]
)
def test_there_is_exactly_one_parameters_cell(chapters: Register, tags: str, count: int) -> None:
    chapter = chapters(CHAPTER.replace("[parameters]", tags, 1))
    with pytest.raises(ChapterError, match=f"has {count} cells tagged 'parameters'"):
        chapter_notebook(chapter)


def test_a_chapter_without_source_names_the_path(tmp_path: object) -> None:
    with pytest.raises(ChapterError, match=r"no source at nowhere\.md"):
        chapter_notebook(Chapter("lost", "Lost", "nowhere.md"))


def test_an_unknown_chapter_is_suggested_its_neighbour(chapters: Register) -> None:
    chapters()
    with pytest.raises(RegistryError, match="Did you mean 'small'"):
        find_chapter("smal")


def test_a_callers_value_goes_before_the_profiles_and_both_before_the_default(chapters: Register) -> None:
    chapter = chapters()
    declared = parameters_of(chapter)
    assert resolve_parameters(chapter, declared, profile="smoke") == DECLARED | {"top_k": 5}
    given = {"top_k": "7", "names": "c"}
    expected = DECLARED | {"top_k": 7, "names": ["c"]}
    assert resolve_parameters(chapter, declared, profile="smoke", parameters=given) == expected


def test_all_bad_parameters_are_named_at_once_with_the_nearest(chapters: Register) -> None:
    chapter = chapters(profiles={"smoke": {"labl": "x"}, "laptop": {}, "paper": {}})
    with pytest.raises(ConfigError) as caught:
        resolve_parameters(
            chapter, parameters_of(chapter), profile="smoke", parameters={"topk": 3, "rate": "high"}
        )
    assert len(caught.value.problems) == 3
    assert "profile: unknown parameter 'labl' (did you mean 'label'?)" in caught.value.problems
    assert "unknown parameter 'topk' (did you mean 'top_k'?)" in caught.value.problems
    assert caught.value.problems[2].startswith("rate: 'high' is not of type float")


def test_an_unknown_profile_is_suggested_its_neighbour(chapters: Register) -> None:
    with pytest.raises(ChapterError, match=r"no profile 'laptp' \(did you mean 'laptop'\?\)"):
        resolve_parameters(chapter := chapters(), parameters_of(chapter), profile="laptp")


@pytest.mark.parametrize(
    "line, kind",
    [
        ("x = 3", "int"),
        ("x = 3.0", "float"),
        ("x = False", "bool"),
        ("x = 'a'", "str"),
        ("x = None", "Any"),
        ("x = []", "list[Any]"),
        ("x = ['a']", "list[str]"),
        ("x = [1, 0.5]", "list[float]"),
        ("x: int | str = 3", "int | str"),
        ("x: list[int | str] = [3]", "list[int | str]"),
    ],
)
def test_a_kind_is_what_the_annotation_says_or_else_what_the_default_is(line: str, kind: str) -> None:
    assert declared_parameters(line, "small")["x"].kind == kind


def test_an_annotation_that_is_no_kind_is_refused() -> None:
    with pytest.raises(
        ChapterError, match=r"'x' of chapter 'small' is annotated dict\[str, int\].*write bool, int"
    ):
        declared_parameters("x: dict[str, int] = 3", "small")


@pytest.mark.parametrize(
    "text, kind, expected",
    [
        ("3", "int", 3),
        ("3", "float", 3.0),
        ("true", "bool", True),
        ("False", "bool", False),
        ("1,2,3", "list[int]", [1, 2, 3]),
        ("[1, 2]", "list[int]", [1, 2]),
        ("(1, 2)", "list[float]", [1.0, 2.0]),
        ("9", "list[int]", [9]),
        ("a, b", "list[str]", ["a", "b"]),
        ("[a, 'b']", "list[str]", ["a", "b"]),
        ('["a", "b, c"]', "list[str]", ["a", "b, c"]),
        ("3", "list[str]", ["3"]),
        ("", "list[str]", []),
        ("[]", "list[str]", []),
        ("410000, pythia-1b", "list[int | str]", [410000, "pythia-1b"]),
        ("3", "str", "3"),
        ("none", "str | None", None),
        ("none", "str", "none"),
        ("feature_name", "str | None", "feature_name"),
        ("none", "Any", None),
        ("my.h5ad", "Any", "my.h5ad"),
        ("a,b", "list[Any]", ["a", "b"]),
    ],
)
def test_text_becomes_what_its_kind_says(text: str, kind: str, expected: object) -> None:
    value = convert(text, kind)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "value, kind, expected",
    [
        (3, "float", 3.0),
        (3, "list[int]", [3]),
        ((1, 2), "list[float]", [1.0, 2.0]),
        (["4"], "list[int]", [4]),
        (["a, b"], "list[str]", ["a, b"]),
        (None, "str | None", None),
        ({"a": 1}, "Any", {"a": 1}),
    ],
)
def test_other_values_fit_or_become_a_list(value: object, kind: str, expected: object) -> None:
    found = convert(value, kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value, kind",
    [
        ("x", "int"),
        ("1.5", "int"),
        (1.0, "int"),
        ("1", "bool"),
        ("true", "int"),
        (True, "float"),
        ("x,y", "list[int]"),
        (1, "str"),
        (5, "list[str]"),
        (None, "int"),
        ("none", "int"),
        ("nan", "float"),
        (float("inf"), "float"),
        ({"a": 1}, "list[str]"),
    ],
)
def test_a_value_of_another_type_is_refused(value: object, kind: str) -> None:
    with pytest.raises(ValueError, match="is not of type"):
        convert(value, kind)


@given(
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.lists(st.integers(), min_size=1)
)
def test_what_python_prints_is_read_back(value: object) -> None:
    item = value[0] if isinstance(value, list) else value
    kind = type(item).__name__
    assert convert(str(value), f"list[{kind}]" if isinstance(value, list) else kind) == value


@pytest.mark.parametrize(
    "text, expected",
    [
        ("PBMC, day 3.h5ad", ["PBMC, day 3.h5ad"]),
        (" PBMC, day 3.h5ad ", ["PBMC, day 3.h5ad"]),
        ("ok.h5ad,PBMC, day 3.h5ad", ["ok.h5ad", "PBMC, day 3.h5ad"]),
        ("PBMC, day 3.h5ad, ok.h5ad", ["PBMC, day 3.h5ad", "ok.h5ad"]),
        ("pbmc68k_reduced, PBMC, day 3.h5ad,ok.h5ad", ["pbmc68k_reduced", "PBMC, day 3.h5ad", "ok.h5ad"]),
        ("[x].h5ad", ["[x].h5ad"]),
        ("PBMC, day 4.h5ad", ["PBMC", "day 4.h5ad"]),
    ],
)
def test_the_path_of_a_file_is_not_cut_at_its_commas(
    text: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PBMC, day 3.h5ad", "ok.h5ad", "[x].h5ad"):
        Path(name).touch()
    assert convert(text, "list[str]") == expected


CELL = """\
# What is measured.
top_k: int = 20  # genes
names: list[str] = [
    "a",  # the first
    "b",
]  # both
rate = 0.000003  # µ, "quoted" = so
symbols: str | None = None  # ä
"""


def test_a_cell_with_other_values_keeps_comments_and_unchanged_defaults() -> None:
    values = {"top_k": 5, "names": ['say "a"', "ü"], "rate": 0.000003, "symbols": "feature_name"}
    assert with_values(CELL, values, "small") == (
        "# What is measured.\n"
        "top_k: int = 5  # genes\n"
        'names: list[str] = ["say \\"a\\"", "ü"]  # both\n'
        'rate = 0.000003  # µ, "quoted" = so\n'
        'symbols: str | None = "feature_name"  # ä\n'
    )
    assert with_values(CELL, {}, "small") == CELL


@given(
    st.integers(),
    st.lists(st.text(st.characters(codec="utf-8"))),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.text(st.characters(codec="utf-8")),
)
def test_a_cell_with_other_values_says_them(
    top_k: int, names: list[str], rate: float, symbols: str | None
) -> None:
    values = {"top_k": top_k, "names": names, "rate": rate, "symbols": symbols}
    found = declared_parameters(with_values(CELL, values, "small"), "small")
    assert {name: parameter.default for name, parameter in found.items()} == values


PROFILES = {"smoke": {"top_k": 5, "names": ["a"]}, "laptop": {}, "paper": {"top_k": 1000}}


@pytest.mark.parametrize(
    "given_, said",
    [
        ({}, "laptop"),
        ({"out": "elsewhere"}, "laptop"),
        ({"top_k": 5, "names": ["a"]}, "smoke"),
        ({"top_k": 1000}, "paper"),
        ({"top_k": 50}, "laptop, with top_k=50"),
        ({"top_k": 5, "names": ["a"], "label": "tissue"}, 'smoke, with label="tissue"'),
        ({"top_k": 1000, "rate": 0.1}, "paper, with rate=0.1"),
    ],
)
def test_the_profile_is_that_of_the_values_or_the_nearest(
    chapters: Register, given_: dict[str, object], said: str
) -> None:
    chapter = chapters(profiles=PROFILES)
    assert profile_of(chapter, parameters_of(chapter), DECLARED | given_) == said


def test_profiles_that_are_the_same_are_all_named(chapters: Register) -> None:
    chapter = chapters(profiles={"smoke": {}, "laptop": {}, "paper": {}})
    assert profile_of(chapter, parameters_of(chapter), DECLARED) == "laptop; smoke and paper are the same"


def test_a_profile_that_is_broken_is_none_of_the_nearest(chapters: Register) -> None:
    chapter = chapters(profiles={"smoke": {"topk": 3}, "laptop": {}})
    assert profile_of(chapter, parameters_of(chapter), DECLARED) == "laptop"
