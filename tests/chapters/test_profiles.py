"""Profile files are checked, all problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from c2s.chapters import profiles
from c2s.errors import ChapterError, ConfigError

GOOD = "about: small\nseconds: 60\nchapters:\n  a: {top_k: 3, names: [x, y]}\n"


def test_a_profile_is_read(tmp_path: Path) -> None:
    path = tmp_path / "smoke.yaml"
    path.write_text(GOOD)
    assert profiles.read_profile(path).chapters == {"a": {"top_k": 3, "names": ["x", "y"]}}


def test_all_problems_are_named(tmp_path: Path) -> None:
    path = tmp_path / "smoke.yaml"
    path.write_text("about: 3\nseconds: -1\nchapters: {a: [1]}\nextra: 1\n")
    with pytest.raises(ConfigError) as caught:
        profiles.read_profile(path)
    named = " ".join(caught.value.problems)
    assert all(word in named for word in ("about:", "seconds:", "chapters.a:", "extra:"))
    assert str(path) in caught.value.fix


@pytest.mark.parametrize("text", ["about: [", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "smoke.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"profile file smoke\.yaml"):
        profiles.read_profile(path)


def test_an_installation_without_its_book_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "__file__", str(tmp_path / "c2s" / "chapters" / "profiles.py"))
    profiles.book_folder.cache_clear()
    try:
        with pytest.raises(ChapterError, match="holds no chapters"):
            profiles.book_folder()
    finally:
        profiles.book_folder.cache_clear()
