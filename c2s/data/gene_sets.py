"""Gene sets: read from GMT, made into a table that tasks, splits and commands take as they take cells (table 1).

A gene set has a name and genes; a cell has an id and genes. So a collection becomes an AnnData whose rows are
sets, and all that is made for cells (sentences, splits, training, evaluation, commands) works on it unchanged.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from c2s.data.foreign import is_hdf5
from c2s.data.gene_set_names import readable_name
from c2s.data.mirror import sum_of
from c2s.data.text_files import plain_bytes
from c2s.errors import C2SWarning, ConfigError, DatasetError, InputFileError
from c2s.files import atomic_output
from c2s.sentences.symbols import no_symbols, usual_genes

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.sentences import CellSentences

#: Columns of ``obs`` that `GeneSets.to_anndata` writes.
NAME_COLUMN, GROUP_COLUMN = "gene_set_name", "overlap_group"
#: Two sets that share at least this part of their union are near-copies, and stay on one side of a split.
NEAR_COPY = 0.4
_WEIGHT = re.compile(r"(?<=\S),\s*-?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$")
#: Several symbols in one field.
_JOINED = re.compile(r"[A-Za-z][\w.-]*([,;|] ?[A-Za-z][\w.-]*)+")
#: A symbol rather than an id of a database (M5890, R-HSA-1640170, hsa04110) or a word.
_LIKE_A_SYMBOL = re.compile(r"(?!.*\d{4})[A-Z][A-Z0-9-]{1,14}|(?!.*\d{4})[A-Z][a-z]{1,5}\d[a-z0-9]{0,4}")


@dataclass(frozen=True)
class GeneSets:
    """A collection of gene sets, in the order of its file.

    Attributes
    ----------
    names
        Distinct names as the file gives them.
    descriptions
        Second field of each line, often an address; may be empty.
    genes
        Symbols of each set, distinct, in the file's order; none is empty.
    source
        Where the sets came from.
    sha256
        Checksum of the file they were read from, as it lies on disk; empty if they were not read from one.
        A selection keeps it: it says where the sets came from, and is no part of what is compared.
    """

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    genes: tuple[tuple[str, ...], ...]
    source: str = ""
    sha256: str = field(default="", compare=False, repr=False)
    _place: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.descriptions) == len(self.genes):
            raise DatasetError(
                f"{len(self.names)} names, {len(self.descriptions)} descriptions and {len(self.genes)} lists of "
                "genes do not make gene sets.",
                fix="give one of each per set.",
            )
        place = {name: i for i, name in enumerate(self.names)}
        empty = [name for name, genes in zip(self.names, self.genes, strict=True) if not genes]
        if len(place) < len(self.names) or empty:
            what = f"set {empty[0]!r} has no gene" if empty else "two sets have one name"
            raise DatasetError(f"{what} in {self.source or 'these gene sets'}.", fix="leave it out, or rename it.")
        object.__setattr__(self, "_place", place)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        sizes = [len(genes) for genes in self.genes]
        spread = f"{min(sizes)} to {max(sizes)} genes each" if sizes else "no set"
        return f"GeneSets({len(self)} sets of {self.source or 'no stated source'}, {spread})"

    def __contains__(self, name: object) -> bool:
        return name in self._place

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """Return the genes of one set.

        Raises
        ------
        DatasetError
            There is no such set; the nearest names are given.
        """
        if name not in self._place:
            raise self._unknown([name])
        return self.genes[self._place[name]]

    def select(self, names: Iterable[str]) -> GeneSets:
        """Return these sets, in the order given.

        Raises
        ------
        DatasetError
            A set is not here; the first few are named.
        """
        wanted = list(names)
        unknown = [name for name in wanted if name not in self._place]
        if unknown:
            raise self._unknown(unknown)
        rows = [self._place[name] for name in wanted]
        return self._of(rows, self.genes)

    def restricted_to(self, genes: Iterable[str], *, min_genes: int = 1) -> GeneSets:
        """Keep only these genes, and the sets that still have `min_genes` of them.

        Raises
        ------
        DatasetError
            No set is left.

        Warns
        -----
        C2SWarning
            Sets were left out (counted).
        """
        known, fewest = set(genes), max(1, min_genes)
        kept = [tuple(gene for gene in listed if gene in known) for listed in self.genes]
        rows = [i for i, listed in enumerate(kept) if len(listed) >= fewest]
        if not rows:
            raise DatasetError(
                f"none of the {len(self)} gene sets has {fewest} of the {len(known)} genes given.",
                fix="give symbols of the same species and spelling as the sets (HGNC symbols in MSigDB).",
            )
        if len(rows) < len(self):
            lost = next(name for i, name in enumerate(self.names) if i not in set(rows))
            warnings.warn(
                f"{len(self) - len(rows)} of {len(self)} gene sets have fewer than {fewest} of the genes given, "
                f"first {lost!r}; they are left out.",
                C2SWarning,
                stacklevel=2,
            )
        return self._of(rows, kept)

    def _of(self, rows: Sequence[int], genes: Sequence[tuple[str, ...]]) -> GeneSets:
        """Return some of the sets, with these genes; where they came from stays."""
        names, descriptions = (tuple(column[i] for i in rows) for column in (self.names, self.descriptions))
        return replace(self, names=names, descriptions=descriptions, genes=tuple(genes[i] for i in rows))

    def human_name(self, name: str) -> str:
        """Return what a person would call a set: see `readable_name`."""
        self[name]  # an unknown name is refused
        return readable_name(name)

    def to_table(self) -> pa.Table:
        """Return ``name``, ``human_name``, ``description``, ``genes`` (list of string) and ``n_genes`` (int32)."""
        return pa.table(
            {
                "name": pa.array(self.names, pa.string()),
                "human_name": pa.array([readable_name(n) for n in self.names], pa.string()),
                "description": pa.array(self.descriptions, pa.string()),
                "genes": pa.array([list(g) for g in self.genes], pa.list_(pa.string())),
                "n_genes": pa.array([len(g) for g in self.genes], pa.int32()),
            }
        )

    def membership(self) -> tuple[sp.csr_matrix, list[str]]:
        """Return sets x genes, bool CSR, and the genes of its columns, sorted."""
        vocabulary = sorted({gene for genes in self.genes for gene in genes})
        place = {gene: i for i, gene in enumerate(vocabulary)}
        columns = np.array([place[g] for genes in self.genes for g in genes], dtype=np.int64)
        starts = np.cumsum([0, *(len(genes) for genes in self.genes)])
        shape = (len(self), len(vocabulary))
        matrix = sp.csr_matrix((np.ones(len(columns), dtype=np.bool_), columns, starts), shape=shape)
        matrix.sort_indices()
        return matrix, vocabulary

    def overlap_groups(self, threshold: float = NEAR_COPY) -> list[str]:
        """Gather near-copies: sets that a chain of pairs connects, each sharing `threshold` of its union.

        Two sets with the same readable name are near-copies too: one on each side of a split gives the other away.

        Parameters
        ----------
        threshold
            Jaccard index, in (0, 1], from which two sets are near-copies.

        Returns
        -------
        list of str
            For each set, the name of the first set (by name) of its group.

        Raises
        ------
        ConfigError
            The threshold is not in (0, 1].
        """
        if not 0 < threshold <= 1:
            raise ConfigError(
                "overlap groups", [f"the threshold is {threshold}, not in (0, 1]"], fix="pass 0.4, say."
            )
        from scipy.sparse.csgraph import connected_components

        near = self.jaccard()
        near.data = (near.data >= threshold).astype(np.int8)
        near.eliminate_zeros()
        same: dict[str, int] = {}
        first = [same.setdefault(readable_name(name).lower(), i) for i, name in enumerate(self.names)]
        links = sp.csr_matrix((np.ones(len(first), np.int8), (np.arange(len(first)), first)), shape=near.shape)
        _, labels = connected_components(near + links, directed=False)
        heads: dict[int, str] = {}
        for name, label in sorted(zip(self.names, labels.tolist(), strict=True)):
            heads.setdefault(label, name)
        return [heads[label] for label in labels.tolist()]

    def jaccard(self) -> sp.csr_matrix:
        """Return the Jaccard index of every pair of sets that share a gene, float64 CSR ``[sets, sets]``."""
        matrix, _ = self.membership()
        counts = matrix.astype(np.int32)
        shared = (counts @ counts.T).tocoo()
        sizes = np.array([len(genes) for genes in self.genes])
        index = shared.data / (sizes[shared.row] + sizes[shared.col] - shared.data)
        return sp.csr_matrix((index, (shared.row, shared.col)), shape=shared.shape)

    def to_anndata(self, *, near_copy: float = NEAR_COPY) -> AnnData:
        """Return sets x genes as if sets were cells, so that everything made for cells works on gene sets.

        A set of n genes is written as a cell that counted its genes n, n - 1, ..., 1 times, in the file's order,
        brought to 10,000 counts and log1p: its cell sentence is its genes in that order.

        Parameters
        ----------
        near_copy
            Jaccard index from which two sets share an ``overlap_group``; see `overlap_groups`.

        Returns
        -------
        anndata.AnnData
            ``X`` CSR float32, ``obs`` indexed by name with ``gene_set_name`` (readable), ``overlap_group`` and
            ``description``; ``uns["c2s"]`` says that these are gene sets, and gives the sha256 of their file.
        """
        import anndata as ad
        import pandas as pd

        vocabulary = sorted({gene for genes in self.genes for gene in genes})
        place = {gene: i for i, gene in enumerate(vocabulary)}
        sizes = [len(genes) for genes in self.genes]
        values = [np.log1p(np.arange(n, 0, -1) / (n * (n + 1) / 2) * 1e4) for n in sizes]
        columns = np.array([place[g] for genes in self.genes for g in genes], dtype=np.int32)
        matrix = sp.csr_matrix(
            (np.concatenate([*values, np.zeros(0)]).astype(np.float32), columns, np.cumsum([0, *sizes])),
            shape=(len(self), len(vocabulary)),
        )
        matrix.sort_indices()
        obs = pd.DataFrame(
            {
                NAME_COLUMN: [readable_name(name) for name in self.names],
                GROUP_COLUMN: self.overlap_groups(near_copy),
                "description": list(self.descriptions),
            },
            index=pd.Index(self.names, dtype=object),
        )
        adata = ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(vocabulary, dtype=object)))
        told = {"source": self.source, "unit": "gene set", "near_copy": near_copy, "done": "nothing"}
        told |= {"matrix_kind": "log1p", "scale": "log1p of places in the list, scaled to 10000 a set"}
        adata.uns["c2s"] = told | ({"sha256": self.sha256} if self.sha256 else {})
        return adata

    def to_sentences(self, *, top_k: int | None = None, near_copy: float = NEAR_COPY) -> CellSentences:
        """Return the sets as cell sentences: ``cell_id`` is the name, the sentence the first `top_k` genes."""
        from c2s.sentences import to_cell_sentences

        return to_cell_sentences(self.to_anndata(near_copy=near_copy), top_k=top_k)

    def write_gmt(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the sets as GMT, UTF-8.

        Raises
        ------
        OutputError
            The file exists, or cannot be written.
        """
        with atomic_output(path, overwrite=overwrite) as temporary:
            lines = ["\t".join((name, description, *genes)) for name, description, genes in self._rows()]
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        return Path(path)

    def _rows(self) -> Iterable[tuple[str, str, tuple[str, ...]]]:
        return zip(self.names, self.descriptions, self.genes, strict=True)

    def _unknown(self, names: Sequence[str]) -> DatasetError:
        import difflib

        near = difflib.get_close_matches(names[0], self.names, n=3)
        return DatasetError(
            f"{len(names)} gene set(s) are not in {self.source or 'this collection'}: "
            f"{', '.join(map(repr, names[:5]))}.",
            fix=f"did you mean {', '.join(near)}?" if near else "use names as the file gives them (`.names`).",
        )


def is_gmt(path: Path) -> bool:
    """Whether a path is named as a GMT file is, and holds no HDF5."""
    return path.name.lower().endswith((".gmt", ".gmt.gz")) and not is_hdf5(path)


def read_gmt(path: str | os.PathLike[str]) -> GeneSets:
    """Read gene sets from a GMT file: one set a line, its fields (name, description, genes) separated by tabs.

    Parameters
    ----------
    path
        A GMT file, UTF-8, or the same packed with gzip, whatever it is called.

    Returns
    -------
    GeneSets

    Raises
    ------
    InputFileError
        The file is missing, empty, not UTF-8 (the line is named) or cut short; lines are broken (no tab, no name,
        a gene with a space in it), all named at once; or two different sets have one name.

    Warns
    -----
    C2SWarning
        Sets without genes, sets that are there twice, genes that are in a set twice, and weights after commas (as
        Enrichr writes them) were left out; the file has no descriptions, so that the second fields are genes; each
        is counted.
    """
    source = Path(path)
    rows: dict[str, tuple[int, str, tuple[str, ...]]] = {}
    empty, repeated, twice, weights = [], [], 0, 0
    problems: list[str] = []
    fields = [
        (number, [part.strip() for part in line.split("\t")])
        for number, line in enumerate(_lines(source), start=1)
        if line.strip()
    ]
    described = _has_descriptions(source, [parts for _, parts in fields])
    for number, (name, *rest) in fields:
        if not described:
            rest.insert(0, "")
        rest[1:] = [gene.strip('"') for gene in rest[1:]]
        listed = [_WEIGHT.sub("", gene) for gene in rest[1:] if gene]
        weights += sum(bool(_WEIGHT.search(gene)) for gene in rest[1:])
        spaced = next((gene for gene in listed if len(gene.split()) > 1), None)
        if not rest or not name:
            problems.append(f"line {number} {'has no name' if rest else 'has no tab'}")
            continue
        joined = next((gene for gene in listed if _JOINED.fullmatch(gene)), None)
        if joined is not None:
            problems.append(f"line {number} has several genes in one field, {joined!r}")
            continue
        if spaced is not None:
            problems.append(f"line {number} has the gene {spaced!r}, with a space")
            continue
        genes = tuple(dict.fromkeys(listed))
        twice += len(listed) - len(genes)
        if not genes:
            empty.append(name)
        elif name not in rows:
            rows[name] = (number, rest[0], genes)
        elif set(rows[name][2]) == set(genes):
            repeated.append(name)
        else:
            problems.append(f"lines {rows[name][0]} and {number} give different genes to {name!r}")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputFileError(
            f"{source} is not a sound GMT file: {'; '.join(problems[:5])}{more}.",
            fix="write one set a line: name, description and symbols separated by tabs, each name once.",
        )
    if not rows:
        raise InputFileError(f"{source} holds no gene set with a gene.", fix="give a GMT file that holds some.")
    texts = pa.array(sorted({gene for _, _, genes in rows.values() for gene in genes}), pa.string())
    n, kind, first = no_symbols(texts)
    if 2 * n > len(texts):
        raise InputFileError(
            f"{n} of {len(texts)} genes of {source} are {kind} (first {first!r}), where symbols are expected.",
            fix="get the file with symbols, .symbols.gmt in MSigDB.",
        )
    if weights:
        warnings.warn(
            f"{source.name}: {weights} weights, which follow genes after a comma, were left out.",
            C2SWarning,
            stacklevel=2,
        )
    _warn(source, "sets without genes", empty)
    _warn(source, "sets that are there twice", repeated)
    if twice:
        warnings.warn(
            f"{source.name}: {twice} genes repeated within a set were left out.", C2SWarning, stacklevel=2
        )
    descriptions, genes_of = zip(*((d, g) for _, d, g in rows.values()), strict=True)
    return GeneSets(tuple(rows), tuple(descriptions), tuple(genes_of), source.name, sum_of(source))


def _has_descriptions(source: Path, lines: Sequence[Sequence[str]]) -> bool:
    """Whether the second fields are descriptions; they are not where most of them are genes of some set.

    Warns
    -----
    C2SWarning
        They are genes, or look like genes without being in any set.
    """
    genes = {_WEIGHT.sub("", gene) for _, *rest in lines for gene in rest[1:]}
    seconds = [(name, rest[0]) for name, *rest in lines if rest and rest[0]]
    found = [second for _, second in seconds if _WEIGHT.sub("", second) in genes]
    if 2 * len(found) > len(seconds) and 2 * len(seconds) > len(lines):
        warnings.warn(
            f"{source.name} has no descriptions: {len(found)} of {len(seconds)} second fields are genes of sets "
            f"(such as {found[0]!r}), so all of them are taken for genes.",
            C2SWarning,
            stacklevel=3,
        )
        return False
    alike = [second for name, second in seconds if _LIKE_A_SYMBOL.fullmatch(second) and second != name]
    usual = len(lines) == 1 and usual_genes(alike) > 0
    if usual or (len(alike) == len(lines) > 1 and 2 * len(set(alike)) > len(alike)):
        warnings.warn(
            f"the second fields of {source.name}, such as {alike[0]!r}, are taken for descriptions, though they "
            "look like genes; if they are, write an empty field before them.",
            C2SWarning,
            stacklevel=3,
        )
    return True


def _warn(source: Path, what: str, names: list[str]) -> None:
    if names:
        message = f"{source.name}: {len(names)} {what} were left out, first {names[0]!r}."
        warnings.warn(message, C2SWarning, stacklevel=3)


def _lines(source: Path) -> list[str]:
    if not source.is_file():
        raise InputFileError(f"there is no GMT file {source}.", fix="check the path.")
    data = plain_bytes(source)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputFileError(
            f"{source} is not UTF-8: byte {error.object[error.start]:#04x} in line {line}.",
            fix=f"convert it: iconv -f latin1 -t utf-8 {source.name} > fixed.gmt.",
        ) from None
    # Not str.splitlines, which knows more line ends than the editor that will be used to mend the file.
    return re.split(r"\r\n|\n|\r", text)
