"""What the simulators are told: flat configurations, checked as a whole, all problems at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from c2s.data.simulate.programs import programs
from c2s.options import Options

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class SimulationOptions(Options):
    """Base of the simulators' options."""

    subject: ClassVar[str] = "simulation"


def known(names: tuple[str, ...], section: str, what: str) -> tuple[str, ...]:
    """Return `names` if ``programs.yaml`` has all of them in `section`, each once."""
    there = list(programs()[section])
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ValueError(f"no {what} {', '.join(map(repr, unknown))}; there are {', '.join(there)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"name one {what} or more, each once")
    return names


class AtlasOptions(SimulationOptions):
    """Options of `c2s.data.simulate.atlas`.

    Attributes
    ----------
    n_cells
        Number of cells.
    n_donors
        Donors; each gives a sample of every tissue.
    tissues
        Tissues, by the names of ``programs.yaml``.
    n_batches
        Batches (say, sequencing runs); each sample belongs to one.
    sick_share
        Share of the donors with the disease, whose cells respond to interferon beta.
    disease
        Its name.
    disease_effect
        Strength of that response, 1 as in stimulated blood.
    donor_sd, batch_sd
        Standard deviation of each gene's natural log fold change between donors and between batches.
    composition_concentration
        The higher, the more alike the samples of a tissue are in their cell types (concentration of a Dirichlet).
    marker_strength
        1 for markers as in tissue, 0 for cell types without any.
    """

    subject: ClassVar[str] = "options of the atlas"

    n_cells: Count = 3000
    n_donors: Annotated[int, Field(ge=1, le=1000)] = 8
    tissues: tuple[str, ...] = ("blood", "liver", "lung", "small intestine", "lymph node")
    n_batches: Count = 3
    sick_share: Share = 0.5
    disease: Annotated[str, Field(min_length=1)] = "influenza"
    disease_effect: Annotated[float, Field(ge=0, le=3)] = 0.5
    donor_sd: Share = 0.15
    batch_sd: Share = 0.1
    composition_concentration: Annotated[float, Field(gt=0)] = 40.0
    marker_strength: Annotated[float, Field(ge=0, le=2)] = 1.0

    @field_validator("tissues")
    @classmethod
    def _known_tissues(cls, tissues: tuple[str, ...]) -> tuple[str, ...]:
        return known(tissues, "tissues", "tissue")


class CytokineOptions(SimulationOptions):
    """Options of `c2s.data.simulate.cytokines`.

    Attributes
    ----------
    cell_types
        Blood cells that are stimulated.
    cytokines
        Single stimulations, by the names of ``programs.yaml``.
    synergy
        Combinations (``"IFN-beta+IL-6"``) to how they differ from the sum of their parts: 0 is additive on the
        logarithmic scale, 0.4 adds 40% to every log fold change, -0.4 takes 40% away.
    durations
        Hours of stimulation.
    n_donors
        Donors; each is in every condition.
    cells_per_condition
        Cells of each cell type, stimulation and duration.
    strength
        Typical natural log fold change of a responding gene at full response.
    donor_sd
        Standard deviation of each gene's natural log fold change between donors.
    """

    subject: ClassVar[str] = "options of the cytokine simulation"

    cell_types: tuple[str, ...] = (
        "CD4-positive, alpha-beta T cell",
        "CD8-positive, alpha-beta T cell",
        "B cell",
        "natural killer cell",
        "classical monocyte",
    )
    cytokines: tuple[str, ...] = ("IFN-beta", "IFN-gamma", "TNF", "IL-6")
    synergy: Mapping[str, Annotated[float, Field(ge=-1, le=2)]] = Field(
        default_factory=lambda: {"IFN-gamma+TNF": 0.4, "IFN-beta+IL-6": 0.0, "IFN-beta+TNF": -0.3}
    )
    durations: tuple[Annotated[float, Field(gt=0)], ...] = (6.0, 24.0, 48.0)
    n_donors: Count = 4
    cells_per_condition: Count = 24
    strength: Annotated[float, Field(ge=0, le=4)] = 1.6
    donor_sd: Share = 0.1

    @field_validator("cell_types")
    @classmethod
    def _known_types(cls, cell_types: tuple[str, ...]) -> tuple[str, ...]:
        return known(cell_types, "cell_types", "cell type")

    @field_validator("cytokines")
    @classmethod
    def _known_cytokines(cls, cytokines: tuple[str, ...]) -> tuple[str, ...]:
        return known(cytokines, "responses", "cytokine")

    @field_validator("synergy")
    @classmethod
    def _known_parts(cls, synergy: Mapping[str, float]) -> Mapping[str, float]:
        for pair in synergy:
            parts = known(tuple(pair.split("+")), "responses", "cytokine")
            if len(parts) < 2:
                raise ValueError(f"{pair!r} is not a combination; write 'IFN-beta+IL-6'")
        return synergy

    @field_validator("durations")
    @classmethod
    def _once(cls, durations: tuple[float, ...]) -> tuple[float, ...]:
        if not durations or len(set(durations)) < len(durations):
            raise ValueError("give one duration or more, each once")
        return durations


class ScreenOptions(SimulationOptions):
    """Options of `c2s.data.simulate.drug_screen`.

    Attributes
    ----------
    n_amplifiers
        Drugs that raise antigen presentation only where interferon is present.
    n_activators
        Drugs that raise it in both contexts.
    n_inert
        Drugs without any effect.
    n_toxic
        Drugs that raise stress genes in both contexts, and antigen presentation in none.
    doses
        Nanomolar.
    n_donors
        Donors of the interferon-present context; the isolated cells are one line.
    cell_types
        Cell types of the interferon-present samples; the line is of the first.
    cells_per_condition
        Cells of each context, drug and dose, spread over donors and cell types.
    vehicle_cells
        Untreated cells of each context.
    strength
        Typical natural log fold change of an antigen presentation gene at the highest dose.
    interferon
        Natural log fold change of interferon-stimulated genes in an interferon-present sample, on average.
    donor_sd
        Standard deviation of each gene's natural log fold change between donors.
    """

    subject: ClassVar[str] = "options of the drug screen"

    n_amplifiers: Annotated[int, Field(ge=0)] = 1
    n_activators: Annotated[int, Field(ge=0)] = 3
    n_inert: Annotated[int, Field(ge=0)] = 10
    n_toxic: Annotated[int, Field(ge=0)] = 4
    doses: tuple[Annotated[float, Field(gt=0)], ...] = (10.0, 100.0, 1000.0)
    n_donors: Count = 4
    cell_types: tuple[str, ...] = ("malignant cell", "macrophage", "CD8-positive, alpha-beta T cell", "fibroblast")
    cells_per_condition: Count = 32
    vehicle_cells: Count = 256
    strength: Annotated[float, Field(ge=0, le=3)] = 0.8
    interferon: Annotated[float, Field(ge=0, le=3)] = 1.0
    donor_sd: Share = 0.1

    @field_validator("cell_types")
    @classmethod
    def _known_types(cls, cell_types: tuple[str, ...]) -> tuple[str, ...]:
        return known(cell_types, "cell_types", "cell type")

    @field_validator("doses")
    @classmethod
    def _once(cls, doses: tuple[float, ...]) -> tuple[float, ...]:
        if not doses or len(set(doses)) < len(doses):
            raise ValueError("give one dose or more, each once")
        return doses


class SpatialOptions(SimulationOptions):
    """Options of `c2s.data.simulate.spatial`.

    Attributes
    ----------
    n_cells
        Number of cells, over all sections.
    n_sections
        Sections, each of its own donor, laid side by side.
    spacing
        Typical distance of neighbouring cells, micrometres.
    niche_shares
        Niches, by the names of ``programs.yaml``, to their share of the cells.
    radius
        How far a signal reaches, micrometres.
    coupling
        How strongly receivers respond to the ligand of their neighbours: natural log fold change of a typical
        target at full exposure; 0 is none.
    saturation
        Number of active senders within `radius` that is full exposure.
    active_share
        Share of the cells of a sending type that express the ligand.
    donor_sd
        Standard deviation of each gene's natural log fold change between sections.
    """

    subject: ClassVar[str] = "options of the spatial simulation"

    n_cells: Annotated[int, Field(ge=20)] = 4000
    n_sections: Count = 2
    spacing: Annotated[float, Field(gt=0)] = 14.0
    niche_shares: Mapping[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: {
            "vessel": 0.1,
            "lymphoid aggregate": 0.16,
            "tumour nest": 0.4,
            "stroma": 0.34,
        }
    )
    radius: Annotated[float, Field(gt=0)] = 30.0
    coupling: Annotated[float, Field(ge=0, le=4)] = 1.5
    saturation: Annotated[float, Field(gt=0)] = 2.0
    active_share: Share = 0.4
    donor_sd: Share = 0.1

    @field_validator("niche_shares")
    @classmethod
    def _known_niches(cls, shares: Mapping[str, float]) -> Mapping[str, float]:
        known(tuple(shares), "niches", "niche")
        return shares
