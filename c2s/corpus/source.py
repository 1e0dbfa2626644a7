"""Cells of one file, read slice by slice: rows of the matrix, ids and columns of ``obs``; never all at once.

`anndata.AnnData` keeps every cell id in memory as text; a million of them are more than all the rest of a build.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c2s.data.opened import open_file, texts_of
from c2s.data.read import named_genes, refuse_scaled
from c2s.errors import InputFileError, MatrixError, ObsError
from c2s.missing import is_missing
from c2s.reading import reading
from c2s.sentences.matrix import Rows, by_rows, rows_at
from c2s.sentences.matrix_kind import check_rows, kind_of_rows, refuse_mixed
from c2s.sentences.symbols import Words

_SLICE = 1 << 16
_MOST_OPEN = 4
_open: dict[tuple[Any, ...], CellReader] = {}


@dataclass(frozen=True)
class Source:
    """What a corpus knows of one file of cells; plain values, the same in every process.

    Attributes
    ----------
    name, study
        Names of the dataset and of its study.
    path
        The file.
    columns
        Standard name to ``(column of obs, None)`` or ``(None, constant)``.
    categories
        Values of each standard column; a cell holds positions in them, -1 where it has none.
    symbols, layer, strip
        As for `c2s.read_cells`.
    n_cells, n_genes
        Shape of the matrix.
    tasks
        Tasks that are made from it.
    facts
        Citation, licence and the like, for the manifest.
    overlaps
        Datasets that are known to hold some of the same cells.
    """

    name: str
    study: str
    path: str
    columns: Mapping[str, tuple[str | None, str | None]]
    categories: Mapping[str, tuple[str, ...]]
    symbols: str | None
    layer: str | None
    n_cells: int
    n_genes: int
    tasks: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    overlaps: tuple[str, ...] = ()
    strip: tuple[str, ...] = ()

    def reader(self) -> CellReader:
        """Open the file; this process keeps the last few open."""
        reader = open_cells(self.path, self.layer, self.symbols, self.strip)
        if (reader.n_cells, reader.n_genes) != (self.n_cells, self.n_genes):
            raise InputFileError(
                f"{self.path} is not the file that this corpus was planned with: it was {self.n_cells} x "
                f"{self.n_genes}, and is {reader.n_cells} x {reader.n_genes}.",
                fix="build into a new folder.",
            )
        return reader

    def codes(self, column: str, start: int, stop: int) -> npt.NDArray[np.int32]:
        """Return positions in `categories` for some cells, -1 where the value is not known, int32 ``[cells]``."""
        place, constant = self.columns.get(column, (None, None))
        if constant is not None:
            return np.zeros(stop - start, np.int32)
        if place is None:
            return np.full(stop - start, -1, np.int32)
        return self.reader().column(place).codes(start, stop, self.categories[column])


def open_cells(path: str, layer: str | None, symbols: str | None, strip: tuple[str, ...] = ()) -> CellReader:
    """Open a file of cells, or return it where it is open already; see `CellReader` and `close_cells`."""
    place = Path(path)
    stat = place.stat() if place.exists() else None
    key = (path, layer, symbols, strip, stat and (stat.st_size, stat.st_mtime_ns, stat.st_ino))
    if key not in _open:
        while len(_open) >= _MOST_OPEN:
            _open.pop(next(iter(_open))).close()
        _open[key] = CellReader(place, layer, symbols, strip)
    return _open[key]


def close_cells() -> None:
    """Close every file of cells that this process has open; HDF5 lets nobody write to an open one."""
    while _open:
        _open.popitem()[1].close()


class CellReader:
    """An open file of cells, of any format that `c2s.read_cells` takes.

    Raises
    ------
    InputFileError
        The file cannot be read.
    MatrixError
        There is no such layer.
    GeneError
        The symbols are not usable.
    """

    def __init__(
        self, path: Path, layer: str | None = None, symbols: str | None = None, strip: Sequence[str] = ()
    ) -> None:
        self.path = path
        self._opened = opened = open_file(path, layer)
        self._other_layers = [name for name in opened.layers if name != layer]
        self.n_cells = int(opened.matrix.shape[0])
        if self.n_cells == 0:
            raise MatrixError(f"{path} has no cells.", fix="check how it was filtered.")
        self._obs: Any = opened.obs_group
        if self._obs is None:
            frame = opened.obs()
            self._obs = _WholeObs({str(c): np.array(texts_of(frame[c].astype(object))) for c in frame})
            self._obs["_index"] = np.array(frame.index.astype(str))
        self._columns: dict[str, ObsColumn] = {}
        rows = self.ids(0, min(self.n_cells, _SLICE))
        self.words: Words = named_genes(path, opened.var, rows, symbols, strip, stacklevel=4)[1]
        self.n_genes = len(self.words)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    @functools.cached_property
    def _matrix(self) -> Any:
        with reading(self.path):
            return by_rows(self._opened.matrix, stacklevel=3)

    @functools.cached_property
    def kind(self) -> str:
        """What the matrix holds; the order of genes is the same for all but scaled values, which are refused."""
        with reading(self.path):
            found = kind_of_rows(self._matrix, genes=self.words.features.genes)
        refuse_scaled(found, self.path, self._other_layers)
        if found.name == "mixed":  # told by names
            found = kind_of_rows(self._matrix, self._opened.obs(), self.words.features.genes)
        refuse_mixed(found, str(self.path))
        return found.name

    def rows(self, start: int, stop: int) -> Rows:
        """Return some rows of the matrix, of genes only, checked, and as they are on disk.

        Raises
        ------
        MatrixError
            A value is negative, infinite or NaN, or a cell is of another kind than the rest; it is named.
        """
        with reading(self.path):
            rows = rows_at(self._matrix, start, stop)
        genes = self.words.features.genes
        if genes is not None:
            rows = rows.columns(genes, self._matrix.shape[1])
        check_rows(rows, self.kind, _Ids(self))
        # In single precision, as cells in memory are.
        single = rows.data.dtype != np.float64
        return rows if single else Rows(rows.start, rows.indptr, rows.indices, rows.data.astype(np.float32))

    @property
    def column_names(self) -> list[str]:
        """Columns of ``obs``."""
        index = str(self._obs.attrs.get("_index", "_index"))
        return [str(name) for name in self._obs if str(name) not in {index, "__categories"}]

    def column(self, name: str) -> ObsColumn:
        """Return a column of ``obs``.

        Raises
        ------
        ObsError
            There is none of this name.
        """
        if name not in self._columns:
            if name not in self._obs:
                raise ObsError(
                    f"{self.path} has no obs column {name!r}; it has {', '.join(self.column_names) or 'none'}.",
                    fix=f"name one of them instead of {name!r}.",
                )
            with reading(self.path):
                self._columns[name] = _column(self.path, self._obs, name)
        return self._columns[name]

    def ids(self, start: int, stop: int) -> list[str]:
        """Return the ids of some cells."""
        return self.column(str(self._obs.attrs.get("_index", "_index"))).texts(start, stop)


class _Ids:
    """Ids of cells by row, read when an error names one."""

    def __init__(self, reader: CellReader) -> None:
        self._reader = reader

    def __getitem__(self, row: int) -> str:
        return self._reader.ids(row, row + 1)[0]


class _WholeObs(dict[str, Any]):
    """Columns of ``obs`` in memory, under the names that a group on disk has."""

    attrs: Mapping[str, str] = {"_index": "_index"}


class ObsColumn:
    """One column of ``obs`` on disk, read slice by slice.

    Raises
    ------
    InputFileError
        The file is damaged where it is read.
    """

    def __init__(self, path: Path, values: Any, known: list[str] | None, mask: Any = None) -> None:
        self._path, self._values, self._known, self._mask = path, values, known, mask
        self._maps: dict[tuple[str, ...], npt.NDArray[np.int32]] = {}

    def categories(self) -> tuple[str, ...]:
        """Return the values that mean something, sorted."""
        if self._known is not None:
            found = set(self._known)
        else:
            found = set()
            for start, stop in column_slices(len(self._values)):
                found.update(self.texts(start, stop))
        return tuple(sorted(v for v in found if not is_missing(v)))

    def codes(self, start: int, stop: int, categories: tuple[str, ...]) -> npt.NDArray[np.int32]:
        """Return positions in `categories`, -1 for values that are not in it."""
        if self._known is None:
            place = {value: i for i, value in enumerate(categories)}
            return np.array([place.get(value, -1) for value in self.texts(start, stop)], np.int32)
        if categories not in self._maps:
            place = {value: i for i, value in enumerate(categories)}
            self._maps[categories] = np.array([*(place.get(v, -1) for v in self._known), -1], np.int32)
        # The code -1 (missing) is the last entry.
        found: npt.NDArray[np.int32] = self._maps[categories][self._slice(self._values, start, stop)]
        return found

    def texts(self, start: int, stop: int) -> list[str]:
        """Return some values as text; what is missing is empty."""
        if self._known is not None:
            known = [*self._known, ""]
            return [known[code] for code in self._slice(self._values, start, stop).tolist()]
        texts = texts_of(self._slice(self._values, start, stop))
        if self._mask is not None:
            hidden = self._slice(self._mask, start, stop)
            texts = ["" if hide else text for text, hide in zip(texts, hidden, strict=True)]
        return texts

    def _slice(self, values: Any, start: int, stop: int) -> Any:
        with reading(self._path):
            return np.asarray(values[start:stop])


def _column(path: Path, obs: Any, name: str) -> ObsColumn:
    """Find out how a column is stored; there have been several ways."""
    node = obs[name]
    if not hasattr(node, "shape"):
        if "codes" in node and "categories" in node:
            return ObsColumn(path, node["codes"], texts_of(node["categories"][:]))
        if "values" in node:
            return ObsColumn(path, node["values"], None, node.get("mask"))
        raise ObsError(
            f"the obs column {name!r} is stored in a way that is not known.", fix="write the file again."
        )
    if "__categories" in obs and name in obs["__categories"]:  # anndata before 0.8
        return ObsColumn(path, node, texts_of(obs["__categories"][name][:]))
    return ObsColumn(path, node, None)


def column_slices(n: int) -> Iterator[tuple[int, int]]:
    """Yield the slices in which a whole column is read."""
    for start in range(0, n, _SLICE):
        yield start, min(start + _SLICE, n)
