"""Matrices written as text: tables of counts, and Matrix Market with the names beside it."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from c2s.data.text_files import plain_bytes
from c2s.errors import C2SWarning, InputFileError
from c2s.sentences.symbols import names_of_cells, names_of_genes

if TYPE_CHECKING:
    from anndata import AnnData

MATRIX_MARKET = re.compile(r"\.mtx(\.gz)?$", re.IGNORECASE)
TABLE = re.compile(r"\.(csv|tsv|txt|tab)(\.gz)?$", re.IGNORECASE)
_ONE_FOLDER = "put the three files of one run into one folder."
#: What stands above the names of the rows.
_CORNER = re.compile(
    r"|index|cells?|cell[ _-]?(ids?|names?)|barcodes?|ids?|names?|genes?|gene[ _-]?(ids?|names?)", re.I
)


def matrix_files(folder: Path) -> list[Path]:
    """Return the files in Matrix Market format of a folder that may be its matrix: those named so, or all."""
    found = sorted(path for path in folder.iterdir() if MATRIX_MARKET.search(path.name) and path.is_file())
    return [path for path in found if "matrix.mtx" in path.name] or found


def read_matrix_market(path: Path) -> AnnData:
    """Read a matrix in Matrix Market format with the names that lie beside it.

    Raises
    ------
    InputFileError
        It cannot be read, or names are missing or do not belong to it.
    """
    from scipy.io import mmread

    try:
        matrix: Any = sp.csr_matrix(mmread(io.BytesIO(plain_bytes(path))))
    except ValueError as error:
        raise InputFileError(
            f"{path} cannot be read as a matrix in Matrix Market format ({error}).",
            fix="download or write it again.",
        ) from error
    genes = _beside(path, "features", r"(features|genes)(\.names)?\.(tsv|txt|csv)(\.gz)?")
    cells = _beside(path, "barcodes", r"(barcodes|cells|cell_names|cell_metadata)\.(tsv|txt|csv)(\.gz)?")
    for turned in (True, False):
        wanted = matrix.shape[::-1] if turned else matrix.shape
        # A table may begin with the names of its columns.
        if all(n in (len(table), len(table) - 1) for n, table in zip(wanted, (cells, genes), strict=True)):
            cells, genes = (table.iloc[len(table) - n :] for table, n in zip((cells, genes), wanted, strict=True))
            matrix = matrix.T.tocsr() if turned else matrix
            break
    else:
        raise InputFileError(
            f"{path} is {matrix.shape[0]} x {matrix.shape[1]}, but {len(genes)} features and {len(cells)} "
            "barcodes lie beside it.",
            fix=_ONE_FOLDER,
        )
    names = genes[1 if genes.shape[1] > 1 else 0].tolist()
    var = {"gene_ids": genes[0].tolist()} if genes.shape[1] > 1 else {}
    if genes.shape[1] > 2:
        var["feature_types"] = genes[2].tolist()
    return as_anndata(path, matrix, cells[0].tolist(), names, var)


def _beside(path: Path, what: str, pattern: str) -> pd.DataFrame:
    """Read the names that lie beside a matrix: those of its own prefix, or the only ones of the folder."""
    prefix = re.sub(r"(matrix)?\.mtx(\.gz)?$", "", path.name)
    files = sorted(path.parent.iterdir())
    found = [p for p in files if re.fullmatch(re.escape(prefix) + r"[._]?" + pattern, p.name)]
    if not found:
        found = [p for p in files if re.fullmatch(r"(.*[._-])?" + pattern, p.name)]
        if len(found) != 1 or len(matrix_files(path.parent)) > 1:
            raise InputFileError(
                f"beside {path} there is no {prefix}{what}.tsv, which names what the matrix holds.",
                fix=_ONE_FOLDER,
            )
    separator = "," if ".csv" in found[0].name else "\t"
    content = io.BytesIO(plain_bytes(found[0]))
    try:
        return pd.read_csv(
            content, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except ValueError as error:
        raise InputFileError(
            f"{found[0]} cannot be read as names ({' '.join(str(error).split())[:160]}).",
            fix="download or write it again.",
        ) from error


#: Columns of numbers that are no gene's and no cell's: quality, clusters, places, and what is known of genes.
_ABOUT = re.compile(
    r"n_?(counts?|genes?|umis?|features?)(_by_counts)?|total_(counts|umis?)|(nCount|nFeature)_\w+|"
    r"(pct|percent|frac)[_. ].*|log1p_.*|leiden|louvain|(seurat_)?clusters?|RNA_snn_res.*|fov|volume|area|"
    r"(center_|global_)?[xyz]|[xyz]_(center|centroid|coord)|(umap|tsne|pc|pca)_?\d+|donor(_?id)?|batch|sample|age|"
    r"cell_?id|doublet_?score|length|start|end|strand|width|chr(om(osome)?)?|gc(_content)?",
    re.IGNORECASE,
)


def read_table(path: Path) -> AnnData:
    """Read a table of counts, cells x genes or genes x cells, whichever its names show.

    Raises
    ------
    InputFileError
        It is no such table.

    Warns
    -----
    C2SWarning
        Its names do not show where the genes are.
    """
    try:
        rows, columns, frame = _parsed(plain_bytes(path))
    except (UnicodeDecodeError, ValueError, csv.Error) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputFileError(
            f"{path} cannot be read as a table of counts ({reason}).",
            fix="write it as comma- or tab-separated UTF-8, names in the first row and column.",
        ) from error
    kinds = [frame[i].dtype for i in range(frame.shape[1])]
    is_text = [kind == bool or not pd.api.types.is_numeric_dtype(kind) for kind in kinds]  # noqa: E721 -- a dtype
    is_about = [text or bool(_ABOUT.fullmatch(name)) for text, name in zip(is_text, columns, strict=True)]
    about = {columns[i]: frame[i] for i, told in enumerate(is_about) if told}
    names = [columns[i] for i, told in enumerate(is_about) if not told]
    if len(about) < sum(is_about):
        raise InputFileError(f"{path} has two columns of one name.", fix="rename one, or leave it out.")
    for i, text in enumerate(is_text):
        if text:
            _refuse_numbers_among_text(path, columns[i], frame[i], rows)
    if not names or not rows:
        raise InputFileError(
            f"{path} holds no numbers, so it is no table of counts.",
            fix="write names in the first row and column, and numbers in all others.",
        )
    if numbers := [name for name, text in zip(columns, is_text, strict=True) if name in about and not text]:
        warnings.warn(
            f"{len(numbers)} column(s) of numbers in {path.name} are called like what is known of cells or genes, "
            f"and are taken for that: {', '.join(numbers[:5])}{', ...' if len(numbers) > 5 else ''}.",
            C2SWarning,
            stacklevel=2,
        )
    matrix = frame.loc[:, [not told for told in is_about]].to_numpy(np.float64)
    across, down = (names_of_genes(some) - names_of_cells(some) for some in (names, rows))
    if down > across:
        return as_anndata(path, sp.csr_matrix(matrix.T), names, rows, {k: v.to_numpy() for k, v in about.items()})
    if across == down:
        warnings.warn(
            f"{path.name} is taken for cells x genes: the names of its rows and columns do not tell.",
            C2SWarning,
            stacklevel=2,
        )
    adata = as_anndata(path, sp.csr_matrix(matrix), rows, names, {})
    for column, values in about.items():
        adata.obs[column] = values.to_numpy()
    return adata


def _parsed(content: bytes) -> tuple[list[str], list[str], pd.DataFrame]:
    """Return names of rows and columns as they are written, and what is between them, columns by number."""
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    while content.startswith((b"#", b"sep=", b"\n", b"\r\n")):  # sep= is for Excel
        content = content.partition(b"\n")[2]
    first, second = [line.decode("utf-8-sig") for line in (*content.split(b"\n", 2), b"")[:2]]
    separator = max("\t,;", key=first.count)
    separator = separator if separator in first else " "
    above, values = (next(csv.reader([line.strip("\r")], delimiter=separator), []) for line in (first, second))
    has_corner = len(above) == len(values)
    if _are_values(above[1:]):
        raise ValueError("its first line holds numbers, where names are expected")
    if not has_corner and len(above) + 1 != len(values):  # R leaves the corner out
        raise ValueError(f"its first line has {len(above)} fields, the second {len(values)}")
    frame = pd.read_csv(
        io.BytesIO(content),
        sep=r"\s+" if separator == " " else separator,
        decimal="," if separator == ";" and "." not in second.partition(separator)[2] else ".",
        header=None,
        skiprows=1,
        converters={0: str},  # NA may be a name
        low_memory=False,
    )
    ids = frame[0]
    numbers = pd.to_numeric(ids, errors="coerce")
    numbered = len(ids) > 20 and ids.is_unique and bool((numbers % 1 == 0).all())
    if numbers.notna().all() and has_corner and not numbered and not _CORNER.fullmatch(above[0]):
        frame[0], rows = numbers, [f"cell{i}" for i in range(len(frame))]  # a gene like the others
    else:
        above, rows = above[has_corner:], ids.tolist()
        frame = frame.drop(columns=0)
    unused = [i for i, name in enumerate(above) if not name and frame.iloc[:, i].isna().all()]
    frame = frame.drop(columns=frame.columns[unused]).set_axis(range(frame.shape[1] - len(unused)), axis=1)
    return rows, [name for i, name in enumerate(above) if i not in unused], frame


def _are_values(names: Sequence[str]) -> bool:
    """Whether what should be names are numbers that no names are: zeros, fractions, or few of them repeated."""
    numbers = pd.to_numeric(pd.Series(names, dtype=object), errors="coerce")
    if not len(names) or numbers.isna().any():
        return False
    told = (numbers == 0).any() or (numbers % 1 != 0).any() or 2 * numbers.nunique() < len(names)
    return len(names) == 1 or bool(told)


def _refuse_numbers_among_text(path: Path, column: str, values: pd.Series, rows: Sequence[str]) -> None:
    """Refuse a column of numbers that is none for a stray text: its gene would be lost among what is known."""
    given = values.notna()
    none = given & pd.to_numeric(values, errors="coerce").isna()
    if 0 < 2 * none.sum() < given.sum():
        first = int(np.flatnonzero(none)[0])
        raise InputFileError(
            f"{path}: column {column!r} holds numbers, and {str(values.iloc[first])!r} in row {rows[first]!r}.",
            fix="write a number there, with a decimal point and nothing else, or leave the column out.",
        )


def as_anndata(
    path: Path, matrix: Any, cells: Iterable[str], genes: Iterable[str], var: dict[str, Any]
) -> AnnData:
    """Put together what was read; genes that share a name get distinct ones, as scanpy does."""
    from anndata import AnnData
    from anndata.utils import make_index_unique

    cells, genes = list(map(str, cells)), list(map(str, genes))
    if matrix is None or matrix.shape != (len(cells), len(genes)):
        shape = "no matrix" if matrix is None else f"a matrix of {matrix.shape[0]} x {matrix.shape[1]}"
        raise InputFileError(
            f"{path} holds {shape}, but names of {len(cells)} cells and {len(genes)} genes.",
            fix="download or write it again, and compare its checksum.",
        )
    index = pd.Index(genes, dtype=object)
    twice = int(index.duplicated().sum())
    if twice:
        warnings.warn(
            f"{path.name}: {twice} genes have the name of another one; they are called NAME-1, NAME-2, ...",
            C2SWarning,
            stacklevel=2,
        )
        index = make_index_unique(index)
    obs = pd.DataFrame(index=pd.Index(cells, dtype=object))
    return AnnData(X=matrix, obs=obs, var=pd.DataFrame(var, index=index))
