"""The context budget: what does not fit is an error or openly shortened."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from c2s.errors import ContextError
from c2s.models import LanguageModel, TinyConfig, check_context, fit_sentence, load_model

GENES = [f"GENE{i}" for i in range(60)]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    corpus = [" ".join(GENES), "genes Type : T cell"]
    config = TinyConfig(layers=1, hidden_size=16, heads=1, context_length=40)
    return load_model("tiny", corpus=corpus, config=config, device="cpu")


def render(sentences: Sequence[str]) -> str:
    return f"{sum(len(s.split()) for s in sentences)} genes : {' Type '.join(sentences)} Type :"


def test_tokens_of_prompt_answer_and_end_are_counted(model: LanguageModel) -> None:
    budget = check_context(model, ["GENE1 GENE2 Type :", "GENE1 Type :"], ["T cell", "T cell"])
    assert budget.tokens.tolist() == [4 + 2 + 1, 3 + 2 + 1]
    assert budget.longest == 7
    assert not len(budget.too_long)


def test_the_answer_that_is_yet_to_come_is_counted(model: LanguageModel) -> None:
    prompt = " ".join(GENES[:38])
    assert check_context(model, [prompt], max_new_tokens=2).longest == 40
    with pytest.raises(ContextError, match="41 tokens"):
        check_context(model, [prompt], max_new_tokens=3)


def test_the_first_example_that_does_not_fit_is_named_with_its_tokens(model: LanguageModel) -> None:
    prompts = ["GENE1", " ".join(GENES), " ".join(GENES)]
    with pytest.raises(ContextError, match=r"2 of 3 .*\(40 tokens\).*'cell-b' with 63 tokens") as caught:
        check_context(model, prompts, ["T cell"] * 3, ids=["cell-a", "cell-b", "cell-c"])
    assert "--genes" in caught.value.fix
    with pytest.raises(ContextError, match="number 1"):
        check_context(model, prompts, ["T cell"] * 3)


def test_a_prompt_that_fits_is_left_as_it_is(model: LanguageModel) -> None:
    sentence = " ".join(GENES[:20])
    fitted = fit_sentence(model, [sentence], render, reserve=3)
    assert fitted.sentences == (sentence,)
    assert not fitted.shortened


@pytest.mark.parametrize("reserve", [1, 5, 20])
def test_genes_are_left_out_from_the_end_until_it_just_fits(model: LanguageModel, reserve: int) -> None:
    fitted = fit_sentence(model, [" ".join(GENES)], render, reserve=reserve)
    assert fitted.shortened
    assert fitted.given == (60,)
    assert fitted.sentences[0] == " ".join(GENES[: fitted.kept[0]])
    assert fitted.prompt == render(fitted.sentences)
    assert check_context(model, [fitted.prompt], max_new_tokens=reserve).longest <= 40
    one_more = render([" ".join(GENES[: fitted.kept[0] + 1])])
    with pytest.raises(ContextError):
        check_context(model, [one_more], max_new_tokens=reserve)


def test_several_cells_are_shortened_evenly_and_short_ones_keep_their_genes(model: LanguageModel) -> None:
    cells = [" ".join(GENES[:30]), " ".join(GENES[:4]), " ".join(GENES[:50])]
    fitted = fit_sentence(model, cells, render, reserve=3)
    assert fitted.given == (30, 4, 50)
    assert fitted.kept[1] == 4
    assert fitted.kept[0] == fitted.kept[2] > 4


def test_a_prompt_that_cannot_fit_is_refused(model: LanguageModel) -> None:
    with pytest.raises(ContextError, match="even with one gene"):
        fit_sentence(model, ["GENE1"] * 40, render, reserve=3)
