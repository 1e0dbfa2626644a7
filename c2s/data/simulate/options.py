"""What the simulators are told: flat configurations, checked as a whole, all problems at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from c2s.data.simulate.programs import programs
from c2s.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class SimulationOptions(BaseModel):
    """Base of the simulators' options."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    subject: ClassVar[str] = "simulation"

    @classmethod
    def of(cls, options: Mapping[str, Any] | Self | None = None, **more: Any) -> Self:
        """Build the options from plain values; all problems are reported at once.

        Raises
        ------
        ConfigError
            An option is unknown or has a bad value.
        """
        given = options.model_dump() if isinstance(options, SimulationOptions) else dict(options or {})
        try:
            return cls(**given | more)
        except ValidationError as error:
            problems = []
            for problem in error.errors():
                where = ".".join(map(str, problem["loc"]))
                if problem["type"] == "extra_forbidden":
                    problems.append(f"unknown option {where!r}")
                else:
                    text = problem["msg"].removeprefix("Value error, ")
                    problems.append(f"{where}: {text}, got {problem['input']!r}")
            raise ConfigError(cls.subject, problems, fix=f"it takes {', '.join(cls.model_fields)}.") from None


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
