"""Models known by name: where they are, under which licence, and what they were trained to read.

The facts are data, in ``presets.yaml``, each with the place where it was read; None stands for what no card says.
Nothing is downloaded here.
"""

from __future__ import annotations

import difflib
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Facts of a preset that need a line in its `source`.
FACTS = ("licence", "base", "config", "context_length", "n_parameters", "genes", "genes_multi", "cells", "tasks")


class ModelPreset(BaseModel):
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
        As stated on the card; None where it states none, or where that could not be told. Gated licences must be
        accepted on the hub.
    licence_note
        What else there is to know of the licence, or why there is none.
    base
        Preset it was trained from, whose `config` it has.
    config
        Numbers of the architecture, as transformers' configuration class takes them, with ``model_type``.
    context_length
        Tokens of prompt and answer together.
    n_parameters
        Parameters; tied ones count once.
    genes
        Genes per cell it was trained with: lowest and highest; None for models that never saw a cell.
    genes_multi
        The same where a prompt holds several cells, if that differs.
    cells
        Cells per prompt it was trained with: lowest and highest.
    prompt_style
        ``"text"``: plain text, no cell sentence seen; ``"c2s"``: the prompts of the Cell2Sentence releases.
    tasks
        What it was trained to do.
    note
        What its users should know.
    source
        Where each fact was read, by the fact's name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hub_id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = "main"
    licence: str | None = None
    licence_note: str | None = None
    base: str | None = None
    config: dict[str, Any]
    context_length: int | None = Field(default=None, ge=1)
    n_parameters: int = Field(ge=1)
    genes: tuple[int, int] | None = None
    genes_multi: tuple[int, int] | None = None
    cells: tuple[int, int] | None = None
    prompt_style: Literal["text", "c2s"] = "text"
    tasks: tuple[str, ...] = ()
    note: str | None = None
    source: dict[str, str] = {}

    @property
    def architecture(self) -> str:
        """``model_type`` of its configuration."""
        return str(self.config["model_type"])

    @model_validator(mode="after")
    def _sourced(self) -> ModelPreset:
        stated = [fact for fact in FACTS if getattr(self, fact) and not (fact == "config" and self.base)]
        missing = [fact for fact in stated if fact not in self.source]
        if missing:
            raise ValueError(f"no source for {', '.join(missing)}")
        if self.licence is None and self.licence_note is None:
            raise ValueError("no licence, and no licence_note that says why")
        return self


def read_presets(text: str) -> dict[str, ModelPreset]:
    """Read presets from YAML; those with a `base` take its `config`.

    Raises
    ------
    pydantic.ValidationError
        A preset lacks a field, a source, or the reason for having no licence.
    """
    content: dict[str, dict[str, Any]] = yaml.safe_load(text)
    for entry in content.values():
        if "base" in entry:
            # Longer contexts were trained with the same rotary positions.
            longer = {"max_position_embeddings": entry["context_length"]} if "context_length" in entry else {}
            entry["config"] = content[entry["base"]]["config"] | longer
    return {name: ModelPreset(name=name, **entry) for name, entry in content.items()}


#: Presets by name.
PRESETS: dict[str, ModelPreset] = read_presets(
    files("c2s.models").joinpath("presets.yaml").read_text(encoding="utf-8")
)


def find_preset(name: str) -> ModelPreset | None:
    """Return the preset of this short name or hub id (letter case does not matter), or None."""
    wanted = name.lower()
    return next((p for p in PRESETS.values() if wanted in (p.name.lower(), p.hub_id.lower())), None)


def suggest(name: str) -> list[str]:
    """Return up to three names that `name` may have been meant for, best first."""
    known = ["tiny", *PRESETS]
    return difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
