"""Reading sentences, generated ones above all."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

import c2s
from c2s.errors import GeneError, SentenceError

GENES = ["CD3D", "LYZ", "HLA-DRA", "NKG7", "MT-CO1", "Ω1"]


def naive(text: str | None, genes: list[str]) -> tuple[list[int], int, int, int]:
    """Return gene indices, words, repetitions and strays of one sentence."""
    words = (text or "").split()  # white space is what Python takes for it
    found: list[int] = []
    strays = repeated = 0
    for word in words:
        if word not in genes:
            strays += 1
        elif genes.index(word) in found:
            repeated += 1
        else:
            found.append(genes.index(word))
    return found, len(words), repeated, strays


@given(
    texts=st.lists(
        st.one_of(
            st.none(),
            st.text(max_size=40),
            st.lists(st.sampled_from([*GENES, "cd3d", "XYZ", "LYZ,", "", " ", "\n", "–"]), max_size=12).map(
                " ".join
            ),
        ),
        max_size=12,
    )
)
def test_agrees_with_a_naive_reading_of_any_text(texts):
    texts = [None if t is None else t.encode("utf-8", "replace").decode() for t in texts]
    parsed = c2s.parse_sentences(texts, GENES)
    assert len(parsed) == len(texts)
    for i, text in enumerate(texts):
        found, n_words, repeated, strays = naive(text, GENES)
        assert parsed.indices[parsed.indptr[i] : parsed.indptr[i + 1]].tolist() == found
        assert parsed.n_words[i] == n_words
        assert parsed.n_duplicate[i] == repeated
        assert parsed.n_unknown[i] + parsed.n_malformed[i] == strays


def test_what_was_left_out_is_counted_by_reason():
    parsed = c2s.parse_sentences(["CD3D XYZ LYZ, CD3D ... LYZ CD3\ufffd nkg7 -"], GENES)
    assert parsed.indices.tolist() == [0, 1]
    assert parsed.ranks.tolist() == [1, 2]
    assert parsed.report() == {
        "n_sentences": 1,
        "n_words": 9,
        "n_unknown": 2,  # XYZ, nkg7
        "n_duplicate": 1,
        "n_malformed": 4,  # "LYZ,", "...", "CD3\ufffd", "-"
        "n_empty_sentences": 0,
        "strays": ["XYZ", "LYZ,", "...", "CD3\ufffd", "nkg7", "-"],
    }


def test_a_word_of_the_vocabulary_is_never_malformed():
    assert c2s.parse_sentences(["Ω1"], GENES).indices.tolist() == [5]


def test_reads_back_what_the_transform_wrote(make_cells):
    adata = make_cells(n_levels=None)
    sentences = c2s.to_cell_sentences(adata, top_k=9)
    parsed = c2s.parse_sentences(sentences.table["cell_sentence"], sentences.genes)
    names = np.array(sentences.genes)
    rows = [names[parsed.indices[a:b]] for a, b in zip(parsed.indptr, parsed.indptr[1:], strict=False)]
    assert [" ".join(row) for row in rows] == sentences.table["cell_sentence"].to_pylist()
    assert parsed.n_words.tolist() == sentences.table["n_genes"].to_pylist()
    assert parsed.report()["n_unknown"] == 0


@pytest.mark.parametrize(
    "build",
    [
        list,
        tuple,
        lambda t: pa.array(t),
        lambda t: pa.array(["skipped", *t])[1:],
        lambda t: pa.array(t, pa.large_string()),
        lambda t: pa.chunked_array([t[:2], t[2:]]),
        lambda t: pa.array(t).dictionary_encode(),
        lambda t: np.array(t, dtype=object),
    ],
)
def test_any_container_of_texts_is_read(build):
    parsed = c2s.parse_sentences(build(["LYZ CD3D", "", "NKG7"]), GENES)
    assert parsed.indices.tolist() == [1, 0, 3]
    assert parsed.indptr.tolist() == [0, 2, 2, 3]


@pytest.mark.parametrize("empty", [[], pa.array([], pa.string()), pa.chunked_array([], pa.string())])
def test_no_sentences_at_all(empty):
    parsed = c2s.parse_sentences(empty, GENES)
    assert len(parsed) == 0
    assert parsed.indptr.tolist() == [0]
    assert parsed.report()["n_words"] == 0


def test_many_blocks_are_joined_in_order(monkeypatch):
    monkeypatch.setattr(c2s.sentences.parse, "_BLOCK", 3)
    texts = [f"{GENES[i % 6]} X{i} {GENES[(i + 1) % 6]}" for i in range(40)]
    parsed = c2s.parse_sentences(texts, GENES)
    assert parsed.indices.tolist() == [j for i in range(40) for j in (i % 6, (i + 1) % 6)]
    assert parsed.n_unknown.tolist() == [1] * 40
    assert parsed.strays == tuple(f"X{i}" for i in range(20))


def test_no_more_than_twenty_strays_are_shown_each_once():
    parsed = c2s.parse_sentences(["X1 X2", " ".join(f"Y{i}" for i in range(30)), "X1 Z"], GENES)
    assert parsed.strays == ("X1", "X2", *(f"Y{i}" for i in range(18)))
    assert parsed.n_unknown.tolist() == [2, 30, 2]
    assert c2s.parse_sentences(["X1 X1", "X1 X2"], GENES).strays == ("X1", "X2")


def test_what_is_no_text_is_refused():
    with pytest.raises(SentenceError, match="not text"):
        c2s.parse_sentences([1, 2], GENES)
    with pytest.raises(SentenceError, match="not text"):
        c2s.parse_sentences(pa.array([[1]]), GENES)


def test_to_an_empty_vocabulary_every_word_is_unknown():
    parsed = c2s.parse_sentences(["CD3D LYZ", "", None], [])
    assert parsed.indices.tolist() == []
    assert parsed.n_unknown.tolist() == [2, 0, 0]
    assert parsed.strays == ("CD3D", "LYZ")


def test_a_vocabulary_with_repetitions_is_refused():
    with pytest.raises(GeneError, match="more than once in the vocabulary: 'A'"):
        c2s.parse_sentences(["A"], ["A", "B", "A"])
