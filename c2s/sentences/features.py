"""Which columns of a matrix are genes, and which are antibodies, hashtags, guides, spike-ins or peaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from c2s.errors import GeneError
from c2s.missing import is_null

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``var`` that say what a feature is: Cell Ranger's, CELLxGENE's, and how others write them.
_COLUMNS = ("feature_types", "feature_type", "feature_biotype", "modality")
_GENE = {"gene expression", "gene_expression", "gex", "rna", "mrna", "gene", "genes"}
_NO_GENE = {
    "adt",
    "antibody",
    "antibody capture",
    "antigen capture",
    "atac",
    "cmo",
    "crispr",
    "crispr guide capture",
    "custom",
    "ercc",
    "guide",
    "hashtag",
    "hto",
    "multiplexing capture",
    "peak",
    "peaks",
    "prot",
    "protein",
    "sgrna",
    "spike-in",
    "spike_in",
    "spikein",
}
#: Where accessible chromatin was measured. RE2, case does not matter.
GENOMIC_RANGE = r"^(chr[\w.]+|\d{1,2}|[xy]|mt|gl\d+\.\d+|ki\d+\.\d+)[-:_]\d{2,}[-:_]\d{2,}$"
#: What features are called that no column describes. RE2, case does not matter.
_NAMES = {
    "spike-ins": r"^(\w+_)?ercc[-_.]\d{3,5}$|^(sirv\d+\w*|(rna[-_])?spike[-_]?in.*)$",
    "antibodies": r"^(adt|ab|prot|protein|antibody)[-_:].*[a-z].*|totalseq[-_]?[abcd]?\d*$|[|]pabo$|"
    r"[-_.](adt|prot|protein|abseq)$|^anti[-_ ](human|mouse|rat)([-_ ]|$)",
    "hashtags": r"^(hto|cmo)[-_:]?\w*\d\w*$|^hto[-_:].+|hashtag|^hash[-_]?tag|[|]stabo$|^sampletag\d+",
    "CRISPR guides": r"^(sgrna|grna|crispr|guide)[-_:].+|[-_](sgrna|grna|guide)[-_]?\d*$|^sg-?ntc|"
    r"^non[-_]?targeting|^(?-i:sg[A-Z][A-Z0-9]+)_\d+$",
    "counters of reads": r"^__(no_feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique)$|"
    r"^n_(unmapped|multimapping|nofeature|ambiguous)$|^unmapped$",
    "genomic ranges": GENOMIC_RANGE,
}
_NAME = "|".join(f"(?:{pattern})" for pattern in _NAMES.values())
_SHOWN = 3


@dataclass(frozen=True)
class Features:
    """What the columns of a matrix are.

    Attributes
    ----------
    genes
        Positions of the columns that are genes, int64, rising; None where all are.
    others
        Names of the other columns, by what they are.
    """

    genes: npt.NDArray[np.int64] | None = None
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        told = []
        for kind, names in self.others.items():
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            told.append(f"{len(names)} {kind} ({shown})")
        return "; ".join(told)


def features_of(names: Sequence[Any], var: pd.DataFrame) -> Features:
    """Find out which columns of a matrix are genes.

    A column of ``var`` that says so (``feature_types``, ``feature_biotype``) is believed; names that only an
    antibody, a hashtag, a CRISPR guide, a spike-in or a genomic range has are recognised.

    Parameters
    ----------
    names
        Names of the columns.
    var
        What is known of them.

    Raises
    ------
    GeneError
        A column of ``var`` says that none of them is a gene.
    """
    kinds = np.full(len(names), "", dtype=object)
    for column in (c for c in var.columns if str(c).casefold() in _COLUMNS):
        texts = var[column].astype(object)
        values = np.array(["" if is_null(v) else str(v).strip().casefold() for v in texts], object)
        known = set(values)
        expression = known & _GENE - {"gene", "genes"}  # a gene may be a pseudogene, too
        other = ~np.isin(values, [*_GENE, ""]) if expression else np.isin(values, list(_NO_GENE))
        if len(values) and other.all():
            found = ", ".join(sorted({str(v) for v in texts}))
            raise GeneError(
                f"none of the {len(values)} features is a gene: var[{str(column)!r}] says {found}.",
                fix="give the matrix of gene expression, which other files or layers (--layer) hold.",
            )
        kinds[other] = [repr(str(v).strip()) for v in texts.to_numpy()[other]]
    texts = pc.fill_null(texts_or_null(names), "")
    if pc.any(pc.match_substring_regex(texts, _NAME, ignore_case=True)).as_py():
        for kind, pattern in _NAMES.items():
            kinds[np.asarray(pc.match_substring_regex(texts, pattern, ignore_case=True)) & (kinds == "")] = kind
    other = kinds != ""
    if not other.any() or other.all():  # all of one such name: what they are, the check of symbols says
        return Features()
    others = {
        kind: tuple(str(names[int(i)]) for i in np.flatnonzero(kinds == kind))
        for kind in sorted(set(kinds[other]))
    }
    return Features(np.flatnonzero(~other), others)


def texts_or_null(values: Sequence[Any]) -> pa.StringArray:
    """Return names as text, null where one is missing."""
    try:
        return pa.array(values, pa.string(), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # numbers
        return pa.array([None if is_null(v) else str(v) for v in values], pa.string())


#: What `strip_names` takes away, each with what it is found by.
STRIPPED = {
    "genome": re.compile(r"^(?:GRC[a-z]\d+|hg\d{2}|mm\d{1,2}|rn\d|dm\d|danRer\d+)(?:\.p\d+)?[_-]+(?=\S)"),
    "version": re.compile(r"(?<=\w)\.\d{1,3}$"),
    "ensembl": re.compile(
        r"^ENS[A-Z]{0,5}G\d{8,}(?:\.\d+)?[_|:-]+(?=\S)|(?<=\w)[_|:-]+ENS[A-Z]{0,5}G\d{8,}(?:\.\d+)?$"
    ),
}


def strip_names(names: Sequence[Any], strip: Sequence[str]) -> list[Any]:
    """Take from gene names what other tools put before or after them.

    Parameters
    ----------
    names
        Gene names.
    strip
        Any of ``"genome"`` (the ``GRCh38_`` of a reference of several species), ``"version"`` (the ``.2`` of
        ``ENSG00000187608.2``) and ``"ensembl"`` (the id of ``ENSG00000187608_ISG15``), done in this order.
    """
    stripped = [None if is_null(name) else str(name) for name in names]
    for what in STRIPPED:
        if what in strip:
            stripped = [name and STRIPPED[what].sub("", name) for name in stripped]
    return stripped


def strippable(names: Sequence[str]) -> dict[str, int]:
    """Return what `strip_names` would take from more than half of the names, with how many."""
    counts = {what: sum(bool(pattern.search(name)) for name in names) for what, pattern in STRIPPED.items()}
    return {what: n for what, n in counts.items() if 2 * n > len(names)}
