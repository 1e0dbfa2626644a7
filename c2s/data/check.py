"""Is my file ready? What is in a file of cells, what would be refused, and the options that mend it."""

from __future__ import annotations

import os
import re
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from c2s.data.gene_sets import is_gmt, read_gmt
from c2s.data.opened import open_file
from c2s.data.read import read_cells
from c2s.errors import C2SError, C2SWarning
from c2s.missing import missing_values
from c2s.sentences.features import features_of
from c2s.sentences.symbols import symbol_columns, usual_genes
from c2s.sentences.transform import SentenceStream
from c2s.splits import donor_columns

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["label", "donor", "batch", "identifier", "measurement", "constant", "empty"]

#: Usual names of a column with what cells were measured together.
_BATCH = re.compile(
    r"batch|library|lib_|run|lane|chemistry|assay|platform|plate|pool|channel|suspension", re.IGNORECASE
)
#: Usual names of a column with the types of cells.
_CELL_TYPE = re.compile(r"cell.?(type|label|class|ontology|subtype)|annot|\bclass\b", re.IGNORECASE)
_TITLES: dict[Role, str] = {"label": "labels", "donor": "donors", "batch": "batches"}
#: More problems than this are not mended one after the other.
_MOST_FIXES = 4


@dataclass(frozen=True)
class Column:
    """A column of ``obs``.

    Attributes
    ----------
    name
        Its name.
    role
        What it looks like.
    values
        Distinct values that say something.
    missing
        Cells without one.
    examples
        Its most frequent values.
    """

    name: str
    role: Role
    values: int
    missing: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """What would be refused, and how it is mended.

    Attributes
    ----------
    problem, fix
        As of the error.
    options
        Options of the command line that mend it; empty where none does.
    """

    problem: str
    fix: str
    options: str = ""


@dataclass(frozen=True)
class FileReport:
    """What `check_file` found.

    Attributes
    ----------
    path
        The file.
    ready
        Whether commands take it, with `options`.
    holds
        ``"cells"``, ``"gene sets"`` or ``""`` where that could not be found out.
    n_cells, n_features, n_genes
        Rows, columns, and the columns that make words.
    n_empty_cells, genes_per_cell
        Cells without an expressed gene; median number of expressed genes.
    layers
        Layers, ``"raw"`` among them.
    values, evidence, scale
        What the values are, by what, and what they are after reading.
    organism
        By the spelling of its genes; empty where that does not tell.
    symbol_columns
        Columns of ``var`` that look like gene symbols.
    modalities
        Features that are no genes, by what they are, with their number.
    columns
        Of ``obs``.
    problems
        What would be refused; those with options are mended by `options`.
    remarks
        What is warned of.
    options
        Options that every command needs for this file.
    """

    path: str
    ready: bool = False
    holds: str = ""
    n_cells: int = 0
    n_features: int = 0
    n_genes: int = 0
    n_empty_cells: int = 0
    genes_per_cell: float = 0.0
    layers: tuple[str, ...] = ()
    values: str = ""
    evidence: str = ""
    scale: str = ""
    organism: str = ""
    symbol_columns: tuple[str, ...] = ()
    modalities: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    options: str = ""

    def __str__(self) -> str:
        rows: list[tuple[str, str]] = []
        if self.holds == "gene sets":
            rows.append(("gene sets", f"{self.n_cells:,}, the middle one of {self.genes_per_cell:,.0f} genes"))
        elif self.holds:
            layers = f"; layers {', '.join(self.layers)}" if self.layers else ""
            rows.append(("cells", f"{self.n_cells:,} x {self.n_features:,} features{layers}"))
        if self.scale and self.holds == "cells":
            rows.append(("values", f"{self.values} ({self.evidence})"))
            rows.append(("as read", self.scale))
            empty = f"; {self.n_empty_cells} cells express none" if self.n_empty_cells else ""
            rows.append(("genes", f"{self.n_genes:,}, {self.genes_per_cell:,.0f} in the middle cell{empty}"))
        if self.holds:
            told = f"{self.organism}, by the spelling of its genes" if self.organism else "genes do not tell"
            rows.append(("organism", told))
        if self.modalities:
            rows.append(("left out", ", ".join(f"{n} {kind}" for kind, n in self.modalities.items())))
        for role, title in _TITLES.items():
            named = [
                f"{c.name} ({c.values}" + (f", {c.missing} cells without)" if c.missing else ")")
                for c in self._of_role(role)
            ]
            if self.holds == "cells":
                rows.append((title, ", ".join(named) or "no column looks like it"))
        lines = [f"{title:<10}{text}" for title, text in rows]
        for remark in self.remarks:
            lines += ["", f"note: {remark}"]
        for problem in self.problems:
            mend = f"mend it with: {problem.options}" if problem.options else f"fix: {problem.fix}"
            lines += ["", f"REFUSED: {problem.problem}", mend]
        lines.append("")
        if not self.ready:
            lines.append(f"{self.path} is not ready.")
        else:
            lines.append(f"{self.path} is ready{' with these options' if self.options else ''}. Go on with:")
            lines += [f"  {command}" for command in self.commands]
        return "\n".join(lines)

    def of_role(self, role: Role) -> list[str]:
        """Return the names of the columns of ``obs`` that look like a label, a donor, ...

        Usual names of cell types come first.
        """
        return [column.name for column in self._of_role(role)]

    def _of_role(self, role: Role) -> list[Column]:
        return sorted((column for column in self.columns if column.role == role), key=_unusual)

    @property
    def commands(self) -> list[str]:
        """Commands to go on with."""
        if not self.ready:
            return []
        options = shlex.split(self.options)
        made = [["transform", self.path, "sentences.parquet", "--genes", "200", *options]]
        if labels := self.of_role("label"):
            whole = [column.name for column in self._of_role("donor") if not column.missing]
            donor = [word for name in whole[:1] for word in ("--donor", name)]
            learn = ["--task", "annotation", "--data", self.path, "--label", labels[0], *donor, *options]
            made.append(["train", "sft", *learn, "--out", "my-model"])
        return [shlex.join(["c2s", *words]) for words in made]


def check_file(
    path: str | os.PathLike[str],
    *,
    layer: str | None = None,
    symbols: str | None = None,
    strip: Sequence[str] = (),
    normalise: str = "auto",
    show_progress: bool = False,
) -> FileReport:
    """Find out whether a file can be used, reading all of it as ``c2s transform`` would, and nothing else of it.

    What is refused is noted with the options that mend it; these are tried, so that the next problem is found too.

    Parameters
    ----------
    path
        The file.
    layer, symbols, strip, normalise
        As for `c2s.read_cells`.
    show_progress
        Show a progress bar.

    Returns
    -------
    FileReport
    """
    source = Path(path)
    given = {"layer": layer, "symbols": symbols, "strip": tuple(strip), "normalise": normalise}
    how: dict[str, Any] = {name: value for name, value in given.items() if value and value != "auto"}
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    tried: set[str | None] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if is_gmt(source):
            found = _gene_sets(source, problems)
        else:
            found = _layout(source, how, problems)
            while found and len(problems) <= _MOST_FIXES:
                try:
                    found |= _values(source, how, show_progress)
                    break
                except C2SError as error:
                    mends = {k: v for k, v in error.remedy.items() if how.get(k) != v}
                    tried.add(how.get("layer"))
                    if "layer" in mends and mends["layer"] in tried:  # it has its own faults
                        others = [name for name in found["layers"] if name not in tried]
                        mends = {**mends, "layer": others[0]} if others else {}
                    problems.append(Problem(error.problem, error.fix, _options(mends)))
                    if not mends:
                        break
                    how |= mends
    remarks = [str(w.message) for w in caught if issubclass(w.category, C2SWarning)]
    ready = "scale" in found and all(problem.options for problem in problems)
    return FileReport(
        str(path),
        ready,
        problems=tuple(problems),
        remarks=tuple(dict.fromkeys(remarks)),
        options=_options(how),
        **found,
    )


def _options(how: Mapping[str, Any]) -> str:
    pairs = [
        (name, one) for name, value in how.items() for one in (value if isinstance(value, tuple) else (value,))
    ]
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in pairs)


def _gene_sets(source: Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        sets = read_gmt(source)
    except C2SError as error:
        problems.append(Problem(error.problem, error.fix))
        return {}
    sizes = [len(genes) for genes in sets.genes]
    names = {gene for genes in sets.genes for gene in genes}
    return {
        "holds": "gene sets",
        "n_cells": len(sets),
        "n_features": len(names),
        "n_genes": len(names),
        "genes_per_cell": float(np.median(sizes)),
        "organism": _organism(names),
        "values": "genes of each set",
        "scale": "the order of the genes in the file",
    }


def _layout(source: Path, how: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Look at what is around the matrix, which is not read."""
    try:
        opened = open_file(source, matrix=False)
        obs = opened.obs()
    except C2SError as error:
        problems.append(Problem(error.problem, error.fix))
        return {}
    var, layers = opened.var, tuple(opened.layers)
    opened.close()
    names = list(var[how["symbols"]]) if how.get("symbols") in var else list(var.index)
    others: Mapping[str, tuple[str, ...]] = {}
    with suppress(C2SError):  # that none of them is a gene is said when they are read
        others = features_of(names, var).others
    return {
        "holds": "cells",
        "n_cells": len(obs),
        "n_features": len(var),
        "layers": layers,
        "organism": _organism(names),
        "symbol_columns": tuple(symbol_columns(var)),
        "modalities": {kind: len(them) for kind, them in others.items()},
        "columns": tuple(_column(obs, str(column), place) for place, column in enumerate(obs.columns)),
    }


def _values(source: Path, how: Mapping[str, Any], show_progress: bool) -> dict[str, Any]:
    """Read the matrix to its end, as the transform does."""
    adata = read_cells(source, backed=True, **how)
    stream = SentenceStream(adata, expects="any" if how.get("normalise") == "never" else "normalised")
    n_genes = [np.asarray(batch.column("n_genes")) for batch in stream.batches(show_progress=show_progress)]
    per_cell = np.concatenate(n_genes)
    notes, names = adata.uns["c2s"], stream.vocabulary()["gene"].to_pylist()
    return {
        "n_genes": len(names),
        "n_empty_cells": int(np.count_nonzero(per_cell == 0)),
        "genes_per_cell": float(np.median(per_cell)),
        "values": str(notes["matrix_kind"]),
        "evidence": str(notes["evidence"]),
        "scale": str(notes["scale"]),
        "organism": _organism(names),
    }


def _organism(names: Iterable[Any]) -> str:
    """Say whose genes these are, by how they are spelt, and by genes that every dataset has."""
    symbols = [str(name) for name in names]
    usual = [name for name in symbols if usual_genes([name])]
    capitals = sum(map(str.isupper, usual))
    if not usual:
        return ""
    if 0.2 < capitals / len(usual) < 0.8:
        return "human and mouse"
    alike = [name.isupper() if capitals else name == name.capitalize() for name in symbols]
    return "" if np.mean(alike) < 0.6 else "human" if capitals else "mouse"


def _unusual(column: Column) -> int:
    if column.name.casefold() in {"cell_type", "celltype"}:
        return 0
    return 1 if _CELL_TYPE.search(column.name) else 2


def _column(obs: pd.DataFrame, name: str, place: int) -> Column:
    values = obs.iloc[:, place]
    missing = missing_values(values)
    known = values[~missing].astype(str)
    counts = known.value_counts()
    role: Role = "label"
    if not len(counts):
        role = "empty"
    elif len(counts) == 1:
        role = "constant"
    elif donor_columns(obs.iloc[:, [place]]):
        role = "donor"
    elif _BATCH.search(name):
        role = "batch"
    elif values.dtype.kind in "iuf" and len(counts) > max(20, len(known) / 10):
        role = "measurement"
    elif len(counts) == len(known) or (len(counts) > 50 and 2 * len(counts) > len(known)):
        role = "identifier"
    return Column(name, role, len(counts), int(missing.sum()), tuple(map(str, counts.index[:3])))
