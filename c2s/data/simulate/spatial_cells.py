"""Tissue sections: cells at places, in niches, which answer the signals of their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from c2s.data.simulate.columns import category, cell_names
from c2s.data.simulate.count_model import CountModel, shipped_counts
from c2s.data.simulate.draw import cell_uniforms, choose, draw_counts, stream
from c2s.data.simulate.options import SpatialOptions
from c2s.data.simulate.programs import LEAK, Profiles, build_profiles, kinds, programs
from c2s.data.simulate.responses import donor_rows
from c2s.data.simulate.truth import Simulated, Truth, labelled

FloatArray = npt.NDArray[np.float64]

#: Key of ``obsm`` with the exposure of each cell to each signal.
EXPOSURE = "c2s_exposure"
#: Share of a cell's counts of a ligand where it is sent, and of a receptor where it is.
_LIGAND, _RECEPTOR = 2e-3, 1.5e-3
_GAP = 500.0  # micrometres between sections: no signal reaches across
_BLOCK = 1024  # cells whose factors are in memory at once


@dataclass(frozen=True)
class SpatialTruth(Truth):
    """What was planted.

    Attributes
    ----------
    composition
        Niche to the expected share of each cell type.
    interactions
        Name (``"IFNG-IFNGR1"``) to ``ligand``, ``receptor``, ``senders``, ``receivers`` (cell types) and
        ``targets``: gene to its natural log fold change in a receiver at full exposure.
    radius
        Micrometres within which senders count.
    saturation
        Active senders that are full exposure. A receiver's exposure is ``min(1, senders / saturation)``, and its
        targets change by that times their log fold change; ``obsm["c2s_exposure"]`` holds it.
    coupling
        Typical log fold change of a target; 0 when nothing was planted.
    """

    simulator: ClassVar[str] = "spatial"

    composition: Mapping[str, Mapping[str, float]]
    interactions: Mapping[str, Mapping[str, Any]]
    radius: float
    saturation: float
    coupling: float


def spatial(
    options: SpatialOptions | Mapping[str, Any] | None = None,
    *,
    model: CountModel | None = None,
    seed: int = 0,
    **more: Any,
) -> Simulated:
    """Simulate sections of a tumour: nests, stroma, lymphoid aggregates and vessels.

    Parameters
    ----------
    options, **more
        Options of `SpatialOptions`, as an object, a mapping or keywords.
    model
        Counts to imitate; default `shipped_counts`.
    seed
        Of everything.

    Returns
    -------
    Simulated
        ``adata`` with raw counts; ``obs`` has the standard columns, ``niche`` and ``section``;
        ``obsm["spatial"]``, float64 ``[cells, 2]``, micrometres; ``obsm["c2s_exposure"]``, one column per signal,
        0 to 1. ``truth`` is a `SpatialTruth`.

    Raises
    ------
    ConfigError
        An option is unknown or has a bad value.
    """
    import pandas as pd

    chosen = SpatialOptions.of(options, **more)
    model = model or shipped_counts()
    names = sorted({kind for niche in chosen.niche_shares for kind in programs()["niches"][niche]})
    profiles = build_profiles(model, kinds(names), strength=1.0, seed=seed)
    section, places, niche = _places(chosen, seed)
    n = len(section)
    niches = list(chosen.niche_shares)
    composition = np.array([[programs()["niches"][m].get(kind, 0.0) for kind in names] for m in niches])
    kind = choose(cell_uniforms(0, n, "spatial", "kind", seed), composition[niche])
    truth = _truth(chosen, model, names, seed)
    exposure, active = _signals(chosen, truth, places, kind, names, seed)
    counts = _counts(chosen, model, profiles, truth, section, kind, exposure, active, seed)

    donors = [f"donor{i + 1:02d}" for i in range(chosen.n_sections)]
    same = np.zeros(n, dtype=np.int64)
    obs = pd.DataFrame(
        {
            "cell_type": category(names, kind),
            "tissue": category(["lung"], same),
            "donor_id": category(donors, section),
            "disease": category(["lung carcinoma"], same),
            "organism": category(["Homo sapiens"], same),
            "development_stage": category(
                [f"{50 + 6 * i % 30}-year-old stage" for i in range(len(donors))], section
            ),
            "sex": category([("female", "male")[i % 2] for i in range(len(donors))], section),
            "batch": category([f"slide{i // 2 + 1}" for i in range(len(donors))], section),
            "niche": category(niches, niche),
            "section": category([f"section{i + 1:02d}" for i in range(len(donors))], section),
        },
        index=cell_names(0, n),
    )
    made = labelled(counts, obs, profiles.genes, truth)
    made.adata.obsm["spatial"] = places
    made.adata.obsm[EXPOSURE] = pd.DataFrame(exposure, index=obs.index, columns=list(truth.interactions))
    return made


def _places(chosen: SpatialOptions, seed: int) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[np.int64]]:
    """Return section, place and niche of each cell: a jittered grid with gaps, and smooth regions."""
    section = np.sort(np.arange(chosen.n_cells) % chosen.n_sections)
    places, niche = np.empty((chosen.n_cells, 2)), np.empty(chosen.n_cells, dtype=np.int64)
    offset = 0.0
    for number in range(chosen.n_sections):
        inside = np.flatnonzero(section == number)
        rng = stream("section", number, seed)
        side = int(np.ceil(np.sqrt(len(inside) * 1.05)))
        taken = np.sort(rng.permutation(side * side)[: len(inside)])
        grid = np.stack([taken % side, taken // side], axis=1) + rng.uniform(-0.35, 0.35, (len(inside), 2))
        at = grid * chosen.spacing
        niche[inside] = _regions(at / (side * chosen.spacing), list(chosen.niche_shares.values()), rng)
        places[inside] = at + np.array([offset, 0.0])
        offset += side * chosen.spacing + _GAP + 2 * chosen.radius
    return section, places, niche


def _regions(at: FloatArray, shares: list[float], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Divide the unit square into regions of the given shares; each is where a smooth random field is highest."""
    part = np.array(shares) / sum(shares)
    region = np.full(len(at), len(shares) - 1, dtype=np.int64)
    free = np.ones(len(at), dtype=bool)
    for number, share in enumerate(part[:-1]):
        # A sum of waves of random direction and phase; small regions get short waves.
        waves = rng.normal(0, 2 * np.pi * (1.2 + 1.2 / np.sqrt(max(share, 0.02) * 10)), (24, 2))
        field = np.cos(at @ waves.T + rng.uniform(0, 2 * np.pi, 24)).sum(axis=1)
        field[~free] = -np.inf
        highest = np.argsort(-field, kind="stable")[: min(round(share * len(at)), int(free.sum()))]
        region[highest] = number
        free[highest] = False
    return region


def _truth(chosen: SpatialOptions, model: CountModel, names: list[str], seed: int) -> SpatialTruth:
    interactions = {}
    for signal in programs()["interactions"]:
        senders = tuple(k for k in signal["senders"] if k in names)
        receivers = tuple(k for k in signal["receivers"] if k in names)
        name = f"{signal['ligand']}-{signal['receptor']}"
        weights = stream("signal", name, seed).uniform(0.7, 1.3, len(signal["targets"]))
        if senders and receivers:
            interactions[name] = {
                "ligand": signal["ligand"],
                "receptor": signal["receptor"],
                "senders": senders,
                "receivers": receivers,
                "targets": {
                    g: round(float(chosen.coupling * w), 6)
                    for g, w in zip(signal["targets"], weights, strict=True)
                },
            }
    composition = {}
    for niche in chosen.niche_shares:
        weights_of = programs()["niches"][niche]
        composition[niche] = {k: round(v / sum(weights_of.values()), 6) for k, v in weights_of.items()}
    return SpatialTruth(
        seed=seed,
        options=chosen.model_dump(mode="python"),
        counts_from=dict(model.source),
        composition=composition,
        interactions=interactions,
        radius=chosen.radius,
        saturation=chosen.saturation,
        coupling=chosen.coupling,
    )


def _signals(
    chosen: SpatialOptions,
    truth: SpatialTruth,
    places: FloatArray,
    kind: npt.NDArray[np.int64],
    names: list[str],
    seed: int,
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return exposure of each cell to each signal, and whether it sends it; both ``[cells, signals]``."""
    from scipy.spatial import cKDTree

    n = len(kind)
    pairs = cKDTree(places).query_pairs(chosen.radius, output_type="ndarray")
    exposure = np.zeros((n, len(truth.interactions)))
    active = np.zeros((n, len(truth.interactions)), dtype=bool)
    for column, (name, signal) in enumerate(truth.interactions.items()):
        sends = np.isin(kind, [names.index(k) for k in signal["senders"]])
        active[:, column] = sends & (cell_uniforms(0, n, "spatial", name, seed) < chosen.active_share)
        around = np.zeros(n)
        for one, other in (pairs.T, pairs.T[::-1]):
            around += np.bincount(one[active[other, column]], minlength=n)
        receives = np.isin(kind, [names.index(k) for k in signal["receivers"]])
        exposure[:, column] = receives * np.minimum(1.0, around / chosen.saturation)
    return exposure, active


def _counts(
    chosen: SpatialOptions,
    model: CountModel,
    profiles: Profiles,
    truth: SpatialTruth,
    section: npt.NDArray[np.int64],
    kind: npt.NDArray[np.int64],
    exposure: FloatArray,
    active: npt.NDArray[np.bool_],
    seed: int,
) -> Any:
    """Draw the counts, block by block, because every cell has factors of its own."""
    from scipy.sparse import vstack

    by_kind = profiles.fractions.copy()
    for signal in truth.interactions.values():
        ligand, receptor = profiles.places([signal["ligand"], signal["receptor"]])
        by_kind[:, ligand] = _LIGAND * LEAK
        by_kind[:, receptor] = _RECEPTOR * LEAK
        by_kind[np.isin(profiles.names, signal["receivers"]), receptor] = _RECEPTOR
    donors = [f"donor{i + 1:02d}" for i in range(chosen.n_sections)]
    by_section = donor_rows(donors, chosen.donor_sd, len(profiles.genes), "spatial", seed)
    sizes = model.libraries(cell_uniforms(0, len(kind), "spatial", "library", seed))
    blocks = []
    for begin in range(0, len(kind), _BLOCK):
        of = slice(begin, min(begin + _BLOCK, len(kind)))
        rows = by_section[section[of]]
        for column, signal in enumerate(truth.interactions.values()):
            rows[active[of, column], profiles.places([signal["ligand"]])[0]] /= LEAK
            genes = profiles.places(list(signal["targets"]))
            rows[:, genes] *= np.exp(exposure[of, column, None] * np.array(list(signal["targets"].values())))
        blocks.append(
            draw_counts(
                by_kind,
                kind[of],
                sizes[of],
                profiles.dispersions,
                seed=seed,
                name="spatial",
                factors=rows,
                sample=np.arange(len(rows)),
                first=begin,
            )
        )
    return vstack(blocks, format="csr")
