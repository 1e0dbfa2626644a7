"""Presets: facts with sources, and shapes whose parameters are those of the published models."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from c2s.models import PRESETS, find_preset
from c2s.models.presets import FACTS, read_presets
from c2s.models.shapes import count_parameters, empty_network, preset_config

# Counted by others, from the published weights.
KNOWN = {
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_shape_of_a_preset_has_the_parameters_of_the_published_model(name: str) -> None:
    network = empty_network(preset_config(PRESETS[name]))
    assert all(p.device.type == "meta" for p in network.parameters())
    assert count_parameters(network) == PRESETS[name].n_parameters == KNOWN[name]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_fact_has_a_source_and_every_source_a_fact(preset) -> None:
    stated = {fact for fact in FACTS if getattr(preset, fact)} - ({"config"} if preset.base else set())
    assert stated == set(preset.source)
    assert preset.licence or preset.licence_note
    assert preset.n_parameters in KNOWN.values()
    assert preset.prompt_style == ("c2s" if preset.base else "text")
    if preset.base:
        base = PRESETS[preset.base].config | {"max_position_embeddings": 0}
        assert base == preset.config | {"max_position_embeddings": 0}


def test_the_models_of_several_cells_say_what_they_were_trained_for() -> None:
    for name in ("c2s-pythia-410m-diverse", "c2s-scale-pythia-1b"):
        preset = PRESETS[name]
        assert (preset.context_length, preset.genes, preset.genes_multi) == (8192, (100, 2048), (100, 400))
        assert preset.cells == (1, 20)
        assert preset_config(preset).max_position_embeddings == 8192
    assert PRESETS["c2s-pythia-410m-cell-type-prediction"].genes == (200, 200)
    assert find_preset("VANDIJKLAB/c2s-scale-pythia-1b-PT") is PRESETS["c2s-scale-pythia-1b"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"source": {}}, "no source for licence"),
        ({"licence": None, "source": {"config": "x", "n_parameters": "x"}}, "no licence_note"),
        ({"unknown": 1}, "unknown"),
        ({"hub_id": "no-owner"}, "hub_id"),
    ],
)
def test_an_incomplete_preset_is_refused(change: dict, problem: str) -> None:
    entry = {
        "hub_id": "a/b",
        "licence": "mit",
        "n_parameters": 1,
        "config": {"model_type": "llama"},
        "source": dict.fromkeys(["licence", "n_parameters", "config"], "x"),
    }
    assert read_presets(yaml.safe_dump({"good": entry}))["good"].architecture == "llama"
    with pytest.raises(ValidationError, match=problem):
        read_presets(yaml.safe_dump({"bad": entry | change}))
