"""Constrained answers: what may be said, what may not, and with which probability."""

from __future__ import annotations

import itertools
import string
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from c2s.errors import C2SWarning, ConfigError
from c2s.inference import Genes, Labels, generate
from c2s.inference.batching import encode
from c2s.inference.constrain import Speller, constraint_of
from c2s.inference.processors import Constrain, ConstrainRequest
from c2s.inference.word_tree import TreeWalk
from c2s.models import LanguageModel

from .conftest import GENES, LABELS, make_prompts, tiny, with_network

REAL_GENES = ["CD4", "CD40", "CD40LG", "HLA-A", "HLA-A2", "HLA-DRB1", "MT-CO1", "A", "A2M", "IL2", "IL2RA", "NKG7"]


def bpe_tokenizer(words, size=320):
    """A byte-level BPE tokenizer, trained here on text that holds some of the words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(words[::2]), "The cell: CD4 CD8A HLA-B IL2RB"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")


def bpe_model(words=REAL_GENES, size=320, seed=0):
    from transformers import AutoModelForCausalLM, GPTNeoXConfig

    tokenizer = bpe_tokenizer(words, size)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,
        initializer_range=0.5,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    return LanguageModel(AutoModelForCausalLM.from_config(config).eval(), tokenizer, "bpe", None, 512)


@pytest.fixture(scope="module")
def bpe():
    return bpe_model()


def checked(answers, vocabulary, n=None, at_most=None, repeats=False):
    for answer in answers:
        genes = answer.split()
        assert " ".join(genes) == answer
        assert set(genes) <= set(vocabulary)
        assert genes
        if not repeats:
            assert len(set(genes)) == len(genes)
        if n is not None:
            assert len(genes) == n
        assert at_most is None or len(genes) <= at_most


def test_the_tokenizer_of_these_tests_splits_genes(bpe):
    pieces = {
        gene: len(ids) for gene, ids in zip(REAL_GENES, encode(bpe, [f" {g}" for g in REAL_GENES]), strict=True)
    }
    assert max(pieces.values()) >= 3 and min(pieces.values()) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("n", [1, 5, len(REAL_GENES)])
def test_exactly_so_many_genes_none_twice(bpe, n, temperature):
    prompts = [f"The cell {i}:" for i in range(12)]
    answers = generate(bpe, prompts, constraint=Genes(REAL_GENES, n=n), temperature=temperature)
    checked(answers, REAL_GENES, n=n)
    if n == len(REAL_GENES) and temperature == 5.0:
        assert len(set(answers)) > 6


@given(
    words=st.lists(
        st.text(string.ascii_uppercase[:4] + "12-", min_size=1, max_size=5), min_size=2, max_size=30, unique=True
    ),
    size=st.integers(258, 300),
    seed=st.integers(0, 3),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_any_vocabulary_in_any_tokenizer(words, size, seed, data):
    model = bpe_model(words, size, seed)
    n = data.draw(st.integers(1, len(words)))
    prompts = [f"Cell {i}:" for i in range(6)]
    checked(generate(model, prompts, constraint=Genes(words, n=n), temperature=3.0), words, n=n)
    options = {"constraint": Genes(words, at_most=n), "max_new_tokens": data.draw(st.integers(8, 20))}
    checked(generate(model, prompts, temperature=3.0, seed=seed, **options), words, at_most=n)
    options["constraint"] = Genes(words, n=n, repeats=True)
    options["max_new_tokens"] = None
    checked(generate(model, prompts, temperature=3.0, **options), words, n=n, repeats=True)


def test_every_gene_can_come(bpe):
    answers = generate(bpe, ["The cell:"] * 400, constraint=Genes(REAL_GENES, n=1), temperature=8.0)
    assert set(answers) == set(REAL_GENES)
    answers = generate(bpe, ["The cell:"] * 400, constraint=Genes(REAL_GENES, n=2), temperature=8.0)
    assert {answer.split()[1] for answer in answers} == set(REAL_GENES)


def test_repeats_where_they_are_allowed(bpe):
    answers = generate(
        bpe, ["The cell:"] * 20, constraint=Genes(["CD4", "IL2"], n=6, repeats=True), temperature=2.0
    )
    checked(answers, REAL_GENES, n=6, repeats=True)
    assert all(len(set(answer.split())) <= 2 for answer in answers)


def test_an_answer_that_runs_out_of_tokens_ends_with_a_whole_gene(bpe):
    for tokens in range(2, 12):
        answers = generate(
            bpe, ["The cell:"] * 30, constraint=Genes(REAL_GENES), temperature=5.0, max_new_tokens=tokens
        )
        for answer in answers:
            assert set(answer.split()) <= set(REAL_GENES)


def test_too_few_tokens_for_all_genes_are_told_of(bpe):
    with pytest.warns(C2SWarning, match=r"answers hold fewer genes than asked for"):
        answers = generate(
            bpe, ["The cell:"] * 9, constraint=Genes(REAL_GENES, n=5), temperature=5.0, max_new_tokens=11
        )
    for answer in answers:
        assert set(answer.split()) <= set(REAL_GENES) and len(set(answer.split())) == len(answer.split())


def test_a_label_that_begins_another_one(bpe):
    labels = ["T cell", "T cell, CD4", "T", "NK", "T cell, CD4 naive"]
    answers = generate(bpe, ["The type is:"] * 300, constraint=Labels(labels), temperature=6.0)
    assert set(answers) == set(labels)


def all_answers(genes, n):
    for k in range(1, n + 1):
        yield from itertools.permutations(genes, k)


def brute_force(model, prompt, sentences):
    """Probability of each sentence when every step keeps only the tokens that some sentence goes on with."""
    end = model.tokenizer.eos_token_id
    start = encode(model, [prompt])[0]
    sequences = [[*ids[len(start) :], end] for ids in encode(model, [f"{prompt} {s}" for s in sentences])]
    result = {}
    for sentence, sequence in zip(sentences, sequences, strict=True):
        total = 0.0
        for step in range(len(sequence)):
            open_now = {s[step] for s in sequences if s[:step] == sequence[:step] and len(s) > step}
            with torch.no_grad():
                logits = model.model(torch.tensor([[*start, *sequence[:step]]])).logits[0, -1].double()
            logits = logits - logits.max()
            total += float(logits[sequence[step]]) - float(torch.logsumexp(logits[sorted(open_now)], 0))
        result[sentence] = np.exp(total)
    return result


@pytest.mark.parametrize(
    "constraint, sentences",
    [
        (Genes(["CD4", "CD40", "A2M"], at_most=2), [" ".join(x) for x in all_answers(["CD4", "CD40", "A2M"], 2)]),
        (Genes(["CD4", "CD40", "A"], n=3), [" ".join(x) for x in itertools.permutations(["CD4", "CD40", "A"])]),
        (Labels(["T", "T cell", "T cell, CD4", "NK"]), ["T", "T cell", "T cell, CD4", "NK"]),
    ],
)
def test_probabilities_are_the_unconstrained_ones_among_what_is_allowed(bpe, constraint, sentences):
    prompt = "The cell:"
    expected = brute_force(bpe, prompt, sentences)
    assert sum(expected.values()) == pytest.approx(1)
    tokens = encode(bpe, [prompt])[0]
    _, spelled = Speller(bpe, constraint).behind(prompt, tokens)
    found = {}
    for sentence in sentences:
        walk = TreeWalk(spelled, 1, len(bpe.tokenizer), torch.device("cpu"))
        walk.begin(0, 1)
        taken, total = list(tokens), 0.0
        for token in [*encode(bpe, [f"{prompt} {sentence}"])[0][len(tokens) :], bpe.tokenizer.eos_token_id]:
            with torch.no_grad():
                logits = bpe.model(torch.tensor([taken])).logits[:, -1].double()
            total += walk.masked(slice(0, 1), logits).log_softmax(-1)[0, token].item()
            walk.advance(slice(0, 1), torch.tensor([token]))
            taken.append(token)
        found[sentence] = np.exp(total)
    assert found == pytest.approx(expected, rel=1e-6)


def test_drawn_answers_have_those_probabilities(bpe):
    sentences = [" ".join(x) for x in all_answers(["CD4", "CD40"], 2)]
    expected = brute_force(bpe, "The cell:", sentences)
    answers = generate(bpe, ["The cell:"] * 4000, constraint=Genes(["CD4", "CD40"], at_most=2), temperature=1.0)
    for sentence in sentences:
        assert answers.count(sentence) / 4000 == pytest.approx(expected[sentence], abs=0.03)


def test_answers_do_not_depend_on_the_batch(bpe):
    prompts = [f"The cell {i % 5}{' is big' * (i % 3)}:" for i in range(20)]
    options = {"constraint": Genes(REAL_GENES, at_most=6), "temperature": 2.0}
    whole = generate(bpe, prompts, **options)
    assert generate(bpe, prompts, tokens_per_batch=1, **options) == whole
    ids = [str(prompts[:i].count(p)) for i, p in enumerate(prompts)]
    assert generate(bpe, prompts[::-1], request_ids=ids[::-1], tokens_per_batch=200, **options) == whole[::-1]


def test_greedy_takes_the_most_probable_allowed_token(neox):
    prompt = make_prompts(1)[0]
    end, answer = neox.tokenizer.eos_token_id, []
    first = encode(neox, [prompt])[0]
    spelling = {encode(neox, [f"{prompt} {g}"])[0][len(first)]: g for g in GENES}
    for _ in range(6):
        with torch.no_grad():
            logits = neox.model(torch.tensor([[*first, *answer]])).logits[0, -1]
        answer.append(max((t for t in spelling if t not in answer), key=lambda t: float(logits[t])))
    found = generate(neox, [prompt], constraint=Genes(GENES, n=6))[0]
    assert found == " ".join(spelling[t] for t in answer) and end not in answer


def test_transformers_generation_takes_the_same_constraint(bpe):
    from transformers import LogitsProcessorList

    prompts = ["The cell:"] * 3
    ids = torch.tensor(encode(bpe, prompts))
    for constraint in (Genes(REAL_GENES, n=4), Labels(LABELS)):
        _, spelled = Speller(bpe, constraint).behind(prompts[0], ids[0].tolist())
        output = bpe.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([Constrain(spelled)]),
            max_new_tokens=40,
            do_sample=False,
            pad_token_id=bpe.tokenizer.eos_token_id,
            eos_token_id=bpe.tokenizer.eos_token_id,
        )
        texts = bpe.tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        assert [text.strip() for text in texts] == generate(bpe, prompts, constraint=constraint)


def test_one_request_at_a_time_is_kept_to_the_same_tokens(bpe):
    _, spelled = Speller(bpe, Genes(REAL_GENES, n=3)).behind("The cell:", encode(bpe, ["The cell:"])[0])
    walk = TreeWalk(spelled, 1, len(bpe.tokenizer), torch.device("cpu"))
    walk.begin(0, 1)
    request, logits, output = ConstrainRequest(spelled), torch.randn(len(bpe.tokenizer)), []
    for _ in range(8):
        expected = walk.masked(slice(0, 1), logits[None])[0]
        assert torch.equal(request(output, logits), expected)
        output.append(int(expected.argmax()))
        walk.advance(slice(0, 1), torch.tensor(output[-1:]))
    # vLLM may put a request off and begin it again.
    again = request(output[:2], logits)
    assert torch.equal(again, ConstrainRequest(spelled)(output[:2], logits))


def test_families_without_masks_of_our_own(bpe):
    from transformers import GPT2Config

    model = with_network(GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=512, initializer_range=0.2))
    prompts = make_prompts(6)
    options = {"constraint": Genes(GENES, n=5), "temperature": 1.0, "repetition_penalty": 1.3}
    answers = generate(model, prompts, **options)
    checked(answers, GENES, n=5)
    assert generate(model, prompts, tokens_per_batch=1, **options) == answers
    cut = generate(model, prompts, constraint=Genes(GENES), temperature=1.0, max_new_tokens=3)
    checked(cut, GENES, at_most=3)


def test_prompts_that_end_in_many_ways(neox):
    prompts = [f"Which cell is this? {' '.join(GENES[i : i + 3])}" for i in range(12)]
    checked(generate(neox, prompts, constraint=Genes(GENES, n=3), temperature=1.0), GENES, n=3)


def test_a_prompt_whose_end_is_spelled_anew():
    """A tokenizer that joins the end of the prompt and the beginning of the answer."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedTokenizerFast

    letters = [*"abcdefgh: ", "<eos>"]
    vocabulary = {token: i for i, token in enumerate([*letters, ": ", ": a"])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", " "), (": ", "a")]))
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    torch.manual_seed(0)
    model = LanguageModel(AutoModelForCausalLM.from_config(config).eval(), tokenizer, "letters", None, 64)
    answers = generate(model, ["cell:"] * 60, constraint=Labels(["ab", "bc", "b"]), temperature=3.0)
    assert set(answers) == {"ab", "bc", "b"}
    genes = generate(model, ["cell:"] * 20, constraint=Genes(["ab", "bc", "b"], n=2), temperature=3.0)
    checked(genes, ["ab", "bc", "b"], n=2)


def test_constraints_as_plain_values():
    for constraint in (Genes(["A", "B"], n=1), Genes(["A"], at_most=3, repeats=True), Labels(["x", "x y"])):
        assert constraint_of(constraint.as_json()) == constraint
    assert Genes(["A", "B"]).limit == 2
    assert Genes(["A", "B"], at_most=5).limit == 2
    assert Genes(["A", "B"], repeats=True).limit is None


def test_the_length_of_an_answer_follows_from_the_constraint(neox):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = generate(neox, make_prompts(1), constraint=Genes(GENES, n=len(GENES)))[0]
    assert sorted(answer.split()) == sorted(GENES)
    with pytest.raises(ConfigError, match="max_new_tokens is 9, but the shortest answer of the constraint has 10"):
        generate(neox, make_prompts(1), constraint=Genes(GENES, n=10), max_new_tokens=9)


def test_gemma_and_llama_are_constrained_too():
    for architecture in ("gemma2", "llama"):
        model = tiny(architecture)
        checked(generate(model, make_prompts(5), constraint=Genes(GENES, n=7), temperature=1.0), GENES, n=7)


def test_a_word_that_was_only_begun_like_another_is_not_an_answer(neox):
    """Cut off within "GENE11", an answer does not hold "GENE1" in its place."""
    prompt, words = make_prompts(1)[0], ["T cell", "T cell naive"]
    tokens = encode(neox, [prompt])[0]
    _, spelled = Speller(neox, Labels(words)).behind(prompt, tokens)
    walk = TreeWalk(spelled, 1, len(neox.tokenizer), torch.device("cpu"))
    walk.begin(0, 1)
    ids = encode(neox, [f"{prompt} T cell naive"])[0][len(tokens) :]
    found = []
    for token in ids:
        walk.advance(slice(0, 1), torch.tensor([token]))
        found.append(walk.whole(0))
    assert found[1] == 2  # "T cell" is whole there
    assert found[-1] == len(ids)
    assert set(found[2:-1]) <= {0}


def test_labels_get_the_tokens_of_the_longest(neox):
    with pytest.raises(ConfigError, match="the longest answer of the constraint has"):
        generate(neox, make_prompts(1), constraint=Labels(["T cell", "T cell naive"]), max_new_tokens=2)
