"""scGPT (Cui et al. 2024), the paper's embedder of section 4.7, from the package and a checkpoint on this machine.

The checkpoint is a folder with ``vocab.json``, ``args.json`` and ``best_model.pt``. The network is that of the
installed package ``scgpt``; its input is made here, so that a cell's vector depends on that cell and the seed
alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from c2s.embedders.matrices import check_cells
from c2s.embedders.tables import read_table
from c2s.errors import ConfigError, GeneError, InputFileError, MatrixError, ModelError
from c2s.prompts import stable_hash
from c2s.tasks import Embedder, Transform

if TYPE_CHECKING:
    from anndata import AnnData

_SPECIAL = ("<pad>", "<cls>", "<eoc>")
_FILES = ("vocab.json", "args.json", "best_model.pt")


def expression_bins(
    values: npt.NDArray[np.float64], n_bins: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return scGPT's bin of each value of one cell: quantiles of the cell's own non-zero values.

    A value that several quantiles share gets one of their bins at random, as in scGPT.

    Parameters
    ----------
    values
        Values above 0, one or more.
    n_bins
        Bins, that of zeros included; bins of values above 0 are 1 to ``n_bins - 1``.
    rng
        For shared quantiles.
    """
    edges = np.quantile(values, np.linspace(0, 1, n_bins - 1))
    high, low = np.digitize(values, edges), np.digitize(values, edges, right=True)
    return np.ceil(rng.random(len(values)) * (low - high) + high).astype(np.int64)


@dataclass(frozen=True)
class BinnedEncoder:
    """scGPT's input: ids of the genes of a cell and the bins of their values, with ``<cls>`` first.

    Attributes
    ----------
    vocabulary
        Id of each gene symbol and of ``<pad>``, ``<cls>``, ``<eoc>``.
    pad_value
        What stands for the value of ``<cls>`` and of padding.
    n_bins
        As `expression_bins`.
    longest
        Most tokens of a cell; of more genes, that many are drawn at random, as in scGPT.
    seed
        Of bins and draws; each cell has its own, by its id.
    """

    vocabulary: Mapping[str, int]
    pad_value: float = -2.0
    n_bins: int = 51
    longest: int = 1200
    seed: int = 0

    def encode(self, adata: AnnData) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Return ids and values of each cell.

        Counts and log1p values give the same: bins look at the order of values only.

        Raises
        ------
        GeneError
            No gene is in the vocabulary.
        MatrixError
            A cell has no gene of the vocabulary.
        """
        check_cells(adata)
        ids = np.array([self.vocabulary.get(str(gene), -1) for gene in adata.var_names], dtype=np.int64)
        known = np.flatnonzero(ids >= 0)
        if not len(known):
            raise GeneError(
                f"none of the {len(ids)} genes is in the vocabulary of scGPT.", fix="give human gene symbols."
            )
        matrix = sp.csr_matrix(sp.csc_matrix(adata.X)[:, known], dtype=np.float64)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        ids = ids[known]
        cells = []
        for row, cell_id in enumerate(adata.obs_names):
            mine = slice(matrix.indptr[row], matrix.indptr[row + 1])
            genes, values = ids[matrix.indices[mine]], matrix.data[mine]
            if not len(genes):
                raise MatrixError(
                    f"the cell {cell_id!r} has no gene that scGPT knows.", fix="leave empty cells out."
                )
            rng = np.random.default_rng(stable_hash(self.seed, str(cell_id)))
            bins = expression_bins(values, self.n_bins, rng)
            if len(genes) > self.longest - 1:
                kept = np.sort(rng.choice(len(genes), self.longest - 1, replace=False))
                genes, bins = genes[kept], bins[kept]
            tokens = np.concatenate(([self.vocabulary["<cls>"]], genes))
            cells.append((tokens, np.concatenate(([self.pad_value], bins)).astype(np.float32)))
        return cells


def _fit(
    train: AnnData | None = None,
    *,
    seed: int = 0,
    model: str | os.PathLike[str] | None = None,
    longest: int = 1200,
    batch_size: int = 32,
    device: str = "auto",
    flash: bool = False,
) -> Transform:
    if model is None:
        raise ConfigError(
            "embedder 'scgpt'", ["no model"], fix="pass model='FOLDER', e.g. the whole-human checkpoint of scGPT."
        )
    folder = Path(model)
    if absent := [name for name in _FILES if not (folder / name).is_file()]:
        raise ModelError(
            f"{folder} is not a checkpoint of scGPT: it has no {', '.join(absent)}.",
            fix="download one from the table in github.com/bowang-lab/scGPT.",
        )
    vocabulary = {gene: int(token) for gene, token in read_table(folder / "vocab.json").items()}
    for special in _SPECIAL:
        vocabulary.setdefault(special, len(vocabulary))
    settings = read_table(folder / "args.json")
    network = _load(folder, settings, vocabulary, device, flash)
    encoder = BinnedEncoder(
        vocabulary, float(settings["pad_value"]), int(settings.get("n_bins") or 51), longest, seed
    )

    def transform(adata: AnnData) -> npt.NDArray[np.float32]:
        import torch

        cells = encoder.encode(adata)
        vectors = []
        on = next(network.parameters()).device
        for start in range(0, len(cells), batch_size):
            batch = cells[start : start + batch_size]
            width = max(len(tokens) for tokens, _ in batch)
            ids = np.full((len(batch), width), vocabulary[str(settings["pad_token"])], dtype=np.int64)
            values = np.full((len(batch), width), encoder.pad_value, dtype=np.float32)
            for at, (tokens, bins) in enumerate(batch):
                ids[at, : len(tokens)], values[at, : len(tokens)] = tokens, bins
            genes = torch.from_numpy(ids).to(on)
            padding = genes.eq(vocabulary[str(settings["pad_token"])])
            with torch.inference_mode():
                hidden = network._encode(genes, torch.from_numpy(values).to(on), src_key_padding_mask=padding)
            vectors.append(hidden[:, 0, :].float().cpu().numpy())
        found = np.concatenate(vectors)
        result: npt.NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return result

    return transform


def _load(
    folder: Path, settings: Mapping[str, Any], vocabulary: Mapping[str, int], device: str, flash: bool
) -> Any:
    """Build the network of the installed package and fill it with the checkpoint's weights."""
    try:
        from scgpt.model import TransformerModel
        from scgpt.utils import load_pretrained
    except ImportError as error:
        raise ModelError(
            f"the package scgpt cannot be imported ({error}).",
            fix="pip install scgpt",
        ) from error
    import torch

    from c2s.models.loading import find_device

    needed = ("embsize", "nheads", "d_hid", "nlayers", "n_layers_cls", "dropout", "pad_token", "pad_value")
    if absent := [key for key in needed if key not in settings]:
        raise InputFileError(
            f"{folder / 'args.json'} lacks {', '.join(absent)}.", fix="give the file as its authors publish it."
        )
    network: Any = TransformerModel(
        ntoken=len(vocabulary),
        d_model=settings["embsize"],
        nhead=settings["nheads"],
        d_hid=settings["d_hid"],
        nlayers=settings["nlayers"],
        nlayers_cls=settings["n_layers_cls"],
        n_cls=1,
        vocab=vocabulary,
        dropout=settings["dropout"],
        pad_token=settings["pad_token"],
        pad_value=settings["pad_value"],
        do_mvc=True,
        do_dab=False,
        use_batch_labels=False,
        domain_spec_batchnorm=False,
        explicit_zero_prob=False,
        use_fast_transformer=flash,
        fast_transformer_backend="flash",
        pre_norm=False,
    )
    try:
        # Tensors only: a pickle that holds anything else is refused.
        weights = torch.load(folder / "best_model.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise what they like on a file that is none
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise ModelError(
            f"{folder / 'best_model.pt'} cannot be read as tensors: {reason}.",
            fix="download the checkpoint again.",
        ) from error
    load_pretrained(network, weights, verbose=False)
    return network.to(find_device(device)).eval()


SCGPT = Embedder(
    "scgpt",
    _fit,
    summary="scGPT's <cls> vector of length 1, on the cell's genes and binned values",
    options=("model", "longest", "batch_size", "device", "flash"),
    requires=("scgpt",),
    citation="Cui et al., Nature Methods 21, 1470 (2024)",
)
