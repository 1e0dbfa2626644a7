"""`CellSentences`: sentences, what is known of their cells, the vocabulary and where it all came from."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from c2s.errors import C2SWarning, InputFileError, ObsError, SentenceError
from c2s.files import atomic_output

if TYPE_CHECKING:
    import datasets

#: Columns the transform writes; a column of ``obs`` of the same name is renamed to ``obs_<name>``.
RESERVED = ("cell_id", "cell_sentence", "n_genes")
_ROW_GROUP_BYTES = 16 << 20
_PROVENANCE, _VOCABULARY = b"c2s.provenance", b"c2s.vocabulary"


@dataclass(frozen=True)
class CellSentences:
    """Cell sentences as an Arrow table.

    Attributes
    ----------
    table
        ``cell_id`` (string), ``cell_sentence`` (string), ``n_genes`` (int32, words in the sentence), then the
        columns of ``obs``; one row per cell.
    vocabulary
        ``gene`` (string) and ``n_cells`` (int64, cells that express it) for every gene of the matrix, in the
        matrix's order.
    provenance
        Plain JSON values: how the sentences were made, from what.
    """

    table: pa.Table
    vocabulary: pa.Table
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        missing = [c for c in RESERVED if c not in self.table.column_names]
        if missing:
            raise SentenceError(
                f"a table of cell sentences lacks {', '.join(missing)}.", fix="make it with c2s.to_cell_sentences."
            )
        if set(self.vocabulary.column_names) != {"gene", "n_cells"}:
            raise SentenceError(
                "a vocabulary has the columns gene and n_cells.", fix="keep the one you were given."
            )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        words = self.table["n_genes"]
        mean = float(np.mean(words.to_numpy())) if len(self) else 0.0
        return f"CellSentences({len(self)} cells of {mean:.0f} genes on average, vocabulary of {len(self.genes)})"

    @property
    def obs(self) -> pd.DataFrame:
        """What is known of the cells: the table without its sentences, indexed by ``cell_id``."""
        frame: pd.DataFrame = self.table.drop_columns(["cell_sentence"]).to_pandas()
        return frame.set_index("cell_id")

    @property
    def genes(self) -> list[str]:
        """All genes of the matrix, in its order."""
        genes: list[str] = self.vocabulary["gene"].to_pylist()
        return genes

    def select(self, cell_ids: Sequence[str]) -> CellSentences:
        """Return the sentences of these cells, in the order given.

        Raises
        ------
        ObsError
            A cell is not in the table; the message names the first few.
        """
        index = pd.Index(self.table["cell_id"].to_pandas())
        wanted = [str(cell) for cell in cell_ids]
        rows = index.get_indexer(wanted)
        if (rows < 0).any():
            unknown = [wanted[i] for i in np.flatnonzero(rows < 0)]
            shown = ", ".join(map(repr, unknown[:5]))
            raise ObsError(
                f"{len(unknown)} cell id(s) are not in these sentences: {shown}.",
                fix="use ids of the column cell_id, which are the obs_names of the matrix.",
            )
        return CellSentences(self.table.take(pa.array(rows, pa.int64())), self.vocabulary, self.provenance)

    def to_dataset(self) -> datasets.Dataset:
        """Return the table as a `datasets.Dataset`, sharing its memory."""
        import datasets

        return datasets.Dataset(self.table)

    def write_parquet(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the table, with vocabulary and provenance in the file's metadata.

        Raises
        ------
        OutputError
            The file exists, or cannot be written.
        """
        with (
            atomic_output(path, overwrite=overwrite) as temporary,
            ParquetSink(temporary, self.table.schema) as sink,
        ):
            for batch in self.table.to_batches():
                sink.write(batch)
            sink.finish(self.vocabulary, self.provenance)
        return Path(path)

    @classmethod
    def read_parquet(cls, path: str | os.PathLike[str], *, rows: tuple[int, int] | None = None) -> CellSentences:
        """Read what `write_parquet` (or ``c2s transform``) wrote.

        Parameters
        ----------
        path
            The file.
        rows
            First row, and the one after the last; only the row groups that hold them are read. Default all.

        Raises
        ------
        InputFileError
            The file is missing or not Parquet.
        SentenceError
            It is Parquet, but not of cell sentences.
        """
        source = Path(path)
        if not source.is_file():
            raise InputFileError(f"there is no file {source}.", fix="check the path; `c2s transform` makes one.")
        try:
            with pq.ParquetFile(source) as file:
                metadata = file.metadata.metadata or {}
                table = file.read() if rows is None else _read_rows(file, *rows)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputFileError(
                f"{source} is not a readable Parquet file ({_first_line(error)}).",
                fix="make it again with `c2s transform`.",
            ) from error
        try:
            provenance = json.loads(metadata[_PROVENANCE])
            stored = json.loads(metadata[_VOCABULARY])
            vocabulary = vocabulary_table(pa.array(stored["gene"], pa.string()), stored["n_cells"])
        except (KeyError, TypeError, ValueError) as error:
            raise SentenceError(
                f"{source} is a Parquet file without the vocabulary of cell sentences.",
                fix="make it with `c2s transform` or CellSentences.write_parquet.",
            ) from error
        return cls(table.replace_schema_metadata(None), vocabulary, provenance)


def _read_rows(file: pq.ParquetFile, first: int, last: int) -> pa.Table:
    """Read the rows from `first` up to `last` from the row groups that hold them."""
    ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)])
    groups = range(
        int(np.searchsorted(ends, first, "right")), min(int(np.searchsorted(ends, last)) + 1, len(ends))
    )
    before = int(ends[groups[0] - 1]) if groups and groups[0] else 0
    return file.read_row_groups(list(groups)).slice(first - before, last - first)


class ParquetSink:
    """Write a table of cell sentences piece by piece; vocabulary and provenance come last."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows; small batches are gathered into row groups of about 16 MB."""
        self._waiting.append(batch)
        if sum(b.nbytes for b in self._waiting) >= _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
            self._waiting = []

    def finish(self, vocabulary: pa.Table, provenance: dict[str, Any]) -> None:
        """Write what is waiting, and the metadata; nothing can be appended afterwards."""
        self._flush()
        stored = {"gene": vocabulary["gene"].to_pylist(), "n_cells": vocabulary["n_cells"].to_pylist()}
        self._writer.add_key_value_metadata(
            {_PROVENANCE: json.dumps(provenance).encode(), _VOCABULARY: json.dumps(stored).encode()}
        )


def vocabulary_table(genes: pa.Array, n_cells: Any) -> pa.Table:
    """Return the vocabulary's table of ``gene`` and ``n_cells``."""
    return pa.table({"gene": genes, "n_cells": pa.array(n_cells, pa.int64())})


def obs_table(obs: pd.DataFrame, columns: Sequence[str] | None) -> tuple[pa.Table, dict[str, str]]:
    """Return ``cell_id`` and columns of `obs` as Arrow strings, numbers and booleans.

    Parameters
    ----------
    obs
        One row per cell, indexed by cell id.
    columns
        The columns to keep; None keeps all, a reserved name becoming ``obs_<name>``.

    Returns
    -------
    table, renamed
        The table, and the new name of each renamed column.

    Raises
    ------
    ObsError
        A column is missing, or reserved, or two cells share an id.
    """
    if not obs.index.is_unique:
        twice = obs.index[obs.index.duplicated()].unique()
        raise ObsError(
            f"{len(twice)} cell id(s) occur more than once in obs_names, first {str(twice[0])!r}.",
            fix="make them distinct with adata.obs_names_make_unique().",
        )
    renamed = {}
    original = {str(c): c for c in obs.columns}
    chosen = list(original) if columns is None else list(columns)
    arrays = {"cell_id": pa.array(obs.index.astype(str), pa.string())}
    for column in chosen:
        if column not in original:
            has = ", ".join(map(str, obs.columns)) or "none"
            raise ObsError(f"obs has no column {column!r}; it has {has}.", fix="name one of them in obs_columns.")
        name = column
        if column in RESERVED:
            if columns is not None:
                raise ObsError(
                    f"the obs column {column!r} has a name that a table of cell sentences uses itself.",
                    fix=f"rename it: adata.obs = adata.obs.rename(columns={{{column!r}: 'obs_{column}'}}).",
                )
            while name in original or name in RESERVED:
                name = f"obs_{name}"
            renamed[column] = name
        arrays[name] = _column(obs[original[column]])
    return pa.table(arrays), renamed


def _column(values: pd.Series) -> pa.Array:
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        array = None
    if array is None or pa.types.is_nested(array.type) or pa.types.is_null(array.type):
        # Mixed or nested objects: their text, and nothing where there is nothing.
        array = pa.array([None if v is None or v is pd.NA or v != v else str(v) for v in values], pa.string())
    if pa.types.is_large_string(array.type):
        array = array.cast(pa.string())
    return array


def storable(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a table that AnnData can store: what it has no type or name for is converted.

    Parameters
    ----------
    frame
        ``obs`` or ``var``.
    where
        What to call it in the warning.

    Warns
    -----
    C2SWarning
        Columns were renamed or became text; they are named.
    """
    changed = []
    columns: dict[str, Any] = {}
    for place, column in enumerate(frame.columns):
        values, name = frame.iloc[:, place], str(column).replace("/", "|")
        while name in {"_index", *columns} or (name == frame.index.name and column != frame.index.name):
            name = f"{name.lstrip('_')}_1"
        if name != column:
            changed.append(f"{column!r} is called {name!r}")
        columns[name] = _storable(values)
        if columns[name] is None:
            texts = [None if v is None or v is pd.NA or v != v else str(v) for v in values.astype(object)]
            columns[name] = pd.Series(texts, frame.index, dtype=object)
            changed.append(f"{column!r} is text")
        if columns[name].dtype == object and columns[name].isna().any():  # there are no strings with gaps
            columns[name] = columns[name].astype("category")
    if changed:
        told = ", ".join(changed[:5]) + (" and more" if len(changed) > 5 else "")
        warnings.warn(f"AnnData cannot store {where} as it is: {told}.", C2SWarning, stacklevel=3)
    index = frame.index.astype(str).astype(object)
    index.name = None if frame.index.name in columns else frame.index.name
    return pd.DataFrame(columns, index=index)


def _storable(values: pd.Series) -> pd.Series | None:
    """Return a column with a type that AnnData has; None where only text is left."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        texts = values.cat.categories.map(str)
        return values if values.cat.categories.dtype.kind in "biufO" and texts.is_unique else None
    if isinstance(values.dtype, pd.StringDtype):
        return values.astype(object).where(values.notna(), None)
    if values.dtype.kind in "biuf" or pd.api.types.is_bool_dtype(values.dtype):
        return values
    if values.dtype != object:
        return None
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "boolean":
        return values.astype("boolean")
    return values if kind in {"string", "empty"} else None


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0].rstrip(".")
