from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
import torch

from c2s.errors import ConfigError, ContextError, PromptError
from c2s.inference import generate
from c2s.inference.sampling import draw, uniforms
from c2s.prompts import stable_hash

from .conftest import make_prompts, tiny, tokens_of

generate_module = importlib.import_module("c2s.inference.generate")


@pytest.fixture(scope="module")
def talker():
    """A model that ends its answers now and then."""
    model = tiny(initializer_range=0.05)
    with torch.no_grad():
        # The end of text gets the mean of all other words, scaled: likely after some texts, not after others.
        head = model.model.get_output_embeddings().weight
        head[model.tokenizer.eos_token_id] = head.abs().mean() * 25 * torch.sign(torch.arange(32) % 2 - 0.5)
    return model


def plain_answer(model, prompt, *, seed=0, repeat=0, temperature=0.0, top_p=1.0, max_new_tokens=12):
    """Token by token, one full forward pass each."""
    numbers = uniforms([stable_hash("request", seed, prompt, repeat)], max_new_tokens)[0]
    tokens = tokens_of(model, prompt)
    new = []
    for number in numbers:
        with torch.no_grad():
            logits = model.model(torch.tensor([tokens + new])).logits[0, -1].double().numpy()
        if temperature == 0:
            token = int(logits.argmax())
        else:
            p = np.exp((logits - logits.max()) / temperature)
            p /= p.sum()
            if top_p < 1:
                order = np.argsort(-p)
                size = int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1
                p[order[size:]] = 0
            token = int(np.searchsorted(np.cumsum(p), number * p.sum(), side="right"))
        if token == model.tokenizer.eos_token_id:
            break
        new.append(token)
    return model.tokenizer.decode(new, skip_special_tokens=True).strip()


@pytest.mark.parametrize("temperature, top_p", [(0.0, 1.0), (1.0, 1.0), (0.4, 1.0), (1.0, 0.6)])
def test_answers_equal_those_of_one_request_alone(talker, temperature, top_p):
    prompts = make_prompts(8)
    options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": 12}
    expected = [plain_answer(talker, prompt, seed=3, **options) for prompt in prompts]
    found = generate(talker, prompts, seed=3, **options)
    assert found == expected
    assert generate(talker, prompts, seed=3, tokens_per_batch=1, **options) == expected
    assert generate(talker, prompts[::-1], seed=3, tokens_per_batch=90, **options) == expected[::-1]
    assert generate(talker, prompts[5:6], seed=3, **options) == expected[5:6]


def test_answers_end(talker):
    prompts = make_prompts(12)
    answers = generate(talker, prompts, temperature=1.0, max_new_tokens=12)
    lengths = [len(tokens_of(talker, answer)) if answer else 0 for answer in answers]
    assert min(lengths) < 12 <= max(lengths)  # the model does both, or the tests above show little
    for prompt, answer in zip(prompts, answers, strict=True):
        assert prompt not in answer
        assert answer == answer.strip()
        assert talker.tokenizer.eos_token not in answer
        assert talker.tokenizer.pad_token not in answer


def test_same_prompts_have_their_own_draws(neox):
    prompt = make_prompts(1)[0]
    four = generate(neox, [prompt] * 4, temperature=1.0, seed=1)
    assert len(set(four)) == 4
    assert generate(neox, [prompt] * 2, temperature=1.0, seed=1) == four[:2]
    options = {"seed": 1, "temperature": 1.0, "max_new_tokens": 32}
    assert four == [plain_answer(neox, prompt, repeat=i, **options) for i in range(4)]
    assert generate(neox, [prompt], temperature=1.0, seed=2)[0] != four[0]


def test_request_ids_tell_requests_apart_wherever_they_run(neox):
    prompt = make_prompts(1)[0]
    options = {"temperature": 1.0, "seed": 5, "max_new_tokens": 8}
    whole = generate(neox, [prompt] * 3, request_ids=["a", "b", "c"], **options)
    assert len(set(whole)) == 3
    assert generate(neox, [prompt], request_ids=["c"], **options) == whole[2:]
    assert generate(neox, [prompt] * 2, request_ids=["b", "b"], **options) == [whole[1]] * 2


def test_greedy_needs_no_seed(neox):
    prompts = make_prompts(3)
    assert generate(neox, prompts, seed=1) == generate(neox, prompts, seed=2)


def test_what_the_checkpoint_says_about_sampling_does_not_leak_in(neox):
    model = copy.deepcopy(neox)
    model.model.generation_config.do_sample = True
    model.model.generation_config.temperature = 9.0
    model.model.generation_config.max_length = 3
    model.model.generation_config.repetition_penalty = 50.0
    settings = model.model.generation_config
    prompts = make_prompts(4)
    assert generate(model, prompts) == generate(neox, prompts)
    assert model.model.generation_config is settings
    assert settings.repetition_penalty == 50.0


def test_adapters_are_used(neox):
    from peft import LoraConfig, get_peft_model

    model = tiny()
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules=["query_key_value"], init_lora_weights=False)
    model.model = get_peft_model(model.model, lora).eval()
    prompts = make_prompts(3)
    answers = generate(model, prompts, max_new_tokens=6)
    assert answers == [plain_answer(model, prompt, max_new_tokens=6) for prompt in prompts]
    assert answers != generate(neox, prompts, max_new_tokens=6)


def test_the_global_generator_is_not_touched(neox):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    generate(neox, make_prompts(2), temperature=1.0, max_new_tokens=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_prompts(neox):
    assert generate(neox, []) == []


def test_max_new_tokens_is_exact(neox):
    for n in (1, 5):
        answer = generate(neox, make_prompts(1), max_new_tokens=n)[0]
        assert answer == plain_answer(neox, make_prompts(1)[0], max_new_tokens=n)


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0, not at least 1"),
        ({"temperature": -0.1}, "temperature is -0.1, not 0 or a positive number"),
        ({"temperature": float("inf")}, "temperature is inf, not 0 or a positive number"),
        ({"temperature": float("nan")}, "temperature is nan, not 0 or a positive number"),
        ({"top_p": 0.0}, "top_p is 0.0, not in (0, 1]"),
        ({"top_p": 1.01}, "top_p is 1.01, not in (0, 1]"),
    ],
)
def test_bad_arguments(neox, options, problem):
    with pytest.raises(ConfigError) as error:
        generate(neox, ["GENE1"], **options)
    assert error.value.problems == [problem]
    assert str(error.value).startswith("generation: ")


def test_all_bad_arguments_are_named_together(neox):
    with pytest.raises(ConfigError) as error:
        generate(neox, ["GENE1"], max_new_tokens=-1, temperature=-1, top_p=2)
    assert len(error.value.problems) == 3
    assert error.value.fix == "e.g. max_new_tokens=32, temperature=0.3, top_p=1.0."


def test_bad_batch_size(neox):
    with pytest.raises(ConfigError, match="tokens_per_batch is 0"):
        generate(neox, ["GENE1"], tokens_per_batch=0)


def test_ids_must_match_prompts(neox):
    with pytest.raises(PromptError) as error:
        generate(neox, ["GENE1", "GENE2"], request_ids=["a"])
    assert str(error.value) == "2 prompts but 1 request ids. Fix: give one id per prompt."


def test_context_is_checked_to_the_token(neox):
    model = copy.copy(neox)
    model.context_length = 7
    assert len(generate(model, ["GENE1 GENE2"], max_new_tokens=5)) == 1
    with pytest.raises(ContextError, match=r"example 0 needs 8 tokens \(2 of the prompt and 6 for the answer"):
        generate(model, ["GENE1 GENE2"], max_new_tokens=6)


def test_modes_and_progress(neox, monkeypatch):
    from contextlib import contextmanager

    model = tiny()
    model.model.train()
    seen = []

    @contextmanager
    def record(description, total, *, enabled):
        seen.append((description, total, enabled))
        yield lambda n: seen.append((n, model.model.training))

    monkeypatch.setattr(generate_module, "progress", record)
    generate(model, make_prompts(3), max_new_tokens=2, tokens_per_batch=1)
    assert seen == [("generating", 3, False), (1, False), (1, False), (1, False)]
    assert model.model.training


def pick(probabilities, uniform, temperature=1.0, top_p=1.0):
    logits = torch.log(torch.tensor([probabilities], dtype=torch.float64))
    return draw(logits, torch.tensor([uniform], dtype=torch.float64), temperature, top_p).item()


def test_draws_by_hand():
    p = [0.2, 0.0, 0.5, 0.3]
    assert [pick(p, u) for u in (0.0, 0.19, 0.21, 0.69, 0.71, 0.999)] == [0, 0, 2, 2, 3, 3]
    # Without the least probable: 0.5 and 0.3 hold at least 0.75, so 5/8 of the draws are token 2.
    assert [pick(p, u, top_p=0.75) for u in (0.0, 0.62, 0.63, 0.999)] == [2, 2, 3, 3]
    assert [pick(p, u, top_p=0.5) for u in (0.0, 0.999)] == [2, 2]
    assert [pick(p, u, top_p=0.51) for u in (0.62, 0.63)] == [2, 3]
    assert [pick(p, u, top_p=1e-9) for u in (0.0, 0.999)] == [2, 2]
    # At temperature 1/2 the probabilities are squared: 0.04, 0.25, 0.09 of 0.38.
    assert [pick(p, u, temperature=0.5) for u in (0.105, 0.106, 0.763, 0.764)] == [0, 2, 2, 3]


def test_a_draw_at_the_very_end_never_takes_an_impossible_token():
    nearly_one = np.nextafter(1.0, 0.0)
    assert pick([0.5, 0.5, 0.0, 0.0], nearly_one) == 1
    assert pick([1 / 3, 1 / 3, 1 / 3, 0.0], nearly_one) == 2
    assert pick([0.0, 0.0, 1.0], 0.0) == 2


def test_draws_follow_the_probabilities():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    uniform = torch.from_numpy(np.random.default_rng(0).random(20_000))
    tokens = draw(p.log().expand(20_000, -1), uniform, 1.0, 1.0)
    shares = torch.bincount(tokens, minlength=4) / 20_000
    np.testing.assert_allclose(shares, p, atol=0.012)
