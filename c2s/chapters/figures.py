"""Figures of the chapters: one look, saved beside the results, shown with a description in words."""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colours: told apart with every common kind of colour blindness.
PALETTE: tuple[str, ...] = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)

_STYLE: Mapping[str, Any] = {
    "figure.figsize": (4.8, 3.8),
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "image.cmap": "cividis",
}


def chapter_style() -> tuple[str, ...]:
    """Set the book's look for matplotlib and return its colours.

    Returns
    -------
    tuple of str
        Colours as ``"#RRGGBB"``, in the order of use.
    """
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update({**_STYLE, "axes.prop_cycle": cycler(color=PALETTE)})
    return PALETTE


@dataclass(frozen=True)
class FigurePage:
    """Saved figures, side by side where there is room and below each other where there is not.

    Attributes
    ----------
    figures
        Pairs of file and description.
    """

    figures: Sequence[tuple[Path, str]]

    def _repr_html_(self) -> str:
        boxes = []
        for path, alt in self.figures:
            data = base64.b64encode(path.read_bytes()).decode()
            boxes.append(
                '<figure style="flex:1 1 300px;min-width:0;max-width:34rem;margin:0 0 1em 0;text-align:center">'
                f'<img style="max-width:100%;height:auto;background:white" src="data:image/png;base64,{data}" '
                f'alt="{html.escape(alt, quote=True)}"></figure>'
            )
        return f'<div class="c2s-figures" style="display:flex;flex-wrap:wrap;gap:1em">{"".join(boxes)}</div>'

    def __repr__(self) -> str:
        return "\n".join(f"[figure {path.name}: {alt}]" for path, alt in self.figures)


def show_figures(out: str | os.PathLike[str], **figures: tuple[Figure, str]) -> FigurePage:
    """Save matplotlib figures as ``out/figures/NAME.png`` and show them.

    Parameters
    ----------
    out
        The chapter's output folder.
    **figures
        By name (underscores and slashes become hyphens): the figure, and a sentence that describes it in words.

    Returns
    -------
    FigurePage
        Leave it as the last value of a cell.

    Examples
    --------
    >>> show_figures(out, rank_expression=(fig, "Expression falls with rank."))  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    folder = Path(out) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for name, (figure, alt) in figures.items():
        path = folder / f"{re.sub('[/_]', '-', name)}.png"
        figure.savefig(path)
        # Closed, or the notebook shows it a second time, without its description.
        plt.close(figure)
        saved.append((path, alt))
    return FigurePage(tuple(saved))
