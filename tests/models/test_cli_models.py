"""``c2s models``: names, facts and plans, for people and for programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c2s.cli import main
from c2s.models import PRESETS, TinyConfig, load_model


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    assert not ended.value.code
    return capsys.readouterr().out


def download(hub: Path, name: str) -> None:
    """Put a model into the hub's cache, as a download would."""
    repository = hub / f"models--{PRESETS[name].hub_id.replace('/', '--')}"
    config = TinyConfig(layers=1, hidden_size=16, heads=1)
    made = load_model("tiny", corpus=["CD3D CD4"], config=config, device="cpu").save(hub.parent / "made")
    shutil.copytree(made, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")


def test_the_list_names_every_model_and_says_which_are_here(hub: Path, capsys) -> None:
    text = run(capsys, "list")
    assert all(name in text for name in PRESETS)
    assert "0 of 14 are on this machine" in text
    assert run(capsys, "list", "--here", "--json") == "[]\n"
    download(hub, "pythia-70m")
    assert "1 of 14 are on this machine" in run(capsys, "list")
    (row,) = json.loads(run(capsys, "list", "--here", "--json"))
    assert row["name"] == "pythia-70m"
    assert Path(row["here"]).is_dir()


def test_the_table_is_what_the_presets_say(capsys) -> None:
    line = next(text for text in run(capsys, "list").splitlines() if "c2s-pythia-410m-diverse" in text)
    assert line.split() == [
        "c2s-pythia-410m-diverse",
        "405,334,016",
        "8,192",
        "100-2,048",
        "1-20",
        "cc-by-nc-nd-4.0",
    ]
    rows = json.loads(run(capsys, "list", "--json"))
    assert [row["name"] for row in rows] == list(PRESETS)
    assert rows[0]["architecture"] == "gpt_neox"


def test_information_has_facts_notes_sources_and_the_way_to_get_it(hub: Path, capsys) -> None:
    text = run(capsys, "info", "vandijklab/C2S-Scale-Pythia-1b-pt")
    for part in (
        "cc-by-4.0",
        "8,192 tokens",
        "100-400",
        "009b04d",
        "hf download vandijklab/C2S-Scale-Pythia-1b-pt",
    ):
        assert part in text
    assert "licence: not stated" in run(capsys, "info", "c2s-pythia-410m-cell-type-prediction")
    assert json.loads(run(capsys, "info", "gemma-2-2b", "--json"))["n_parameters"] == 2_614_341_888
    download(hub, "pythia-160m-c2s")
    assert "  here: " in run(capsys, "info", "pythia-160m-c2s")


def test_a_plan_is_a_table_or_json_of_the_same_numbers(capsys) -> None:
    arguments = ["plan", "pythia-70m", "--task", "captioning", "--profile", "paper", "--length", "256"]
    made = json.loads(run(capsys, *arguments, "--json"))
    text = run(capsys, *arguments)
    for part in (
        "70,426,624",
        "It fits.",
        f"{made['time']['gpu_hours']:,.2f}",
        "section 4.6.5",
        "utilisation 0.4",
    ):
        assert part in text
    assert f"{made['memory']['weights'] / 2**30:,.2f} GiB" in text
    adapted = json.loads(run(capsys, *arguments, "--json", "--lora", "4", "--gpus", "2", "--no-checkpointing"))
    assert adapted["model"]["method"] == "LoRA, rank 4"
    assert adapted["model"]["trained"] < made["model"]["trained"]
    assert adapted["memory"]["activations"] > made["memory"]["activations"]


def test_what_does_not_fit_is_said_with_a_way_out(capsys) -> None:
    text = run(capsys, "plan", "gemma-2-9b", "--task", "qa-sft", "--length", "512")
    assert "It does not fit. It would on" in text
    assert "--sharding fsdp" in text
    text = run(capsys, "plan", "gemma-2-2b", "--task", "qa-sft", "--batch", "4096")
    assert "does not fit, nor on 1,024" in text
    assert "cut to the context" in run(capsys, "plan", "pythia-70m", "--task", "qa-sft")


def test_listing_models_loads_no_torch() -> None:
    code = (
        "import sys; from c2s.cli import main\n"
        "try: main(['models', 'list', '--json'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["name"] == "pythia-70m"
