"""The tokenizer learned from a corpus: lossless, one token per gene wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from c2s.errors import ModelError
from c2s.models import learn_tokenizer

GENES = ["CD3D", "HLA-DRA", "RP11-34P13.7", "MT-CO1", "1810009A15Rik", "Y_RNA", "IGHV3-23"]
CORPUS = [
    f"Cells.\n{' '.join(GENES)}.\n\nCell type: T cell",
    "Name the cell type of these 200 genes: CD3D HLA-DRA\nCell type: B cell",
]
TOKENIZER = learn_tokenizer(CORPUS)

# Text with everything that could go wrong: any Unicode, and the letters that byte-level coding itself uses.
ANY_TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t.:ĠĊCD3é")))


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT)
def test_any_text_comes_back_unchanged(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids) == text


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT, st.sampled_from(["T cell", "CD14+ Monocyte", "naïve B"]))
def test_the_tokens_of_a_prompt_are_the_start_of_prompt_and_answer(prompt: str, answer: str) -> None:
    prompt = prompt.rstrip(" ") + ":"
    first = TOKENIZER(prompt)["input_ids"]
    assert TOKENIZER(f"{prompt} {answer}")["input_ids"][: len(first)] == first


@pytest.mark.parametrize("gene", GENES)
@pytest.mark.parametrize(
    "around", ["{}", "Cells {} x", "\n{}", "\n\n{} x", "genes: {}.", "{}, {}; {}", "a\n{}\nb"]
)
def test_a_gene_is_the_same_single_token_wherever_it_stands(gene: str, around: str) -> None:
    (alone,) = TOKENIZER(gene)["input_ids"]
    ids = TOKENIZER(around.format(gene, gene, gene))["input_ids"]
    assert ids.count(alone) == around.count("{}")


def test_prompt_words_are_words_and_punctuation_stands_alone() -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER("Name the cell type:")["input_ids"])
    assert tokens == ["ĠName", "Ġthe", "Ġcell", "Ġtype", ":"]


def test_words_not_in_the_corpus_fall_back_to_bytes() -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER("FOXP3 é")["input_ids"])
    assert tokens == ["Ġ", "F", "O", "X", "P", "3", "Ġ", "Ã", "©"]


def test_numbers_stay_digits_so_that_any_number_of_genes_is_known() -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER("these 200 genes")["input_ids"])
    assert tokens == ["Ġthese", "Ġ", "2", "0", "0", "Ġgenes"]


def test_the_same_texts_in_another_order_give_the_same_tokenizer() -> None:
    assert learn_tokenizer(reversed(CORPUS)).get_vocab() == TOKENIZER.get_vocab()


def test_rare_words_and_words_past_a_limit_are_left_to_bytes() -> None:
    frequent = learn_tokenizer(CORPUS, min_count=2).get_vocab()
    assert "ĠCD3D" in frequent
    assert "ĠMT-CO1" not in frequent
    limited = learn_tokenizer(CORPUS, max_words=3).get_vocab()
    assert len(limited) == 2 + 256 + 3
    assert "Ġtype" in limited  # three times, more than any other
    assert "ĠY_RNA" not in limited


def test_special_tokens_are_set_and_survive_saving(tmp_path) -> None:
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.bos_token_id) == (0, 1, None)
    assert loaded.padding_side == "left"
    assert loaded(CORPUS[0])["input_ids"] == TOKENIZER(CORPUS[0])["input_ids"]
    assert loaded.decode(loaded(" a\n b ")["input_ids"]) == " a\n b "


@pytest.mark.parametrize(("corpus", "options"), [([], {}), ([""], {}), (["a b c"], {"min_count": 2})])
def test_a_corpus_without_words_is_refused(corpus: list[str], options: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="holds no word") as caught:
        learn_tokenizer(corpus, **options)
    assert "corpus=" in caught.value.fix
