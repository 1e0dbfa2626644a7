"""``c2s labels``: which columns of a file can be learned."""

from __future__ import annotations

from typing import Annotated

import typer

from c2s.command_options import Donor, Layer, Normalise, Strip, Symbols, how_to_read


def labels(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file of cells, or the name of a dataset.")],
    donor: Donor = None,
    layer: Layer = None,
    symbols: Symbols = None,
    strip: Strip = None,
    normalise: Normalise = "auto",
) -> None:
    """List the obs columns of a file that can serve as labels, and how it would be split."""
    from c2s_annotation.columns import print_label_columns

    print_label_columns(data, donor=donor, **how_to_read(layer, symbols, strip, normalise))
