"""What answers may say: genes of a vocabulary, or labels of a list (section 7.1.2: no invented genes or labels).

The words are spelled with the model's tokenizer and become a tree of tokens. An answer walks along it: it may only
take tokens that lead to a word it may still say, and may only end where a word ends. Probabilities among the
allowed tokens keep their proportions.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from c2s.errors import ConfigError, ContextError, GeneError, PromptError
from c2s.inference.batching import Reads, common_prefix, encode, end_of_text
from c2s.inference.sampling import DEFAULT_NEW_TOKENS
from c2s.inference.word_tree import WordTree

#: Words at the end of a prompt that may decide how the first word of an answer is spelled.
_TAIL_WORDS = 3
#: Words that are spelled behind another prompt to see whether all are spelled alike there.
_PROBES = 16


@dataclass(frozen=True)
class Genes:
    """Answers are gene symbols separated by single spaces.

    Attributes
    ----------
    vocabulary
        Allowed symbols.
    n
        Exactly this many genes; None for any number.
    at_most
        At most this many genes; None for no limit. Not together with `n`.
    repeats
        Whether a gene may come twice.

    Raises
    ------
    ConfigError
        The vocabulary is empty, or the numbers do not go together; all problems are named.
    GeneError
        A symbol is not a text, is empty, holds whitespace or comes twice.
    """

    vocabulary: Sequence[str]
    n: int | None = None
    at_most: int | None = None
    repeats: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.vocabulary, str):
            raise ConfigError("genes", ["the vocabulary is one text"], fix='pass a list: Genes(["CD4", "CD8A"]).')
        words = tuple(self.vocabulary)
        object.__setattr__(self, "vocabulary", words)
        object.__setattr__(self, "repeats", bool(self.repeats))
        for place, word in enumerate(words):
            if not isinstance(word, str) or not word or word.split() != [word]:
                raise GeneError(
                    f"entry {place} of the gene vocabulary is {word!r}, not a symbol without whitespace.",
                    fix="leave it out, or replace the whitespace.",
                )
        if len(set(words)) < len(words):
            twice = next(w for i, w in enumerate(words) if w in words[:i])
            raise GeneError(f"gene {twice!r} is twice in the vocabulary.", fix="pass dict.fromkeys(genes).")
        problems = [] if words else ["the vocabulary is empty"]
        for name, number in (("n", self.n), ("at_most", self.at_most)):
            if number is None:
                continue
            try:
                number = operator.index(number)  # NumPy's integers become Python's
            except TypeError:
                problems.append(f"{name} is {number!r}, not a whole number")
                continue
            object.__setattr__(self, name, number)
            if number < 1:
                problems.append(f"{name} is {number}, not at least 1")
            elif name == "n" and words and not self.repeats and number > len(words):
                problems.append(f"n is {number}, but there are {len(words)} genes and none may come twice")
        if self.n is not None and self.at_most is not None:
            problems.append("n and at_most are both given")
        if problems:
            raise ConfigError(
                "genes", problems, fix="e.g. Genes(vocabulary, n=200): as many genes as there are, or fewer."
            )

    @property
    def limit(self) -> int | None:
        """Most genes of an answer; None for no limit."""
        number = self.n if self.n is not None else self.at_most
        if self.repeats:
            return number
        return min(number or len(self.vocabulary), len(self.vocabulary))

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary."""
        return tuple(self.vocabulary)

    def as_json(self) -> dict[str, Any]:
        """Return the constraint as plain values."""
        numbers = {"n": self.n, "at_most": self.at_most, "repeats": self.repeats}
        return {"kind": "genes", **numbers, "vocabulary": list(self.vocabulary)}


@dataclass(frozen=True)
class Labels:
    """An answer is one label of a list; one label may be the beginning of another.

    Attributes
    ----------
    labels
        Allowed answers.

    Raises
    ------
    ConfigError
        There is no label, or labels are empty or repeated; all problems are named.
    """

    labels: Sequence[str]

    def __post_init__(self) -> None:
        labels = (self.labels,) if isinstance(self.labels, str) else tuple(self.labels)
        object.__setattr__(self, "labels", labels)
        problems = [] if labels else ["there is no label"]
        problems += [
            f"label {i} is {x!r}" for i, x in enumerate(labels) if not isinstance(x, str) or not x.strip()
        ]
        problems += [f"label {x!r} is given more than once" for i, x in enumerate(labels) if x in labels[:i]]
        if problems:
            raise ConfigError("labels", problems, fix="pass different labels that are not empty.")

    @property
    def limit(self) -> int:
        """One label."""
        return 1

    @property
    def n(self) -> int:
        """One label."""
        return 1

    @property
    def repeats(self) -> bool:
        """It makes no difference with one label."""
        return True

    @property
    def words(self) -> tuple[str, ...]:
        """The labels."""
        return tuple(label.strip() for label in self.labels)

    def as_json(self) -> dict[str, Any]:
        """Return the constraint as plain values."""
        return {"kind": "labels", "labels": list(self.labels)}


Constraint = Genes | Labels


def constraint_of(plain: dict[str, Any]) -> Constraint:
    """Return the constraint that `as_json` wrote."""
    options = {key: value for key, value in plain.items() if key != "kind"}
    return Genes(**options) if plain["kind"] == "genes" else Labels(**options)


@dataclass(frozen=True, eq=False)
class Spelled:
    """A constraint in the tokens of one model, for prompts that end alike.

    Attributes
    ----------
    tree
        The words as a tree of tokens.
    end
        Token that ends an answer.
    least, most
        Fewest and most words of an answer; `most` is None for no limit.
    repeats
        Whether a word may come twice.
    """

    tree: WordTree
    end: int
    least: int
    most: int | None
    repeats: bool

    @cached_property
    def needed(self) -> int | None:
        """Tokens of the longest answer, its end included; None where there is no longest."""
        if self.most is None:
            return None
        lengths = sorted(self.tree.lengths(), reverse=True)
        return 1 + (self.most * lengths[0] if self.repeats else sum(lengths[: self.most]))

    @cached_property
    def least_needed(self) -> int:
        """Tokens of the shortest answer, without its end."""
        lengths = sorted(self.tree.lengths())
        return self.least * lengths[0] if self.repeats else sum(lengths[: self.least])


class Speller:
    """Spells a constraint behind prompts, once for all prompts that end alike.

    Parameters
    ----------
    model
        The model whose tokenizer spells.
    constraint
        `Genes` or `Labels`.
    """

    def __init__(self, model: Reads, constraint: Constraint) -> None:
        self.model, self.constraint = model, constraint
        self.end = end_of_text(model)
        self._known: dict[str, tuple[int, Spelled]] = {}
        self._trees: dict[Any, Spelled] = {}

    def behind(self, prompt: str, tokens: Sequence[int]) -> tuple[int, Spelled]:
        """Return how many last tokens of the prompt are spelled anew, and the constraint behind the others.

        Nearly always none: a token would have to cover the end of the prompt and the beginning of the answer.

        Raises
        ------
        GeneError
            The tokenizer cannot spell a gene, or does not show where one ends.
        ConfigError
            Two words are the same tokens.
        PromptError
            Nothing of the prompt would be left.
        """
        words = prompt.rsplit(maxsplit=_TAIL_WORDS)
        tail = prompt.removeprefix(words[0]) if len(words) > _TAIL_WORDS else prompt
        if tail not in self._known:
            spelled = self._as_before(tail) or self._spell(tail)
            # The tail must be spelled alone as it is at the end of the prompt; else the whole prompt it is.
            one = self.constraint.words[0]
            whole = encode(self.model, [f"{prompt} {one}"])[0]
            if whole != [*tokens[: len(tokens) - spelled[0]], *spelled[1].tree.first[0]]:
                spelled = self._spell(prompt)
            self._known[tail] = spelled
        dropped, result = self._known[tail]
        if dropped >= len(tokens):
            raise PromptError(
                f"the prompt {prompt!r} has no token before the answer.", fix="write a longer prompt."
            )
        return dropped, result

    def _as_before(self, tail: str) -> tuple[int, Spelled] | None:
        """Return the last spelling if some words are spelled the same behind this tail; prompts may end anyhow."""
        if not self._known:
            return None
        dropped, known = list(self._known.values())[-1]
        words = self.constraint.words
        probes = sorted({*range(0, len(words), -(-len(words) // _PROBES)), len(words) - 1})
        alone = encode(self.model, [tail])[0]
        whole = encode(self.model, [f"{tail} {words[i]}" for i in probes])
        same = all(ids == [*alone, *known.tree.first[i]] for i, ids in zip(probes, whole, strict=True))
        return (0, known) if same and not dropped else None

    def _spell(self, tail: str) -> tuple[int, Spelled]:
        words = self.constraint.words
        alone = encode(self.model, [tail])[0]
        whole = encode(self.model, [f"{tail} {word}" for word in words])
        shared = min(common_prefix(alone, ids) for ids in whole)
        first = tuple(tuple(ids[shared:]) for ids in whole)
        again = first if self.constraint.limit == 1 else self._again(tail)
        key = (first, again)
        if key not in self._trees:
            self._check(first, begins_with_space=shared == len(alone))
            tree = WordTree.build(first, again)
            if self.constraint.limit != 1:
                self._check_ends(tree)
            limit, exact = self.constraint.limit, self.constraint.n
            self._trees[key] = Spelled(tree, self.end, exact or 1, limit, self.constraint.repeats)
        return len(alone) - shared, self._trees[key]

    def _again(self, tail: str) -> tuple[tuple[int, ...], ...]:
        """Return the tokens of each word behind another word."""
        words = self.constraint.words
        before = f"{tail} {words[0]}"
        start = encode(self.model, [before])[0]
        result = []
        for word, ids in zip(words, encode(self.model, [f"{before} {word}" for word in words]), strict=True):
            if ids[: len(start)] != start or len(ids) == len(start):
                raise GeneError(
                    f"the tokenizer of {self.model.name} joins {words[0]!r} and {word!r} where they meet.",
                    fix="use a tokenizer that keeps words apart, as those of Pythia and Gemma do.",
                )
            result.append(tuple(ids[len(start) :]))
        return tuple(result)

    def _check(self, spellings: Sequence[tuple[int, ...]], *, begins_with_space: bool) -> None:
        tokenizer = self.model.tokenizer
        words = self.constraint.words
        decoded = tokenizer.batch_decode([list(ids) for ids in spellings], clean_up_tokenization_spaces=False)
        what = "gene" if isinstance(self.constraint, Genes) else "label"
        seen: dict[tuple[int, ...], str] = {}
        for word, ids, text in zip(words, spellings, decoded, strict=True):
            unknown = tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids
            # Where the end of the prompt is spelled anew, it stands before the word.
            said = text.strip() if begins_with_space else text.strip()[-len(word) :]
            if not ids or unknown or self.end in ids or said != word:
                raise GeneError(
                    f"the tokenizer of {self.model.name} cannot spell the {what} {word!r}: it reads "
                    f"{text.strip()!r}.",
                    fix=f"leave the {what} out, or use a tokenizer that can spell anything (a byte fallback).",
                )
            if seen.setdefault(ids, word) != word:
                raise ConfigError(
                    f"{what}s for {self.model.name}",
                    [f"{what}s {seen[ids]!r} and {word!r} are the same tokens"],
                    fix="use a model whose tokenizer tells them apart, or leave one of them out.",
                )

    def _check_ends(self, tree: WordTree) -> None:
        clash = tree.clash()
        if clash is None:
            return
        word, token = clash
        text = self.model.tokenizer.decode([token])
        raise GeneError(
            f"the tokenizer of {self.model.name} does not show where {self.constraint.words[word]!r} ends: "
            f"{text!r} may go on with a longer gene or begin the next one.",
            fix="use a tokenizer that writes the space before a word with it, as those of Pythia and Gemma do.",
        )


def spelled_for(
    speller: Speller | None, prompts: Sequence[str], tokens: Sequence[list[int]]
) -> tuple[list[Spelled | None], list[str]]:
    """Return the constraint behind each prompt, and the end of the prompt that answers will spell anew.

    The tokens of that end are taken off `tokens`, in place; nearly always there are none.
    """
    if speller is None:
        return [None] * len(prompts), [""] * len(prompts)
    spelled: list[Spelled | None] = []
    anew = []
    for prompt, ids in zip(prompts, tokens, strict=True):
        dropped, constraint = speller.behind(prompt, ids)
        kept = len(ids) - dropped
        anew.append(str(speller.model.tokenizer.decode(ids[kept:])) if dropped else "")
        del ids[kept:]
        spelled.append(constraint)
    return spelled, anew


def answer_tokens(model: Reads, spelled: Spelled | None, asked: int | None, prompt: int) -> int:
    """Return how many tokens an answer may have: as asked, or as the constraint needs, within the context.

    Parameters
    ----------
    model
        Whose context is the limit of what a constraint gets by itself.
    spelled
        The constraint behind the prompt.
    asked
        What the caller asked for.
    prompt
        Tokens of the prompt.

    Raises
    ------
    ConfigError
        The tokens asked for cannot hold the genes asked for, or the longest of the labels.
    ContextError
        The context has no room for them.
    """
    if spelled is None:
        return asked or DEFAULT_NEW_TOKENS
    least, which = spelled.least_needed, "shortest"
    if spelled.most == 1 and spelled.needed is not None:
        # One that is cut off would pass for another answer, or for none.
        least, which = spelled.needed - 1, "longest"
    if asked is not None:
        if asked < least:
            raise ConfigError(
                "generation",
                [f"max_new_tokens is {asked}, but the {which} answer of the constraint has {least} tokens"],
                fix=f"leave max_new_tokens out, or pass at least {least}.",
            )
        return asked
    room = model.context_length - prompt
    if room < least:
        raise ContextError(
            f"the {which} answer of the constraint has {least} tokens, and behind a prompt of {prompt} tokens "
            f"the context of {model.name} ({model.context_length}) has room for {max(room, 0)}.",
            fix="ask for fewer genes, shorten the prompt (top_k), or use a model with a longer context.",
        )
    return min(spelled.needed or DEFAULT_NEW_TOKENS, room)
