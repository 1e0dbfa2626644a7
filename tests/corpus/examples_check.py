"""What must hold for every example of a corpus, whatever it was made from: an independent reading of its texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import anndata as ad

from c2s.sentences import to_cell_sentences


class SourceCells:
    """The sentences and the metadata of a dataset, by cell."""

    def __init__(self, cells: ad.AnnData, columns: Mapping[str, str], abstracts: Mapping[str, str]) -> None:
        table = to_cell_sentences(cells, expects="any", obs_columns=[]).table
        self.words = {
            c: s.split() for c, s in zip(table["cell_id"].to_pylist(), table["cell_sentence"].to_pylist())
        }
        self.obs = cells.obs.rename(columns={v: k for k, v in columns.items()})
        self.abstracts = abstracts

    def value(self, cell: str, column: str) -> str:
        return str(self.obs.loc[cell, column])


def shown_lists(text: str) -> list[list[str]]:
    """The genes that a multi-cell text shows, cell by cell."""
    return [m.rstrip(".").split() for m in re.findall(r"\bCell \d+: (.+)", text)]


def check_example(
    row: Mapping[str, Any], source: SourceCells, genes: tuple[int, int], cells: tuple[int, int]
) -> None:
    """The target can be had from the source cells; prompt and answer say nothing else, and nothing wrong."""
    task, prompt, answer, ids = row["task"], row["prompt"], row["answer"], row["cell_ids"]
    in_answer = task not in {"cell-type-annotation", "tissue-annotation", "sample-cell-types", "interpretation"}
    place, other = (answer, prompt) if in_answer else (prompt, answer)
    if len(ids) == 1 and task in {
        "single-cell-language-modeling",
        "cell-type-annotation",
        "conditional-cell-generation",
    }:
        expected = source.words[ids[0]][: row["n_genes"]]
        assert row["n_genes"] <= genes[1]
        text = " ".join(expected)
        assert (text + "." == answer) if in_answer else (f" {text}." in prompt)
        stated = re.findall(r"\b(?:top |these |the |these |\()?(\d+) (?:most|genes|strongest)", prompt, flags=re.I)
        assert set(stated) <= {str(row["n_genes"])}, prompt
    else:
        shown = shown_lists(place)
        assert cells[0] <= len(ids) <= cells[1]
        assert len(shown) == len(ids)
        most = max(len(s) for s in shown)
        for cell, words in zip(ids, shown, strict=True):
            # Evenly: no cell has fewer than the longest, unless it has no more genes.
            assert words == source.words[cell][: min(most, len(source.words[cell]))]
        assert sum(map(len, shown)) == row["n_genes"]
        assert len({source.value(c, "donor_id") for c in ids}) == 1
        assert len({source.value(c, "tissue") for c in ids}) == 1
        assert len(set(ids)) == len(ids)
        for number in re.findall(r"(?:at most|up to|\() ?(\d+)(?: genes| at most)", prompt):
            assert int(number) == most
        for number in re.findall(r"(\d+) (?:cells|cell sentences)\b", prompt):
            assert int(number) == len(ids)
    _check_labels(task, prompt, answer, ids, source)
    if not in_answer:
        for label in {answer} if task != "sample-cell-types" else set(answer.split("; ")):
            rest = without_genes(prompt, source.words[ids[0]][: row["n_genes"]])
            assert not re.search(rf"(?<!\w){re.escape(label)}(?!\w)", rest, flags=re.IGNORECASE), prompt
    assert other  # the other side is never empty


def _check_labels(task: str, prompt: str, answer: str, ids: Sequence[str], source: SourceCells) -> None:
    types = [source.value(c, "cell_type") for c in ids] if "cell_type" in source.obs else []
    if task == "cell-type-annotation":
        assert answer == types[0]
    elif task == "conditional-cell-generation":
        assert types[0] in prompt
    elif task == "sample-cell-types":
        assert answer == "; ".join(types)
    elif task == "conditional-sample-generation-cell-types":
        assert "; ".join(types) in prompt
    elif task == "tissue-annotation":
        assert answer == source.value(ids[0], "tissue")
    elif task == "conditional-sample-generation-tissue":
        assert source.value(ids[0], "tissue") in prompt
    elif task in {"interpretation", "conditional-sample-generation-abstract"}:
        abstract = " ".join(source.abstracts[source.value(ids[0], "abstract_id")].split())
        assert (answer == abstract) if task == "interpretation" else (abstract in prompt)


def without_genes(text: str, words: Sequence[str]) -> str:
    """A prompt without its cells: what is left may not hold the answer."""
    return re.sub(r"Cell \d+: .*", "", text).replace(" ".join(words), "")
