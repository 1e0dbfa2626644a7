"""Figures are saved, described and never wider than the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest

from c2s.chapters import chapter_style, show_figures

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _own_style() -> object:
    plt.close("all")  # whatever other tests of this process have left open
    with mpl.rc_context():
        yield


def test_figures_are_saved_under_their_names_and_closed(tmp_path: Path) -> None:
    chapter_style()
    open_already = plt.get_fignums()  # of other tests of this process
    first, _ = plt.subplots()
    second, _ = plt.subplots()
    page = show_figures(tmp_path, rank_expression=(first, "It <falls>."), other=(second, "It rises."))
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["other.png", "rank-expression.png"]
    assert plt.get_fignums() == open_already
    text = page._repr_html_()
    assert 'alt="It &lt;falls&gt;."' in text
    assert text.count("max-width:100%") == 2
    assert repr(page) == "[figure rank-expression.png: It <falls>.]\n[figure other.png: It rises.]"


def test_the_colours_are_distinct_in_brightness() -> None:
    """Printed in grey, neighbouring colours of the cycle still differ."""
    from matplotlib.colors import to_rgb

    grey = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(to_rgb, chapter_style()[:3])]
    assert min(abs(a - b) for i, a in enumerate(grey) for b in grey[:i]) > 0.05
