"""Files that are not AnnData: GCT matrices of L1000, tables, interactions. Their names do not matter."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from c2s.data.text_files import plain_bytes
from c2s.errors import InputFileError

if TYPE_CHECKING:
    from anndata import AnnData

#: How L1000 writes that a value is missing.
_MISSING = ("-666", "-666.0")


def read_gct(path: str | os.PathLike[str], samples: str | os.PathLike[str] | None = None) -> AnnData:
    """Read a GCT 1.3 matrix, the text form of an L1000 plate.

    Parameters
    ----------
    path
        The ``.gct`` file, packed with gzip or not: one row a gene, one column a well, with metadata of both.
    samples
        A ``.map`` table of wells; its columns that the matrix lacks are added to ``obs``, by ``rna_well``.

    Returns
    -------
    AnnData
        Wells x genes; ``X`` dense float32, on the scale of the file. ``var_names`` are gene symbols where the rows
        have them (``pr_gene_symbol``), and ``var["probe"]`` the ids of the rows. ``-666`` becomes missing.

    Raises
    ------
    InputFileError
        It is not GCT 1.3, is cut off, or holds something other than numbers.
    """
    from anndata import AnnData

    source = Path(path)
    lines = _lines(source)
    rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    n_about_genes, n_about_wells = _gct_sizes(source, rows)
    header, body = rows[2], rows[3:]
    wells = header[1 + n_about_genes :]
    about = pd.DataFrame(
        {row[0]: row[1 + n_about_genes :] for row in body[:n_about_wells]}, index=pd.Index(wells, dtype=object)
    )
    genes = body[n_about_wells:]
    try:
        values = np.array([row[1 + n_about_genes :] for row in genes], dtype=np.float32).T
    except ValueError as error:
        raise InputFileError(
            f"{source} holds a value that is no number ({error}).", fix="get it again."
        ) from error
    if not np.isfinite(values).all():
        raise InputFileError(f"{source} holds values that are not finite.", fix="get it again.")
    var = pd.DataFrame([row[1 : 1 + n_about_genes] for row in genes], columns=header[1 : 1 + n_about_genes])
    var["probe"] = [row[0] for row in genes]
    var.index = pd.Index(var["pr_gene_symbol"] if "pr_gene_symbol" in var else var["probe"], dtype=object).astype(
        str
    )
    var.index.name = None
    twice = var.index[var.index.duplicated()]
    if len(twice) or len(set(wells)) < len(wells):
        what = f"gene {twice[0]!r}" if len(twice) else "a well"
        raise InputFileError(f"{source} has {what} twice.", fix="keep one row a gene and one column a well.")
    obs = about if samples is None else _with_samples(about, Path(samples))
    # A table without a gap becomes smaller, and is read back from .h5ad as it was written.
    obs = obs.replace(list(_MISSING), pd.NA).apply(_narrow)
    return AnnData(X=values, obs=obs, var=var)


def _lines(source: Path) -> list[str]:
    try:
        return plain_bytes(source).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputFileError(
            f"{source} cannot be read as text in UTF-8 ({error}).", fix="check the path, or convert it to UTF-8."
        ) from error


def _gct_sizes(source: Path, rows: Sequence[Sequence[str]]) -> tuple[int, int]:
    """Return the numbers of columns about genes and rows about wells; the shape must be as the file says."""
    if not rows or not rows[0] or rows[0][0].strip() != "#1.3":
        raise InputFileError(
            f"{source} is not GCT 1.3 (its first line is not #1.3).", fix="convert it with cmapPy."
        )
    try:
        genes, wells, about_genes, about_wells = (int(value) for value in rows[1][:4])
    except (IndexError, ValueError) as error:
        raise InputFileError(f"{source}: line 2 does not hold four numbers.", fix="get it again.") from error
    if len(rows) != 3 + about_wells + genes:
        raise InputFileError(
            f"{source} is cut off: it says {genes} genes and {about_wells} rows about wells, but has "
            f"{max(len(rows) - 3, 0)} rows.",
            fix="get it again.",
        )
    width = 1 + about_genes + wells
    for number, row in enumerate(rows[2:], start=3):
        if len(row) != width:
            raise InputFileError(
                f"{source}: line {number} has {len(row)} fields instead of {width}.", fix="get it again."
            )
    return about_genes, about_wells


def _with_samples(about: pd.DataFrame, samples: Path) -> pd.DataFrame:
    table = read_table(samples)
    if "rna_well" not in table or "rna_well" not in about:
        raise InputFileError(f"{samples} cannot be matched: there is no column rna_well.", fix="leave it out.")
    known = {str(column).casefold() for column in about}
    new = [str(column) for column in table if str(column).casefold() not in known]
    matched = table.drop_duplicates("rna_well").set_index("rna_well").reindex(about["rna_well"])
    return about.assign(**{column: matched[column].to_numpy() for column in new})


def _narrow(column: pd.Series) -> pd.Series:
    """Return numbers as numbers, and the rest as categories."""
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().equals(column.notna()) and column.notna().any():
        return numbers.astype(float)
    return column.astype("string").astype(object).where(column.notna(), None).astype("category")


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table: with tabs if its first line has one, else with commas; gzip is unpacked. All columns are text.

    Raises
    ------
    InputFileError
        It cannot be read, is not UTF-8, is empty, or its rows have different numbers of fields.
    """
    source = Path(path)
    try:
        content = plain_bytes(source)
        first = content.partition(b"\n")[0]
        # With neither there is one column, whose values may well hold commas.
        separator = "," if b"," in first and b"\t" not in first else "\t"
        table = pd.read_csv(
            io.BytesIO(content),
            sep=separator,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            encoding="utf-8-sig",
            quotechar='"',
        )
    except (InputFileError, UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(getattr(error, "problem", error)).split())[:200]
        raise InputFileError(
            f"{source} cannot be read as a table ({reason}).",
            fix="check the path, the separator and the encoding.",
        ) from error
    return table.rename(columns=str.strip)


def read_interactions(paths: Mapping[str, Path]) -> pd.DataFrame:
    """Read interactions of genes, as CellPhoneDB or as a table of pairs gives them.

    Parameters
    ----------
    paths
        By role. Either ``pairs``: a table with the columns ``symbol_a`` and ``symbol_b``. Or, as CellPhoneDB has
        them, ``interactions`` (``partner_a``, ``partner_b``: a UniProt id or the name of a complex), ``genes``
        (``uniprot``, ``hgnc_symbol``) and ``complexes`` (``complex_name``, ``uniprot_1``, ``uniprot_2``, ...).
        Other roles are not read.

    Returns
    -------
    pandas.DataFrame
        One row an interaction, in the source's order: its columns as text, and four more. ``partner_a`` and
        ``partner_b`` are what interacts, as the source names it (pairs: the symbols); ``genes_a`` and ``genes_b``
        are tuples of distinct symbols, one for a protein and one or more for a complex, whose subunits without a
        listed gene are left out. An interaction with a partner that has no gene at all (a small molecule that no
        listed enzyme makes, an empty field) is left out.

    Raises
    ------
    InputFileError
        A role is missing, a file cannot be read or lacks a column, or no interaction has genes on both sides.
    """
    if "pairs" in paths:
        pairs = _with_columns(paths["pairs"], ["symbol_a", "symbol_b"])
        pairs = pairs.dropna(subset=["symbol_a", "symbol_b"]).reset_index(drop=True)
        if pairs.empty:
            raise InputFileError(f"no pair in {paths['pairs']} has two genes.", fix="check which file this is.")
        for side in ("a", "b"):
            pairs[f"partner_{side}"] = pairs[f"symbol_{side}"]
            pairs[f"genes_{side}"] = [(symbol,) for symbol in pairs[f"symbol_{side}"]]
        return pairs
    lacking = [role for role in ("interactions", "genes", "complexes") if role not in paths]
    if lacking:
        raise InputFileError(
            f"interactions need the role(s) {', '.join(lacking)}.",
            fix="give the files these roles in the manifest.",
        )
    table = _with_columns(paths["interactions"], ["partner_a", "partner_b"])
    genes = _with_columns(paths["genes"], ["uniprot", "hgnc_symbol"]).dropna(subset=["uniprot", "hgnc_symbol"])
    symbols = genes.drop_duplicates("uniprot").set_index("uniprot")["hgnc_symbol"].to_dict()
    complexes = _with_columns(paths["complexes"], ["complex_name", "uniprot_1"])
    parts = [str(column) for column in complexes if re.fullmatch(r"uniprot_\d+", str(column))]
    members = {
        row["complex_name"]: tuple(row[p] for p in parts if isinstance(row[p], str))
        for row in complexes.to_dict("records")
    }
    for side in ("a", "b"):
        table[f"genes_{side}"] = [
            tuple(dict.fromkeys(symbols[u] for u in members.get(partner, (partner,)) if u in symbols))
            for partner in table[f"partner_{side}"]
        ]
    # Partners that are no proteins (a small molecule that no listed enzyme makes) have no gene.
    known = table["genes_a"].map(len).gt(0) & table["genes_b"].map(len).gt(0)
    if not known.any():
        raise InputFileError(f"no interaction in {paths['interactions']} has genes.", fix="check the other files.")
    return table[known].reset_index(drop=True)


def _with_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    table = read_table(path)
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise InputFileError(f"{path} lacks the column(s) {', '.join(lacking)}.", fix="check which file this is.")
    return table
