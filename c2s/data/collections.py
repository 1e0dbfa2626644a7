"""Abstracts of studies: title and description of CELLxGENE collections, by collection id."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from c2s.errors import InputFileError

_COLUMNS = ("collection_id", "title", "doi", "description")


def read_abstracts(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Read the abstracts of studies.

    Parameters
    ----------
    path
        A Parquet table with the columns ``collection_id``, ``title``, ``doi`` and ``description``, one row a
        dataset; default: the manifest ``cellxgene_collections``.

    Returns
    -------
    pandas.DataFrame
        One row a collection, in the order of the ids, which are the index: ``title``, ``doi`` (None where the
        source has none) and ``abstract``. A cell's ``abstract_id`` is such an id.

    Raises
    ------
    DatasetError
        The table is not available here.
    InputFileError
        It is no Parquet file, lacks a column, or gives one collection two descriptions.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    if path is None:
        from c2s.data.store import store

        source = store().path("cellxgene_collections")
    else:
        source = Path(path)
    try:
        table = read_table(source)
    except (OSError, ArrowException) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputFileError(
            f"{source} cannot be read as a Parquet table ({reason}).", fix="check the path, or write it again."
        ) from error
    lacking = [name for name in _COLUMNS if name not in table.column_names]
    if lacking:
        raise InputFileError(
            f"{source} lacks the column(s) {', '.join(lacking)}.", fix=f"it must have {', '.join(_COLUMNS)}."
        )
    frame = table.select(list(_COLUMNS)).to_pandas()
    frame = frame.dropna(subset=["collection_id", "description"]).drop_duplicates(["collection_id", "description"])
    twice = frame["collection_id"][frame["collection_id"].duplicated()]
    if len(twice):
        raise InputFileError(
            f"{source} has two descriptions of collection {twice.iloc[0]}.", fix="keep one row a collection."
        )
    frame["doi"] = frame["doi"].astype(object).where(frame["doi"].notna(), None)
    frame = frame.rename(columns={"description": "abstract"}).set_index("collection_id").sort_index()
    result: pd.DataFrame = frame[["title", "doi", "abstract"]]
    return result
