"""Which cells a model was trained on: known by the genes they show, since ids recur and can be changed."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from c2s.errors import C2SWarning, ConfigError, ObsError

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.sentences import CellSentences
    from c2s.splits import Split

#: Of a part of the split, so many cells must be in the data with the genes they had; a tie may fall differently.
_SAME = 0.9
#: Above this share of cells that were trained on, data are those of the training.
_MOSTLY_SEEN = 0.5

#: Fewer genes than these may be alike in two cells.
_TELLING = 20

Fingerprints = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class CellPrints:
    """Cells, each with checksums of its genes, in which ids, obs and the scale of the values play no part.

    Attributes
    ----------
    ids
        Ids of the cells.
    whole, shown
        Checksums uint64 ``[cells]`` of all genes of each cell in their order, and of the first of them, which a
        model reads; 0 for a cell that shows none. Of sentences both are of the genes that these show.
    """

    ids: tuple[str, ...]
    whole: Fingerprints
    shown: Fingerprints

    @classmethod
    def of(cls, cells: AnnData | CellSentences, longest: int) -> CellPrints:
        """Take the checksums of cells; `longest` is the length in words of what is read, 0 for all."""
        from c2s.sentences import CellSentences, SentenceStream

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", C2SWarning)  # told where the cells were read
            if isinstance(cells, CellSentences):
                batches: Iterable[pa.Array] = cells.table["cell_sentence"].chunks
                ids: list[str] = cells.table["cell_id"].to_pylist()
            else:
                stream = SentenceStream(cells, expects="any")
                batches = (batch.column("cell_sentence") for batch in stream.batches())
                ids = list(map(str, cells.obs_names))
            texts = chain.from_iterable(batch.to_pylist() for batch in batches)
            found = [(_checksum(text), _checksum(_cut(text, longest))) for text in texts]
        whole, shown = np.array(found, np.uint64).reshape(-1, 2).T
        return cls(tuple(ids), whole, shown)


#: What can be asked about.
Cells: TypeAlias = "AnnData | CellSentences | CellPrints"


def _checksum(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) if text else 0


def _cut(text: str, longest: int) -> str:
    words = text.split(" ", longest) if longest else []
    return " ".join(words[:longest]) if len(words) > longest else text


@dataclass(frozen=True)
class SeenCells:
    """The cells of a model's split, known by their genes.

    Attributes
    ----------
    split
        Which cell is in which part.
    prints
        Its cells, in its order.
    longest
        Words of the longest sentence that the model was trained on.
    """

    split: Split
    prints: CellPrints
    longest: int

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
        longest = max((text.count(" ") + 1 for text in sentences.table["cell_sentence"].to_pylist()), default=0)
        read, made = CellPrints.of(data, longest), CellPrints.of(sentences, longest)
        ids = split.assignment.index

        def in_order(prints: CellPrints, values: Fingerprints) -> Fingerprints:
            place = {cell: i for i, cell in enumerate(prints.ids)}
            return values[[place[cell] for cell in ids]]

        return cls(split, CellPrints(tuple(ids), in_order(read, read.whole), in_order(made, made.shown)), longest)

    def look(self, cells: Cells) -> CellPrints:
        """Take the checksums that cells are known by; once, where several questions are to be asked."""
        return cells if isinstance(cells, CellPrints) else CellPrints.of(cells, self.longest)

    def _known_by(self, prints: CellPrints) -> list[Fingerprints]:
        """Return what tells cells apart: all their genes, and those a model reads where these are enough."""
        only_shown = np.array_equal(self.prints.whole, self.prints.shown)
        return [prints.whole, prints.shown] if only_shown or self.longest >= _TELLING else [prints.whole]

    def cells_of(self, cells: Cells, part: str, *, name: str = "the data") -> list[str]:
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
        here = self.look(cells)
        place, stored = (
            {cell: i for i, cell in enumerate(ids)} for ids in (here.ids, self.split.assignment.index)
        )
        present = [cell for cell in wanted if cell in place]
        rows, places = [place[cell] for cell in present], [stored[cell] for cell in present]
        known = list(zip(self._known_by(here), self._known_by(self.prints), strict=True))
        same = int(np.logical_or.reduce([ours[rows] == theirs[places] for ours, theirs in known]).sum())
        if len(present) == len(wanted) and same >= _SAME * len(wanted):
            return wanted
        of_part = (self.split.assignment == part).to_numpy()
        chosen = [np.isin(ours, np.setdiff1d(theirs[of_part], theirs[~of_part])) for ours, theirs in known]
        renamed = [here.ids[i] for i in np.flatnonzero(np.logical_or.reduce(chosen))]
        if _SAME * len(wanted) <= len(renamed) <= len(wanted):
            return renamed
        raise ObsError(
            f"{name} are not the data that the model was trained on: of the {len(wanted)} {part} cells of its "
            f"split, {len(present)} ids are there, and {same} of these cells have the genes that they had.",
            fix='give the training data; other data are scored with part="all" (--part all).',
        )

    def trained_on(self, cells: Cells) -> npt.NDArray[np.bool_]:
        """Say which cells the model was trained on or validated with, whatever their ids, bool ``[cells]``.

        A cell counts as such when it has the genes, in the order, of one that was: all of them, or all that the
        model reads.
        """
        used, here = self._used(), self.look(cells)
        pairs = zip(self._known_by(here), self._known_by(self.prints), strict=True)
        alike = [np.isin(ours, theirs[used]) & (ours != 0) for ours, theirs in pairs]
        return np.asarray(np.logical_or.reduce(alike), np.bool_)

    def _used(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.split.assignment.isin(["train", "validation"]), np.bool_)

    def unseen(self, cells: Cells, *, name: str = "the data") -> tuple[list[str], int]:
        """Return the ids of the cells that the model was not trained on, and how many it was.

        Raises
        ------
        ConfigError
            It was trained on more than half of them.

        Warns
        -----
        C2SWarning
            More than half of the cells have ids of training cells, but other genes.
        """
        here = self.look(cells)
        seen = self.trained_on(here)
        n = int(seen.sum())
        if n > _MOSTLY_SEEN * len(seen):
            raise ConfigError(
                "evaluation",
                [f"{n} of {len(seen)} cells of {name} were used for training, by the genes they show"],
                fix='pass part="test" (--part test) with the training data, or give other data.',
            )
        unseen = [cell for cell, known in zip(here.ids, seen.tolist(), strict=True) if not known]
        named = len(set(self.split.assignment.index[self._used()]).intersection(unseen))
        if named > _MOSTLY_SEEN * len(seen):
            warnings.warn(
                f"{named} of {len(seen)} cells of {name} have the ids of training cells, but other genes: if they "
                "are those cells, filtered or normalised in another way, they are no new cells for the model.",
                C2SWarning,
                stacklevel=3,
            )
        return unseen, n
