"""One object for both backends. vLLM is played by a stand-in here: what is ours about it is what is tested."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from c2s.errors import ConfigError, ModelError
from c2s.inference import Engine, Genes, Labels, embed, generate, score
from c2s.inference.batching import encode
from c2s.inference.constrain import Speller
from c2s.inference.sampling import Sampling
from c2s.inference.to_file import read_answers
from c2s.inference.vllm_backend import (
    EXTRA,
    load_spelled,
    request_parameters,
    request_processor,
    save_spelled,
    summed,
    whole_words,
)

from .conftest import GENES, LABELS, make_prompts, tiny

PROMPTS = make_prompts(6)


def test_calls_are_those_of_the_functions(neox, tmp_path):
    engine = Engine(neox, tokens_per_batch=200)
    options = {"temperature": 1.0, "max_new_tokens": 5, "seed": 2}
    assert engine.generate(PROMPTS, **options) == generate(neox, PROMPTS, **options)
    held = engine.generate(PROMPTS, constraint=Genes(GENES, n=3))
    assert held == generate(neox, PROMPTS, constraint=Genes(GENES, n=3))
    np.testing.assert_allclose(
        engine.score(PROMPTS, LABELS).log_probs, score(neox, PROMPTS, LABELS).log_probs, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(engine.embed(PROMPTS), embed(neox, PROMPTS), atol=1e-5)
    path = engine.generate_to(tmp_path / "a.jsonl", dict(zip("abcdef", PROMPTS, strict=True)), **options)
    answers = generate(neox, PROMPTS, request_ids=list("abcdef"), **options)
    assert read_answers(path) == dict(zip("abcdef", answers, strict=True))


def test_a_folder_is_loaded(neox, tmp_path):
    tiny().save(tmp_path / "model")
    engine = Engine(tmp_path / "model", device="cpu", dtype="bfloat16")
    assert engine.model.model.dtype == torch.bfloat16
    assert len(engine.generate(PROMPTS[:1])) == 1


def test_what_an_engine_refuses(neox):
    with pytest.raises(ConfigError, match="no backend 'tgi'"):
        Engine(neox, backend="tgi")
    with pytest.raises(ConfigError, match="dtype has no meaning for a model that is loaded"):
        Engine(neox, dtype="bfloat16")
    with pytest.raises(ConfigError, match="no setting 'top_q'"):
        Engine(neox).generate(PROMPTS, top_q=1)
    with pytest.raises(ModelError, match="vLLM is not installed"):
        Engine(neox, backend="vllm")


def test_parameters_of_a_request():
    sampling = Sampling(temperature=0.3, top_p=0.9, top_k=40, min_p=0.1, repetition_penalty=1.1, stop=(".",))
    found = request_parameters(sampling, 12, 2**64 - 1, 7, "x.json")
    assert found == {
        "max_tokens": 12,
        "temperature": 0.3,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "stop_token_ids": [7],
        "stop": ["."],
        "seed": 2**63 - 1,
        "extra_args": {EXTRA: "x.json"},
    }
    assert "extra_args" not in request_parameters(Sampling(), 1, 0, 0, None)


def test_a_constraint_travels_through_a_file(neox, tmp_path):
    tokens = encode(neox, PROMPTS[:1])[0]
    for constraint in (Genes(GENES, n=3), Genes(GENES, repeats=True), Labels(LABELS)):
        _, spelled = Speller(neox, constraint).behind(PROMPTS[0], tokens)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        save_spelled(spelled, path)
        again = load_spelled(str(path))
        assert (again.end, again.least, again.most, again.repeats) == (
            spelled.end,
            spelled.least,
            spelled.most,
            spelled.repeats,
        )
        assert again.tree.to_lists() == spelled.tree.to_lists()
        logits = torch.randn(len(neox.tokenizer))
        processor = request_processor({EXTRA: str(path)})
        assert torch.isinf(processor([], logits)).any()
    assert request_processor(None) is None and request_processor({"other": 1}) is None


def test_log_probabilities_are_summed_over_the_label(neox):
    given = [
        None,
        {4: SimpleNamespace(logprob=-1.0)},
        {5: SimpleNamespace(logprob=-2.0), 9: SimpleNamespace(logprob=0.0)},
    ]
    assert summed(given, [3, 4, 5], 2) == -3.0
    assert summed(given, [3, 4, 5], 1) == -2.0
    with pytest.raises(ModelError, match="no log-probability"):
        summed(given, [3, 4, 5], 3)


def test_whole_words_of_an_answer(neox):
    tokens = encode(neox, PROMPTS[:1])[0]
    _, spelled = Speller(neox, Labels(["CD4 T cell", "CD4 T cell naive"])).behind(PROMPTS[0], tokens)
    ids = encode(neox, [f"{PROMPTS[0]} CD4 T cell naive"])[0][len(tokens) :]
    assert [len(whole_words(spelled, ids[:n])) for n in range(1, len(ids) + 1)] == [0, 0, 3, 4]
    assert whole_words(None, [1, 2]) == [1, 2]


class FakeLLM:
    """Answers as vLLM would, with the network of transformers and vLLM's own interfaces."""

    def __init__(self, model, logits_processors, **options):
        from c2s.models import load_model

        self.loaded, self.options = load_model(model, device="cpu"), options
        module, _, name = logits_processors[0].partition(":")
        self.processor = getattr(__import__(module, fromlist=[name]), name)()
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=self.loaded.context_length))

    def get_tokenizer(self):
        return self.loaded.tokenizer

    def generate(self, prompts, parameters):
        each = parameters if isinstance(parameters, list) else [parameters] * len(prompts)
        return [self.one(p["prompt_token_ids"], params) for p, params in zip(prompts, each, strict=True)]

    def one(self, prompt, params):
        with torch.no_grad():
            logits = self.loaded.model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        given = [None]
        given += [{t: SimpleNamespace(logprob=float(logits[i, t]))} for i, t in enumerate(prompt[1:])]
        request = self.processor.new_req_logits_processor(params)
        new = []
        while len(new) < params.max_tokens and (not new or new[-1] not in getattr(params, "stop_token_ids", [])):
            with torch.no_grad():
                last = self.loaded.model(torch.tensor([[*prompt, *new]])).logits[0, -1]
            new.append(int((request(new, last) if request else last).argmax()))
        return SimpleNamespace(prompt_logprobs=given, outputs=[SimpleNamespace(token_ids=new)])


@pytest.fixture
def fake_vllm(monkeypatch):
    names = ["vllm", "vllm.v1", "vllm.v1.sample", "vllm.v1.sample.logits_processor"]
    modules = {name: types.ModuleType(name) for name in names}
    for module in modules.values():
        module.__spec__ = SimpleNamespace(name=module.__name__)
    modules["vllm"].LLM = FakeLLM
    modules["vllm"].SamplingParams = lambda **options: SimpleNamespace(**{"extra_args": None, **options})
    modules["vllm"].TokensPrompt = dict
    modules["vllm.v1.sample.logits_processor"].AdapterLogitsProcessor = object
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "c2s.inference.vllm_processor", raising=False)
    yield
    sys.modules.pop("c2s.inference.vllm_processor", None)


def test_vllm_gives_the_same_greedy_answers_scores_and_constraints(fake_vllm, neox, tmp_path):
    tiny().save(tmp_path / "model")
    engine = Engine(tmp_path / "model", backend="vllm", gpu_memory_utilization=0.5)
    assert engine.generate(PROMPTS, max_new_tokens=6) == generate(neox, PROMPTS, max_new_tokens=6)
    for constraint in (Genes(GENES, n=4), Labels(LABELS)):
        assert engine.generate(PROMPTS, constraint=constraint) == generate(neox, PROMPTS, constraint=constraint)
    stopped = engine.generate(PROMPTS, max_new_tokens=12, stop=["GENE1"], max_genes=2)
    assert stopped == generate(neox, PROMPTS, max_new_tokens=12, stop=["GENE1"], max_genes=2)
    with pytest.raises(ConfigError, match="'E1' occurs inside 'GENE1', a word of the constraint"):
        engine.generate(PROMPTS, stop="E1", constraint=Genes(GENES, n=4))
    found = engine.score(PROMPTS, LABELS)
    np.testing.assert_allclose(found.log_probs, score(neox, PROMPTS, LABELS).log_probs, atol=1e-4)
    assert found.candidates == tuple(LABELS)
    np.testing.assert_allclose(engine.embed(PROMPTS[:2]), embed(neox, PROMPTS[:2]), atol=1e-5)
    assert sys.modules["c2s.inference.vllm_processor"].ConstrainRequests().is_argmax_invariant() is False


def test_vllm_reads_folders_only_and_runs_no_code_of_theirs(fake_vllm, neox, tmp_path):
    with pytest.raises(ModelError, match="only in memory"):
        Engine(neox, backend="vllm")
    model = tiny()
    model.save(tmp_path / "model")
    assert Engine(model, backend="vllm").model is model
    with pytest.raises(ConfigError, match="trust_remote_code is never set"):
        Engine(tmp_path / "model", backend="vllm", trust_remote_code=True)
