"""A file of cells, opened: what is in it, with the matrix left on disk where its format allows that.

Every reader of cells goes through `open_file`, so that what one command takes, all take.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset

from c2s.data.claims import refuse_false_claims
from c2s.data.foreign import read_foreign, refuse_other_files
from c2s.errors import C2SWarning, InputFileError, MatrixError
from c2s.missing import is_null
from c2s.reading import reading
from c2s.sentences.matrix import in_memory

if TYPE_CHECKING:
    from anndata import AnnData


def open_file(path: Path, layer: str | None = None, *, matrix: bool = True) -> OpenFile:
    """Open a file of cells.

    Parameters
    ----------
    path
        ``.h5ad`` of any version of anndata, ``.zarr``, the ``.h5`` or the folder of ``matrix.mtx`` of Cell Ranger,
        ``.loom``, or ``.csv``/``.tsv`` of counts; the content tells, whatever it is called.
    layer
        Layer that is wanted; ``"raw"`` is ``adata.raw``.
    matrix
        Whether there must be such a matrix.

    Raises
    ------
    InputFileError
        It is none of these, is damaged, needs a filter that is not here, or claims what it does not hold.
    MatrixError
        There is no such layer.
    """
    whole, group = _whole_or_group(path)
    with reading(path):
        return OnDisk(path, group, layer, matrix) if whole is None else InMemory(path, whole, layer, matrix)


def obs_columns(path: Path) -> list[str]:
    """Return the names of the columns of ``obs``; what can be read in slices is not read.

    Raises
    ------
    InputFileError
        As `open_file`.
    """
    whole, group = _whole_or_group(path)
    with reading(path):
        frame = whole.obs if whole is not None else group.get("obs", {})
        no_columns = {"__categories", "_index", getattr(frame, "attrs", {}).get("_index")}
        names = [str(name) for name in frame if str(name) not in no_columns]
        _close(group)
        return names


def _whole_or_group(path: Path) -> tuple[AnnData | None, Any]:
    """Return all of a file that cannot be read in slices, or the open group of one that can."""
    with reading(path):
        refuse_other_files(path)
        refuse_false_claims(path)
        foreign = read_foreign(path)
        if foreign is not None:
            return foreign, None
        group = _group_of(path)
        obs = group.get("obs")
        if obs is None or hasattr(obs, "keys"):
            return None, group
        _close(group)
        with _quiet():  # one table of records, as anndata 0.6 wrote it
            return anndata.read_zarr(path) if path.is_dir() else anndata.read_h5ad(path), None


class InMemory:
    """Cells that were read whole, because their format is not one to be read in slices.

    Parameters
    ----------
    path, layer, matrix
        As for `open_file`.
    adata
        What was read.
    """

    obs_group = None

    def __init__(self, path: Path, adata: AnnData, layer: str | None, matrix: bool = True) -> None:
        self.path = path
        places = [*(["raw"] if adata.raw is not None else []), *adata.layers]
        if (layer is None and matrix and adata.X is None) or (layer is not None and layer not in places):
            raise _no_matrix(path, layer, places)
        if layer == "raw" and adata.raw is not None:
            raw = adata.raw.to_adata()
            raw.obs, adata = adata.obs, raw
        elif layer is not None:
            adata.X = adata.layers.pop(layer)
        self._adata, self.matrix, self.var, self.layers = adata, adata.X, adata.var, places

    def obs(self) -> pd.DataFrame:
        """Return what is known of the cells."""
        obs: pd.DataFrame = self._adata.obs
        return obs

    def whole(self) -> AnnData:
        """Return all that is in the file, with the wanted matrix as ``X``."""
        return self._adata

    def close(self) -> None:
        """Do nothing: no file is open."""


class OnDisk:
    """An open ``.h5ad`` file or ``.zarr`` folder.

    Parameters
    ----------
    path, layer, matrix
        As for `open_file`.
    group
        The open file or store.

    Attributes
    ----------
    matrix
        The wanted matrix: a dataset, dense or sparse, as `c2s.sentences.matrix.by_rows` takes it.
    var
        What is known of its columns.
    layers
        Layers of the file, ``"raw"`` first if it is there.
    obs_group
        The table of cells as a group of HDF5 or zarr, where its columns can be read in slices; else None.
    """

    def __init__(self, path: Path, group: Any, layer: str | None, matrix: bool = True) -> None:
        self.path, self._group, self._layer = path, group, layer
        layers = list(group["layers"]) if hasattr(group.get("layers"), "keys") else []
        places = [*(["raw"] if "raw/X" in group else []), *layers]
        # A layer may be called raw, too.
        self._is_raw = layer == "raw" and ("raw/X" in group or "raw" not in layers)
        place = "X" if layer is None else "raw/X" if self._is_raw else f"layers/{layer}"
        if (place not in group and matrix) or (layer is not None and layer not in places):
            _close(group)
            raise _no_matrix(path, layer, places)
        self.matrix: Any = _matrix(group[place]) if place in group else None
        self.layers = places
        self._shape: tuple[int | None, ...] = (None, None) if self.matrix is None else self.matrix.shape
        if len(self._shape) != 2:
            raise InputFileError(
                f"{path}: {place} has {len(self._shape)} dimension(s).", fix="write cells x genes."
            )
        self._obs = group.get("obs")
        self.obs_group = self._obs if self._obs is not None and _is_encoded(self._obs) else None
        self._where = "raw/var" if self._is_raw else "var"
        self.var = _table(group.get(self._where), self._shape[1], f"{self._where} of {path}")

    def obs(self) -> pd.DataFrame:
        """Return what is known of the cells."""
        with reading(self.path):
            return _table(self._obs, self._shape[0], f"obs of {self.path}")

    def whole(self) -> AnnData:
        """Return all that is in the file, with the wanted matrix as ``X``, in memory, and close it."""
        # What belongs to the columns belongs to those of X, not of raw.
        names = {"obsm", "obsp", "uns"} | ({"layers", "varm", "varp"} if not self._is_raw else set())
        with reading(self.path), _quiet():
            taken = {"layers": self._layer}
            parts = {name: self._elements(name, taken.get(name)) for name in sorted(names) if name in self._group}
            matrix = None if self.matrix is None else in_memory(self.matrix)
            adata = anndata.AnnData(X=matrix, obs=self.obs(), var=self.var, **parts)
            if "raw/X" in self._group and not self._is_raw:
                matrix = in_memory(_matrix(self._group["raw/X"]))
                var = _table(self._group.get("raw/var"), matrix.shape[1], f"raw/var of {self.path}")
                raw = anndata.AnnData(X=matrix, var=var, varm=self._elements("raw/varm", None))
                raw.obs_names = adata.obs_names
                adata.raw = raw
        self.close()
        return adata

    def close(self) -> None:
        """Close the file."""
        _close(self._group)

    def _elements(self, name: str, but: str | None) -> dict[str, Any]:
        """Read the elements of a mapping; one that cannot be read is left out, and said so."""
        found: dict[str, Any] = {}
        node = self._group.get(name)
        for key in node if hasattr(node, "keys") else ():
            if key == but:
                continue
            try:
                found[str(key)] = read_elem(node[key])
            except Exception as error:  # an encoding of another program, or of a later anndata
                try:
                    found[str(key)] = in_memory(_matrix(node[key]))
                except Exception:
                    reason = " ".join(str(error).split())[:120]
                    warnings.warn(
                        f"{name}/{key} of {self.path} cannot be read and is left out ({reason}).",
                        C2SWarning,
                        stacklevel=5,
                    )
        return found


OpenFile = InMemory | OnDisk


def _group_of(path: Path) -> Any:
    if path.is_dir():
        import zarr

        return zarr.open_group(str(path), mode="r")
    import h5py

    return h5py.File(path, "r")


def _close(group: Any) -> None:
    if hasattr(group, "close"):
        group.close()


def _matrix(node: Any) -> Any:
    if hasattr(node, "shape"):
        return node
    if not {"encoding-type", "h5sparse_format"} & set(node.attrs):
        raise ValueError(f"{node.name} does not say how it is stored: it has no attribute encoding-type")
    return sparse_dataset(node)


class _quiet(warnings.catch_warnings):
    """Keep back that a file was written by an early version of anndata, which it says element by element."""

    def __enter__(self) -> Any:
        result = super().__enter__()
        for category in (FutureWarning, PendingDeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module="anndata")
        warnings.filterwarnings("ignore", message="Moving element from", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*very old version of AnnData", category=FutureWarning)
        return result


def _no_matrix(path: Path, layer: str | None, places: list[str]) -> MatrixError:
    has = ", ".join(places) or "none"
    if layer == "raw":
        problem = f"{path} has no raw; its layers are {has}."
    elif layer is not None:
        problem = f"{path} has no layer {layer!r}; it has {has}."
    else:
        problem = f"{path} has no matrix X; its layers are {has}."
    name = f"name one of them: layer={places[0]!r} (--layer {shlex.quote(places[0])})" if places else ""
    if layer is not None:
        name = f"leave layer out (--layer){', or ' * bool(name)}{name}"
    remedy = {"layer": places[0]} if places else {}
    return MatrixError(problem, fix=f"{name or 'write the matrix into X'}.", remedy=remedy)


def _table(node: Any, n: int | None, where: str) -> pd.DataFrame:
    """Read ``obs`` or ``var``, also where another program wrote it without saying how.

    Raises
    ------
    InputFileError
        It has another length than the matrix.
    """
    if node is None:
        frame = pd.DataFrame(index=pd.RangeIndex(n or 0).astype(str))
    elif not hasattr(node, "keys"):  # as anndata 0.6 wrote it
        frame = pd.DataFrame(np.asarray(node[()]))
        frame = frame.set_index(frame.columns[0])
        frame.index = pd.Index([v.decode() if isinstance(v, bytes) else str(v) for v in frame.index], dtype=object)
    elif _is_encoded(node):
        with _quiet():
            frame = read_elem(node)
    else:
        frame = _table_without_encoding(node, n)
    if n is not None and len(frame) != n:
        raise InputFileError(
            f"{where} has {len(frame)} rows, and the matrix {n}.",
            fix="write the file again, and compare its checksum.",
        )
    return frame


def _is_encoded(node: Any) -> bool:
    encoding = node.attrs.get("encoding-type", "")
    return str(encoding.decode() if isinstance(encoding, bytes) else encoding) == "dataframe"


def _table_without_encoding(node: Any, n: int | None) -> pd.DataFrame:
    """Read a table as SeuratDisk and others write it: one dataset a column, codes beside their categories."""
    known: Mapping[str, Any] = node.get("__categories", {})
    stated = node.attrs.get("_index", "_index")
    index = str(stated.decode() if isinstance(stated, bytes) else stated)
    if index not in node:
        index = next((name for name in ("index", "_index", "barcodes", "gene_names", "names") if name in node), "")
    columns: dict[str, Any] = {}
    for name in node:
        if name == "__categories":
            continue
        child = node[name]
        if hasattr(child, "keys"):
            for codes, levels, first in (
                ("codes", "categories", 0),
                ("values", "levels", 1),
            ):  # those of R begin at 1
                if codes in child and levels in child:
                    columns[name] = _categories(np.asarray(child[codes][:]) - first, child[levels])
        elif len(child.shape) == 1 and child.shape[0] == (n or child.shape[0]):
            values = np.asarray(child[:])
            if name in known:
                columns[name] = _categories(values, known[name])
            else:
                columns[name] = texts_of(values) if values.dtype.kind in "OSU" else values
    ids = [str(v) for v in columns.pop(index, range(n or 0))]
    return pd.DataFrame(columns, index=pd.Index(ids, dtype=object))


def _categories(codes: Any, levels: Any) -> Any:
    return pd.Categorical.from_codes(codes.astype(np.int64), pd.Index(texts_of(levels[:])))


def texts_of(values: Any) -> list[str]:
    """Return values as text; what is missing is empty."""
    if hasattr(values, "dtype") and values.dtype.kind == "f":
        # Whole numbers as such, all digits of the others: two ids must not become one.
        return ["" if np.isnan(v) else str(int(v)) if v.is_integer() else repr(v) for v in values.tolist()]
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    return [v.decode() if isinstance(v, bytes) else "" if is_null(v) else str(v) for v in listed]
