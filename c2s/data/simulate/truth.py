"""What was planted: a frozen dataclass per simulator, kept with the cells as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from c2s.errors import ObsError

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData

#: Key of ``uns`` under which the truth is kept.
TRUTH = "c2s_truth"


@dataclass(frozen=True)
class Truth:
    """Base of all truths.

    A log fold change is that of a gene's expected count in a cell of given depth. What rises adds to the cell's
    total, so that shares of the total change by a little less.

    Attributes
    ----------
    seed
        Of the simulation.
    options
        What the simulator was told.
    counts_from
        What the count model was fitted to.
    """

    simulator: ClassVar[str] = ""

    seed: int
    options: Mapping[str, Any]
    counts_from: Mapping[str, Any]

    def to_json(self) -> str:
        """Return the truth as text."""
        return json.dumps({"simulator": self.simulator, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; lists come back as tuples, as they were."""
        values = json.loads(text)
        values.pop("simulator")
        return cls(**{key: _frozen(value) for key, value in values.items()})


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    return value


class Simulated(NamedTuple):
    """Simulated cells and what was planted in them; unpacks as ``adata, truth``."""

    adata: AnnData
    truth: Any


def labelled(counts: sp.csr_matrix, obs: pd.DataFrame, genes: Iterable[str], truth: Truth) -> Simulated:
    """Make the cells of a simulator: labelled as simulated, and with the truth in them.

    Parameters
    ----------
    counts
        float32 ``[cells, genes]``.
    obs
        One row a cell.
    genes
        Symbols of the columns of `counts`.
    truth
        What was planted; it names the simulator and the seed.
    """
    import anndata
    import pandas as pd

    adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(genes)))
    adata.uns["c2s"] = {
        "simulated": True,
        "source": f"c2s.data.simulate.{truth.simulator}, seed {truth.seed}",
    }
    adata.uns[TRUTH] = truth.to_json()
    return Simulated(adata, truth)


def truth_of(adata: AnnData) -> Any:
    """Return the truth that simulated cells carry, also after they were written and read again.

    Raises
    ------
    ObsError
        The cells carry none: they were not simulated here, or ``uns`` was lost.
    """
    from c2s.data.simulate.atlas_cells import AtlasTruth
    from c2s.data.simulate.cytokine_cells import CytokineTruth
    from c2s.data.simulate.screen_cells import ScreenTruth
    from c2s.data.simulate.spatial_cells import SpatialTruth

    text = adata.uns.get(TRUTH)
    truths: tuple[type[Truth], ...] = (AtlasTruth, CytokineTruth, ScreenTruth, SpatialTruth)
    classes = {cls.simulator: cls for cls in truths}
    try:
        return classes[json.loads(text)["simulator"]].from_json(text)
    except (TypeError, ValueError, KeyError):
        raise ObsError(
            f"these cells carry no truth (uns[{TRUTH!r}]): they are not simulated, or uns was lost.",
            fix="use what a function of c2s.data.simulate returns.",
        ) from None
