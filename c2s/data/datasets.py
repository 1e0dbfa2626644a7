"""The datasets that have a name: one that comes with scanpy, the others from a mirror, by checksum."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from c2s.data.mirror import find_in_mirror
from c2s.data.read import read_cells
from c2s.errors import DatasetError, ObsError
from c2s.tasks import Dataset

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class MirroredFile:
    """Loads a dataset's file from the mirror and normalises it.

    Attributes
    ----------
    name
        Name of the dataset.
    sha256, size
        What the file is found by.
    symbols
        Column of ``var`` with the gene symbols, where ``var_names`` are something else.
    """

    name: str
    sha256: str
    size: int
    symbols: str | None = None

    def __call__(self) -> AnnData:
        """Return the cells, log1p-normalised; raise `DatasetError` if the mirror does not have them."""
        adata = read_cells(find_in_mirror(self.name, self.sha256, self.size), symbols=self.symbols)
        adata.uns["c2s"] |= {"source": self.name, "sha256": self.sha256}
        return adata


def _pbmc68k_reduced() -> AnnData:
    """Return the 700 cells that come with scanpy, read from its folder without a network."""
    import scanpy

    path = Path(scanpy.__file__).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    if not path.is_file():
        raise DatasetError(
            "this scanpy comes without pbmc68k_reduced.", fix="pip install --force-reinstall scanpy"
        )
    # X is scaled; raw holds the log-normalised values of the same genes.
    with warnings.catch_warnings():
        # anndata warns, element by element, that the file was written by an old version of it.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        adata = read_cells(path, layer="raw")
    adata.obs["cell_type"] = adata.obs["bulk_labels"]
    adata.uns["c2s"]["source"] = "pbmc68k_reduced"
    return adata


_ZHENG = (
    "Zheng et al., Massively parallel digital transcriptional profiling of single cells, "
    "Nat Commun 8:14049 (2017)."
)
_KANG = "Kang et al., Multiplexed droplet single-cell RNA-sequencing, Nat Biotechnol 36:89-94 (2018), GSE96583."

PBMC68K_REDUCED = Dataset(
    name="pbmc68k_reduced",
    title="Peripheral blood, 700 cells x 765 genes, as it comes with scanpy",
    load=_pbmc68k_reduced,
    citation=_ZHENG,
    licence="CC BY 4.0 (10x Genomics)",
)
PBMC_ZHENG_FACS = Dataset(
    name="pbmc_zheng_facs",
    title="Peripheral blood sorted by FACS, 3,874 cells x 16,791 genes, 10 sorted populations",
    load=MirroredFile(
        "pbmc_zheng_facs", "7406bc9fb9f3f636c6bec07172e56c1cc5ae11267b05ea022985bd4f37e20513", 6_988_662
    ),
    citation=_ZHENG,
    licence="CC BY 4.0 (10x Genomics)",
)
PBMC3K = Dataset(
    name="pbmc3k",
    title="Peripheral blood of one donor, 2,638 cells x 13,714 genes",
    load=MirroredFile("pbmc3k", "b5586e9dce5e7d28089e6b27c9f3732cd19a335a4228a7e932737ec4fcab161b", 5_071_728),
    citation="10x Genomics, 3k PBMCs from a healthy donor (2016).",
    licence="CC BY 4.0 (10x Genomics)",
)
LIVER_HE2020 = Dataset(
    name="liver_he2020",
    title="Liver of one donor, 2,839 cells x 17,640 genes",
    load=MirroredFile(
        "liver_he2020", "a43bcf17bb942fef321bb08d732ec2fb4f8ca3d34a95f90643e3a432a70fd7ac", 8_283_756
    ),
    citation="He et al., Single-cell transcriptome profiling of an adult human cell atlas, "
    "Genome Biol 21:294 (2020).",
    licence="CC BY 4.0 (CELLxGENE)",
)
BREAST_WU2021 = Dataset(
    name="breast_wu2021",
    title="Triple-negative breast tumour of one patient, 1,564 cells x 29,733 genes",
    load=MirroredFile(
        "breast_wu2021", "7c38eebdff45978d2377b360b916fe748ada1d8f9ceca3613dda42b7caf968d9", 2_837_156
    ),
    citation="Wu et al., A single-cell and spatially resolved atlas of human breast cancers, "
    "Nat Genet 53:1334-1347 (2021), GSE176078.",
    licence="As stated at GEO GSE176078",
    label="celltype_major",
)
TCELL_WU2020 = Dataset(
    name="tcell_wu2020",
    title="T cells of tumour, neighbouring tissue and blood, 200 cells of 14 patients x 3,000 genes",
    load=MirroredFile("tcell_wu2020", "4c16dbd120e883777ee309e9b4e3804da2cb4699c7990561daa71217fc8998b8", 271_676),
    citation="Wu et al., Peripheral T cell expansion predicts tumour infiltration, Nature 579:274-278 (2020), "
    "GSE139555.",
    licence="As stated at GEO GSE139555",
    donor="donor_id",
)
KANG_IFNB = Dataset(
    name="kang_ifnb",
    title="Blood with and without interferon beta, 1,975 cells x 6,998 genes",
    load=MirroredFile("kang_ifnb", "2f2003bbc635581d3eb4db73e8f68b572b6f9270149c259aa8b5bcfeb5057d11", 3_204_696),
    citation=_KANG,
    licence="As stated at GEO GSE96583",
)
KANG_CONTROL = Dataset(
    name="kang_control",
    title="Unstimulated blood of 8 donors, 12,261 cells x 1,287 genes; overlaps kang_ifnb",
    load=MirroredFile(
        "kang_control",
        "90dd4ce641f06cd57de029dbd725cbfb92efd927f09aca86f782080eb728685b",
        7_801_864,
        symbols="symbol",
    ),
    citation=_KANG,
    licence="As stated at GEO GSE96583",
    donor="donor_id",
)

#: All of the above, in the order in which they are registered.
BUILT_IN = (
    PBMC68K_REDUCED,
    PBMC_ZHENG_FACS,
    PBMC3K,
    LIVER_HE2020,
    BREAST_WU2021,
    TCELL_WU2020,
    KANG_IFNB,
    KANG_CONTROL,
)


def load_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    label: str | None = None,
    layer: str | None = None,
    symbols: str | None = None,
) -> AnnData:
    """Return the cells of a registered dataset, or of a file.

    Parameters
    ----------
    name_or_path
        Name of a registered dataset (``"pbmc68k_reduced"``), or path of an ``.h5ad`` file or ``.zarr`` folder.
    label
        Column of ``obs`` that must be there.
    layer, symbols
        As for `read_cells`; for a file only.

    Returns
    -------
    AnnData
        ``X`` is log1p of normalised counts, CSR float32.

    Raises
    ------
    DatasetError, RegistryError
        The dataset is not available here, or no dataset has this name.
    InputFileError
        The file cannot be read.
    ObsError
        There is no column `label`.
    """
    path = Path(name_or_path)
    if path.suffix in {".h5ad", ".zarr"} or path.exists() or len(path.parts) > 1:
        adata = read_cells(path, layer=layer, symbols=symbols)
    else:
        from c2s.plugins import default_host

        if layer is not None or symbols is not None:
            raise DatasetError(
                f"layer and symbols are for files; dataset {str(name_or_path)!r} knows its own.",
                fix="leave them out.",
            )
        adata = default_host().datasets.get(str(name_or_path)).load()
    if label is not None and label not in adata.obs:
        raise ObsError(
            f"{name_or_path} has no obs column {label!r}; it has "
            f"{', '.join(map(str, adata.obs.columns)) or 'none'}.",
            fix="name one of them as the label (--label).",
        )
    return adata
