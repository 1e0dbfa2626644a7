"""Models known by name: where they are, under which licence, and what they were trained to read.

Facts are those of the model cards and configurations of the named repositories; None stands for what they do not
say. Nothing is downloaded here.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelPreset:
    """What is known of a published model.

    Attributes
    ----------
    name
        Short name for ``load_model``.
    hub_id
        Repository on the Hugging Face hub.
    revision
        Branch, tag or commit that is loaded.
    licence
        As stated on the card; None where the card could not be read. Gated licences must be accepted on the hub.
    architecture
        ``model_type`` of its configuration.
    context_length
        Tokens of prompt and answer together.
    n_parameters
        Rounded, from its name.
    genes
        Genes per cell it was trained with: lowest and highest; None for models that never saw a cell.
    cells
        Cells per prompt it was trained with: lowest and highest.
    prompt_style
        ``"text"``: plain text, no cell sentence seen; ``"c2s"``: the prompts of the Cell2Sentence releases.
    tasks
        What it was trained to do.
    """

    name: str
    hub_id: str
    revision: str = "main"
    licence: str | None = None
    architecture: str | None = None
    context_length: int | None = None
    n_parameters: int | None = None
    genes: tuple[int, int] | None = None
    cells: tuple[int, int] | None = None
    prompt_style: str = "text"
    tasks: tuple[str, ...] = ()


def _pythia(size: str, n_parameters: int) -> ModelPreset:
    return ModelPreset(
        name=f"pythia-{size}",
        hub_id=f"EleutherAI/pythia-{size}",
        licence="apache-2.0",
        architecture="gpt_neox",
        context_length=2048,
        n_parameters=n_parameters,
    )


def _gemma(size: str, n_parameters: int) -> ModelPreset:
    return ModelPreset(
        name=f"gemma-2-{size}",
        hub_id=f"google/gemma-2-{size}",
        licence="gemma",
        architecture="gemma2",
        context_length=8192,
        n_parameters=n_parameters,
    )


_ALL = (
    _pythia("70m", 70_000_000),
    _pythia("160m", 160_000_000),
    _pythia("410m", 410_000_000),
    _pythia("1b", 1_000_000_000),
    _gemma("2b", 2_600_000_000),
    _gemma("9b", 9_200_000_000),
    _gemma("27b", 27_200_000_000),
    ModelPreset(
        name="c2s-pythia-410m-cell-type-prediction",
        hub_id="vandijklab/C2S-Pythia-410m-cell-type-prediction",
        licence="cc-by-nc-nd-4.0",
        architecture="gpt_neox",
        n_parameters=410_000_000,
        genes=(200, 200),
        cells=(1, 1),
        prompt_style="c2s",
        tasks=("cell type prediction",),
    ),
    ModelPreset(
        name="c2s-pythia-410m-cell-generation",
        hub_id="vandijklab/C2S-Pythia-410m-cell-type-conditioned-cell-generation",
        licence="cc-by-nc-nd-4.0",
        architecture="gpt_neox",
        n_parameters=410_000_000,
        genes=(200, 200),
        cells=(1, 1),
        prompt_style="c2s",
        tasks=("cell generation given the cell type",),
    ),
    ModelPreset(
        name="c2s-pythia-410m-diverse",
        hub_id="vandijklab/C2S-Pythia-410m-diverse-single-and-multi-cell-tasks",
        licence="cc-by-nc-nd-4.0",
        architecture="gpt_neox",
        context_length=8192,
        n_parameters=410_000_000,
        genes=(100, 2048),
        cells=(1, 20),
        prompt_style="c2s",
        tasks=("single-cell and multi-cell prediction and generation",),
    ),
    ModelPreset(
        name="c2s-scale-pythia-1b",
        hub_id="vandijklab/C2S-Scale-Pythia-1b-pt",
        architecture="gpt_neox",
        context_length=8192,
        n_parameters=1_000_000_000,
        prompt_style="c2s",
        tasks=("pretrained on the C2S-Scale corpus",),
    ),
    ModelPreset(
        name="c2s-scale-gemma-2-2b",
        hub_id="vandijklab/C2S-Scale-Gemma-2-2B",
        architecture="gemma2",
        n_parameters=2_600_000_000,
        prompt_style="c2s",
        tasks=("pretrained on the C2S-Scale corpus",),
    ),
    ModelPreset(
        name="c2s-scale-gemma-2-27b",
        hub_id="vandijklab/C2S-Scale-Gemma-2-27B",
        architecture="gemma2",
        n_parameters=27_200_000_000,
        prompt_style="c2s",
        tasks=("pretrained on the C2S-Scale corpus",),
    ),
    ModelPreset(
        name="pythia-160m-c2s",
        hub_id="vandijklab/pythia-160m-c2s",
        licence="cc-by-nc-nd-4.0",
        architecture="gpt_neox",
        n_parameters=160_000_000,
        cells=(1, 1),
        prompt_style="c2s",
        tasks=("cell generation", "cell type prediction"),
    ),
)

#: Presets by name.
PRESETS: dict[str, ModelPreset] = {preset.name: preset for preset in _ALL}


def find_preset(name: str) -> ModelPreset | None:
    """Return the preset of this short name or hub id (letter case does not matter), or None."""
    wanted = name.lower()
    return next((p for p in _ALL if wanted in (p.name.lower(), p.hub_id.lower())), None)


def suggest(name: str) -> list[str]:
    """Return up to three names that `name` may have been meant for, best first."""
    known = ["tiny", *PRESETS]
    return difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
