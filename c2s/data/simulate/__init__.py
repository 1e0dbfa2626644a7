"""Simulated cells with known truth, whose counts are those of a model fitted to real cells.

``adata, truth = atlas(n_cells=3000, seed=0)``: raw counts, the standard columns, and what was planted. Simulated
cells say so (``adata.uns["c2s"]["simulated"]``), carry their truth (`truth_of`), and are good for testing methods
whose answer must be known; they are no evidence about biology.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "AtlasOptions": "c2s.data.simulate.options",
    "AtlasTruth": "c2s.data.simulate.atlas_cells",
    "CountModel": "c2s.data.simulate.count_model",
    "Simulated": "c2s.data.simulate.truth",
    "Truth": "c2s.data.simulate.truth",
    "CytokineOptions": "c2s.data.simulate.options",
    "CytokineTruth": "c2s.data.simulate.cytokine_cells",
    "ScreenOptions": "c2s.data.simulate.options",
    "ScreenTruth": "c2s.data.simulate.screen_cells",
    "SpatialOptions": "c2s.data.simulate.options",
    "SpatialTruth": "c2s.data.simulate.spatial_cells",
    "atlas": "c2s.data.simulate.atlas_cells",
    "cytokines": "c2s.data.simulate.cytokine_cells",
    "drug_screen": "c2s.data.simulate.screen_cells",
    "spatial": "c2s.data.simulate.spatial_cells",
    "fit_counts": "c2s.data.simulate.fit",
    "shipped_counts": "c2s.data.simulate.count_model",
    "truth_of": "c2s.data.simulate.truth",
    "write_atlas": "c2s.data.simulate.writing",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'c2s.data.simulate' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


if TYPE_CHECKING:
    from c2s.data.simulate.atlas_cells import AtlasTruth as AtlasTruth, atlas as atlas
    from c2s.data.simulate.count_model import CountModel as CountModel, shipped_counts as shipped_counts
    from c2s.data.simulate.cytokine_cells import CytokineTruth as CytokineTruth, cytokines as cytokines
    from c2s.data.simulate.fit import fit_counts as fit_counts
    from c2s.data.simulate.options import (
        AtlasOptions as AtlasOptions,
        CytokineOptions as CytokineOptions,
        ScreenOptions as ScreenOptions,
        SpatialOptions as SpatialOptions,
    )
    from c2s.data.simulate.screen_cells import ScreenTruth as ScreenTruth, drug_screen as drug_screen
    from c2s.data.simulate.spatial_cells import SpatialTruth as SpatialTruth, spatial as spatial
    from c2s.data.simulate.truth import Simulated as Simulated, Truth as Truth, truth_of as truth_of
    from c2s.data.simulate.writing import write_atlas as write_atlas
