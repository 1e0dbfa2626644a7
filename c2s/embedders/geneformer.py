"""Geneformer (Theodoris et al. 2023) from a checkpoint on this machine: rank-value encoding, then a BERT.

The checkpoint is a folder with ``config.json`` and safetensors. The tables of genes (tokens, medians, and names)
are looked for there, in the folder `tables`, and in an installed package ``geneformer``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from c2s.embedders.matrices import check_cells, linear_expression
from c2s.embedders.tables import find_table, package_folder, read_table
from c2s.errors import ConfigError, GeneError, InputFileError, MatrixError, ModelError
from c2s.tasks import Embedder, Transform

if TYPE_CHECKING:
    from anndata import AnnData

_ENSEMBL = ("ensembl_id", "gene_ids", "ensembl", "feature_id")


@dataclass(frozen=True)
class RankValueEncoder:
    """Geneformer's input: a cell's genes from the highest to the lowest value relative to the gene's median.

    Attributes
    ----------
    tokens
        Token of each Ensembl id, and of ``<pad>``, perhaps of ``<cls>`` and ``<eos>``.
    medians
        Typical non-zero value of each Ensembl id in the corpus that Geneformer was trained on.
    names
        Ensembl id of each symbol; may be empty if the cells have Ensembl ids.
    longest
        Most tokens of a cell.
    """

    tokens: Mapping[str, int]
    medians: Mapping[str, float]
    names: Mapping[str, str]
    longest: int = 2048

    @property
    def special(self) -> bool:
        """Whether cells begin with ``<cls>`` and end with ``<eos>``, as in the second series of models."""
        return "<cls>" in self.tokens and "<eos>" in self.tokens

    @classmethod
    def from_folders(cls, folders: Sequence[Path], longest: int) -> RankValueEncoder:
        """Read the tables.

        Raises
        ------
        ModelError
            A table is not there.
        InputFileError
            A table cannot be read, or the tokens lack ``<pad>``.
        """
        tokens_file = find_table(
            folders, ("*token_dictionary*.json", "*token_dictionary*.pkl"), "token dictionary"
        )
        tokens = read_table(tokens_file)
        medians_file = find_table(folders, ("*gene_median*.json", "*gene_median*.pkl"), "table of gene medians")
        try:
            names = read_table(
                find_table(folders, ("*gene_name_id*.json", "*gene_name_id*.pkl"), "table of gene names")
            )
        except ModelError:
            names = {}
        if "<pad>" not in tokens:
            raise InputFileError(f"{tokens_file} has no token <pad>.", fix="give Geneformer's token dictionary.")
        medians = {gene: float(value) for gene, value in read_table(medians_file).items()}
        return cls({gene: int(token) for gene, token in tokens.items()}, medians, names, longest)

    def ensembl_ids(self, adata: AnnData) -> list[str | None]:
        """Return the Ensembl id of each gene of the cells; None where it is not known.

        Taken from a column of ``var`` (``ensembl_id``, ``gene_ids``, ``ensembl`` or ``feature_id``), else from the
        gene's name: an Ensembl id itself (a version behind a dot is left out), or looked up in the table of names.
        """
        column = next((name for name in _ENSEMBL if name in adata.var), None)
        given = adata.var_names if column is None else adata.var[column]
        ids = []
        for value in given:
            name = str(value)
            bare = name.split(".")[0] if name.startswith("ENS") else name
            known = bare if bare in self.tokens and bare.startswith("ENS") else self.names.get(name)
            ids.append(known)
        return ids

    def encode(self, adata: AnnData) -> list[npt.NDArray[np.int64]]:
        """Return the tokens of each cell.

        Genes without a token or a median are left out; columns of one Ensembl id are added up. Of equal values the
        gene that comes first ranks higher. The total of a cell does not matter, so that normalised values do.

        Raises
        ------
        GeneError
            No gene is known to Geneformer.
        MatrixError
            A cell has no known gene.
        """
        check_cells(adata)
        ids = self.ensembl_ids(adata)
        usable = [i for i, gene in enumerate(ids) if gene in self.tokens and self.medians.get(str(gene), 0) > 0]
        if not usable:
            raise GeneError(
                f"none of the {len(ids)} genes is known to Geneformer.",
                fix="give human genes, with Ensembl ids in var['ensembl_id'] or the table gene_name_id_dict.",
            )
        distinct = pd.Index(dict.fromkeys(ids[i] for i in usable))
        onto = sp.csr_matrix(
            (np.ones(len(usable)), (usable, distinct.get_indexer(pd.Index([ids[i] for i in usable])))),
            shape=(len(ids), len(distinct)),
        )
        values = sp.csr_matrix(linear_expression(adata) @ onto)
        values.sort_indices()
        medians = np.array([self.medians[gene] for gene in distinct])
        tokens = np.array([self.tokens[gene] for gene in distinct], dtype=np.int64)
        longest = self.longest - 2 * self.special
        cells = []
        for row in range(values.shape[0]):
            mine = slice(values.indptr[row], values.indptr[row + 1])
            genes = values.indices[mine]
            if not len(genes):
                raise MatrixError(
                    f"the cell {adata.obs_names[row]!r} has no gene that Geneformer knows.",
                    fix="leave empty cells out.",
                )
            order = np.argsort(-values.data[mine] / medians[genes], kind="stable")[:longest]
            cell = tokens[genes[order]]
            if self.special:
                cell = np.concatenate(([self.tokens["<cls>"]], cell, [self.tokens["<eos>"]]))
            cells.append(cell)
        return cells


def _fit(
    train: AnnData | None = None,
    *,
    seed: int = 0,
    model: str | os.PathLike[str] | None = None,
    tables: str | os.PathLike[str] | None = None,
    layer: int = -1,
    batch_size: int = 8,
    device: str = "auto",
) -> Transform:
    if model is None:
        raise ConfigError(
            "embedder 'geneformer'",
            ["no model"],
            fix="pass model='FOLDER', a checkpoint of ctheodoris/Geneformer.",
        )
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is not a checkpoint of Geneformer: it has no config.json.",
            fix="hf download ctheodoris/Geneformer, and pass the folder of one of its models.",
        )
    network = _load(folder, device)
    folders = [Path(each) for each in (tables, folder, package_folder("geneformer")) if each is not None]
    encoder = RankValueEncoder.from_folders(folders, int(network.config.max_position_embeddings))
    n_layers = int(network.config.num_hidden_layers)
    if not -n_layers <= layer <= 0:
        raise ConfigError(
            "embedder 'geneformer'", [f"layer={layer} of a model of {n_layers}"], fix=f"pass {-n_layers} to 0."
        )

    def transform(adata: AnnData) -> npt.NDArray[np.float32]:
        import torch

        cells = encoder.encode(adata)
        vectors = np.empty((len(cells), network.config.hidden_size), dtype=np.float32)
        # Cells of like length together; padding is masked and not averaged in.
        by_length = sorted(range(len(cells)), key=lambda i: len(cells[i]))
        for start in range(0, len(cells), batch_size):
            rows = by_length[start : start + batch_size]
            width = max(len(cells[i]) for i in rows)
            ids = np.full((len(rows), width), encoder.tokens["<pad>"], dtype=np.int64)
            mask = np.zeros((len(rows), width), dtype=np.int64)
            averaged = np.zeros((len(rows), width), dtype=np.float32)
            for at, i in enumerate(rows):
                n = len(cells[i])
                ids[at, :n], mask[at, :n] = cells[i], 1
                averaged[at, int(encoder.special) : n - int(encoder.special)] = 1
            on = network.device
            with torch.inference_mode():
                hidden = network(
                    input_ids=torch.from_numpy(ids).to(on),
                    attention_mask=torch.from_numpy(mask).to(on),
                    output_hidden_states=True,
                ).hidden_states[n_layers + layer]
            weight = torch.from_numpy(averaged).to(on)[..., None]
            mean = (hidden.float() * weight).sum(1) / weight.sum(1)
            vectors[rows] = mean.cpu().numpy()
        return vectors

    return transform


def _load(folder: Path, device: str) -> Any:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise ModelError("the package transformers is not installed.", fix="pip install 'c2s[models]'") from error
    from c2s.models.loading import find_device, quiet_transformers

    try:
        with quiet_transformers():
            network: Any = AutoModel.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, use_safetensors=True
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise ModelError(
            f"{folder} cannot be read as a model of Geneformer: {reason}.",
            fix="give a folder with config.json and model.safetensors.",
        ) from error
    return network.to(find_device(device)).eval()


GENEFORMER = Embedder(
    "geneformer",
    _fit,
    summary="mean over a cell's genes in the second to last layer of Geneformer",
    options=("model", "tables", "layer", "batch_size", "device"),
    requires=("transformers",),
    citation="Theodoris et al., Nature 618, 616 (2023)",
)
