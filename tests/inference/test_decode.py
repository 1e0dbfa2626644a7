"""The decoding loop: prompts read once, rows that close up, rules that end answers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from c2s.errors import ConfigError, ModelError
from c2s.inference import Genes, Labels, generate, generate_to
from c2s.inference.generate import generated
from c2s.inference.memory import cache_bytes_per_token, cached_tokens
from c2s.inference.sampling import Sampling, draw, penalised, uniforms
from c2s.inference.stopping import StopRules

from .conftest import GENES, make_prompts, tiny, tokens_of


def counted(model, monkeypatch):
    """Record the shape of what each forward pass reads."""
    shapes = []
    forward = type(model.model).forward

    def counting(self, input_ids=None, **rest):
        shapes.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(type(model.model), "forward", counting)
    return shapes


@pytest.mark.parametrize(
    "architecture, window", [("gpt_neox", None), ("gemma2", None), ("gemma2", 9), ("llama", None)]
)
def test_greedy_answers_are_those_of_transformers(architecture, window):
    model = tiny(architecture)
    if window:
        from transformers import AutoModelForCausalLM

        model.model.config.sliding_window = window
        torch.manual_seed(0)
        model.model = AutoModelForCausalLM.from_config(model.model.config).eval()
    prompts = make_prompts(9)
    expected = []
    for prompt in prompts:
        ids = torch.tensor([tokens_of(model, prompt)])
        output = model.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False
        )
        expected.append(model.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert len(set(expected)) > 3
    assert generate(model, prompts, max_new_tokens=20) == expected
    assert generate(model, prompts, max_new_tokens=20, tokens_per_batch=100) == expected


def test_a_prompt_is_read_once_however_many_answers_it_has(neox, monkeypatch):
    shapes = counted(neox, monkeypatch)
    prompts = make_prompts(2)
    generate(neox, prompts * 50, max_new_tokens=3, temperature=1.0)
    read = [shape for shape in shapes if shape[1] > 1]
    assert sum(rows for rows, _ in read) == 2
    assert max(shapes)[0] == 100 or max(rows for rows, _ in shapes) >= 50


def test_what_prompts_begin_with_is_read_once(neox, monkeypatch):
    head = "Predict the type of this cell from its genes: " + " ".join(GENES)
    prompts = [f"{head} {GENES[i]} {GENES[i + 1]}" for i in range(10)]
    shared = generate(neox, prompts, max_new_tokens=6)
    shapes = counted(neox, monkeypatch)
    assert generate(neox, prompts, max_new_tokens=6) == shared
    tokens = len(tokens_of(neox, head))
    assert shapes[0] == (1, tokens) and shapes[1] == (10, 2)
    shapes.clear()
    whole = dict(generated(neox, prompts, Sampling(max_new_tokens=6), share=False))
    assert [whole[i] for i in range(10)] == shared
    assert shapes[0] == (10, tokens + 2)


def test_rows_that_end_make_room_and_the_rest_close_up(neox, monkeypatch):
    """Answers of many lengths through few rows: every row that is computed is one that runs."""
    prompts = make_prompts(40, lengths=(1, 9))
    model = copy.copy(neox)
    options = {"temperature": 1.5, "stop": [" GENE3"], "max_new_tokens": 24}
    expected = generate(model, prompts, **options)
    lengths = [len(tokens_of(model, a)) for a in expected]
    assert len(set(lengths)) > 5
    shapes = counted(neox, monkeypatch)
    assert generate(model, prompts, tokens_per_batch=400, **options) == expected
    steps = [rows for rows, width in shapes if width == 1]
    assert max(steps) < 20
    assert len(set(steps)) > 3


@pytest.mark.parametrize("stop", ["GENE1", " GENE2", "cell", ("zz", "E3")])
def test_stop_strings_end_an_answer_before_them(neox, stop):
    prompts = make_prompts(12)
    options = {"max_new_tokens": 24, "temperature": 1.0, "seed": 4}
    whole = generate(neox, prompts, **options)
    stops = (stop,) if isinstance(stop, str) else stop
    expected = []
    for text in whole:
        places = [text.find(s) for s in stops if s in text]
        expected.append(text[: min(places)].strip() if places else text)
    assert expected != whole
    assert generate(neox, prompts, stop=stop, **options) == expected


def test_no_more_words_than_asked_for(neox, monkeypatch):
    prompts = make_prompts(12)
    options = {"max_new_tokens": 24, "temperature": 1.0, "seed": 4}
    whole = generate(neox, prompts, **options)
    shapes = counted(neox, monkeypatch)
    found = generate(neox, prompts, max_genes=3, **options)
    assert [text.split() for text in found] == [text.split()[:3] for text in whole]
    assert max(len(text.split()) for text in whole) > 3
    assert len([1 for _, width in shapes if width == 1]) < 24


def test_stop_rules_alone(neox):
    rules = StopRules(neox.tokenizer, (), None)
    assert not rules and rules.cut(" a b ") == "a b"
    assert StopRules(neox.tokenizer, ("b",), 1).cut("a  c b") == "a"


@pytest.mark.parametrize(
    "text",
    ["GENE1 GENE2 GENE3 GENE4", "\n\nGENE1 GENE2 GENE3 GENE4", "cell:\n\n\n\nGENE2 \n \n GENE30  \n GENE4 NK"],
)
def test_an_answer_with_blank_lines_ends_behind_as_many_words_as_asked_for(neox, text):
    ids = tokens_of(neox, text)
    decoded = [neox.tokenizer.decode(ids[: n + 1]) for n in range(len(ids))]
    for most in (1, 2, 3):
        rules = StopRules(neox.tokenizer, (), most)
        answers = torch.tensor([ids] * len(ids))
        ended = rules.ended(answers, torch.arange(1, len(ids) + 1)).tolist()
        assert any(ended)
        for now, written in zip(ended, decoded, strict=True):
            assert not now or rules.cut(written).split() == text.split()[:most]
        # One word too many is enough to know.
        assert ended == [len(written.split()) > most for written in decoded]


def test_the_end_of_a_prompt_that_is_spelled_anew_is_no_word_of_the_answer(neox):
    ids = torch.tensor([tokens_of(neox, "type: GENE1 GENE2")])
    lengths = torch.tensor([ids.shape[1]])
    assert StopRules(neox.tokenizer, (), 1).ended(ids, lengths).tolist() == [True]
    assert StopRules(neox.tokenizer, (), 2, begun=["type:"]).ended(ids, lengths).tolist() == [False]
    assert StopRules(neox.tokenizer, (), 1, begun=["type:"]).ended(ids, lengths).tolist() == [True]


def test_the_sampling_parameters_by_hand():
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64))

    def tokens(**options):
        numbers = torch.linspace(0, 0.999, 200, dtype=torch.float64)
        return sorted(set(draw(logits.expand(200, -1), numbers, 1.0, **options).tolist()))

    assert tokens() == [0, 1, 2, 3]
    assert tokens(top_k=2) == [1, 3]
    assert tokens(top_k=9) == [0, 1, 2, 3]
    assert tokens(min_p=0.5) == [1, 2, 3]
    assert tokens(min_p=0.6) == [1, 3]
    assert tokens(top_k=3, top_p=0.7) == [1, 3]
    seen = torch.tensor([[True, False, True, False]])
    found = penalised(torch.tensor([[2.0, 2.0, -1.0, -1.0]]), seen, 2.0)
    assert found.tolist() == [[1.0, 2.0, -2.0, -1.0]]


def test_a_repetition_penalty_is_that_of_transformers(neox):
    prompts = make_prompts(5)
    expected = []
    for prompt in prompts:
        ids = torch.tensor([tokens_of(neox, prompt)])
        output = neox.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=16,
            do_sample=False,
            repetition_penalty=1.4,
        )
        expected.append(neox.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert generate(neox, prompts, max_new_tokens=16, repetition_penalty=1.4) == expected
    assert expected != generate(neox, prompts, max_new_tokens=16)


def test_random_numbers_are_even_and_a_function_of_seed_and_step():
    numbers = uniforms([1, 2, 2**64 - 1], 20_000)
    assert numbers.dtype == np.float64 and numbers.shape == (3, 20_000)
    assert (numbers >= 0).all() and (numbers < 1).all()
    np.testing.assert_array_equal(uniforms([2], 5)[0], numbers[1, :5])
    for row in numbers:
        counts = np.histogram(row, bins=20, range=(0, 1))[0]
        assert abs(counts - 1000).max() < 160
    assert abs(np.corrcoef(numbers)[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers[0, :-1], numbers[0, 1:])[0, 1]) < 0.03


def test_the_first_numbers_are_those_of_splitmix64():
    # The generator's published test vector for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    np.testing.assert_allclose(uniforms([1234567], 3)[0], np.array(expected) / 2**64, atol=1e-15)


def test_memory_of_keys_and_values(neox):
    # 2 layers, keys and values, 32 numbers of 4 bytes.
    assert cache_bytes_per_token(neox.model) == 2 * 2 * 32 * 4
    assert cached_tokens(neox.model) == 2**15
    big = copy.copy(neox.model.config)
    network = type("Network", (), {"config": big, "dtype": torch.float32, "device": torch.device("cpu")})()
    big.num_hidden_layers = 2**14
    assert cached_tokens(network) == 2**30 // (2**14 * 2 * 32 * 4)


@pytest.mark.parametrize(
    "error, raised",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), ModelError),
        (MemoryError(), ModelError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), ModelError),
        (RuntimeError("shapes do not match"), RuntimeError),
    ],
)
def test_running_out_of_memory_says_what_to_lower(neox, monkeypatch, error, raised):
    def forward(*args, **options):
        raise error

    monkeypatch.setattr(type(neox.model), "forward", forward)
    with pytest.raises(raised) as caught:
        generate(neox, make_prompts(2), tokens_per_batch=800)
    if raised is ModelError:
        assert "ran out of memory with 800 tokens per batch" in str(caught.value)
        assert "lower tokens_per_batch (e.g. 200)" in caught.value.fix


def test_a_model_that_gives_nan(neox):
    model = copy.deepcopy(neox)
    with torch.no_grad():
        model.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        generate(model, make_prompts(2))


def test_all_bad_settings_are_named_together():
    with pytest.raises(ConfigError) as error:
        Sampling(top_k=-1, min_p=1.0, repetition_penalty=0.0, max_genes=0, stop=("",))
    assert len(error.value.problems) == 5


@pytest.mark.parametrize(
    "constraint, stop, named",
    [
        (Genes(["CD4", "RP11-34P13.7"], n=1), ".", r"the stop string '\.' occurs inside 'RP11-34P13\.7'"),
        (Genes(["CD8A", "CD4"], n=2), ["|", "4 CD8A"], "the stop string '4 CD8A' occurs inside 'CD4'"),
        (Labels(["B", "T cell"]), [" c"], "the stop string ' c' occurs inside 'T cell'"),
    ],
)
def test_a_stop_string_inside_a_word_of_the_constraint_is_refused(neox, tmp_path, constraint, stop, named):
    with pytest.raises(ConfigError, match=named) as error:
        generate(neox, make_prompts(1), stop=stop, constraint=constraint)
    assert len(error.value.problems) == 1
    assert error.value.fix.startswith("leave the stop string out")
    with pytest.raises(ConfigError, match=named):
        generate_to(tmp_path / "a.jsonl", neox, {"a": make_prompts(1)[0]}, stop=stop, constraint=constraint)
    assert not list(tmp_path.iterdir())


def test_a_stop_string_that_no_word_holds_goes_with_a_constraint(neox):
    prompts = make_prompts(2)
    constraint = Genes(["GENE1", "GENE2"], n=2)
    assert generate(neox, prompts, stop=[".", "\n"], constraint=constraint) == generate(
        neox, prompts, constraint=constraint
    )
