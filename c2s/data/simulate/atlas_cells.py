"""An atlas: cells of many types in several tissues of several donors, in batches, some of them ill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from c2s.data.simulate.columns import category, cell_names
from c2s.data.simulate.count_model import CountModel, shipped_counts
from c2s.data.simulate.draw import cell_uniforms, choose, draw_counts, stream
from c2s.data.simulate.options import AtlasOptions
from c2s.data.simulate.programs import LEAK, Profiles, build_profiles, kinds, programs
from c2s.data.simulate.truth import Simulated, Truth, labelled

if TYPE_CHECKING:
    import pandas as pd
    import scipy.sparse as sp

#: Natural log fold change of an interferon-stimulated gene in an ill donor, times ``disease_effect``.
_DISEASE = 2.0
#: Fold change of the genes of the other sex: they are hardly seen.
_ABSENT = 0.01
#: Share of the counts of a gene of the own sex.
_SEX_LEVEL = 1e-3


@dataclass(frozen=True)
class AtlasTruth(Truth):
    """What was planted in an atlas. Log fold changes are natural logarithms.

    Attributes
    ----------
    markers
        Cell type to the genes that are on in it, its lineages' included.
    own_markers
        Cell type to the genes that are its own.
    marker_share
        Gene to its share of a cell's counts where it is on.
    leak
        What remains of that share where it is off.
    composition
        Sample (``"donor|tissue"``) to the expected share of each cell type.
    donors
        Donor to ``sex``, ``disease``, ``development_stage``.
    batch_of
        Sample to batch.
    tissue_effects
        Tissue to gene to log fold change.
    disease_effects
        Gene to log fold change in donors with the disease.
    """

    simulator: ClassVar[str] = "atlas"

    markers: Mapping[str, tuple[str, ...]]
    own_markers: Mapping[str, tuple[str, ...]]
    marker_share: Mapping[str, float]
    leak: float
    composition: Mapping[str, Mapping[str, float]]
    donors: Mapping[str, Mapping[str, str]]
    batch_of: Mapping[str, str]
    tissue_effects: Mapping[str, Mapping[str, float]]
    disease_effects: Mapping[str, float]


class AtlasPlan:
    """Everything about an atlas but its cells, each of which is then a function of its number.

    Parameters
    ----------
    options
        Its options.
    model
        Gene means, dispersions and library sizes.
    seed
        Of everything.
    """

    def __init__(self, options: AtlasOptions, model: CountModel, seed: int) -> None:
        self.options, self.model, self.seed = options, model, seed
        data = programs()
        names = sorted({kind for tissue in options.tissues for kind in data["tissues"][tissue]})
        self.kinds = kinds(names)
        self.profiles: Profiles = build_profiles(model, self.kinds, strength=options.marker_strength, seed=seed)
        self.donors = self._donors()
        self.samples = [(donor, tissue) for donor in self.donors for tissue in options.tissues]
        order = stream("atlas batches", seed).permutation(len(self.samples))
        self.batch = [f"batch{int(place) % options.n_batches + 1}" for place in order]
        self.composition = self._composition(names)
        self.disease_effects = self._disease_effects()
        self.factors = self._factors()
        # A sample's changes must not change how many counts a cell has, only which.
        self.norms = self.profiles.fractions @ self.factors.T

    def _donors(self) -> dict[str, dict[str, str]]:
        """Return what is known of each donor; the ill are spread over both sexes."""
        n = self.options.n_donors
        rng = stream("atlas donors", self.seed)
        ill = np.zeros(n, dtype=bool)
        ill[rng.permutation(n)[: round(n * self.options.sick_share)]] = True
        ages = rng.integers(20, 80, n)
        return {
            f"donor{i + 1:02d}": {
                "sex": ("female", "male")[i % 2],
                "disease": self.options.disease if ill[i] else "normal",
                "development_stage": f"{ages[i]}-year-old stage",
            }
            for i in range(n)
        }

    def _composition(self, names: list[str]) -> npt.NDArray[np.float64]:
        """Return the share of each type in each sample, ``[samples, types]``: Dirichlet around the tissue's."""
        data, rows = programs(), []
        for donor, tissue in self.samples:
            weights = np.array([data["tissues"][tissue].get(name, 0.0) for name in names])
            alpha = weights / weights.sum() * self.options.composition_concentration
            drawn = np.zeros(len(names))
            drawn[alpha > 0] = stream("composition", donor, tissue, self.seed).dirichlet(alpha[alpha > 0])
            rows.append(drawn)
        return np.array(rows)

    def _disease_effects(self) -> dict[str, float]:
        genes = programs()["responses"]["IFN-beta"]["all"]
        size = _DISEASE * self.options.disease_effect * stream("disease", self.seed).uniform(0.6, 1.4, len(genes))
        return {gene: float(value) for gene, value in zip(genes, size, strict=True)}

    def _factors(self) -> npt.NDArray[np.float64]:
        """Return what multiplies each gene in each sample, ``[samples, genes]``."""
        data, n_genes = programs(), len(self.profiles.genes)
        places = self.profiles.places
        by_donor = {
            d: self.options.donor_sd * stream("donor", d, self.seed).standard_normal(n_genes) for d in self.donors
        }
        by_batch = {
            b: self.options.batch_sd * stream("batch", b, self.seed).standard_normal(n_genes)
            for b in sorted(set(self.batch))
        }
        rows = np.empty((len(self.samples), n_genes))
        for i, (donor, tissue) in enumerate(self.samples):
            row = by_donor[donor] + by_batch[self.batch[i]]
            effects = data["tissue_effects"][tissue]
            row[places(list(effects))] += list(effects.values())
            if self.donors[donor]["disease"] != "normal":
                row[places(list(self.disease_effects))] += list(self.disease_effects.values())
            for sex, genes in data["sex"].items():
                at = places(genes)
                row[at] = np.log(_SEX_LEVEL / self.profiles.fractions[:, at].mean(axis=0))
                if sex != self.donors[donor]["sex"]:
                    row[at] += np.log(_ABSENT)
            rows[i] = row
        return np.exp(rows)

    def cells(self, first: int, n: int) -> tuple[sp.csr_matrix, pd.DataFrame]:
        """Return the counts and ``obs`` of the cells `first` to ``first + n - 1``; the same in any chunks."""
        import pandas as pd

        def uniforms(what: str) -> npt.NDArray[np.float64]:
            return cell_uniforms(first, n, "atlas", what, self.seed)

        sample = choose(uniforms("sample"), np.ones(len(self.samples)))
        kind = choose(uniforms("kind"), self.composition[sample])
        sizes = self.model.libraries(uniforms("library")) / self.norms[kind, sample]
        counts = draw_counts(
            self.profiles.fractions,
            kind,
            sizes,
            self.profiles.dispersions,
            seed=self.seed,
            name="atlas",
            factors=self.factors,
            sample=sample,
            first=first,
        )
        return counts, pd.DataFrame(self._columns(kind, sample), index=cell_names(first, n))

    def _columns(self, kind: npt.NDArray[np.int64], sample: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return the standard columns; categories are those of the plan, whatever cells were drawn."""

        def of_donor(what: str) -> list[str]:
            return [self.donors[donor][what] for donor, _ in self.samples]

        return {
            "cell_type": category(self.profiles.names, kind),
            "tissue": category([tissue for _, tissue in self.samples], sample),
            "donor_id": category([donor for donor, _ in self.samples], sample),
            "disease": category(of_donor("disease"), sample),
            "organism": category(["Homo sapiens"] * len(self.samples), sample),
            "development_stage": category(of_donor("development_stage"), sample),
            "sex": category(of_donor("sex"), sample),
            "batch": category(self.batch, sample),
        }

    def truth(self) -> AtlasTruth:
        """Return what is planted."""
        names = [f"{donor}|{tissue}" for donor, tissue in self.samples]
        shares = [
            {k: round(float(v), 6) for k, v in zip(self.profiles.names, row, strict=True) if v > 0}
            for row in self.composition
        ]
        return AtlasTruth(
            seed=self.seed,
            options=self.options.model_dump(mode="python"),
            counts_from=dict(self.model.source),
            markers={k.name: (*k.own, *k.shared) for k in self.kinds},
            own_markers={k.name: k.own for k in self.kinds},
            marker_share=dict(self.profiles.on),
            leak=LEAK**self.options.marker_strength,
            composition=dict(zip(names, shares, strict=True)),
            donors=self.donors,
            batch_of=dict(zip(names, self.batch, strict=True)),
            tissue_effects={t: programs()["tissue_effects"][t] for t in self.options.tissues},
            disease_effects=self.disease_effects,
        )


def atlas(
    options: AtlasOptions | Mapping[str, Any] | None = None,
    *,
    model: CountModel | None = None,
    seed: int = 0,
    **more: Any,
) -> Simulated:
    """Simulate an atlas.

    Parameters
    ----------
    options, **more
        Options of `AtlasOptions`, as an object, a mapping or keywords.
    model
        Counts to imitate; default `shipped_counts`.
    seed
        Of everything. Cell number i is the same cell in an atlas of any size with the other options alike.

    Returns
    -------
    Simulated
        ``adata`` with raw counts, CSR float32 ``[cells, genes]``, and the standard columns in ``obs``; ``truth``,
        an `AtlasTruth`.

    Raises
    ------
    ConfigError
        An option is unknown or has a bad value.
    """
    chosen = AtlasOptions.of(options, **more)
    plan = AtlasPlan(chosen, model or shipped_counts(), seed)
    counts, obs = plan.cells(0, chosen.n_cells)
    return labelled(counts, obs, plan.profiles.genes, plan.truth())
