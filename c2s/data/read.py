"""Read cells from a file: genes, quality control, normalisation, and what the matrix was found to be."""

from __future__ import annotations

import math
import os
import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.data.gene_sets import is_gmt, read_gmt
from c2s.data.opened import open_file
from c2s.errors import C2SWarning, ConfigError, GeneError, InputFileError, MatrixError
from c2s.sentences.features import STRIPPED, Features, strip_names, strippable
from c2s.sentences.matrix import LOGARITHMS, Rows, as_float, by_rows, finish_rows, rows_at
from c2s.sentences.matrix_kind import MatrixKind, check_rows, matrix_kind, refuse_mixed
from c2s.sentences.symbols import Words, table_words

if TYPE_CHECKING:
    from anndata import AnnData

Normalise = Literal["auto", "always", "never"]

_CHUNK = 4096
#: Key of ``uns`` under which a backed matrix says which layers its file has.
_LAYERS = "layers of the file"


@dataclass(frozen=True)
class Reading:
    """How cells are read: the parameters of `read_cells`, where they are explained."""

    layer: str | None = None
    symbols: str | None = None
    strip: tuple[str, ...] = ()
    normalise: Normalise = "auto"
    target_sum: float = 1e4
    min_genes: int = 0
    min_cells: int = 0
    max_mitochondrial: float | None = None
    backed: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.normalise not in get_args(Normalise):
            problems.append(f"normalise must be one of {', '.join(get_args(Normalise))}, got {self.normalise!r}")
        problems += [
            f"strip takes {', '.join(STRIPPED)}, got {what!r}" for what in self.strip if what not in STRIPPED
        ]
        if not self.target_sum > 0:
            problems.append(f"target_sum must be above 0, got {self.target_sum!r}")
        if self.min_genes < 0 or self.min_cells < 0:
            problems.append("min_genes and min_cells cannot be negative")
        if self.max_mitochondrial is not None and not 0 <= self.max_mitochondrial <= 1:
            problems.append(f"max_mitochondrial is a share, from 0 to 1, got {self.max_mitochondrial!r}")
        if self.backed and (self.min_genes or self.min_cells or self.max_mitochondrial is not None):
            problems.append("a backed matrix cannot be filtered")
        if problems:
            whole = ", or read with backed=False to filter" if "backed" in problems[-1] else ""
            raise ConfigError("read_cells", problems, fix=f"correct these arguments{whole}.")


def read_cells(
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    symbols: str | None = None,
    strip: Sequence[str] = (),
    normalise: Normalise = "auto",
    target_sum: float = 1e4,
    min_genes: int = 0,
    min_cells: int = 0,
    max_mitochondrial: float | None = None,
    backed: bool = False,
) -> AnnData:
    """Read cells and bring their expression to log1p of normalised counts (section 4.1).

    Parameters
    ----------
    path
        An ``.h5ad`` file or a ``.zarr`` folder; the ``.h5`` or the folder of ``matrix.mtx`` of Cell Ranger, or
        ``.loom``, ``.csv`` or ``.tsv``, which are read whole; or a ``.gmt`` file, whose gene sets take the place
        of cells (see `c2s.data.gene_sets`).
    layer
        Layer to take as ``X``; ``"raw"`` takes ``adata.raw``.
    symbols
        Column of ``var`` with gene symbols, which become ``var_names``; the old names are kept in ``var``.
    strip
        What to take from the names of genes, see `c2s.sentences.features.strip_names`: ``"genome"`` (``GRCh38_``),
        ``"version"`` (``.2``), ``"ensembl"`` (``ENSG00000187608_``).
    normalise
        ``"auto"`` does what the matrix still needs: counts are scaled to `target_sum` and logarithmised,
        normalised values are logarithmised, log2 and log10 are brought to the natural logarithm, log1p is left.
        ``"always"`` takes the values for counts, ``"never"`` leaves them; neither looks for cells of two kinds.
    target_sum
        Total of a cell after normalisation.
    min_genes
        Leave out cells that express fewer genes; default none. The paper uses 50 or more.
    min_cells
        Leave out genes expressed in fewer cells; default none, because with it a cell's sentence depends on the
        cells around it.
    max_mitochondrial
        Leave out cells with a larger share (0 to 1) of counts in genes named ``MT-…``; counts only.
    backed
        Leave the matrix on disk; it is then read, and normalised, chunk by chunk. Nothing can be filtered.

    Returns
    -------
    AnnData
        ``X`` is CSR float32 (backed: what is on disk), of genes only: antibodies, hashtags, guides, spike-ins and
        peaks are left out (backed: as it is read on). ``uns["c2s"]`` says what was found and what was done, and
        ``scale``, what the values are now; of gene sets also the sha256 of their file.

    Raises
    ------
    InputFileError
        The path is missing, of a format that is not read, damaged, or claims what it does not hold
        (`c2s.data.claims`).
    MatrixError
        The matrix is scaled, its cells are of two kinds, or it holds NaN, infinite or negative values (backed:
        found as it is read on); or nothing passed the filter.
    GeneError
        `symbols` names no column, or the names are no usable gene symbols (see `c2s.sentences.symbols`).
    ConfigError
        An option is out of range, or filters are asked of a backed matrix.

    Warns
    -----
    C2SWarning
        Features that are no genes were left out; what the values are is a guess; names have a prefix or suffix
        that `strip` takes away; cells are empty. All are counted.
    """
    reading = Reading(
        layer=layer,
        symbols=symbols,
        strip=tuple([strip] if isinstance(strip, str) else strip),
        normalise=normalise,
        target_sum=target_sum,
        min_genes=min_genes,
        min_cells=min_cells,
        max_mitochondrial=max_mitochondrial,
        backed=backed,
    )
    return prepare_cells(_unprepared(Path(path), reading), reading, Path(path))


def read_whole(path: str | os.PathLike[str]) -> AnnData:
    """Read all that is in a file of cells, or of gene sets, as it is: neither normalised nor filtered.

    Raises
    ------
    InputFileError, MatrixError
        As `read_cells`.
    """
    source = Path(path)
    if is_gmt(source):
        return read_gmt(source).to_anndata()
    return open_file(source, matrix=False).whole()


def _unprepared(path: Path, reading: Reading) -> AnnData:
    import anndata

    if is_gmt(path):
        given = {one.name: getattr(reading, one.name) for one in fields(reading) if one.name != "backed"}
        usual = vars(Reading())
        if given := {name: value for name, value in given.items() if value != usual[name]}:
            raise ConfigError(
                f"{path} holds gene sets",
                [f"{name}={value!r} is for cells" for name, value in given.items()],
                fix=f"leave it out ({', '.join(f'--{name}' for name in given)}).",
            )
        return read_gmt(path).to_anndata()
    opened = open_file(path, reading.layer)
    layers = [name for name in opened.layers if name != reading.layer]
    if not reading.backed:
        adata = opened.whole()
        adata.uns[_LAYERS] = layers
        return adata
    matrix = (
        opened.matrix if getattr(opened.matrix, "format", "") == "csr" else by_rows(opened.matrix, stacklevel=4)
    )
    adata = anndata.AnnData(X=matrix, obs=opened.obs(), var=opened.var)
    adata.uns[_LAYERS] = layers
    return adata


def prepare_cells(adata: AnnData, reading: Reading, path: Path) -> AnnData:
    """Do to cells what `read_cells` does after it has read them.

    Parameters
    ----------
    adata
        As it is in the file; changed where it is of genes only.
    reading
        How.
    path
        The file, for errors; its layer was taken already.
    """
    if is_gmt(path):
        return adata  # made as it is wanted
    found: dict[str, Any] = {"source": path.name}
    adata.uns["c2s"] = {**found}  # for errors; and what an earlier reading found is not what this file holds
    layers = adata.uns.pop(_LAYERS, [*(["raw"] if adata.raw is not None else []), *adata.layers])
    names, words = named_genes(path, adata.var, adata.obs_names, reading.symbols, reading.strip, stacklevel=4)
    if names is not None:
        adata.var["original_name"] = adata.var_names.to_numpy()
        adata.var_names = pd.Index(names, dtype=object)
    genes = words.features.genes
    if genes is not None:
        found["n_features_left_out"] = adata.n_vars - len(genes)
        if not reading.backed:
            adata = adata[:, genes].copy()
    if not reading.backed:
        _refuse_broken(path, adata.X)
    kind = matrix_kind(adata, features=words.features if reading.backed else Features())
    found |= {"matrix_kind": kind.name, "evidence": kind.evidence}
    _refuse_kind(kind, path, reading, layers)
    step = _step(kind, reading)
    if reading.backed:
        if step:
            found["on_read"] = {**step, "kind": kind.name if reading.normalise == "auto" else ""}
    else:
        adata.X = _checked(adata, kind.name if reading.normalise == "auto" else None)
        _filter(adata, found, reading)
        adata.X = _finished(adata.X, step)
    found["done"] = " ".join(s if isinstance(s, str) else f"{s:g}" for s in step.values()) or "nothing"
    found["scale"] = _scale(kind, step)
    adata.uns["c2s"] = found  # last, because filtering makes a new uns
    return adata


def named_genes(
    path: Path,
    var: pd.DataFrame,
    rows: Iterable[Any],
    symbols: str | None,
    strip: Sequence[str],
    *,
    stacklevel: int,
) -> tuple[list[str] | None, Words]:
    """Find the words of a file, and warn of what is left out or had better be taken from names.

    Parameters
    ----------
    path
        The file.
    var
        What is known of the columns of its matrix.
    rows
        Names of (some of) the rows.
    symbols, strip
        As for `read_cells`.
    stacklevel
        Of the warnings.

    Returns
    -------
    names, words
        Names of all columns where `symbols` or `strip` give them new ones, else None; and the words of those that
        are genes.

    Raises
    ------
    GeneError
        As `read_cells`.
    """
    if symbols is not None and symbols not in var:
        columns = ", ".join(map(str, var.columns)) or "none"
        raise GeneError(
            f"var of {path.name} has no column {symbols!r}; it has {columns}.",
            fix="name one of them as symbols= (--symbols COLUMN).",
        )
    given = list(var.index if symbols is None else var[symbols])
    if symbols is not None and (twice := int(pd.Series(given, dtype=object).dropna().duplicated().sum())):
        from anndata.utils import make_index_unique

        # Where several ids have one symbol, as in every reference of Cell Ranger.
        given = list(make_index_unique(pd.Index(given, dtype=object)))
        warnings.warn(
            f"{twice} symbols in var[{symbols!r}] of {path.name} occur more than once; they got a number, as in "
            "var_names_make_unique of AnnData.",
            C2SWarning,
            stacklevel=stacklevel,
        )
    names = strip_names(given, strip) if strip else given
    where = f"var_names of {path.name}" if symbols is None else f"var[{symbols!r}] of {path.name}"
    words = table_words(var, names, where=where, rows=rows)
    if words.features.genes is not None:
        warnings.warn(
            f"{len(names) - len(words)} of {len(names)} features of {path.name} are no genes, and make neither "
            f"words nor totals: {words.features}.",
            C2SWarning,
            stacklevel=stacklevel,
        )
    texts = list(map(str, names))
    for what, n in {} if strip else strippable(texts).items():
        if what == "version" and len(set(strip_names(texts, [what]))) < len(set(texts)):
            continue  # names such as Y74C9A.3 of worms
        if what != "ensembl":  # which the check of symbols refuses, with this way out
            warnings.warn(
                f"{n} of {len(texts)} names of genes have a {what} that models do not know, such as "
                f"{next(name for name in texts if STRIPPED[what].search(name))!r}: strip=({what!r},) "
                f"(--strip {what}) takes it away.",
                C2SWarning,
                stacklevel=stacklevel,
            )
    return None if names is given and symbols is None else texts, words


def _refuse_broken(path: Path, matrix: Any) -> None:
    """Refuse a sparse matrix whose indices lead out of it, before compiled code follows them."""
    if sp.issparse(matrix) and hasattr(matrix, "check_format"):
        try:
            matrix.check_format(full_check=True)
        except ValueError as error:
            raise InputFileError(
                f"{path} holds a sparse matrix whose parts contradict each other ({error}).",
                fix="download or write it again, and compare its checksum.",
            ) from error


def _refuse_kind(kind: MatrixKind, path: Path, reading: Reading, layers: Sequence[str]) -> None:
    """Refuse what cannot be brought to log1p; say so where what the values are is a guess."""
    if reading.normalise != "never":
        refuse_scaled(kind, path, layers)
    if reading.normalise != "auto":
        return
    refuse_mixed(kind, str(path))
    if kind.guess:
        warnings.warn(
            f"the values of {path.name} are taken for {kind.words}, which is a guess: {kind.evidence}. If they "
            "are not: normalise='always' (--normalise always) takes them for counts, 'never' leaves them as they "
            "are.",
            C2SWarning,
            stacklevel=4,
        )


def refuse_scaled(kind: MatrixKind, path: Path, layers: Sequence[str]) -> None:
    """Refuse a matrix of scaled values, whose order says nothing; a layer of the file is named.

    Raises
    ------
    MatrixError
        It is one.
    """
    if kind.name in {"scaled", "ranks"}:
        before = "they were ranked" if kind.name == "ranks" else "sc.pp.scale or a correction"
        fix, remedy = f"write the file again with the values from before {before}.", {}
        if layers:
            remedy = {"layer": layers[0]}
            fix = (
                f"name the layer with the values before {before}, e.g. layer={layers[0]!r} "
                f"(--layer {shlex.quote(layers[0])})."
            )
        raise MatrixError(
            f"{path} holds {kind.words} ({kind.evidence}), whose order is not that of expression.",
            fix=fix,
            remedy=remedy,
        )


def _checked(adata: AnnData, kind: str | None) -> sp.csr_matrix:
    """Return ``X`` as CSR with sorted columns; refuse what expression cannot be."""
    values: Any = adata.X if sp.issparse(adata.X) else as_float(np.asarray(adata.X))
    matrix: sp.csr_matrix = sp.csr_matrix(values)
    if not matrix.has_canonical_format:
        matrix.sum_duplicates()
    matrix.data = as_float(matrix.data)
    for rows in _chunks(matrix):
        check_rows(rows, kind, adata.obs_names)
    return matrix


def _chunks(matrix: sp.csr_matrix) -> Iterator[Rows]:
    for start in range(0, matrix.shape[0], _CHUNK):
        yield rows_at(matrix, start, min(start + _CHUNK, matrix.shape[0]))


def _finished(matrix: sp.csr_matrix, step: Mapping[str, Any]) -> sp.csr_matrix:
    """Bring a matrix to log1p by the arithmetic of a backed one, so that cells get the same sentences."""
    data = np.empty(len(matrix.data), np.float32)
    for rows in _chunks(matrix):
        begin = int(matrix.indptr[rows.start])
        data[begin : begin + len(rows.data)] = (finish_rows(rows, matrix.shape[1], **step) if step else rows).data
    finished = sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    finished.has_canonical_format = True
    return finished


def _filter(adata: AnnData, found: dict[str, Any], reading: Reading) -> None:
    """Leave out cells and genes, in place, and say how many."""
    before = adata.shape
    if reading.max_mitochondrial is not None:
        if found["matrix_kind"] != "counts":
            raise MatrixError(
                "a mitochondrial share needs counts, and these are not.", fix="leave max_mitochondrial out."
            )
        mitochondrial = adata.var_names.str.upper().str.startswith("MT-")
        totals = np.asarray(adata.X.sum(axis=1)).ravel()
        inside = np.asarray(adata.X[:, np.flatnonzero(mitochondrial)].sum(axis=1)).ravel()
        adata._inplace_subset_obs(inside <= reading.max_mitochondrial * totals)
    if reading.min_genes:
        adata._inplace_subset_obs(np.asarray((adata.X > 0).sum(axis=1)).ravel() >= reading.min_genes)
    if reading.min_cells:
        adata._inplace_subset_var(np.asarray((adata.X > 0).sum(axis=0)).ravel() >= reading.min_cells)
    if 0 in adata.shape:
        raise MatrixError(
            f"no cell or no gene passes the filter (of {before[0]} cells x {before[1]} genes).",
            fix="lower min_genes and min_cells (--min-genes, --min-cells).",
        )
    found["n_cells_left_out"] = before[0] - adata.n_obs
    found["n_genes_left_out"] = before[1] - adata.n_vars
    empty = int(np.count_nonzero(np.diff(adata.X.indptr) == 0))
    if empty:
        warnings.warn(f"{empty} of {adata.n_obs} cells express no gene; they are kept.", C2SWarning, stacklevel=4)


def _step(kind: MatrixKind, reading: Reading) -> dict[str, Any]:
    """Return the one operation that brings this kind of matrix to log1p of normalised counts, if it needs one."""
    if reading.normalise == "never":
        return {}
    if reading.normalise == "always" or kind.name in {"counts", "fractional", "shares"}:
        return {"operation": "normalise_total", "value": float(reading.target_sum)}
    if kind.name.endswith(" of counts"):
        return {"operation": "normalise_total", "value": float(reading.target_sum), "undone": kind.name}
    if kind.name in {"normalised", "log1p twice"}:
        return {"operation": "log1p" if kind.name == "normalised" else "expm1", "value": 1.0}
    if kind.name in {"log2", "log10"}:
        return {"operation": "multiply", "value": math.log(LOGARITHMS[kind.name])}
    return {}


def _scale(kind: MatrixKind, step: Mapping[str, Any]) -> str:
    """Say in words what the values are now."""
    match step.get("operation"):
        case "normalise_total":
            undone = f", from the {step['undone']} of the file" if "undone" in step else ""
            return f"log1p of counts scaled to {step['value']:g} a cell{undone}"
        case "log1p":
            return "log1p of the normalised values of the file"
        case "multiply" | "expm1":
            return f"log1p, from the {kind.name} of the file"
        case _:
            return f"{kind.words}, as in the file"
