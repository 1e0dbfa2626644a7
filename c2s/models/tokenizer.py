"""A tokenizer learned from the corpus, for models built from nothing.

Every word of the corpus, and so every gene symbol, is one token; everything else falls back to bytes. Text goes in
and comes out unchanged, whatever it holds. Models with a tokenizer of their own keep it (section 4.3: no change of
vocabulary); this one is for the tiny model only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from c2s.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS = "<pad>", "<eos>"

# A word carries the one space before it, as in GPT-2, and punctuation that ends it stands alone: "cell." is
# " cell" and ".". A newline stands alone; blank lines are one token. Gene symbols keep their inner dots, dashes.
_PIECES = r"\n(?: \n)*| ?[^ \n]+?(?=[.,:;!?]*(?:[ \n]|$))|[.,:;!?]+| "
# The byte-level alphabet's letters for a space and a newline.
_SPACE, _NEWLINE = "Ġ", "Ċ"


def learn_tokenizer(
    corpus: Iterable[str], *, min_count: int = 1, max_words: int | None = None
) -> PreTrainedTokenizerFast:
    """Learn a word-level tokenizer with a byte fallback.

    A space is set before the text and after each newline, so that a gene is the same token wherever it stands:
    first in the text, first in a line, or between two others. Decoding takes these spaces out again. Numbers are
    written digit by digit.

    Parameters
    ----------
    corpus
        Texts whose words become tokens: prompts, answers, a line with all gene symbols.
    min_count
        Words seen less often are left to the byte fallback.
    max_words
        Keep at most this many words, the most frequent ones.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
        Lossless, with a padding and an end-of-text token, and padding on the left. The same texts in another
        order give the same tokenizer.

    Raises
    ------
    ModelError
        The corpus holds no word.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.Sequence([normalizers.Replace("\n", "\n "), normalizers.Prepend(" ")])
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts: Counter[str] = Counter()
    # Corpora repeat a few lines often (labels, templates) and words always; cutting each text once is enough.
    for text in corpus:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    # Numbers stay digits: gene dropout states numbers of genes that no text of the corpus held.
    kept = [w for w, n in counts.items() if n >= min_count and len(w) > 1 and not w.lstrip(_SPACE).isdigit()]
    words = sorted(kept, key=lambda word: (-counts[word], word))
    if not words:
        raise ModelError(
            "the corpus of the tokenizer holds no word"
            + (f" seen {min_count} times or more." if min_count > 1 else "."),
            fix="pass corpus=[...] with the training prompts and answers.",
        )
    tokens = dict.fromkeys([PAD, EOS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *words[:max_words]])
    backend = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[], ignore_merges=True)
    )
    backend.normalizer = normalizer
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.Sequence(
        [
            decoders.Fuse(),
            decoders.Replace(_NEWLINE + _SPACE, _NEWLINE),
            decoders.Strip(_SPACE, 1, 0),
            decoders.ByteLevel(),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
