"""How genes respond: log fold changes per gene, put on the profiles of cell types; all natural logarithms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from c2s.data.simulate.draw import stream
from c2s.data.simulate.programs import CellKind, Profiles, programs

FloatArray = npt.NDArray[np.float64]

#: A gene with more than this share of the counts responds less: there is no room for a tenfold rise.
_ABUNDANT, _DAMPED = 2e-3, 0.35


def lineage_of(kind: CellKind) -> str:
    """Return which responses of ``programs.yaml`` a cell type has besides those of every cell."""
    return "myeloid" if "myeloid" in kind.lineages else "lymphoid"


def gene_effects(
    genes: Sequence[str], strength: float, fractions: FloatArray, profiles: Profiles, *parts: object
) -> dict[str, float]:
    """Return a log fold change for each gene, around `strength`, less for genes that are abundant already.

    Parameters
    ----------
    genes
        Genes that respond.
    strength
        Typical log fold change.
    fractions
        float64 ``[genes]``, share of the counts before the response.
    profiles
        Where the genes are.
    *parts
        What the draw is a function of.
    """
    unique = list(dict.fromkeys(genes))
    drawn = strength * stream("effects", *parts).uniform(0.6, 1.4, len(unique))
    drawn[fractions[profiles.places(unique)] > _ABUNDANT] *= _DAMPED
    return {gene: round(float(value), 6) for gene, value in zip(unique, drawn, strict=True)}


def kinetics(signal: str, hours: float) -> float:
    """Return the share of the full response after some hours: it rises, and may fade."""
    about = programs()["kinetics"][signal]
    risen = 1 - np.exp(-hours / about["rise"])
    return float(risen * np.exp(-hours / about["fade"])) if "fade" in about else float(risen)


def added(effects: Sequence[Mapping[str, float]], factor: float = 1.0) -> dict[str, float]:
    """Return the sum of log fold changes, times `factor`."""
    total: dict[str, float] = {}
    for effect in effects:
        for gene, value in effect.items():
            total[gene] = total.get(gene, 0.0) + value
    return {gene: round(factor * value, 6) for gene, value in total.items()}


def factor_row(effects: Mapping[str, float], profiles: Profiles) -> FloatArray:
    """Return what multiplies each gene's share, float64 ``[genes]``."""
    row = np.ones(len(profiles.genes))
    row[profiles.places(list(effects))] = np.exp(list(effects.values()))
    return row


def donor_rows(donors: Sequence[str], sd: float, n_genes: int, *parts: object) -> FloatArray:
    """Return each donor's own shift of every gene as a factor, ``[donors, genes]``."""
    rows = [np.exp(sd * stream("donor", donor, *parts).standard_normal(n_genes)) for donor in donors]
    return np.array(rows)
