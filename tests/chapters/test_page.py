"""The chapters' MyST becomes Markdown and HTML that nbconvert shows; anything else is refused."""

from __future__ import annotations

import pytest

from c2s.chapters.page import plain_markdown, unsupported_markup
from c2s.errors import ChapterError


def test_plain_text_is_left_alone() -> None:
    text = "# Title\n\nA line with `code`, $x^2$ and {braces}.\n\n```python\nx = 1\n```"
    assert plain_markdown(text) == text


@pytest.mark.parametrize("fence", [":::", "```", "::::"])
def test_a_dropdown_folds_its_markdown(fence: str) -> None:
    assert plain_markdown(f"{fence}{{dropdown}} Solution\n:open:\n*two*\n{fence}").split("\n") == [
        "",
        '<details class="c2s-admonition"><summary><strong>Solution</strong></summary>',
        "",
        "*two*",
        "",
        "</details>",
        "",
    ]


def test_directives_nest() -> None:
    text = plain_markdown("::::{admonition} Outer\nfirst\n:::{note}\ninner\n:::\nlast\n::::")
    assert (
        text.index("Outer") < text.index("first") < text.index("Note") < text.index("inner") < text.index("last")
    )
    assert text.count("<div") == text.count("</div>") == 2
    assert ":::" not in text


def test_the_first_line_of_a_note_is_text() -> None:
    text = plain_markdown(":::{note} Mind this.\n:::")
    assert "<strong>Note</strong>" in text
    assert "\nMind this.\n" in text


def test_citations_and_the_bibliography() -> None:
    assert plain_markdown("as {footcite:t}`zheng2017` say") == "as Zheng et al. (2017) say"
    assert (
        plain_markdown("so {footcite:p}`rizvi2025,levine2024`.") == "so (Rizvi et al., 2025; Levine et al., 2024)."
    )
    listed = plain_markdown(":::{footbibliography}\n:::", ["wolf2018"])
    assert "SCANPY: Large-Scale" in listed
    assert "https://doi.org/10.1186/s13059-017-1382-0" in listed


def test_links_between_chapters_become_their_titles() -> None:
    assert plain_markdown("see {doc}`How to read <how-to-read>` and {doc}`cells-as-sentences`") == (
        "see *How to read* and *cells as sentences*"
    )


def test_targets_vanish() -> None:
    assert plain_markdown("(here)=\n## Heading") == "## Heading"


def test_an_unknown_citation_is_an_error() -> None:
    with pytest.raises(ChapterError, match=r"cites 'nobody1900'.*add the entry"):
        plain_markdown("{footcite:p}`nobody1900`")


def test_other_markup_is_refused_by_name() -> None:
    assert unsupported_markup("```{figure} a.png\n```\n{numref}`x` {doc}`y`") == ["figure", "numref"]
    with pytest.raises(ChapterError, match="MyST markup figure, numref"):
        plain_markdown("```{figure} a.png\n```\n{numref}`x`")
