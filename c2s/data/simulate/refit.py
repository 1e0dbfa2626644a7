"""Make the count model that comes with the package again: ``python -m c2s.data.simulate.refit``."""

from __future__ import annotations

import sys
from pathlib import Path

from c2s.data.simulate.count_model import SHIPPED, CountModel
from c2s.data.simulate.fit import fit_counts
from c2s.data.simulate.programs import switched_genes

#: What the shipped model is fitted to, and what its file states.
SOURCE = {
    "name": "pbmc_zheng_facs",
    "title": "Peripheral blood sorted by FACS: parameters fitted within its 10 populations, and no cell",
    "citation": "Zheng et al., Nat Commun 8:14049 (2017), doi 10.1038/ncomms14049",
    "licence": "CC BY 4.0 (10x Genomics)",
    "made_by": "python -m c2s.data.simulate.refit",
}


def refit() -> CountModel:
    """Fit the model that is shipped: 2,000 genes with the highest means, and every gene that can be switched.

    Raises
    ------
    DatasetError
        The dataset is not here.
    """
    from c2s.data.read import read_cells
    from c2s.data.store import store

    adata = read_cells(store().path(str(SOURCE["name"])), normalise="never")
    return fit_counts(adata, group="cell_type", top_genes=2000, also=switched_genes(), source=SOURCE)


def main() -> None:
    """Write the model to the place it is shipped from, or to the path given."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    model = refit()
    model.save(path, overwrite=True)
    print(f"{path}: {len(model.genes)} genes, trend {model.trend}, mean library {model.mean_library:.0f}")


if __name__ == "__main__":
    main()
