"""The genes that the simulators switch, from ``programs.yaml``, and the expression profiles made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c2s.data.simulate.count_model import CountModel
from c2s.data.simulate.draw import stream
from c2s.prompts import stable_hash

FloatArray = npt.NDArray[np.float64]

#: Share of a switched-on marker's counts that cells of other types have, as from ambient RNA.
LEAK = 0.02
#: Typical share of a cell's counts of a marker, and of a strong one, where it is switched on.
_MARKER, _STRONG, _HIGHEST = 1.5e-3, 8e-3, 2e-2
#: A gene that can be switched is at least this share of the counts: what is never seen cannot be seen to respond.
_LOWEST = 5e-5
#: Standard deviation, as natural logarithm, of every other gene between cell types.
_DIFFUSE = 0.2


@dataclass(frozen=True)
class CellKind:
    """A cell type and the genes that make it: its own, strong ones, and those shared with its lineages."""

    name: str
    markers: tuple[str, ...]
    strong: tuple[str, ...]
    lineages: tuple[str, ...]
    shared: tuple[str, ...]

    @property
    def own(self) -> tuple[str, ...]:
        """Markers of this type, not of its lineages."""
        return (*self.strong, *self.markers)


@lru_cache(maxsize=1)
def programs() -> Mapping[str, Any]:
    """Return ``programs.yaml`` as plain values."""
    import yaml

    text = Path(__file__).with_name("programs.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


def kinds(names: Iterable[str]) -> list[CellKind]:
    """Return the cell types of these names, in this order."""
    data = programs()
    found = []
    for name in names:
        entry = data["cell_types"][name]
        shared = tuple(gene for lineage in entry["lineages"] for gene in data["lineages"][lineage])
        own, strong = tuple(entry["markers"]), tuple(entry.get("strong", ()))
        found.append(CellKind(name, own, strong, tuple(entry["lineages"]), shared))
    return found


def switched_genes() -> tuple[str, ...]:
    """Return every gene that some simulator can switch, sorted."""
    data = programs()
    genes: set[str] = {g for lineage in data["lineages"].values() for g in lineage}
    for entry in data["cell_types"].values():
        genes |= {*entry["markers"], *entry.get("strong", ())}
    genes |= {g for effect in data["tissue_effects"].values() for g in effect}
    genes |= {g for group in data["sex"].values() for g in group}
    genes |= {g for response in data["responses"].values() for group in response.values() for g in group}
    genes |= {*data["antigen_presentation"], *data["stress"]}
    for signal in data["interactions"]:
        genes |= {signal["ligand"], signal["receptor"], *signal["targets"]}
    return tuple(sorted(genes))


@dataclass(frozen=True)
class Profiles:
    """Expected expression of cell types.

    Attributes
    ----------
    genes
        Symbols.
    names
        Cell types.
    fractions
        float64 ``[types, genes]``; each row adds up to 1.
    dispersions
        float64 ``[genes]``.
    on
        Share of a cell's counts of each marker where it is switched on, before rows are made to add up to 1.
    """

    genes: tuple[str, ...]
    names: tuple[str, ...]
    fractions: FloatArray
    dispersions: FloatArray
    on: Mapping[str, float]

    def places(self, genes: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the columns of `genes`."""
        return np.array([self._place[g] for g in genes], dtype=np.int64)

    @property
    def _place(self) -> Mapping[str, int]:
        return _places(self.genes)


@lru_cache(maxsize=8)
def _places(genes: tuple[str, ...]) -> Mapping[str, int]:
    return {gene: i for i, gene in enumerate(genes)}


def build_profiles(model: CountModel, cell_kinds: Sequence[CellKind], *, strength: float, seed: int) -> Profiles:
    """Build the profile of each cell type on the gene means of a real dataset.

    Parameters
    ----------
    model
        Gene means and dispersions; genes that it lacks are added at a low mean.
    cell_kinds
        The cell types.
    strength
        Exponent of the contrast between a marker where it is on and where it is off: 1 as in tissue, 0 for none.
    seed
        Of the differences that are not markers.
    """
    model = model.with_genes(switched_genes())
    place = _places(model.genes)
    base = model.fractions.copy()
    switched = np.array([place[g] for g in switched_genes()])
    base[switched] = np.maximum(base[switched], _LOWEST)
    strong = {g for kind in cell_kinds for g in kind.strong}
    markers = sorted({g for kind in cell_kinds for g in (*kind.own, *kind.shared)})
    on = {g: _level(g, g in strong, model.fractions[place[g]]) for g in markers}
    off = LEAK**strength
    for gene in markers:
        base[place[gene]] = on[gene] * off
    # Dispersions were fitted where blood has these genes; switched, they are as dispersed as others that high.
    highest = base.copy()
    for gene in markers:
        highest[place[gene]] = on[gene]
    dispersions = model.dispersions.copy()
    dispersions[switched] = np.minimum(
        dispersions[switched], model.dispersion_at(model.mean_library * highest[switched])
    )
    rows = []
    for kind in cell_kinds:
        row = base * np.exp(_DIFFUSE * stream("type", kind.name, seed).standard_normal(len(base)))
        for gene in (*kind.own, *kind.shared):
            row[place[gene]] = on[gene]
        rows.append(row / row.sum())
    return Profiles(model.genes, tuple(k.name for k in cell_kinds), np.array(rows), dispersions, on)


def _level(gene: str, strong: bool, measured: float) -> float:
    """Return the share of counts of a marker that is on: fixed for each gene, or more if real data say so."""
    u = (stable_hash("marker level", gene) + 0.5) / 2.0**64
    level = (_STRONG if strong else _MARKER) * float(np.exp(0.5 * np.sqrt(3) * (2 * u - 1)))
    return float(min(max(level, 4 * measured), _HIGHEST))
