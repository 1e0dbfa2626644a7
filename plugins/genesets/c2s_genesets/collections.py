"""Collections of gene sets by name: one that comes with this plugin, the others found by their manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from c2s import Dataset
from c2s.data import load_manifest, read_gmt

if TYPE_CHECKING:
    from anndata import AnnData

TEXTBOOK_FILE = Path(__file__).parent / "data" / "textbook_gene_sets.gmt"


@dataclass(frozen=True)
class LoadCollection:
    """Loads a collection whose GMT file a manifest describes, as a table of sets x genes.

    Attributes
    ----------
    manifest
        Name of the manifest; `c2s.data.store` finds its file.
    """

    manifest: str

    def __call__(self) -> AnnData:
        """Return the sets in the place of cells; raise `DatasetError` where they are not to be had."""
        return load_manifest(self.manifest).to_anndata()


def _textbook() -> AnnData:
    return read_gmt(TEXTBOOK_FILE).to_anndata()


TEXTBOOK = Dataset(
    name="textbook_gene_sets",
    title="168 gene families, complexes, pathways and cell type markers, written down from common facts",
    load=_textbook,
    citation="The c2s developers, from facts that any textbook has.",
    licence="CC0 1.0",
    label="gene_set_name",
)
_MSIGDB = (
    "Subramanian et al., Gene set enrichment analysis, PNAS 102:15545-15550 (2005); "
    "Liberzon et al., The Molecular Signatures Database hallmark gene set collection, Cell Syst 1:417-425 (2015)."
)
HALLMARK = Dataset(
    name="hallmark",
    title="MSigDB Hallmark 7.5.1, 50 gene sets",
    load=LoadCollection("msigdb_hallmark"),
    citation=_MSIGDB,
    licence="CC BY 4.0",
    label="gene_set_name",
)
C2_CP = Dataset(
    name="c2_cp",
    title="MSigDB canonical pathways (C2:CP) 7.5.1, 2,982 gene sets",
    load=LoadCollection("msigdb_c2_cp"),
    citation=_MSIGDB,
    licence="CC BY 4.0; KEGG sets under KEGG's terms",
    label="gene_set_name",
)
GO_BP = Dataset(
    name="go_bp",
    title="Gene Ontology biological processes of 2021 as Enrichr gives them, 6,036 gene sets",
    load=LoadCollection("go_biological_process"),
    citation="The Gene Ontology Consortium, The Gene Ontology resource, Nucleic Acids Res 49:D325-D334 (2021).",
    licence="CC BY 4.0",
    label="gene_set_name",
)
