from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import c2s.inference.batching as batching
import c2s.inference.masks as masks
import c2s.inference.tree as tree
from c2s.errors import ConfigError, ContextError, ModelError, PromptError
from c2s.inference import Scores, score
from c2s.models import LanguageModel

from .conftest import LABELS, make_prompts, plain_scores, tiny, tokens_of, with_network

# `c2s.inference.score` is the function; the module has the same name.
score_module = importlib.import_module("c2s.inference.score")


def double(model: LanguageModel) -> LanguageModel:
    changed = copy.deepcopy(model)
    changed.model.double()
    return changed


@pytest.mark.parametrize(
    "architecture, attention",
    [("gpt_neox", "sdpa"), ("gpt_neox", "eager"), ("llama", "sdpa"), ("llama", "eager"), ("gemma2", "eager")],
)
def test_scores_equal_one_forward_pass_per_pair(architecture, attention):
    model = double(tiny(architecture))
    model.model.set_attn_implementation(attention)
    prompts = make_prompts(9)
    found = score(model, prompts, LABELS)
    # Attention that is written out takes its softmax in float32 also for a float64 model.
    np.testing.assert_allclose(found.log_probs, plain_scores(model, prompts, LABELS), rtol=1e-5, atol=1e-5)
    assert found.candidates == tuple(LABELS)
    assert found.log_probs.dtype == np.float64
    assert len(found) == 9


def other_architectures():
    from transformers import GemmaConfig, GPT2Config, MistralConfig, OPTConfig, Qwen2Config, Qwen3Config

    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 48,
        "head_dim": 16,
        "initializer_range": 0.15,
        "max_position_embeddings": 512,
    }
    window = {"sliding_window": 6}
    mixed = {"use_sliding_window": True, "max_window_layers": 1, **window}
    return {
        "gemma": GemmaConfig(**shape),
        "mistral": MistralConfig(**shape, sliding_window=None),
        "mistral_window": MistralConfig(**shape, **window),
        "qwen2": Qwen2Config(**shape),
        "qwen2_mixed": Qwen2Config(**shape, **mixed),
        "qwen3_mixed": Qwen3Config(**shape, **mixed),
        # Learned positions; not among those that take trees, so labels run one path at a time.
        "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=2, initializer_range=0.15),
        "opt": OPTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=48,
            word_embed_proj_dim=32,
            init_std=0.15,
        ),
    }


@pytest.mark.parametrize("name", sorted(other_architectures()))
def test_scores_of_other_architectures(name):
    model = double(with_network(other_architectures()[name]))
    prompts = make_prompts(9)
    np.testing.assert_allclose(
        score(model, prompts, LABELS).log_probs, plain_scores(model, prompts, LABELS), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("window", [3, 8, 30])
def test_sliding_windows_count_text_positions(window):
    model = tiny("gemma2")
    config = model.model.config
    config.sliding_window = window
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model.model = AutoModelForCausalLM.from_config(config).double().eval()
    prompts = make_prompts(9)
    found = score(model, prompts, LABELS).log_probs
    np.testing.assert_allclose(found, plain_scores(model, prompts, LABELS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("missing", [-1, 0, 1])
def test_a_window_that_ends_where_the_longest_text_does(missing):
    from transformers import AutoModelForCausalLM

    model = tiny("gemma2")
    prompts = make_prompts(1)
    tokens = max(len(tokens_of(model, f"{prompts[0]} {label}")) for label in LABELS)
    # One token fewer than the text has, and the last one no longer sees the first.
    model.model.config.sliding_window = tokens - missing
    torch.manual_seed(0)
    model.model = AutoModelForCausalLM.from_config(model.model.config).double().eval()
    found = score(model, prompts, LABELS).log_probs
    np.testing.assert_allclose(found, plain_scores(model, prompts, LABELS), rtol=1e-5, atol=1e-5)


def test_every_family_that_takes_trees_is_tested_here():
    tested = {config.model_type for config in other_architectures().values()} | {"gpt_neox", "gemma2", "llama"}
    assert tested >= masks.OWN_MASK_MODELS


def test_batch_size_order_and_neighbours_change_nothing(neox):
    prompts = make_prompts(14)
    whole = score(neox, prompts, LABELS).log_probs
    one_by_one = score(neox, prompts, LABELS, tokens_per_batch=1).log_probs
    alone = np.vstack([score(neox, [prompt], LABELS).log_probs for prompt in prompts])
    order = np.random.default_rng(0).permutation(14)
    shuffled = score(neox, [prompts[i] for i in order], LABELS).log_probs
    for other in (one_by_one, alone):
        np.testing.assert_allclose(other, whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shuffled, whole[order], rtol=1e-5, atol=1e-5)


def test_other_labels_change_nothing(neox):
    prompts = make_prompts(5)
    whole = score(neox, prompts, LABELS).log_probs
    for chosen in ([4, 0], [2, 5, 1]):
        some = score(neox, prompts, [LABELS[i] for i in chosen]).log_probs
        np.testing.assert_allclose(some, whole[:, chosen], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_labels_in_several_trees(neox, monkeypatch, nodes):
    prompts = make_prompts(9)
    whole = score(neox, prompts, LABELS).log_probs
    # With so few logits at once, the labels of a batch of 9 fall into several trees of `nodes` nodes.
    monkeypatch.setattr(tree, "LEAST_VOCABULARY", 1)
    monkeypatch.setattr(tree, "MOST_LOGITS", 9 * len(neox.tokenizer) * nodes)
    split = []
    monkeypatch.setattr(
        tree, "tries_within", lambda *a: split.append((a[1], tries := batching_tries(*a))) or tries
    )
    parts = score(neox, prompts, LABELS).log_probs
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)
    assert all(len(tries) > 1 for most, tries in split)
    assert min(most for most, _ in split) >= nodes


def test_logits_held_at_once_stay_within_256_megabytes(neox, monkeypatch):
    asked = []
    monkeypatch.setattr(tree, "tries_within", lambda *a: asked.append(a[1]) or batching_tries(*a))
    score(neox, make_prompts(3), LABELS)
    [most] = asked
    # A vocabulary counts as 16,384 words at least; each logit takes four bytes.
    assert most * 3 * 16384 * 4 <= 256 * 2**20 < (most + 1) * 3 * 16384 * 4


def batching_tries(*arguments):
    from c2s.inference.trie import tries_within

    return tries_within(*arguments)


def test_the_prompt_is_read_once_and_a_shared_beginning_once_for_all(neox, monkeypatch):
    lengths = []
    forward = type(neox.model).forward

    def counting(self, input_ids=None, **rest):
        lengths.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(type(neox.model), "forward", counting)
    head = "Predict the type of this cell from its genes in order:\nCell sentence: "
    prompts = [head + " ".join(f"GENE{j}" for j in range(i, i + 5)) + ".\nThe cell type is:" for i in range(6)]
    score(neox, prompts, LABELS)
    stem = len(tokens_of(neox, head.strip()))
    rest = len(tokens_of(neox, prompts[0])) - stem
    distinct = {
        tuple(tokens_of(neox, f"GENE1 {label}")[1 : 1 + end])
        for label in LABELS
        for end in range(1, len(tokens_of(neox, f"GENE1 {label}")))
    }
    assert lengths == [(1, stem), (6, rest + len(distinct))]


def test_without_trees_the_labels_still_share_the_prompt(neox, monkeypatch):
    prompts = make_prompts(5)
    whole = score(neox, prompts, LABELS).log_probs
    monkeypatch.setattr(masks, "OWN_MASK_MODELS", frozenset())
    calls = []
    forward = type(neox.model).forward

    def counting(self, input_ids=None, **rest):
        calls.append(input_ids.shape[1])
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(type(neox.model), "forward", counting)
    np.testing.assert_allclose(score(neox, prompts, LABELS).log_probs, whole, rtol=1e-5, atol=1e-5)
    longest = max(len(tokens_of(neox, p)) for p in prompts)
    # The prompts once, then one pass per label that is not the beginning of another: B cell, T cell, CD4..., NK.
    assert calls[0] == longest
    assert sorted(calls[1:]) == sorted(
        len(tokens_of(neox, f"GENE1 {label}")) - 1 for label in LABELS if label not in ("B", "CD4 T cell")
    )


def characters(*merges, post=None):
    """A tokenizer of characters and these merges, also across spaces, as SentencePiece models have them."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(set("genes ab type is: B cell T NK"))
    words = ["<pad>", "<eos>", "<bos>", *letters, *(a + b for a, b in merges)]
    backend = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=list(merges)))
    if post:
        backend.post_processor = processors.TemplateProcessing(
            single=post, special_tokens=[("<bos>", 2), ("<eos>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", padding_side="left"
    )


def with_tokenizer(tokenizer) -> LanguageModel:
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        initializer_range=0.15,
    )
    return LanguageModel(AutoModelForCausalLM.from_config(config).double().eval(), tokenizer, "bpe", None, 256)


@pytest.mark.parametrize("post", [None, "<bos> $A"])
def test_a_token_over_the_end_of_the_prompt_and_the_label(post):
    model = with_tokenizer(characters((":", " "), (": ", "B"), post=post))
    prompts = ["genes ab type is:", "genes ba type is:", "genes ab", "genes b:"]
    labels = ["B cell", "T cell", "NK"]
    ends = [model.tokenizer.convert_ids_to_tokens(tokens_of(model, f"{prompts[0]} {label}")) for label in labels]
    assert [": B" in ends[0], ": " in ends[1], ":" in ends[2]] == [True, True, False]
    found = score(model, prompts, labels)
    np.testing.assert_allclose(found.log_probs, plain_scores(model, prompts, labels), rtol=1e-5, atol=1e-5)


def test_a_prompt_swallowed_by_the_label_is_an_error():
    model = with_tokenizer(characters(("i", "s"), ("is", " "), ("is ", "B")))
    assert score(model, ["b is"], ["B", "T"]).log_probs.shape == (1, 2)
    with pytest.raises(PromptError, match=r"prompt 1 \('is'\) has no token before the label") as error:
        score(model, ["b is", "is"], ["B", "T"])
    assert error.value.fix == "write a longer prompt."


def test_a_tokenizer_that_ends_every_text_by_itself():
    labels, prompts = ["B cell", "T cell", "NK"], ["genes ab type is", "genes ba type is"]
    plain, ending = with_tokenizer(characters()), with_tokenizer(characters(post="$A <eos>"))
    assert tokens_of(ending, prompts[0]) == [*tokens_of(plain, prompts[0]), 1]
    np.testing.assert_allclose(
        score(ending, prompts, labels).log_probs, score(plain, prompts, labels).log_probs, rtol=0, atol=1e-9
    )


def test_prompts_that_end_alike_are_tokenised_with_the_labels_once(neox, monkeypatch):
    batches = []
    encode = batching.encode
    monkeypatch.setattr(score_module, "encode", lambda m, texts: batches.append(len(texts)) or encode(m, texts))
    score(neox, make_prompts(12), LABELS)
    assert batches == [12, len(LABELS)]
    batches.clear()
    score(neox, ["one", "two", "GENE1 GENE2 GENE3 one", "GENE4 GENE2 GENE3 one"], LABELS)
    assert batches == [4, 6, 6, 6]


def test_probabilities_and_best():
    scores = Scores(np.log([[0.2, 0.6, 0.2], [0.05, 0.05, 0.9], [0.4, 0.4, 0.2]]) - 7, ("a", "b", "c"))
    np.testing.assert_allclose(scores.probabilities(), [[0.2, 0.6, 0.2], [0.05, 0.05, 0.9], [0.4, 0.4, 0.2]])
    assert scores.best() == ["b", "c", "a"]
    assert scores.best_indices().tolist() == [1, 2, 0]
    flat = scores.probabilities(temperature=2.0)
    root = np.sqrt([0.2, 0.6, 0.2])
    np.testing.assert_allclose(flat[0], root / root.sum())
    assert len(scores) == 3


def test_no_prompts_give_an_empty_table(neox):
    empty = score(neox, [], LABELS)
    assert empty.log_probs.shape == (0, 6)
    assert empty.best() == []
    assert empty.probabilities().shape == (0, 6)


def test_arrow_columns_are_prompts_too(neox):
    import pyarrow as pa

    prompts = make_prompts(3)
    np.testing.assert_array_equal(
        score(neox, pa.chunked_array([prompts]), LABELS).log_probs, score(neox, prompts, LABELS).log_probs
    )


@pytest.mark.parametrize(
    "candidates, problems",
    [
        ([], ["0 label(s) leave nothing to choose from"]),
        (["B"], ["1 label(s) leave nothing to choose from"]),
        ("B cell", ["1 label(s) leave nothing to choose from"]),
        (["B", "", "T", " "], ["label 1 is ''", "label 3 is ' '"]),
        (["B", None], ["label 1 is None"]),
        (["B", "T", "B", "T", "NK"], ["label 'B' is given more than once", "label 'T' is given more than once"]),
    ],
)
def test_bad_candidates_are_all_named(neox, candidates, problems):
    with pytest.raises(ConfigError) as error:
        score(neox, ["GENE1"], candidates)
    assert error.value.problems == problems
    assert str(error.value).startswith("candidates: ")
    assert error.value.fix == "pass two or more different labels that are not empty."


def test_labels_that_are_the_same_tokens_are_named():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<eos>": 0, "?": 1, "type": 2, "B": 3}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model = with_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="?"))
    with pytest.raises(ConfigError) as error:
        score(model, ["type"], ["B", "Tx", "Ty", "Tz"])
    assert error.value.problems == [
        "labels 'Tx' and 'Ty' are the same tokens",
        "labels 'Tx' and 'Tz' are the same tokens",
    ]
    assert "candidates for bpe" in str(error.value)
    # No padding token: padding is masked, so the end of text serves.
    assert score(model, ["type", "type type type"], ["B", "Tx"]).log_probs.shape == (2, 2)


def test_context_is_checked_to_the_token(neox):
    model = copy.copy(neox)
    prompts = ["GENE1 GENE2", "GENE1 GENE2 GENE3"]
    needed = len(tokens_of(neox, prompts[1])) + len(tokens_of(neox, "CD4 T cell naive"))
    model.context_length = needed
    assert len(score(model, prompts, LABELS)) == 2
    model.context_length = needed - 1
    with pytest.raises(ContextError) as error:
        score(model, prompts, LABELS)
    assert str(error.value) == (
        f"example 1 needs {needed} tokens (3 of the prompt and 4 for the longest label); the context of tiny is "
        f"{needed - 1}; 1 of 2 examples do not fit. "
        "Fix: use fewer genes per cell (top_k), or a model with a longer context."
    )


@pytest.mark.parametrize(
    "prompts, message",
    [
        ("GENE1", "expected a list of prompts, got one string."),
        (["GENE1", ""], "prompt 1 is ''."),
        (["GENE1", None], "prompt 1 is None."),
        ([3], "prompt 0 is 3."),
    ],
)
def test_bad_prompts(neox, prompts, message):
    with pytest.raises(PromptError) as error:
        score(neox, prompts, LABELS)
    assert error.value.problem == message
    assert "prompt" in error.value.fix


@pytest.mark.parametrize("tokens", [0, -3])
def test_bad_batch_size(neox, tokens):
    with pytest.raises(ConfigError, match=f"tokens_per_batch is {tokens}, not at least 1"):
        score(neox, ["GENE1"], LABELS, tokens_per_batch=tokens)


def test_a_model_of_nan_is_an_error():
    model = tiny()
    with torch.no_grad():
        model.model.get_output_embeddings().weight[5] = float("nan")
    with pytest.raises(ModelError, match="tiny gives NaN for prompt 0"):
        score(model, ["GENE1", "GENE2"], LABELS)


def test_a_tokenizer_without_an_end_is_an_error(neox):
    model = copy.deepcopy(neox)
    model.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="tokenizer of tiny has no end-of-text token"):
        score(model, ["GENE1"], LABELS)


def test_modes_are_put_back_and_no_gradient_is_kept(neox):
    model = tiny()
    model.model.train()
    frozen = model.model.gpt_neox.layers[0]
    frozen.eval()
    modes = []
    hook = model.model.gpt_neox.register_forward_hook(
        lambda module, inputs, output: modes.append((module.training, torch.is_grad_enabled()))
    )
    score(model, ["GENE1"], LABELS)
    hook.remove()
    assert set(modes) == {(False, False)}
    assert model.model.training
    assert not frozen.training
    assert model.model.gpt_neox.layers[1].training
    assert torch.is_grad_enabled()


def test_the_last_layer_is_whole_again_after_scoring(neox):
    ids = torch.tensor([tokens_of(neox, "GENE1 GENE2 GENE3")])
    before, attention = neox.model(ids).logits, neox.model.config._attn_implementation
    score(neox, ["GENE1 GENE2 GENE3"], LABELS)
    assert torch.equal(neox.model(ids).logits, before)
    assert neox.model.config._attn_implementation == attention == "sdpa"
    assert not neox.model.gpt_neox.layers[-1].mlp._forward_hooks
    assert not neox.model.gpt_neox.layers[-1].mlp._forward_pre_hooks


def test_adapters_are_used():
    from peft import LoraConfig, get_peft_model

    model = tiny()
    plain = score(model, ["GENE1 GENE2"], LABELS).log_probs
    torch.manual_seed(0)
    adapted = get_peft_model(
        model.model, LoraConfig(r=2, target_modules=["query_key_value"], init_lora_weights=False)
    )
    model.model = adapted.eval()
    found = score(model, ["GENE1 GENE2"], LABELS).log_probs
    np.testing.assert_allclose(found, plain_scores(model, ["GENE1 GENE2"], LABELS), rtol=0, atol=1e-4)
    assert np.abs(found - plain).max() > 1e-2


def test_bfloat16_is_close_and_normalised(neox):
    model = copy.deepcopy(neox)
    model.model.to(torch.bfloat16)
    prompts = make_prompts(6)
    exact = score(neox, prompts, LABELS).log_probs
    found = score(model, prompts, LABELS)
    np.testing.assert_allclose(found.log_probs, exact, rtol=0.05)
    np.testing.assert_allclose(found.probabilities().sum(axis=1), 1)


def test_progress_counts_prompts(neox, monkeypatch):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def record(description, total, *, enabled):
        seen.append((description, total, enabled))
        yield seen.append

    monkeypatch.setattr(score_module, "progress", record)
    score(neox, make_prompts(5), LABELS, show_progress=True)
    assert seen[0] == ("scoring", 5, True)
    assert sum(seen[1:]) == 5


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=12), min_size=1, max_size=9), st.integers(1, 60))
def test_any_prompts_in_any_batches(neox, cells, per_batch):
    prompts = ["Cell sentence: " + " ".join(f"GENE{g}" for g in cell) + ". It is" for cell in cells]
    together = score(neox, prompts, LABELS, tokens_per_batch=per_batch).log_probs
    np.testing.assert_allclose(together, plain_scores(neox, prompts, LABELS), rtol=1e-5, atol=2e-5)
