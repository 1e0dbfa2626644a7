"""Write a simulated atlas of any size to a file, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from c2s.data.simulate.atlas_cells import AtlasPlan
from c2s.data.simulate.count_model import CountModel, shipped_counts
from c2s.data.simulate.options import AtlasOptions
from c2s.data.simulate.truth import TRUTH
from c2s.errors import ConfigError
from c2s.files import atomic_output, check_target
from c2s.progress import progress
from c2s.sentences.jit import in_threads, n_threads

if TYPE_CHECKING:
    import h5py
    import pandas as pd
    import scipy.sparse as sp

_STORED = 1 << 18  # values per HDF5 chunk: 1 MiB


def write_atlas(
    path: str | os.PathLike[str],
    n_cells: int,
    *,
    chunk: int = 4096,
    options: AtlasOptions | Mapping[str, Any] | None = None,
    model: CountModel | None = None,
    seed: int = 0,
    compression: Literal["lzf", "gzip"] | None = "lzf",
    overwrite: bool = False,
    show_progress: bool = False,
) -> Path:
    """Write the atlas that ``atlas(n_cells=..., ...)`` returns to an ``.h5ad`` file, chunk by chunk.

    Parameters
    ----------
    path
        The file; it appears when it is complete.
    n_cells
        Number of cells; overrides that of `options`.
    chunk
        Cells held in memory at once. It changes speed and memory, and no value.
    options
        Options of `AtlasOptions`.
    model
        Counts to imitate; default `shipped_counts`.
    seed
        Of everything.
    compression
        Filter of the matrix: ``"lzf"`` is fast, ``"gzip"`` is read by every HDF5 library.
    overwrite
        Replace an existing file.
    show_progress
        Report progress on standard error.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError
        An option is unknown or has a bad value.
    OutputError
        The file exists, the disk is full, or the folder cannot be written.
    """
    chosen = AtlasOptions.of(options, n_cells=n_cells)
    if chunk < 1:
        raise ConfigError("write_atlas", [f"chunk must be 1 or more, got {chunk}"], fix="pass chunk=4096, say.")
    path = Path(path)
    check_target(path, overwrite=overwrite)
    plan = AtlasPlan(chosen, model or shipped_counts(), seed)
    starts = range(0, n_cells, chunk)

    def draw(first: int) -> tuple[sp.csr_matrix, pd.DataFrame]:
        return plan.cells(first, min(chunk, n_cells - first))

    with atomic_output(path, overwrite=overwrite) as temporary:
        import h5py

        # Threads draw ahead of the one that writes.
        with (
            h5py.File(temporary, "w", libver="latest") as file,
            progress("cells", n_cells, enabled=show_progress) as advance,
        ):
            writer = _Writer(file, plan, n_cells, compression)
            for counts, obs in in_threads(draw, starts, threads=min(n_threads(), len(starts))):
                writer.add(counts, obs)
                advance(len(obs))
            writer.finish()
    return path


class _Writer:
    """Fills an ``.h5ad`` file from the front, in the layout that anndata states for its files."""

    def __init__(self, file: h5py.File, plan: AtlasPlan, n_cells: int, compression: str | None) -> None:
        import pandas as pd
        from anndata.io import write_elem

        self.n_cells, self.n_genes = n_cells, len(plan.profiles.genes)
        self.file, self.done = file, 0
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        write_elem(file, "var", pd.DataFrame(index=pd.Index(plan.profiles.genes, name=None, dtype=object)))
        uns = {
            "c2s": {"simulated": True, "source": f"c2s.data.simulate.write_atlas, seed {plan.seed}"},
            TRUTH: plan.truth().to_json(),
        }
        write_elem(file, "uns", uns)
        for name in ("layers", "obsm", "obsp", "varm", "varp"):
            write_elem(file, name, {})
        matrix = file.create_group("X")
        matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = "csr_matrix", "0.1.0"
        matrix.attrs["shape"] = np.array([n_cells, self.n_genes])
        stored = {
            "maxshape": (None,),
            "chunks": (_STORED,),
            "compression": compression,
            "shuffle": bool(compression),
        }
        self.data = matrix.create_dataset("data", (0,), dtype=np.float32, **stored)
        self.indices = matrix.create_dataset("indices", (0,), dtype=np.int32, **stored)
        self.indptr = matrix.create_dataset("indptr", (n_cells + 1,), dtype=np.int64)
        self.codes: dict[str, h5py.Dataset] = {}

    def add(self, counts: sp.csr_matrix, obs: pd.DataFrame) -> None:
        """Append the next cells."""
        if not self.codes:
            self._make_obs(obs)
        begin, filled = self.done, len(self.data)
        self.done += len(obs)
        for dataset, values in ((self.data, counts.data), (self.indices, counts.indices)):
            dataset.resize((filled + len(values),))
            dataset[filled:] = values
        self.indptr[begin + 1 : self.done + 1] = filled + counts.indptr[1:].astype(np.int64)
        for name, dataset in self.codes.items():
            dataset[begin : self.done] = obs[name].cat.codes.to_numpy()
        self.index[begin : self.done] = obs.index.to_numpy(dtype=object)

    def _make_obs(self, obs: pd.DataFrame) -> None:
        """Make the columns, whose categories are the same for all cells."""
        import h5py
        from anndata.io import write_elem

        group = self.file.create_group("obs")
        group.attrs["encoding-type"], group.attrs["encoding-version"] = "dataframe", "0.2.0"
        group.attrs["_index"], group.attrs["column-order"] = "_index", np.array(list(obs), dtype=object)
        self.index = group.create_dataset("_index", (self.n_cells,), dtype=h5py.string_dtype())
        self.index.attrs["encoding-type"], self.index.attrs["encoding-version"] = "string-array", "0.2.0"
        for name in obs:
            column = group.create_group(str(name))
            column.attrs["encoding-type"], column.attrs["encoding-version"] = "categorical", "0.2.0"
            column.attrs["ordered"] = False
            write_elem(column, "categories", obs[name].cat.categories.to_numpy(dtype=object))
            codes = obs[name].cat.codes.to_numpy()
            self.codes[str(name)] = column.create_dataset("codes", (self.n_cells,), dtype=codes.dtype)
            self.codes[str(name)].attrs["encoding-type"] = "array"
            self.codes[str(name)].attrs["encoding-version"] = "0.2.0"

    def finish(self) -> None:
        """Check that every cell was written."""
        assert self.done == self.n_cells
