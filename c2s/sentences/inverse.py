"""From ranks back to expression: a linear model of expression on log10 rank (section 4.2, figure 10)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from c2s.errors import ConfigError, InputFileError, MatrixError, SentenceError
from c2s.files import atomic_output
from c2s.prompts import stable_hash
from c2s.sentences.matrix import reading_notes
from c2s.sentences.matrix_kind import matrix_kind, refuse_mixed
from c2s.sentences.parse import parse_sentences
from c2s.sentences.ranks import Moments, ranked_values
from c2s.sentences.table import CellSentences

if TYPE_CHECKING:
    from anndata import AnnData

_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RankExpressionModel:
    """``expression = intercept + slope * log10(rank)``, where the highest gene of a cell has rank 1.

    The unit is that of the matrix it was fitted on (log1p of normalised counts, when read by `c2s.read_cells`).

    Attributes
    ----------
    slope, intercept
        Least squares over all (gene, cell) pairs of the training cells with a rank of at most `top_k`.
    r2_fit, r2_test
        R² on the training cells, and on cells that took no part in the fit.
    n_cells_fit, n_cells_test, n_pairs_fit, n_pairs_test
        What these were computed from.
    top_k
        Deepest rank used; None is all.
    test_fraction, seed
        Which cells were held out: the fraction of them whose ids, hashed with the seed, come first.
    expression
        What the expression is: ``"log1p"``, or another kind of `c2s.data.matrix_kind`.
    scale
        The same in words, with how it came about where `c2s.read_cells` did it ("log1p of counts scaled to 10000 a
        cell").
    """

    slope: float
    intercept: float
    r2_fit: float
    r2_test: float
    n_cells_fit: int
    n_cells_test: int
    n_pairs_fit: int
    n_pairs_test: int
    top_k: int | None = None
    test_fraction: float = 0.2
    seed: int = 0
    expression: str = "log1p"
    scale: str = ""

    def __repr__(self) -> str:
        depth = "" if self.top_k is None else f", ranks 1 to {self.top_k}"
        return (
            f"RankExpressionModel({self.expression} = {self.intercept:.4f} {self.slope:+.4f} * log10(rank)"
            f"{depth}; "
            f"R2 {self.r2_fit:.4f} on the {self.n_cells_fit} cells of the fit, "
            f"{self.r2_test:.4f} on {self.n_cells_test} held-out cells)"
        )

    @classmethod
    def fit(
        cls,
        adata: AnnData,
        *,
        top_k: int | None = None,
        layer: str | None = None,
        test_fraction: float = 0.2,
        seed: int = 0,
        expects: Literal["normalised", "any"] = "normalised",
        chunk_size: int | None = None,
    ) -> RankExpressionModel:
        """Fit the model on some cells and score it on the others.

        Parameters
        ----------
        adata
            Normalised, logarithmic expression; in memory or backed, read once, chunk by chunk.
        top_k
            Deepest rank to use; pass the K of the sentences.
        layer
            Layer to read instead of ``X``.
        test_fraction
            Share of cells held out, in (0, 1). Which they are depends on their ids and `seed`, not their order.
        seed
            Changes which cells are held out.
        expects
            ``"normalised"`` refuses raw counts, whose level differs between cells; ``"any"`` takes them.
        chunk_size
            Cells per chunk; changes the result by rounding at most.

        Raises
        ------
        MatrixError
            NaN or negative values, raw counts, or too few cells, genes or ranks to fit a line or to score it.
        ConfigError
            `test_fraction` is not in (0, 1), or `top_k` below 1.
        """
        if not 0 < test_fraction < 1:
            problem = f"test_fraction={test_fraction} is not in (0, 1)"
            raise ConfigError("RankExpressionModel.fit", [problem], fix="hold out a share, e.g. 0.2.")
        if top_k is not None and top_k < 1:
            raise ConfigError("RankExpressionModel.fit", [f"top_k={top_k} is below 1"], fix="pass None or more.")
        kind = matrix_kind(adata, layer)
        if expects == "normalised":
            refuse_mixed(kind, "the matrix")
        if kind.name == "counts" and expects == "normalised":
            raise MatrixError(
                "the model maps ranks to normalised expression, and these are raw counts.",
                fix="read the file with c2s.read_cells, or use sc.pp.normalize_total and sc.pp.log1p.",
            )
        held_out = _held_out(adata, test_fraction, seed)
        fit, test = Moments(), Moments()
        checked = kind.name if expects == "normalised" else None
        for pairs in ranked_values(adata, layer=layer, top_k=top_k, chunk_size=chunk_size, kind=checked):
            in_test = held_out[pairs.cells]
            fit.add(pairs.ranks[~in_test], pairs.values[~in_test])
            test.add(pairs.ranks[in_test], pairs.values[in_test])
        slope, intercept = fit.line()
        if test.n < 2:
            raise MatrixError(
                f"only {int(held_out.sum())} of {len(held_out)} cells are held out, too few to score the model.",
                fix="give more cells, or a larger test_fraction; `c2s transform --no-model` goes without a model.",
            )
        return cls(
            slope=slope,
            intercept=intercept,
            r2_fit=fit.r2(slope, intercept),
            r2_test=test.r2(slope, intercept),
            n_cells_fit=int((~held_out).sum()),
            n_cells_test=int(held_out.sum()),
            n_pairs_fit=fit.n,
            n_pairs_test=test.n,
            top_k=top_k,
            test_fraction=test_fraction,
            seed=seed,
            expression=kind.name,
            scale=str(reading_notes(adata).get("scale") or f"{kind.words}, as it was given"),
        )

    def predict(self, ranks: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the expression of each rank (1 is the highest), clipped at 0, float32."""
        x = np.log10(np.maximum(np.asarray(ranks, np.float64), 1))
        return np.maximum(self.intercept + self.slope * x, 0).astype(np.float32)

    def invert(
        self,
        sentences: CellSentences | Sequence[str | None] | pa.Array | pa.ChunkedArray,
        genes: Sequence[str] | None = None,
    ) -> AnnData:
        """Return the expression that the sentences stand for.

        Parameters
        ----------
        sentences
            `CellSentences`, whose cell ids and ``obs`` are kept, or texts (generated ones, say).
        genes
            The vocabulary, which becomes ``var_names``; default that of the `CellSentences`.

        Returns
        -------
        AnnData
            CSR float32 ``[sentences, genes]``; values below 0 are 0, and zeros are not stored. Words that are not
            in the vocabulary, or repeated, are left out and take no rank; ``uns["c2s"]["inverse"]`` counts them.
        """
        from anndata import AnnData

        if isinstance(sentences, CellSentences):
            genes = sentences.genes if genes is None else genes
            texts: Any = sentences.table["cell_sentence"]
            obs = sentences.obs
        else:
            if genes is None:
                raise SentenceError("texts do not say which genes there are.", fix="pass genes=, the vocabulary.")
            texts, obs = sentences, pd.DataFrame(index=pd.RangeIndex(len(sentences)).astype(str))
        parsed = parse_sentences(texts, genes)
        deepest = int(np.diff(parsed.indptr).max(initial=0))
        by_rank = self.predict(np.arange(1, deepest + 1))
        matrix = sp.csr_matrix(
            (by_rank[parsed.ranks - 1], parsed.indices, parsed.indptr), shape=(len(parsed), len(genes))
        )
        if deepest and by_rank[-1] == 0:
            matrix.eliminate_zeros()
        matrix.sort_indices()
        result = AnnData(matrix, obs=obs, var=pd.DataFrame(index=pd.Index(list(genes), dtype=object)))
        result.uns["c2s"] = {"inverse": {**parsed.report(), "model": self.to_json()}, "scale": self.scale}
        return result

    def score(self, adata: AnnData, *, layer: str | None = None, top_k: int | None = None) -> dict[str, float]:
        """Compare predicted with actual expression over all pairs of a cell and a gene it expresses.

        Parameters
        ----------
        adata
            Cells to score on; use cells that the model was not fitted on.
        layer
            Layer to read instead of ``X``.
        top_k
            Deepest rank to use; default that of the fit.

        Returns
        -------
        dict
            ``r2``, ``pearson``, ``spearman`` (NaN where the values or the predictions are constant), ``n_pairs``.
        """
        from scipy.stats import pearsonr, spearmanr

        parts = list(ranked_values(adata, layer=layer, top_k=top_k or self.top_k))
        values = np.concatenate([p.values for p in parts])
        predicted = self.predict(np.concatenate([p.ranks for p in parts]))
        if len(values) < 2:
            raise MatrixError("there are fewer than two expressed genes to score on.", fix="give more cells.")
        spread = float(((values - values.mean()) ** 2).sum())
        constant = spread == 0 or float(np.ptp(predicted)) == 0
        return {
            "r2": 1 - float(((values - predicted) ** 2).sum()) / spread if spread else math.nan,
            "pearson": math.nan if constant else float(pearsonr(values, predicted)[0]),
            "spearman": math.nan if constant else float(spearmanr(values, predicted)[0]),
            "n_pairs": float(len(values)),
        }

    def to_json(self) -> str:
        """Return the model as JSON text."""
        return json.dumps(
            {"schema_version": _SCHEMA_VERSION, "kind": "rank_expression_model", **asdict(self)}, indent=2
        )

    @classmethod
    def from_json(cls, text: str, *, where: str = "the text") -> RankExpressionModel:
        """Read what `to_json` wrote.

        Raises
        ------
        SentenceError
            It is not such a model, or of a newer schema; all problems are named.
        """
        try:
            stored = json.loads(text)
            problems = _problems(stored)
        except json.JSONDecodeError as error:
            problems = [f"it is not JSON ({error.msg})"]
        if problems:
            raise SentenceError(
                f"{where} is not a rank-expression model: {'; '.join(problems)}.",
                fix="fit it again with RankExpressionModel.fit, or `c2s transform`.",
            )
        return cls(**{key: stored[key] for key in _FIELDS}, scale=str(stored.get("scale", "")))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the model as JSON.

        Raises
        ------
        OutputError
            The file exists, or cannot be written.
        """
        with atomic_output(path, overwrite=overwrite) as temporary:
            temporary.write_text(self.to_json() + "\n")
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RankExpressionModel:
        """Read a model that `save` wrote.

        Raises
        ------
        InputFileError
            The file is missing or cannot be read.
        SentenceError
            It is not such a model.
        """
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise InputFileError(
                f"cannot read {path}: {reason}.", fix="name the JSON file saved beside the data."
            ) from error
        return cls.from_json(text, where=str(path))


_FIELDS: dict[str, tuple[type, ...]] = {
    "slope": (float, int),
    "intercept": (float, int),
    "r2_fit": (float, int),
    "r2_test": (float, int),
    "n_cells_fit": (int,),
    "n_cells_test": (int,),
    "n_pairs_fit": (int,),
    "n_pairs_test": (int,),
    "top_k": (int, type(None)),
    "test_fraction": (float, int),
    "seed": (int,),
    "expression": (str,),
}


def _problems(stored: Any) -> list[str]:
    if not isinstance(stored, dict) or stored.get("kind") != "rank_expression_model":
        return ["it does not say kind: rank_expression_model"]
    if stored.get("schema_version") != _SCHEMA_VERSION:
        return [f"its schema_version is {stored.get('schema_version')!r}, this version reads {_SCHEMA_VERSION}"]
    problems = [f"{key} is missing" for key in _FIELDS if key not in stored]
    for key, types in _FIELDS.items():
        value = stored.get(key)
        if key in stored and (not isinstance(value, types) or isinstance(value, bool)):
            problems.append(f"{key} is {value!r}")
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(f"{key} is not finite")
    return problems


def _held_out(adata: AnnData, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Choose the held-out cells, ``[cells]``: those whose ids have the lowest hashes, one at least."""
    hashes = np.array([stable_hash("rank-expression", cell, seed) for cell in adata.obs_names], np.uint64)
    held_out = np.zeros(len(hashes), np.bool_)
    held_out[np.argsort(hashes, kind="stable")[: max(1, round(fraction * len(hashes)))]] = True
    return held_out
