"""Loading models: what comes back is what was saved, and nothing unsafe or incomplete is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from c2s.errors import ConfigError, ModelError, OutputError
from c2s.models import PRESETS, LanguageModel, TinyConfig, find_preset, load_model

CORPUS = ["Genes:\nCD3D CD4 HLA-DRA\nCell type: T cell", "Genes:\nCD79A MS4A1\nCell type: B cell"]
SMALL = TinyConfig(layers=1, hidden_size=32, heads=2, context_length=64)
ARCHITECTURES = ["gpt_neox", "gemma2", "llama"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "saved"
    load_model("tiny", corpus=CORPUS, config=SMALL, out=folder, device="cpu")
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return model.model.state_dict()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tiny_model_of_each_architecture_is_saved_and_read_back(architecture: str, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"architecture": architecture})
    made = load_model("tiny", corpus=CORPUS, config=config, device="cpu")
    assert made.path is None
    made.save(tmp_path / "m")
    read = load_model(tmp_path / "m", device="cpu")
    assert made.path == read.path == tmp_path / "m"
    assert read.model.config.model_type == architecture
    assert read.context_length == 64
    assert read.n_parameters == made.n_parameters > 10_000
    assert {k: v.tolist() for k, v in weights(read).items()} == {k: v.tolist() for k, v in weights(made).items()}
    assert sorted(p.suffix for p in (tmp_path / "m").iterdir()) == [".json"] * 4 + [".safetensors"]
    text = "Genes:\nCD3D CD4\nCell type:"
    ids = read.tokenizer(text, return_tensors="pt")
    torch.testing.assert_close(made.model(**ids).logits, read.model(**ids).logits)


def test_the_default_tiny_model_has_about_a_million_parameters() -> None:
    corpus = [" ".join(f"GENE{i}" for i in range(1500))]
    assert 0.7e6 < load_model("tiny", corpus=corpus, device="cpu").n_parameters < 1.3e6


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        load_model("tiny", corpus=CORPUS, config=SMALL, seed=seed, out=tmp_path / name, device="cpu")
    assert torch.equal(before, torch.random.get_rng_state())
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_tied_embeddings_count_once() -> None:
    tied, untied = (
        load_model("tiny", corpus=CORPUS, config=SMALL.model_copy(update={"tie_embeddings": t}), device="cpu")
        for t in (True, False)
    )
    assert untied.n_parameters - tied.n_parameters == 32 * len(untied.tokenizer)


def test_saving_never_overwrites_unless_told(saved: Path, tmp_path: Path) -> None:
    model = load_model(saved, device="cpu")
    model.save(tmp_path / "m")
    with pytest.raises(OutputError, match="exists"):
        model.save(tmp_path / "m")
    model.save(tmp_path / "m", overwrite=True)
    with pytest.raises(OutputError, match="exists"):
        load_model("tiny", corpus=CORPUS, out=tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def edit(folder: Path, file: str, **changes: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter_only(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def drop_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("gpt_neox.final_layer_norm.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json", "folder that train"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no weights", "copy the weights"),
    "pickled weights": (pickle_only, r"pickled \(pytorch_model.bin\)", "safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer", "copy the tokenizer"),
    "code in config": (
        lambda f: edit(f, "config.json", auto_map={"AutoModel": "x.Y"}),
        "auto_map",
        "Transformers",
    ),
    "code in tokenizer": (
        lambda f: edit(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
        r"tokenizer_config.json asks to run code",
        "auto_map",
    ),
    "adapter": (adapter_only, "an adapter", "merge"),
    "cut-off weights": (cut_weights, "cannot be read", "copy its files again"),
    "missing tensor": (drop_tensor, "lack 1 tensor.*final_layer_norm", "all"),
    "other shape": (lambda f: edit(f, "config.json", vocab_size=999), "cannot be read|lack", "same model|again"),
    "unknown type": (lambda f: edit(f, "config.json", model_type="nope"), "'nope'", "Transformers knows"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "not readable JSON", "copy the file"),
    "list config": (lambda f: (f / "config.json").write_text("[]"), "not a configuration", "copy the file"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer in .* cannot", "copy"),
    "no end of text": (lambda f: edit(f, "tokenizer_config.json", eos_token=None), "no end-of-text", "eos_token"),
    "bad value": (
        lambda f: edit(f, "config.json", max_position_embeddings=None),
        "not a configuration that Transformers knows: .*max_position_embeddings",
        "update transformers",
    ),
    "not causal": (lambda f: edit(f, "config.json", model_type="vit"), "'vit'", "a causal language model"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_unsafe_folder_is_refused_with_the_way_out(damage: str, copy: Path) -> None:
    break_it, problem, fix = DAMAGE[damage]
    break_it(copy)
    with pytest.raises(ModelError, match=problem) as caught:
        load_model(copy, device="cpu")
    assert str(copy) in str(caught.value)
    assert any(part in caught.value.fix for part in fix.split("|"))


def test_a_model_that_does_not_say_how_long_its_context_is_is_refused(copy: Path) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=16, n_layer=1, n_head=2)).save_pretrained(copy)
    with pytest.raises(ModelError, match="how long its context is") as caught:
        load_model(copy, device="cpu")
    assert "model_max_length" in caught.value.fix
    edit(copy, "tokenizer_config.json", model_max_length=77)
    assert load_model(copy, device="cpu").context_length == 77


def test_code_is_refused_before_the_model_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(copy, "config.json", auto_map={"AutoModelForCausalLM": "evil.Evil"})
    (copy / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match="auto_map"):
        load_model(copy)


NAMES = {
    "tinny": ("Did you mean 'tiny'", "c2s.models.PRESETS"),
    "pythia-70": ("Did you mean 'pythia-70m'", "preset"),
    "no-such-model": ("no model folder 'no-such-model'", "folder"),
    "./missing/folder": ("no model folder './missing/folder'", "folder"),
    "EleutherAI/pythia-70m": ("EleutherAI/pythia-70m is not on this machine", "hf download EleutherAI/pythia-70m"),
    "pythia-160m": ("not on this machine", "hf download EleutherAI/pythia-160m"),
    "someone/some-model": ("not on this machine", "hf download someone/some-model"),
}


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_here_is_refused_with_what_gets_it(name: str, hub_cache: Path) -> None:
    problem, fix = NAMES[name]
    with pytest.raises(ModelError, match=problem) as caught:
        load_model(name)
    assert fix in caught.value.fix


@pytest.mark.parametrize("name", ["pythia-70m", "EleutherAI/pythia-70m", "eleutherai/Pythia-70M"])
def test_a_downloaded_model_is_found_by_preset_or_hub_id(name: str, saved: Path, hub_cache: Path) -> None:
    repository = hub_cache / "models--EleutherAI--pythia-70m"
    shutil.copytree(saved, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    model = load_model(name, device="cpu")
    assert model.preset is PRESETS["pythia-70m"]
    assert model.name == name
    assert model.context_length == 64  # the smallest of what configuration and preset say


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file, not a model folder"):
        load_model(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"name_or_path": "tiny"}, "none were given"),
        ({"name_or_path": "tiny", "corpus": CORPUS, "device": "gpu"}, "unknown device 'gpu'"),
        ({"name_or_path": "tiny", "corpus": CORPUS, "dtype": "int4"}, "unknown dtype 'int4'"),
        ({"name_or_path": "pythia-70m", "corpus": CORPUS}, "a tokenizer and a shape of its own"),
        ({"name_or_path": "pythia-70m", "config": SMALL}, "a tokenizer and a shape of its own"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict, problem: str) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        load_model(**arguments)
    assert caught.value.fix


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match="no cuda device"):
        load_model("tiny", corpus=CORPUS, device="cuda")


@pytest.mark.parametrize("source", ["tiny", "folder"])
def test_dtype_is_as_asked_and_float32_on_a_cpu_otherwise(source: str, saved: Path) -> None:
    arguments = {"corpus": CORPUS, "config": SMALL} if source == "tiny" else {}
    name = "tiny" if source == "tiny" else saved
    assert load_model(name, device="cpu", **arguments).model.dtype == torch.float32
    assert load_model(name, device="cpu", dtype="bfloat16", **arguments).model.dtype == torch.bfloat16


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(copy: Path) -> None:
    edit(copy, "tokenizer_config.json", pad_token=None)
    model = load_model(copy, device="cpu")
    assert model.tokenizer.pad_token_id == model.tokenizer.eos_token_id
    assert model.tokenizer.padding_side == "left"


def test_all_problems_of_a_tiny_configuration_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TinyConfig.of(layer=2, heads=0, dropout=1.5)
    assert len(caught.value.problems) == 3
    assert "unknown option 'layer'" in caught.value.problems
    assert "hidden_size" in caught.value.fix
    with pytest.raises(ConfigError, match="over 3 heads"):
        TinyConfig.of(hidden_size=32, heads=3)


def test_presets_are_complete_and_unique() -> None:
    assert len({p.hub_id for p in PRESETS.values()}) == len(PRESETS) == 14
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.hub_id.count("/") == 1
        assert find_preset(preset.hub_id.upper()) is preset
    assert PRESETS["c2s-pythia-410m-diverse"].context_length == 8192
    assert find_preset("gpt2") is None


def test_a_saved_model_can_be_read_by_whoever_can_read_its_configuration(tmp_path):
    saved = load_model("tiny", corpus=["ACTB CD3D"], out=tmp_path / "model").path
    modes = {path.stat().st_mode & 0o777 for path in saved.iterdir()}
    assert len(modes) == 1
