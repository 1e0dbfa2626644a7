"""Rules that end an answer before the model does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from c2s.errors import ConfigError

if TYPE_CHECKING:
    from c2s.inference.constrain import Constraint

#: How tokenizers write the beginning of a word: byte-level ones, SentencePiece, and plainly; or a line's end.
_WORD_MARKS = ("Ġ", "▁", " ", "Ċ", "\n", "\t")


def check_stop(stop: Sequence[str], constraint: Constraint | None) -> None:
    """Refuse stop strings that would cut a word of the constraint into one that it does not allow.

    Raises
    ------
    ConfigError
        A stop string begins in a word; each is named with the first such word.
    """
    if constraint is None:
        return
    problems = []
    for text in stop:
        # One that goes on with the next word cuts as well: "4 CD8A" cuts CD4.
        head, goes_on, _ = text.partition(" ")
        for word in constraint.words:
            if text in word or (goes_on and head and word.endswith(head)):
                problems.append(f"the stop string {text!r} occurs inside {word!r}, a word of the constraint")
                break
    if problems:
        raise ConfigError(
            "generation",
            problems,
            fix="leave the stop string out (a constraint ends answers itself), or the words that hold it.",
        )


class StopRules:
    """Stop strings and a number of words.

    Parameters
    ----------
    tokenizer
        Of the model that writes.
    stop
        Texts before which an answer ends.
    max_genes
        Most words of an answer; None for no limit.
    begun
        Ends of prompts that answers spell anew, before their own words.
    """

    def __init__(
        self, tokenizer: Any, stop: Sequence[str], max_genes: int | None, begun: Sequence[str] = ()
    ) -> None:
        self.tokenizer, self.stop, self.max_genes = tokenizer, tuple(stop), max_genes
        self._begun = max((len(text.split()) for text in begun), default=0)
        self._marks: torch.Tensor | None = None
        # A token is a byte of the text at least, so this many last ones hold whatever was completed by one more.
        self._tail = max((len(text.encode()) for text in self.stop), default=0) + 1

    def __bool__(self) -> bool:
        return bool(self.stop) or self.max_genes is not None

    def ended(self, answers: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return which answers have all they may have, bool ``[rows]``.

        Parameters
        ----------
        answers
            Tokens written so far, int64 ``[rows, tokens]``.
        lengths
            How many of them, int64 ``[rows]``.
        """
        result = torch.zeros(len(answers), dtype=torch.bool, device=answers.device)
        if self.max_genes is not None:
            marks = self._word_marks(answers.device)
            written = torch.arange(answers.shape[1], device=answers.device) < lengths[:, None]
            # Blank lines are marks without a word, so the marks only tell which answers are worth decoding.
            rows = ((marks[answers] & written).sum(1) > self.max_genes).nonzero()[:, 0].tolist()
            if rows:
                whole = zip(answers[rows].tolist(), lengths[rows].tolist(), strict=True)
                texts = self.tokenizer.batch_decode([row[:n] for row, n in whole], skip_special_tokens=True)
                # Only when a further word has begun is the last one known to be whole.
                result[rows] = torch.tensor(
                    [len(text.split()) > self.max_genes + self._begun for text in texts], device=answers.device
                )
        if self.stop:
            tails = [
                row[max(0, n - self._tail) : n] for row, n in zip(answers.tolist(), lengths.tolist(), strict=True)
            ]
            texts = self.tokenizer.batch_decode(tails, skip_special_tokens=True)
            found = [any(stop in text for stop in self.stop) for text in texts]
            result |= torch.tensor(found, device=answers.device)
        return result

    def _word_marks(self, device: torch.device) -> torch.Tensor:
        """Return which tokens begin a word, bool ``[vocabulary]``."""
        if self._marks is None or self._marks.device != device:
            # A network may have more rows than its tokenizer has tokens.
            pieces = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
            begins = [isinstance(piece, str) and piece.startswith(_WORD_MARKS) for piece in pieces]
            self._marks = torch.tensor([*begins, *[False] * 1024], device=device)
        return self._marks

    def cut(self, text: str) -> str:
        """Return the text up to the first stop string, and no more words than allowed."""
        places = [place for place in (text.find(stop) for stop in self.stop) if place >= 0]
        if places:
            text = text[: min(places)]
        if self.max_genes is not None:
            words = text.split()
            text = " ".join(words[: self.max_genes]) if len(words) > self.max_genes else text
        return text.strip()
