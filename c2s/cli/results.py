"""``c2s results``: the tables of many runs, read into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd


def results(
    places: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders that hold a results.json, or such files.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table: .csv, .parquet or .json.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing FILE.")] = False,
) -> None:
    """Read the results of many runs into one table: one row per number, with its interval, data and profile.

    Chapters, c2s evaluate, c2s embedding-report and c2s scaling run leave a results.json in their folder.
    """
    from c2s.errors import ConfigError
    from c2s.files import atomic_output, check_target
    from c2s.results import FILE, gather_results

    if out is not None:
        if out.suffix not in {".csv", ".parquet", ".json"}:
            raise ConfigError(
                "c2s results", [f"{out} ends in none of .csv, .parquet and .json"], fix="--out results.csv, say."
            )
        tables = [path / FILE if path.is_dir() else path for path in places]
        check_target(out, overwrite=overwrite, inputs=tables)
    table = gather_results(places)
    if out is not None:
        with atomic_output(out, overwrite=overwrite) as temporary:
            if out.suffix == ".csv":
                table.to_csv(temporary, index=False)
            elif out.suffix == ".parquet":
                table.to_parquet(temporary, index=False)
            else:
                table.to_json(temporary, orient="records", indent=2, force_ascii=False)
    _print(table)
    if out is not None:
        typer.echo(f"{len(table)} rows of {table['run'].nunique()} runs -> {out}")


def _print(table: pd.DataFrame) -> None:
    """Print what has something in it; checksums and notes are in the file."""
    from c2s.results import aligned

    shown = table.assign(
        value=[f"{value:.4g}" if value == value else "" for value in table["value"]],
        interval=[f"{a:.4g} to {b:.4g}" if a == a and b == b else "" for a, b in zip(table["low"], table["high"])],
        n=table["n"].astype("string").fillna("") + " " + table["unit"],
    )
    columns = ["run", "task", "predictor", "metric", "value", "interval", "paper", "n", "data", "profile"]
    texts = shown[columns].apply(lambda column: column.str.strip())
    texts = texts[[column for column in columns if (texts[column] != "").any()]]
    for line in aligned([list(texts), *texts.to_numpy().tolist()]):
        typer.echo(line)
