"""The context budget of a corpus: tokens are counted once per word and then added up.

A tokenizer that never joins what a space separates gives a text the sum of its words' tokens. So the number of
genes that fit is a search in sums, and next to nothing is tokenised. Whether the sum is right is checked on a
sample of every unit; where it is not, every text is tokenised as a whole.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c2s.errors import ContextError
from c2s.sentences.jit import kernel

if TYPE_CHECKING:
    from c2s.corpus.plan import CorpusPlan

Counts = npt.NDArray[np.int64]

#: Folder of the tokenizer in a corpus.
TOKENIZER = "tokenizer"
_WORDS_KEPT = 500_000


class WordCounter:
    """Counts words, where no tokenizer was named."""

    exact = True

    def whole(self, texts: Sequence[str]) -> Counts:
        """Return the words of each text."""
        return np.array([len(text.split()) for text in texts], np.int64)

    def summed(self, texts: Sequence[str]) -> Counts:
        """Return the same."""
        return self.whole(texts)

    def genes(self, symbols: Sequence[str]) -> Counts:
        """Return what each symbol adds to a sentence: one word."""
        return np.ones(len(symbols), np.int64)


class TokenCounter:
    """Counts the tokens of a text with the end-of-text token, as `c2s.training` will read it.

    Parameters
    ----------
    folder
        A folder with a ``tokenizer.json``.
    """

    exact = False

    def __init__(self, folder: Path) -> None:
        # Several processes count at once; threads of their own would only get in each other's way.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        stated = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("eos_token")
        end = self._tokenizer.token_to_id(stated["content"] if isinstance(stated, dict) else stated or "")
        # Training adds the end of text where the tokenizer does not do so itself.
        self._first: dict[str, int] = {}
        self._further: dict[str, int] = {}
        self._end = 0 if end is not None and self._tokenizer.encode("A").ids[-1:] == [end] else 1

    def whole(self, texts: Sequence[str]) -> Counts:
        """Return the tokens of each text, and one more for the end of text."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        return np.array([len(e) + self._end for e in encoded], np.int64)

    def summed(self, texts: Sequence[str]) -> Counts:
        """Return the tokens of each text, added up from those of its words; what is known of a word is kept."""
        firsts, further = [], []
        for text in texts:
            first, *rest = text.split(" ")
            firsts.append(first)
            further.append(rest)
        new = sorted({word for word in firsts if word not in self._first})
        self._first.update(zip(new, self.whole(new).tolist(), strict=True))
        new = sorted({word for words in further for word in words if word not in self._further})
        self._further.update(zip(new, self.genes(new).tolist(), strict=True))
        if len(self._further) > _WORDS_KEPT:
            self._further = dict(list(self._further.items())[_WORDS_KEPT // 2 :]) | {
                word: self._further[word] for words in further for word in words
            }
        known = self._further
        return np.array(
            [
                self._first[f] + sum([known[word] for word in rest])
                for f, rest in zip(firsts, further, strict=True)
            ],
            np.int64,
        )

    def genes(self, symbols: Sequence[str]) -> Counts:
        """Return the tokens that each symbol adds when it follows another word and a space."""
        first = "A"
        alone = len(self._tokenizer.encode(first, add_special_tokens=False))
        pairs = self._tokenizer.encode_batch_fast([f"{first} {s}" for s in symbols], add_special_tokens=False)
        return np.array([len(e) - alone for e in pairs], np.int64)


@functools.lru_cache(maxsize=2)
def _token_counter(folder: str, written: int) -> TokenCounter:
    return TokenCounter(Path(folder))


_words = WordCounter()


def counter_of(plan: CorpusPlan, out: Path) -> WordCounter | TokenCounter:
    """Return what counts the tokens of a corpus; this process keeps it."""
    if plan.spec.context.tokenizer is None:
        return _words
    folder = out / TOKENIZER
    return _token_counter(str(folder), (folder / "tokenizer.json").stat().st_mtime_ns)


@kernel
def fit_genes(cost, cell_starts, example_starts, most, room):  # type: ignore[no-untyped-def]
    """Return the most genes per cell, up to `most`, whose tokens fit into `room`; 0 where not even one gene does.

    Parameters
    ----------
    cost
        Running sum of the genes' tokens, int64 ``[genes + 1]``, cell after cell.
    cell_starts
        Where each cell's genes begin, int64 ``[cells + 1]``, by the order in which examples show them.
    example_starts
        Where each example's cells begin, int64 ``[examples + 1]``.
    most, room
        int64 ``[examples]``.
    """
    found = np.zeros(most.size, np.int64)
    for e in range(most.size):
        low, high = 0, most[e]  # `low` fits
        while low < high:
            middle = (low + high + 1) // 2
            used = 0
            for c in range(example_starts[e], example_starts[e + 1]):
                begin = cell_starts[c]
                used += cost[min(begin + middle, cell_starts[c + 1])] - cost[begin]
            if used <= room[e]:
                low = middle
            else:
                high = middle - 1
        found[e] = low
    return found


def refuse_too_long(example_id: str, needed: int, limit: int) -> None:
    """Raise the error of an example that does not fit even with one gene per cell."""
    raise ContextError(
        f"example {example_id!r} needs {needed} tokens with one gene per cell, and the context has {limit}.",
        fix="allow more tokens (context: {tokens: 8192}), fewer cells (cells: [5, 10]), or leave out tasks with "
        "abstracts.",
    )


def save_tokenizer(plan: CorpusPlan, out: Path) -> None:
    """Put the tokenizer of a corpus into its folder, from where every worker reads it.

    Raises
    ------
    ModelError
        It is not here, or is not a fast tokenizer.
    """
    from c2s.errors import ModelError
    from c2s.files import atomic_output

    name, target = plan.spec.context.tokenizer, out / TOKENIZER
    if name is None or (target / "tokenizer.json").exists():
        return
    if name == "tiny":
        from c2s.models.tokenizer import learn_tokenizer

        tokenizer: Any = learn_tokenizer(_words_of(plan))
    else:
        tokenizer = _load(name)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer of {name} has no tokenizer.json.", fix="name a model with a fast tokenizer, or tiny."
        )
    with atomic_output(target, overwrite=True) as temporary:
        tokenizer.save_pretrained(temporary)


def _words_of(plan: CorpusPlan) -> list[str]:
    """Return the texts that the words of the tiny tokenizer come from: all but the cells."""
    import string

    from c2s.corpus.plan import read_gene_sets
    from c2s.corpus.prompt_files import metadata_wording

    texts: list[str] = ["Cell 1: "]
    for task in plan.tasks.values():
        for template in task.templates:
            texts += [
                " ".join(p for p, *_ in string.Formatter().parse(t)) for t in (template.text, template.answer)
            ]
    wording = metadata_wording(plan.spec.templates)
    texts += [t.replace("{value}", "").replace("{fields}", "") for t in [*wording.fields.values(), *wording.forms]]
    texts += plan.abstracts.values()
    genes: set[str] = set()
    for source in plan.sources:
        genes.update(source.reader().words.names.to_pylist())
        texts += [v for c, values in source.categories.items() if c != "donor_id" for v in values]
    for _, path in plan.gene_sets:
        sets = read_gene_sets(path)
        texts += [sets.human_name(name) for name in sets.names]
        genes.update(g for listed in sets.genes for g in listed)
    return [*texts, " ".join(sorted(genes))]


def _load(name: str) -> Any:
    """Read the tokenizer of a folder or of a downloaded model; nothing is downloaded and no code of it runs."""
    from transformers import AutoTokenizer

    from c2s.errors import ModelError

    folder: Path | None = Path(name)
    if folder is not None and not folder.is_dir():
        from c2s.models.loading import find_model_folder

        folder, _ = find_model_folder(name)
    try:
        return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} holds no tokenizer ({str(error).splitlines()[0][:150]}).",
            fix="name a model's folder, or tiny.",
        ) from error
