"""Blood cells stimulated with single and combined cytokines for some hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from c2s.data.simulate.columns import category, cell_names
from c2s.data.simulate.count_model import CountModel, shipped_counts
from c2s.data.simulate.draw import cell_uniforms, draw_counts, stream
from c2s.data.simulate.options import CytokineOptions
from c2s.data.simulate.programs import CellKind, Profiles, build_profiles, kinds, programs
from c2s.data.simulate.responses import added, donor_rows, factor_row, gene_effects, kinetics, lineage_of
from c2s.data.simulate.truth import Simulated, Truth, labelled

#: ``obs["perturbation"]`` of unstimulated cells.
CONTROL = "control"


@dataclass(frozen=True)
class CytokineTruth(Truth):
    """What was planted. Log fold changes are natural logarithms, against unstimulated cells of the same type.

    Attributes
    ----------
    effects
        Cell type, stimulation (``"IFN-beta"``, ``"IFN-gamma+TNF"``), hours as text, gene: log fold change.
    synergy
        Combination to its departure from additivity: the log fold changes of the parts, added, are multiplied by
        one plus this.
    sensitivity
        Cell type, cytokine: what full responses are multiplied by.
    time_course
        Cytokine, hours as text: share of the full response.
    """

    simulator: ClassVar[str] = "cytokines"

    effects: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    synergy: Mapping[str, float]
    sensitivity: Mapping[str, Mapping[str, float]]
    time_course: Mapping[str, Mapping[str, float]]

    def effect(self, cell_type: str, stimulation: str, hours: float) -> Mapping[str, float]:
        """Return the log fold changes of one condition; nothing for unstimulated cells."""
        if stimulation == CONTROL:
            return {}
        return self.effects[cell_type][stimulation][f"{hours:g}"]


def cytokines(
    options: CytokineOptions | Mapping[str, Any] | None = None,
    *,
    model: CountModel | None = None,
    seed: int = 0,
    **more: Any,
) -> Simulated:
    """Simulate blood cells under single and combined cytokines (the design of section 4.6.9's first data set).

    Parameters
    ----------
    options, **more
        Options of `CytokineOptions`, as an object, a mapping or keywords.
    model
        Counts to imitate; default `shipped_counts`.
    seed
        Of everything.

    Returns
    -------
    Simulated
        ``adata`` with raw counts; ``obs`` has the standard columns, ``perturbation`` (``"control"``, a cytokine,
        or several joined by ``+``) and ``duration_h``. ``truth`` is a `CytokineTruth`.

    Raises
    ------
    ConfigError
        An option is unknown or has a bad value.
    """
    import pandas as pd

    chosen = CytokineOptions.of(options, **more)
    model = model or shipped_counts()
    cell_kinds = kinds(chosen.cell_types)
    profiles = build_profiles(model, cell_kinds, strength=1.0, seed=seed)
    truth = _truth(chosen, model, cell_kinds, profiles, seed)
    donors = [f"donor{i + 1:02d}" for i in range(chosen.n_donors)]
    stimulations = [CONTROL, *chosen.cytokines, *chosen.synergy]
    conditions = [(k, s, h) for k in range(len(cell_kinds)) for s in stimulations for h in chosen.durations]

    n = len(conditions) * chosen.cells_per_condition
    number = np.arange(n)
    condition = number // chosen.cells_per_condition
    donor = (number % chosen.cells_per_condition + condition) % len(donors)
    by_donor = donor_rows(donors, chosen.donor_sd, len(profiles.genes), "cytokines", seed)
    by_condition = np.array(
        [factor_row(truth.effect(cell_kinds[k].name, s, h), profiles) for k, s, h in conditions]
    )
    combined = (by_condition[:, None, :] * by_donor[None, :, :]).reshape(-1, len(profiles.genes))
    counts = draw_counts(
        profiles.fractions,
        np.array([k for k, _, _ in conditions])[condition],
        model.libraries(cell_uniforms(0, n, "cytokines", "library", seed)),
        profiles.dispersions,
        seed=seed,
        name="cytokines",
        factors=combined,
        sample=condition * len(donors) + donor,
    )
    same = np.zeros(n, dtype=np.int64)
    obs = pd.DataFrame(
        {
            "cell_type": category([cell_kinds[k].name for k, _, _ in conditions], condition),
            "tissue": category(["blood"], same),
            "donor_id": category(donors, donor),
            "disease": category(["normal"], same),
            "organism": category(["Homo sapiens"], same),
            "development_stage": category(
                [f"{25 + 7 * i % 50}-year-old stage" for i in range(len(donors))], donor
            ),
            "sex": category([("female", "male")[i % 2] for i in range(len(donors))], donor),
            "batch": category([f"batch{i % 2 + 1}" for i in range(len(donors))], donor),
            "perturbation": category([s for _, s, _ in conditions], condition),
            "duration_h": np.array([h for _, _, h in conditions])[condition],
        },
        index=cell_names(0, n),
    )
    return labelled(counts, obs, profiles.genes, truth)


def _truth(
    chosen: CytokineOptions, model: CountModel, cell_kinds: list[CellKind], profiles: Profiles, seed: int
) -> CytokineTruth:
    """Plan the responses of every cell type to every stimulation after every duration."""
    data = programs()
    signals = sorted({*chosen.cytokines, *(part for pair in chosen.synergy for part in pair.split("+"))})
    sensitivity: dict[str, dict[str, float]] = {}
    effects: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row, kind in enumerate(cell_kinds):
        lineage = lineage_of(kind)
        spread = stream("sensitivity", kind.name, seed).uniform(0.85, 1.15, len(signals))
        own = {
            s: round(float(data["sensitivity"][lineage][s] * u), 4) for s, u in zip(signals, spread, strict=True)
        }
        sensitivity[kind.name] = own
        full = {
            s: gene_effects(
                [*data["responses"][s]["all"], *data["responses"][s][lineage]],
                chosen.strength,
                profiles.fractions[row],
                profiles,
                "cytokine",
                s,
                seed,
            )
            for s in signals
        }
        single = {
            s: {f"{h:g}": added([full[s]], own[s] * kinetics(s, h)) for h in chosen.durations} for s in signals
        }
        effects[kind.name] = {s: single[s] for s in chosen.cytokines}
        for pair, synergy in chosen.synergy.items():
            effects[kind.name][pair] = {
                f"{h:g}": added([single[part][f"{h:g}"] for part in pair.split("+")], 1 + synergy)
                for h in chosen.durations
            }
    return CytokineTruth(
        seed=seed,
        options=chosen.model_dump(mode="python"),
        counts_from=dict(model.source),
        effects=effects,
        synergy=dict(chosen.synergy),
        sensitivity=sensitivity,
        time_course={s: {f"{h:g}": round(kinetics(s, h), 6) for h in chosen.durations} for s in signals},
    )
