"""Cells of one file, read slice by slice: rows of the matrix, ids and columns of ``obs``; never all at once.

`anndata.AnnData` keeps every cell id in memory as text; a million of them are more than all the rest of a build.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from c2s.errors import C2SWarning, InputFileError, MatrixError, ObsError
from c2s.sentences.matrix import Rows, rows_at
from c2s.sentences.matrix_kind import matrix_kind
from c2s.sentences.symbols import Words, check_words

if TYPE_CHECKING:
    from anndata import AnnData

#: Texts that stand for "not known".
UNKNOWN = frozenset({"", "na", "n/a", "nan", "none", "unknown", "not available", "not applicable", "unassigned"})
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
    symbols, layer
        Column of ``var``, and layer.
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

    def reader(self) -> CellReader:
        """Open the file; this process keeps the last few open."""
        reader = open_cells(self.path, self.layer, self.symbols)
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


def open_cells(path: str, layer: str | None, symbols: str | None) -> CellReader:
    """Open a file of cells, or return it where it is open already; see `CellReader` and `close_cells`."""
    place = Path(path)
    stat = place.stat() if place.exists() else None
    key = (path, layer, symbols, stat and (stat.st_size, stat.st_mtime_ns, stat.st_ino))
    if key not in _open:
        while len(_open) >= _MOST_OPEN:
            _open.pop(next(iter(_open))).close()
        _open[key] = CellReader(place, layer, symbols)
    return _open[key]


def close_cells() -> None:
    """Close every file of cells that this process has open; HDF5 lets nobody write to an open one."""
    while _open:
        _open.popitem()[1].close()


class CellReader:
    """An open ``.h5ad`` file or ``.zarr`` folder.

    Raises
    ------
    InputFileError
        The file cannot be read as AnnData.
    MatrixError
        There is no such layer, or the values are scaled.
    GeneError
        The symbols are not usable.
    """

    def __init__(self, path: Path, layer: str | None = None, symbols: str | None = None) -> None:
        self.path = path
        with _reading(path):
            self._group: Any = _open_group(path)
            if not hasattr(self._group.get("obs"), "keys"):
                self._group = _Whole(path, layer)
                layer = None
            place = "X" if layer is None else "raw/X" if layer == "raw" else f"layers/{layer}"
            if place not in self._group:
                raise MatrixError(f"{path} has no {place}.", fix="name a layer that it has, or leave layer out.")
            node = self._group[place]
            self._matrix = node if hasattr(node, "shape") else _sparse(node)
            self.n_cells, self.n_genes = (int(n) for n in self._matrix.shape)
            names = self._symbols("raw/var" if layer == "raw" else "var", symbols)
            self._obs = self._group["obs"]
        if self.n_cells == 0:
            raise MatrixError(f"{path} has no cells.", fix="check how it was filtered.")
        self.words: Words = check_words(names, where=f"var of {path.name}")
        self._columns: dict[str, ObsColumn] = {}

    def close(self) -> None:
        """Close the file."""
        if hasattr(self._group, "close"):
            self._group.close()

    @functools.cached_property
    def kind(self) -> str:
        """What the matrix holds; the order of genes is the same for all but scaled values, which are refused."""
        view = SimpleNamespace(X=self._matrix, layers={}, n_obs=self.n_cells, uns={})
        found = matrix_kind(cast("AnnData", view))
        if found.name == "scaled":
            raise MatrixError(
                f"{self.path} holds scaled values ({found.evidence}), whose order is not that of expression.",
                fix="name the layer with the values before scaling: layer: raw, or layer: NAME.",
            )
        return found.name

    def rows(self, start: int, stop: int) -> Rows:
        """Return some rows of the matrix as they are on disk."""
        if getattr(self._matrix, "format", None) == "csc":
            warnings.warn(
                f"the matrix of {self.path.name} is stored by gene (CSC) and read whole; as CSR it would not be.",
                C2SWarning,
                stacklevel=2,
            )
            self._matrix = self._matrix.to_memory().tocsr()
        with _reading(self.path):
            return rows_at(self._matrix, start, stop)

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
            with _reading(self.path):
                self._columns[name] = _column(self._obs, name)
        return self._columns[name]

    def ids(self, start: int, stop: int) -> list[str]:
        """Return the ids of some cells."""
        with _reading(self.path):
            index = self._obs[str(self._obs.attrs.get("_index", "_index"))]
            return _texts(index[start:stop])

    def _symbols(self, place: str, symbols: str | None) -> list[Any]:
        from anndata.io import read_elem

        node = self._group[place]
        var = node if hasattr(node, "columns") else read_elem(node)
        if symbols is None:
            return list(var.index)
        if symbols not in var:
            raise ObsError(
                f"var of {self.path} has no column {symbols!r}; it has {', '.join(map(str, var)) or 'none'}.",
                fix="name one of them as symbols.",
            )
        return list(var[symbols])


class _Whole(dict[str, Any]):
    """A file of anndata's early years, which is not laid out to be read in slices: read whole, and used alike."""

    def __init__(self, path: Path, layer: str | None) -> None:
        from c2s.data.read import read_cells

        with warnings.catch_warnings():
            # anndata warns, element by element, that the file was written by an old version of it.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            adata = read_cells(path, layer=layer, normalise="never")
        obs = _WholeObs({str(c): np.array(_texts(adata.obs[c].astype(object))) for c in adata.obs})
        obs["_index"] = np.array(adata.obs_names.astype(str))
        super().__init__(X=adata.X, obs=obs, var=adata.var)


class _WholeObs(dict[str, Any]):
    """Columns of ``obs`` in memory, under the names that a group on disk has."""

    attrs: Mapping[str, str] = {"_index": "_index"}


class ObsColumn:
    """One column of ``obs`` on disk, read slice by slice."""

    def __init__(self, values: Any, known: list[str] | None, mask: Any = None) -> None:
        self._values, self._known, self._mask = values, known, mask
        self._maps: dict[tuple[str, ...], npt.NDArray[np.int32]] = {}

    def categories(self) -> tuple[str, ...]:
        """Return the values that mean something, sorted."""
        if self._known is not None:
            found = set(self._known)
        else:
            found = set()
            for start in range(0, len(self._values), _SLICE):
                found.update(self._raw(start, min(start + _SLICE, len(self._values))))
        return tuple(sorted(v for v in found if v.strip().casefold() not in UNKNOWN))

    def codes(self, start: int, stop: int, categories: tuple[str, ...]) -> npt.NDArray[np.int32]:
        """Return positions in `categories`, -1 for values that are not in it."""
        if self._known is None:
            place = {value: i for i, value in enumerate(categories)}
            return np.array([place.get(value, -1) for value in self._raw(start, stop)], np.int32)
        if categories not in self._maps:
            place = {value: i for i, value in enumerate(categories)}
            self._maps[categories] = np.array([*(place.get(v, -1) for v in self._known), -1], np.int32)
        # The code -1 (missing) is the last entry.
        found: npt.NDArray[np.int32] = self._maps[categories][np.asarray(self._values[start:stop])]
        return found

    def _raw(self, start: int, stop: int) -> list[str]:
        texts = _texts(self._values[start:stop])
        if self._mask is not None:
            texts = ["" if hidden else text for text, hidden in zip(texts, self._mask[start:stop], strict=True)]
        return texts


def _column(obs: Any, name: str) -> ObsColumn:
    """Find out how a column is stored; there have been several ways."""
    node = obs[name]
    if not hasattr(node, "shape"):
        if "codes" in node:
            return ObsColumn(node["codes"], _texts(node["categories"][:]))
        if "values" in node:
            return ObsColumn(node["values"], None, node.get("mask"))
        raise ObsError(
            f"the obs column {name!r} is stored in a way that is not known.", fix="write the file again."
        )
    if "__categories" in obs and name in obs["__categories"]:  # anndata before 0.8
        return ObsColumn(node, _texts(obs["__categories"][name][:]))
    return ObsColumn(node, None)


def _texts(values: Any) -> list[str]:
    """Return values as text; what is missing is empty."""
    if hasattr(values, "dtype") and values.dtype.kind == "f":
        # Whole numbers as such, all digits of the others: two ids must not become one.
        return ["" if np.isnan(v) else str(int(v)) if v.is_integer() else repr(v) for v in values.tolist()]
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    return [v.decode() if isinstance(v, bytes) else "" if v is None or v != v else str(v) for v in listed]


def column_slices(n: int) -> Iterator[tuple[int, int]]:
    """Yield the slices in which a whole column is read."""
    for start in range(0, n, _SLICE):
        yield start, min(start + _SLICE, n)


def _open_group(path: Path) -> Any:
    if path.is_dir():
        import zarr

        return zarr.open_group(str(path), mode="r")
    import h5py

    return h5py.File(path, "r")


def _sparse(node: Any) -> Any:
    from anndata.io import sparse_dataset

    return sparse_dataset(node)


class _reading:
    """Turn whatever a damaged file makes the readers raise into an `InputFileError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        if not self.path.exists():
            raise InputFileError(f"there is no file {self.path}.", fix="check the path.")

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputFileError | MatrixError | ObsError):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputFileError(
                f"{self.path} cannot be read as AnnData, being truncated, damaged or of other layout ({reason}).",
                fix="download or write it again, and compare its checksum.",
            ) from error
