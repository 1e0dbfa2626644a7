"""GPT-NeoX (Pythia), Gemma 2 and Llama at toy size through every path: each agrees with plain forward passes.

Gemma 2 has grouped heads, capped scores and logits, tied embeddings and a sliding window shorter than the prompts;
Llama has grouped heads; GPT-NeoX has partial rotary positions and an output layer of its own name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from c2s.errors import ContextError, TrainingError
from c2s.inference import embed, generate, score
from c2s.models import LanguageModel, LoraOptions, TinyConfig, add_lora, check_context, load_model, merge_lora
from c2s.tasks import example_table
from c2s.training import SFTConfig, TrainResult, train_sft

GENES = [f"GENE{i}" for i in range(30)]
LABELS = ["B cell", "T cell", "T cell naive", "NK"]
SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neox": {},
    "gemma2": {"kv_heads": 2, "sliding_window": 6, "tie_embeddings": True},
    "llama": {"kv_heads": 2},
}
pytestmark = pytest.mark.parametrize("architecture", SHAPES)


def make_prompts(n: int) -> list[str]:
    """Prompts of one template, from shorter to longer than Gemma's window."""
    rng = np.random.default_rng(1)
    return [
        f"Name the type of this cell : {' '.join(rng.permutation(GENES)[: 3 + 3 * i])} . Type :" for i in range(n)
    ]


def make_model(architecture: str, **options: Any) -> LanguageModel:
    shape: dict[str, Any] = {"layers": 3, "hidden_size": 32, "heads": 4, "initializer_range": 0.2}
    config = TinyConfig.of(architecture=architecture, context_length=128, **shape | SHAPES[architecture] | options)
    return load_model("tiny", corpus=[*make_prompts(6), *LABELS, " ".join(GENES)], config=config, device="cpu")


def with_real_adapter(model: LanguageModel) -> LanguageModel:
    """An adapter that changes the answers, as after training."""
    wrapped = add_lora(model, LoraOptions(rank=2))
    generator = torch.Generator().manual_seed(3)
    for name, parameter in wrapped.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return wrapped


def plain_score(model: LanguageModel, prompt: str, label: str) -> float:
    """Log-probability of a label by one forward pass over the whole text."""
    start = len(model.tokenizer(prompt)["input_ids"])
    ids = [*model.tokenizer(f"{prompt} {label}")["input_ids"], model.tokenizer.eos_token_id]
    with torch.no_grad():
        log_probs = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(log_probs[i - 1, ids[i]].item() for i in range(start, len(ids)))


def plain_answer(model: LanguageModel, prompt: str, n: int) -> str:
    """The most probable continuation, one whole forward pass per token, without a cache."""
    ids = list(model.tokenizer(prompt)["input_ids"])
    start = len(ids)
    for _ in range(n):
        with torch.no_grad():
            best = int(model.model(torch.tensor([ids])).logits[0, -1].argmax())
        if best == model.tokenizer.eos_token_id:
            break
        ids.append(best)
    return str(model.tokenizer.decode(ids[start:], skip_special_tokens=True)).strip()


def plain_embedding(model: LanguageModel, text: str) -> np.ndarray:
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    network = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    with torch.no_grad():
        hidden = network.get_decoder()(input_ids=ids).last_hidden_state[0]
    return hidden.mean(0).numpy()


@pytest.fixture(params=["plain", "adapter"])
def model(request: pytest.FixtureRequest, architecture: str) -> LanguageModel:
    made = make_model(architecture)
    return made if request.param == "plain" else with_real_adapter(made)


def test_scores_with_shared_beginnings_are_those_of_plain_passes(model: LanguageModel) -> None:
    prompts = make_prompts(6)
    scores = score(model, prompts, LABELS).log_probs
    expected = [[plain_score(model, prompt, label) for label in LABELS] for prompt in prompts]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_generation_in_a_batch_is_that_of_plain_passes(model: LanguageModel) -> None:
    prompts = make_prompts(6)
    answers = generate(model, prompts, max_new_tokens=12)
    assert answers == [plain_answer(model, prompt, 12) for prompt in prompts]
    assert len(set(answers)) > 1


def test_draws_do_not_depend_on_the_batch(model: LanguageModel) -> None:
    prompts = make_prompts(5)
    options: dict[str, Any] = {"max_new_tokens": 8, "temperature": 0.8, "top_p": 0.9, "seed": 4}
    together = generate(model, prompts, **options)
    assert together == [generate(model, [prompt], **options)[0] for prompt in prompts]


def test_embeddings_are_those_of_single_texts(model: LanguageModel) -> None:
    prompts = make_prompts(6)
    expected = np.stack([plain_embedding(model, prompt) for prompt in prompts])
    np.testing.assert_allclose(embed(model, prompts), expected, rtol=1e-3, atol=1e-4)


def test_the_context_is_kept(architecture: str) -> None:
    model = make_model(architecture)
    prompt = " ".join(GENES * 5)
    assert check_context(model, [" ".join(GENES * 4)], max_new_tokens=8).longest == 128
    with pytest.raises(ContextError, match="150 tokens"):
        check_context(model, [prompt])
    with pytest.raises(ContextError):
        generate(model, [prompt], max_new_tokens=4)


def examples(n: int = 12) -> pa.Table:
    rng = np.random.default_rng(0)
    records = []
    for i in range(n):
        own = [GENES[g + 5 * (i % 2)] for g in range(4)]
        rest = [GENES[g] for g in 10 + rng.permutation(20)[: 2 + i % 5]]
        sentence = " ".join([*own, *rest])
        records.append(
            {
                "example_id": f"cell{i}",
                "cell_ids": [f"cell{i}"],
                "cell_sentence": sentence,
                "label": LABELS[i % 2],
                "template": "toy",
                "prompt": f"{sentence} . Type :",
                "answer": LABELS[i % 2],
            }
        )
    return example_table(records)


def test_training_learns_and_what_it_saves_is_what_it_learned(architecture: str, tmp_path: Path) -> None:
    model = make_model(architecture, initializer_range=0.05)
    config = SFTConfig(max_steps=25, batch_size=6, learning_rate=1e-2, eval_every=100)
    result = train_sft(model, examples(), out=tmp_path / "m", config=config, show_progress=False)
    assert result.losses[-1] < 0.3 * result.losses[0]
    prompts = examples()["prompt"].to_pylist()
    read = load_model(tmp_path / "m", device="cpu")
    assert read.model.config.model_type == architecture
    scores = score(read, prompts, LABELS)
    assert scores.best() == examples()["answer"].to_pylist()
    np.testing.assert_allclose(scores.log_probs, score(model, prompts, LABELS).log_probs, rtol=1e-5, atol=1e-5)
    tied = bool(SHAPES[architecture].get("tie_embeddings"))
    assert bool(json.loads((tmp_path / "m" / "config.json").read_text())["tie_word_embeddings"]) == tied


class Cut:
    """An augmentation that changes nothing, and fails after so many examples."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        if self.left == 0:
            raise TrainingError("cut off.", fix="resume")
        self.left -= 1
        return record


def test_a_run_that_was_cut_off_ends_in_the_same_weights(architecture: str, tmp_path: Path) -> None:
    config = SFTConfig(max_steps=6, batch_size=4, save_steps=2, eval_every=100)
    whole = train_sft(make_model(architecture), examples(), out=tmp_path / "a", config=config, show_progress=False)

    def run(augment: Cut | None) -> TrainResult:
        return train_sft(
            make_model(architecture), examples(), out=tmp_path / "b", config=config, show_progress=False,
            augment=augment, resume=True,
        )  # fmt: skip

    with pytest.raises(TrainingError, match="cut off"):
        run(Cut(17))  # in the middle of the fifth step
    resumed = run(None)
    ours, theirs = resumed.model.model.state_dict(), whole.model.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_adapter_is_saved_read_and_merged_without_a_change(architecture: str, tmp_path: Path) -> None:
    made = make_model(architecture)
    made.save(tmp_path / "base")
    prompts = make_prompts(4)
    before = score(made, prompts, LABELS).log_probs
    wrapped = with_real_adapter(made)
    after = score(wrapped, prompts, LABELS).log_probs
    assert np.abs(after - before).max() > 0.1
    wrapped.save(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    found = load_model(tmp_path / "adapter", device="cpu")  # its base, by what its configuration says
    merged = load_model(
        tmp_path / "base", adapter=tmp_path / "adapter", merge=True, device="cpu", out=tmp_path / "whole"
    )
    again = load_model(tmp_path / "whole", device="cpu")
    for read in (found, merged, again, merge_lora(wrapped)):
        np.testing.assert_allclose(score(read, prompts, LABELS).log_probs, after, rtol=1e-4)
    assert type(again.model) is type(load_model(tmp_path / "base", device="cpu").model)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_new_adapter_changes_nothing_trains_alone_and_is_as_its_seed(architecture: str) -> None:
    plain, prompts = make_model(architecture), make_prompts(2)
    before = score(plain, prompts, LABELS).log_probs
    state = torch.get_rng_state()
    one, same, other = (add_lora(make_model(architecture), LoraOptions(rank=3), seed=s) for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_allclose(score(one, prompts, LABELS).log_probs, before, rtol=1e-5, atol=1e-5)
    trained = {name for name, p in one.model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    assert not any("embed" in name or "lm_head" in name for name in trained)
    first = next(name for name in trained if "lora_A" in name)
    drawn = [dict(m.model.named_parameters())[first] for m in (one, same, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_scores_are_near_those_of_float32(architecture: str, dtype: str, tmp_path: Path) -> None:
    exact = make_model(architecture, initializer_range=0.05)
    exact.save(tmp_path / "m")
    half = load_model(tmp_path / "m", device="cpu", dtype=dtype)
    assert next(half.model.parameters()).dtype == getattr(torch, dtype)
    prompts = make_prompts(4)
    ours, theirs = (score(m, prompts, LABELS).log_probs for m in (half, exact))
    np.testing.assert_allclose(ours, theirs, rtol=0.05)
    assert embed(half, prompts).dtype == np.float32


def test_every_attention_implementation_gives_the_same_scores(architecture: str, tmp_path: Path) -> None:
    made = make_model(architecture)
    made.save(tmp_path / "m")
    prompts = make_prompts(4)
    expected = score(made, prompts, LABELS).log_probs
    for attention in ["eager"] if architecture == "gemma2" else ["eager", "sdpa"]:
        read = load_model(tmp_path / "m", device="cpu", attention=attention)
        assert read.model.config._attn_implementation == attention
        np.testing.assert_allclose(score(read, prompts, LABELS).log_probs, expected, atol=1e-4)
        assert generate(read, prompts, max_new_tokens=4) == generate(made, prompts, max_new_tokens=4)


def test_a_device_map_and_checkpointing_change_no_result(architecture: str, tmp_path: Path) -> None:
    made = make_model(architecture)
    made.save(tmp_path / "m")
    prompts = make_prompts(3)
    spread = load_model(tmp_path / "m", device="cpu", device_map="auto", gradient_checkpointing=True)
    assert spread.model.is_activation_checkpointing
    np.testing.assert_allclose(
        score(spread, prompts, LABELS).log_probs, score(made, prompts, LABELS).log_probs, rtol=1e-5, atol=1e-5
    )
    ids = torch.tensor([spread.tokenizer(prompts[0])["input_ids"]])
    for network in (spread.model, made.model):
        network.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    ours, theirs = (dict(m.model.named_parameters()) for m in (spread, made))
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name].grad, parameter.grad, rtol=1e-4, atol=1e-6)
