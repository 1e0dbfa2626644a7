"""Simulated cells with real gene symbols and known truth, small enough for a test.

The values are drawn from a model, not measured: each lineage expresses its textbook marker genes more, and every
donor has a shift of its own. Good for testing code, useless for biology.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

#: Marker genes of each simulated cell type.
MARKERS = {
    "B cell": ("MS4A1", "CD79A", "CD79B", "CD19", "BANK1", "HLA-DRA"),
    "T cell": ("CD3D", "CD3E", "TRAC", "IL7R", "LTB", "CD2"),
    "monocyte": ("LYZ", "S100A8", "S100A9", "CD14", "FCN1", "VCAN"),
    "natural killer cell": ("NKG7", "GNLY", "KLRD1", "PRF1", "GZMB", "NCAM1"),
}
#: Genes that differ between the two simulated tissues.
TISSUE_GENES = {"blood": ("HBB", "PPBP"), "spleen": ("C1QA", "CCL21")}
#: Genes that every simulated cell may express.
COMMON = (
    *("ACTB", "B2M", "EEF1A1", "FTH1", "FTL", "GAPDH", "MALAT1", "MT-CO1", "NEAT1", "PTPRC"),
    *("RPL10", "RPL13", "RPS18", "RPS27", "TMSB10", "TMSB4X", "UBC", "VIM"),
)


def simulated_cells(n_cells: int = 120, *, seed: int = 0) -> AnnData:
    """Simulate cells of six donors, two tissues and four cell types.

    Parameters
    ----------
    n_cells
        Number of cells; every donor gets every cell type once there are 48 or more.
    seed
        Of the draw.

    Returns
    -------
    anndata.AnnData
        ``X``: CSR float32, ``n_cells`` x 46 genes, normalised to 10,000 counts a cell and log1p-transformed. Cells
        express between about 5 and 40 genes, so that a prompt that states a fixed number is wrong for some.
        ``obs``: ``cell_type``, ``tissue``, ``donor_id``, ``disease``, ``sex``, ``development_stage`` and
        ``organism``.
        ``uns["c2s"]["simulated"]`` is true.
    """
    import anndata
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(seed)
    genes = sorted({*COMMON, *(g for group in (MARKERS, TISSUE_GENES) for m in group.values() for g in m)})
    place = {gene: i for i, gene in enumerate(genes)}
    types, tissues = sorted(MARKERS), sorted(TISSUE_GENES)
    donors = [f"donor{i + 1}" for i in range(6)]
    index = np.arange(n_cells)
    kind, donor = index % len(types), (index // len(types)) % len(donors)
    tissue = (index // (len(types) * len(donors))) % len(tissues)
    rates = np.full((n_cells, len(genes)), 0.05)
    rates[:, [place[g] for g in COMMON]] = 1.5
    for code, name in enumerate(types):
        rates[np.ix_(kind == code, [place[g] for g in MARKERS[name]])] = 6.0
    for code, name in enumerate(tissues):
        rates[np.ix_(tissue == code, [place[g] for g in TISSUE_GENES[name]])] = 3.0
    rates *= rng.lognormal(0.0, 0.2, size=(len(donors), len(genes)))[donor]
    # Shallow cells have few genes.
    rates *= rng.choice([0.15, 1.0, 1.5], size=(n_cells, 1), p=[0.25, 0.5, 0.25])
    counts = rng.poisson(rates).astype(np.float64)
    counts[:, place["MALAT1"]] += 1  # no cell is empty
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    obs = pd.DataFrame(
        {
            "cell_type": np.array(types)[kind],
            "tissue": np.array(tissues)[tissue],
            "donor_id": np.array(donors)[donor],
            "disease": np.where(donor % 2, "influenza", "normal"),
            "sex": np.where(donor % 3 == 0, "male", "female"),
            "development_stage": "adult",
            "organism": "Homo sapiens",
        },
        index=[f"cell{i:04d}" for i in index],
    ).astype("category")
    adata = anndata.AnnData(sparse.csr_matrix(values), obs=obs, var=pd.DataFrame(index=genes))
    adata.uns["c2s"] = {"simulated": True, "source": f"c2s.testing.simulated_cells({n_cells}, seed={seed})"}
    return adata
