"""A drug screen in two contexts: samples with interferon, and isolated cells without (section 4.8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from c2s.data.simulate.columns import category, cell_names
from c2s.data.simulate.count_model import CountModel, shipped_counts
from c2s.data.simulate.draw import cell_uniforms, draw_counts, stream
from c2s.data.simulate.options import ScreenOptions
from c2s.data.simulate.programs import Profiles, build_profiles, kinds, programs
from c2s.data.simulate.responses import added, donor_rows, factor_row, gene_effects
from c2s.data.simulate.truth import Simulated, Truth, labelled

#: The two contexts, as in ``obs["context"]``, and the name of no drug in ``obs["perturbation"]``.
PRESENT, ISOLATED, VEHICLE = "interferon-present", "isolated", "vehicle"
_LINE = "line01"


@dataclass(frozen=True)
class ScreenTruth(Truth):
    """What was planted. Log fold changes are natural logarithms, against the vehicle in the same sample.

    Attributes
    ----------
    drugs
        Drug to ``kind`` (``"amplifier"``, ``"activator"``, ``"inert"`` or ``"toxic"``), ``emax`` (log fold change
        at a saturating dose), ``ec50_nm`` and ``hill``.
    interferon_level
        Sample (donor or line) to how much interferon it has, 1 on average and 0 in the line: what multiplies the
        effect of an amplifier, and that of interferon itself.
    antigen_presentation
        Gene to its weight in the response to amplifiers and activators.
    stress
        Gene to its weight in the response to toxic drugs.
    interferon
        Gene to its log fold change in a sample whose interferon level is 1.
    """

    simulator: ClassVar[str] = "drug_screen"

    drugs: Mapping[str, Mapping[str, Any]]
    interferon_level: Mapping[str, float]
    antigen_presentation: Mapping[str, float]
    stress: Mapping[str, float]
    interferon: Mapping[str, float]

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """Return the drugs of one kind."""
        return tuple(name for name, about in self.drugs.items() if about["kind"] == kind)

    def response(self, drug: str, dose_nm: float, sample: str) -> float:
        """Return the mean log fold change of antigen presentation: Hill's curve, times interferon if needed."""
        if drug == VEHICLE:
            return 0.0
        about = self.drugs[drug]
        if about["kind"] not in {"amplifier", "activator"}:
            return 0.0
        level = self.interferon_level[sample] if about["kind"] == "amplifier" else 1.0
        return level * self._curve(drug, dose_nm)

    def effect(self, drug: str, dose_nm: float, sample: str) -> dict[str, float]:
        """Return the log fold change of every gene that responds."""
        if drug != VEHICLE and self.drugs[drug]["kind"] == "toxic":
            return added([self.stress], self._curve(drug, dose_nm))
        response = self.response(drug, dose_nm, sample)
        return added([self.antigen_presentation], response) if response else {}

    def _curve(self, drug: str, dose_nm: float) -> float:
        about = self.drugs[drug]
        ratio = (dose_nm / about["ec50_nm"]) ** about["hill"]
        return float(about["emax"] * ratio / (1 + ratio))


def drug_screen(
    options: ScreenOptions | Mapping[str, Any] | None = None,
    *,
    model: CountModel | None = None,
    seed: int = 0,
    **more: Any,
) -> Simulated:
    """Simulate a drug screen in samples with interferon and in isolated cells.

    Names of drugs do not tell their kind.

    Parameters
    ----------
    options, **more
        Options of `ScreenOptions`, as an object, a mapping or keywords.
    model
        Counts to imitate; default `shipped_counts`.
    seed
        Of everything.

    Returns
    -------
    Simulated
        ``adata`` with raw counts; ``obs`` has the standard columns, ``context``, ``perturbation`` (a drug or
        ``"vehicle"``) and ``dose_nm``. ``truth`` is a `ScreenTruth`.

    Raises
    ------
    ConfigError
        An option is unknown or has a bad value.
    """
    import pandas as pd

    chosen = ScreenOptions.of(options, **more)
    model = model or shipped_counts()
    cell_kinds = kinds(chosen.cell_types)
    profiles = build_profiles(model, cell_kinds, strength=1.0, seed=seed)
    donors = [f"donor{i + 1:02d}" for i in range(chosen.n_donors)]
    truth = _truth(chosen, model, profiles, donors, seed)
    samples = [*donors, _LINE]
    treatments = [(VEHICLE, 0.0), *((drug, dose) for drug in truth.drugs for dose in chosen.doses)]
    sizes = [chosen.vehicle_cells if drug == VEHICLE else chosen.cells_per_condition for drug, _ in treatments]

    # First all cells of the samples with interferon, then those of the line, treatment by treatment.
    treatment = np.tile(np.repeat(np.arange(len(treatments)), sizes), 2)
    n = len(treatment)
    isolated = np.arange(n) >= n // 2
    within = np.tile(np.concatenate([np.arange(size) for size in sizes]), 2)
    sample = np.where(isolated, len(donors), within % len(donors))
    kind = np.where(isolated, 0, within // len(donors) % len(cell_kinds))
    by_sample = donor_rows(samples, chosen.donor_sd, len(profiles.genes), "screen", seed)
    for row, name in enumerate(samples):
        by_sample[row] *= factor_row(added([truth.interferon], truth.interferon_level[name]), profiles)
    by_both = np.array(
        [
            factor_row(truth.effect(drug, dose, name), profiles) * by_sample[row]
            for drug, dose in treatments
            for row, name in enumerate(samples)
        ]
    )
    counts = draw_counts(
        profiles.fractions,
        kind.astype(np.int64),
        model.libraries(cell_uniforms(0, n, "drug_screen", "library", seed)),
        profiles.dispersions,
        seed=seed,
        name="drug_screen",
        factors=by_both,
        sample=treatment * len(samples) + sample,
    )
    stages = [f"{40 + 5 * i % 40}-year-old stage" for i in range(len(donors))]
    same = np.zeros(n, dtype=np.int64)
    obs = pd.DataFrame(
        {
            "cell_type": category([k.name for k in cell_kinds], kind),
            "tissue": category([*["lung"] * len(donors), "cell culture"], sample),
            "donor_id": category(samples, sample),
            "disease": category(["lung carcinoma"], same),
            "organism": category(["Homo sapiens"], same),
            "development_stage": category([*stages, "unknown"], sample),
            "sex": category([*(("female", "male")[i % 2] for i in range(len(donors))), "unknown"], sample),
            "batch": category(["batch1", "batch2"], within // len(donors) // len(cell_kinds) % 2),
            "context": category([PRESENT, ISOLATED], isolated.astype(np.int64)),
            "perturbation": category([drug for drug, _ in treatments], treatment),
            "dose_nm": np.array([dose for _, dose in treatments])[treatment],
        },
        index=cell_names(0, n),
    )
    return labelled(counts, obs, profiles.genes, truth)


def _truth(
    chosen: ScreenOptions, model: CountModel, profiles: Profiles, donors: list[str], seed: int
) -> ScreenTruth:
    """Plan drugs and samples."""
    data = programs()
    rng = stream("screen", seed)
    roles = [
        *["amplifier"] * chosen.n_amplifiers,
        *["activator"] * chosen.n_activators,
        *["inert"] * chosen.n_inert,
        *["toxic"] * chosen.n_toxic,
    ]
    drugs = {}
    for place, role in enumerate(np.array(roles, dtype=object)[rng.permutation(len(roles))]):
        drugs[f"compound-{place + 1:02d}"] = {
            "kind": str(role),
            "emax": 0.0 if role == "inert" else round(float(chosen.strength * rng.uniform(1.0, 1.4)), 4),
            # Half of the effect is reached in the lower part of the doses, on a logarithmic scale.
            "ec50_nm": round(float(np.exp(rng.uniform(*np.log(_middle(chosen.doses))))), 4),
            "hill": round(float(rng.uniform(0.9, 1.6)), 4),
        }
    levels = rng.uniform(0.7, 1.3, len(donors))
    mean = profiles.fractions.mean(axis=0)
    presented = data["antigen_presentation"]
    weights = {
        name: dict(zip(genes, (round(float(v), 4) for v in rng.uniform(0.7, 1.3, len(genes))), strict=True))
        for name, genes in (("presented", presented), ("stress", data["stress"]))
    }
    return ScreenTruth(
        seed=seed,
        options=chosen.model_dump(mode="python"),
        counts_from=dict(model.source),
        drugs=drugs,
        interferon_level={**{d: round(float(v), 4) for d, v in zip(donors, levels, strict=True)}, _LINE: 0.0},
        antigen_presentation=weights["presented"],
        stress=weights["stress"],
        interferon=gene_effects(
            [*data["responses"]["IFN-beta"]["all"], *presented],
            chosen.interferon,
            mean,
            profiles,
            "screen",
            seed,
        ),
    )


def _middle(doses: tuple[float, ...]) -> tuple[float, float]:
    """Return the bounds of half-effective doses: around the lower middle of the doses."""
    low, high = min(doses), max(doses)
    if low == high:
        return low / 3, low
    return low * (high / low) ** 0.25, low * (high / low) ** 0.6
