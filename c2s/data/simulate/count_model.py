"""What counts look like: a negative-binomial model whose numbers come from a real dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s.data.simulate.draw import cell_uniforms, draw_counts
from c2s.errors import ConfigError, InputFileError
from c2s.files import atomic_output

if TYPE_CHECKING:
    from anndata import AnnData

_FORMAT = 1
SHIPPED = Path(__file__).with_name("blood_counts.json")


@dataclass(frozen=True)
class CountModel:
    """Gene means, dispersions and library sizes of a population of cells.

    The count of gene g in cell c is negative binomial with mean ``m = size[c] * fraction[g]`` and variance
    ``m + dispersion[g] * m**2``.

    Attributes
    ----------
    genes
        Symbols.
    fractions
        float64 ``[genes]``, expected share of each gene in a cell's counts; they add up to 1 when fitted.
    dispersions
        float64 ``[genes]``.
    trend
        ``(a0, a1)``: the typical dispersion of a gene with mean count ``m`` is ``a0 + a1 / m``.
    trend_scatter
        Standard deviation of dispersions around the trend, relative to it.
    library_quantiles
        float64 ``[q]``, evenly spaced quantiles (0 to 1) of the cells' totals.
    source
        What it was fitted to: ``name``, ``title``, ``citation``, ``licence``, ``n_cells``, ``groups``.
    """

    genes: tuple[str, ...]
    fractions: npt.NDArray[np.float64] = field(repr=False)
    dispersions: npt.NDArray[np.float64] = field(repr=False)
    trend: tuple[float, float]
    trend_scatter: float
    library_quantiles: npt.NDArray[np.float64] = field(repr=False)
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise ConfigError("count model", problems, fix="fit it again with c2s.data.simulate.fit_counts.")

    @property
    def mean_library(self) -> float:
        """Expected total of a cell."""
        return float(np.trapezoid(self.library_quantiles, dx=1 / (len(self.library_quantiles) - 1)))

    def dispersion_at(self, means: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the trend's dispersion at mean counts per cell `means`."""
        return self.trend[0] + self.trend[1] / np.maximum(np.asarray(means, dtype=np.float64), 1e-12)

    def libraries(self, uniforms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return expected totals from uniform numbers in [0, 1), by the inverse of the quantiles."""
        grid = np.linspace(0, 1, len(self.library_quantiles))
        return np.interp(uniforms, grid, self.library_quantiles)

    def with_genes(self, genes: Iterable[str], *, fraction: float = 1e-5) -> CountModel:
        """Return a model that also has `genes`; those that it lacks get `fraction` and the trend's dispersion."""
        new = sorted(set(genes) - set(self.genes))
        if not new:
            return self
        typical = self.dispersion_at(self.mean_library * fraction)
        return replace(
            self,
            genes=(*self.genes, *new),
            fractions=np.concatenate([self.fractions, np.full(len(new), fraction)]),
            dispersions=np.concatenate([self.dispersions, np.full(len(new), float(typical))]),
        )

    def sample(self, n_cells: int, *, seed: int = 0) -> AnnData:
        """Draw cells of one population, without types or donors; what the fit is checked with.

        Returns
        -------
        anndata.AnnData
            ``X``: raw counts, CSR float32.
        """
        import anndata
        import pandas as pd

        sizes = self.libraries(cell_uniforms(0, n_cells, "sample", seed, "library"))
        counts = draw_counts(
            self.fractions[None, :], np.zeros(n_cells, np.int64), sizes, self.dispersions, seed=seed, name="sample"
        )
        obs = pd.DataFrame(index=[f"sim-{i:08d}" for i in range(n_cells)])
        adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(self.genes)))
        adata.uns["c2s"] = {"simulated": True, "source": f"CountModel.sample({n_cells}, seed={seed})"}
        return adata

    def to_json(self) -> str:
        """Return the model as text; numbers keep six digits, more than any fit knows."""
        values = asdict(self) | {"format": _FORMAT, "genes": list(self.genes), "source": dict(self.source)}
        for name in ("fractions", "dispersions", "library_quantiles", "trend"):
            values[name] = [float(f"{v:.6g}") for v in values[name]]
        values["trend_scatter"] = float(f"{self.trend_scatter:.6g}")
        lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in sorted(values.items())]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model as JSON.

        Raises
        ------
        OutputError
            `path` exists and `overwrite` is false, or it cannot be written.
        """
        with atomic_output(path, overwrite=overwrite) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CountModel:
        """Read a model that `save` wrote.

        Raises
        ------
        InputFileError
            The file is missing, no JSON, or no count model.
        ConfigError
            Its values cannot be: fractions below zero, quantiles that fall, lists of different lengths.
        """
        path = Path(path)
        again = "write it again with fit_counts(...).save(path)."
        if not path.is_file():
            raise InputFileError(f"there is no count model {path}.", fix=again)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") != _FORMAT:
                raise InputFileError(f"{path} is a count model of another format.", fix=again)
            for name in ("fractions", "dispersions", "library_quantiles"):
                values[name] = np.asarray(values[name], dtype=np.float64)
            values["genes"], values["trend"] = tuple(values["genes"]), tuple(values["trend"])
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputFileError(f"{path} is no count model ({error}).", fix=again) from error


def _problems(model: CountModel) -> list[str]:
    """Return everything that is wrong with the numbers."""
    n = len(model.genes)
    problems = []
    if not n or len(set(model.genes)) != n:
        problems.append("genes are absent or named twice")
    for name in ("fractions", "dispersions"):
        values = getattr(model, name)
        if len(values) != n:
            problems.append(f"{len(values)} {name} for {n} genes")
        elif not np.isfinite(values).all() or (values < 0).any():
            problems.append(f"{name} are not all finite and at least 0")
    quantiles = model.library_quantiles
    if (
        len(quantiles) < 2
        or not np.isfinite(quantiles).all()
        or (np.diff(quantiles) < 0).any()
        or quantiles[0] <= 0
    ):
        problems.append("library_quantiles must be two or more, above 0 and not falling")
    if len(model.trend) != 2 or min(model.trend) < 0:
        problems.append("the trend must be two numbers, at least 0")
    return problems


@lru_cache(maxsize=1)
def shipped_counts() -> CountModel:
    """Return the model that comes with the package, fitted within sorted populations of blood.

    It holds parameters only, no cell. ``python -m c2s.data.simulate.refit`` repeats its making.
    """
    return CountModel.load(SHIPPED)
