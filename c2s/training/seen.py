"""Which cells a model was trained on: known by the genes they show, since ids recur and can be changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from c2s.errors import ConfigError, ObsError

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.sentences import CellSentences
    from c2s.splits import Split

#: Of a part of the split, so many cells must be in the data with the genes they had; a tie may fall differently.
_SAME = 0.9
#: Above this share of cells that were trained on, data are those of the training.
_MOSTLY_SEEN = 0.5

Fingerprints = npt.NDArray[np.uint64]


def cell_fingerprints(cells: AnnData | CellSentences) -> Fingerprints:
    """Return a checksum of each cell, uint64 ``[cells]``: of all its genes in their order, and nothing else.

    Ids and obs play no part in it, nor does the scale of the values. Of sentences, it is of the genes that they
    show; 0 stands for a cell that shows none.
    """
    from c2s.sentences import CellSentences, SentenceStream

    if isinstance(cells, CellSentences):
        batches: Iterable[pa.Array] = cells.table["cell_sentence"].chunks
    else:
        stream = SentenceStream(cells, expects="any")
        batches = (batch.column("cell_sentence") for batch in stream.batches())
    return np.array([_checksum(text) for batch in batches for text in batch.to_pylist()], np.uint64)


def _checksum(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) if text else 0


def _ids(cells: AnnData | CellSentences) -> list[str]:
    from c2s.sentences import CellSentences

    if isinstance(cells, CellSentences):
        ids: list[str] = cells.table["cell_id"].to_pylist()
        return ids
    return list(map(str, cells.obs_names))


@dataclass(frozen=True)
class SeenCells:
    """The cells of a model's split, each with checksums of its genes.

    Attributes
    ----------
    split
        Which cell is in which part.
    whole, shown
        From `cell_fingerprints`, uint64 ``[cells]``, in the order of the split: of all genes of each cell, and of
        those in the sentences that the model was trained on.
    """

    split: Split
    whole: Fingerprints
    shown: Fingerprints

    @classmethod
    def of(cls, split: Split, data: AnnData | CellSentences, sentences: CellSentences) -> SeenCells:
        """Note the cells of a split.

        Parameters
        ----------
        split
            The split.
        data
            What the sentences were made of, or the sentences.
        sentences
            Those the model is trained on.
        """

        def in_order(cells: AnnData | CellSentences) -> Fingerprints:
            place = {cell: i for i, cell in enumerate(_ids(cells))}
            return cell_fingerprints(cells)[[place[cell] for cell in split.assignment.index]]

        shown = in_order(sentences)
        return cls(split, shown if data is sentences else in_order(data), shown)

    def _stored(self, cells: AnnData | CellSentences) -> Fingerprints:
        from c2s.sentences import CellSentences

        return self.shown if isinstance(cells, CellSentences) else self.whole

    def cells_of(self, cells: AnnData | CellSentences, part: str, *, name: str = "the data") -> list[str]:
        """Return the ids that the cells of a part have in `cells`.

        Parameters
        ----------
        cells
            The training data, or sentences of them that are as long as the model's.
        part
            ``"train"``, ``"validation"`` or ``"test"``.
        name
            What to call the data in errors.

        Raises
        ------
        ConfigError
            There is no such part.
        ObsError
            These are other data: the cells are not there, or have other genes, whatever their ids.
        """
        wanted = self.split.ids(part)
        if not wanted:
            parts = ", ".join(p for p, n in self.split.sizes.items() if n)
            raise ConfigError(
                "the model's split",
                [f"it has no cell in part {part!r}; there are {parts}"],
                fix='pass part="all" for other data (--part all).',
            )
        here = dict(zip(_ids(cells), cell_fingerprints(cells).tolist(), strict=True))
        stored = dict(zip(self.split.assignment.index, self._stored(cells).tolist(), strict=True))
        present = [cell for cell in wanted if cell in here]
        same = sum(here[cell] == stored[cell] for cell in present)
        if len(present) == len(wanted) and same >= _SAME * len(wanted):
            return wanted
        others = {stored[cell] for cell in stored if self.split.assignment[cell] != part}
        chosen = {stored[cell] for cell in wanted} - others
        renamed = [cell for cell, checksum in here.items() if checksum in chosen]
        if _SAME * len(wanted) <= len(renamed) <= len(wanted):
            return renamed
        raise ObsError(
            f"{name} are not the data that the model was trained on: of the {len(wanted)} {part} cells of its "
            f"split, {len(present)} ids are there, and {same} of these cells have the genes that they had.",
            fix='give the training data, or score other data with part="all" (--part all).',
        )

    def trained_on(self, cells: AnnData | CellSentences) -> npt.NDArray[np.bool_]:
        """Say which cells the model was trained on or validated with, whatever their ids, bool ``[cells]``.

        A cell counts as such when it has exactly the genes, in the order, of one that was.
        """
        used = self.split.assignment.isin(["train", "validation"]).to_numpy()
        here = cell_fingerprints(cells)
        return np.asarray(np.isin(here, self._stored(cells)[used]) & (here != 0), np.bool_)

    def unseen(self, cells: AnnData | CellSentences, *, name: str = "the data") -> tuple[list[str], int]:
        """Return the ids of the cells that the model was not trained on, and how many it was.

        Raises
        ------
        ConfigError
            It was trained on more than half of them.
        """
        seen = self.trained_on(cells)
        n = int(seen.sum())
        if n > _MOSTLY_SEEN * len(seen):
            raise ConfigError(
                "evaluation",
                [f"{n} of {len(seen)} cells of {name} were used for training, by the genes they show"],
                fix='pass part="test" (--part test) with the training data, or give other data.',
            )
        return [cell for cell, known in zip(_ids(cells), seen.tolist(), strict=True) if not known], n
