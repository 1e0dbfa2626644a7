"""Parameters are declared by the chapter, checked before anything runs, and converted by the default's type."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from c2s.chapters.catalogue import (
    chapter_notebook,
    chapter_parameters,
    convert,
    find_chapter,
    resolve_parameters,
)
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


def test_a_callers_value_goes_before_the_profiles(chapters: Register) -> None:
    chapter = chapters()
    assert resolve_parameters(chapter, DECLARED, profile="smoke") == {"top_k": 5}
    assert resolve_parameters(chapter, DECLARED, profile="smoke", parameters={"top_k": "7"}) == {"top_k": 7}


def test_all_bad_parameters_are_named_at_once_with_the_nearest(chapters: Register) -> None:
    chapter = chapters(profiles={"smoke": {"labl": "x"}, "laptop": {}, "paper": {}})
    with pytest.raises(ConfigError) as caught:
        resolve_parameters(chapter, DECLARED, profile="smoke", parameters={"topk": 3, "rate": "high"})
    assert len(caught.value.problems) == 3
    assert "profile: unknown parameter 'labl' (did you mean 'label'?)" in caught.value.problems
    assert "unknown parameter 'topk' (did you mean 'top_k'?)" in caught.value.problems
    assert caught.value.problems[2].startswith("rate: 'high' is not of type float")


def test_an_unknown_profile_is_suggested_its_neighbour(chapters: Register) -> None:
    with pytest.raises(ChapterError, match=r"no profile 'laptp' \(did you mean 'laptop'\?\)"):
        resolve_parameters(chapters(), DECLARED, profile="laptp")


@pytest.mark.parametrize(
    "text, default, expected",
    [
        ("3", 1, 3),
        ("3", 1.5, 3.0),
        ("true", False, True),
        ("False", True, False),
        ("1,2,3", [7], [1, 2, 3]),
        ("[1, 2]", [7], [1, 2]),
        ("9", [7], [9]),
        ("a, b", ["x"], ["a", "b"]),
        ("3", "text", "3"),
        ("none", None, None),
        ("my.h5ad", None, "my.h5ad"),
        ("none", 4, None),
        ("a,b", [], ["a", "b"]),
    ],
)
def test_text_becomes_the_type_of_the_default(text: str, default: object, expected: object) -> None:
    value = convert(text, default)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    "value, default", [("x", 1), ("1.5", 1), ("1", True), ("true", 1), (True, 1.0), ("x,y", [1]), (1, "a")]
)
def test_a_value_of_another_type_is_refused(value: object, default: object) -> None:
    with pytest.raises(ValueError, match="is not of type"):
        convert(value, default)


@given(
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.lists(st.integers(), min_size=1)
)
def test_what_python_prints_is_read_back(value: object) -> None:
    assert convert(str(value), value) == value
