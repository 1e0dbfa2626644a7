"""Write cells so that whatever could be read can be written; what cannot is said before any model runs."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.data.gene_sets import is_gmt
from c2s.data.read import read_cells, read_whole
from c2s.errors import C2SWarning, OutputError
from c2s.files import atomic_output
from c2s.sentences.table import storable

if TYPE_CHECKING:
    from anndata import AnnData


def read_with_original(path: str | os.PathLike[str], **how: Any) -> tuple[AnnData, AnnData]:
    """Read cells twice: as they are in the file, to write results into, and as `c2s.read_cells` reads them.

    Parameters
    ----------
    path, **how
        As for `c2s.read_cells`.

    Returns
    -------
    original, cells
        The original can be written: names and types that AnnData does not store were changed, with a warning.

    Raises
    ------
    OutputError
        Something in the file cannot be written again; it is named.
    C2SError
        As `c2s.read_cells`.
    """
    cells = read_cells(path, **how)
    if is_gmt(Path(path)):  # gene sets have no file of cells, and come back as the table they were read into
        return cells, cells
    original = read_whole(path)
    original.obs_names = original.obs_names.astype(str)
    make_storable(original, where=str(path))
    return original, cells


def make_storable(adata: AnnData, *, where: str) -> None:
    """Change what AnnData does not store, in place, and try to write all but the matrices.

    Raises
    ------
    OutputError
        Something cannot be written.
    """
    import anndata

    adata.obs, adata.var = storable(adata.obs, f"obs of {where}"), storable(adata.var, f"var of {where}")
    if adata.raw is not None:
        raw = anndata.AnnData(adata.raw.X, var=storable(adata.raw.var, f"raw.var of {where}"), obs=adata.obs[[]])
        raw.varm.update(adata.raw.varm)
        adata.raw = raw
    tables = anndata.AnnData(obs=adata.obs, var=adata.var)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scratch = Path(folder) / "tables.h5ad"
        for name in ["", *adata.uns]:
            tables.uns = {name: adata.uns[name]} if name else {}
            try:
                tables.write_h5ad(scratch)
            except OSError:  # no room for a trial: the output says so itself
                return
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                if not name:
                    raise OutputError(
                        f"the tables of {where} cannot be written again ({reason}).",
                        fix="leave out or convert the column that it names.",
                    ) from error
                warnings.simplefilter("always")
                warnings.warn(
                    f"uns[{name!r}] of {where} cannot be written again, and is left out ({reason}).",
                    C2SWarning,
                    stacklevel=4,
                )
                warnings.simplefilter("ignore")
                del adata.uns[name]


def write_cells(adata: AnnData, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write cells as ``.h5ad``, or as ``.zarr`` where the path ends so, whole or not at all.

    Raises
    ------
    OutputError
        The path exists, or cannot be written.
    """
    with atomic_output(path, overwrite=overwrite) as temporary:
        if temporary.suffix == ".zarr":
            adata.write_zarr(temporary)
        else:
            adata.write_h5ad(temporary)
    return Path(path)
