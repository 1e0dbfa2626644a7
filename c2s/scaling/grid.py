"""``GRID.yaml``: which models are trained how, on what, and measured on which samples."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from c2s.corpus.prompt_files import TASKS
from c2s.models.presets import PRESETS
from c2s.options import checked, read_yaml

Way = Literal["full", "lora"]


class PretrainSpec(BaseModel):
    """How the models that all else begins with are made: next-token loss on whole texts of the corpus.

    Attributes
    ----------
    samples
        Examples of the corpus's training part that are read; 0 leaves the models as they are.
    learning_rate
        Highest learning rate.
    tasks
        Read these tasks of the corpus; default all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=3e-3, gt=0)
    tasks: tuple[str, ...] | None = None


class ScalingGrid(BaseModel):
    """A scaling study (section 4.4).

    Attributes
    ----------
    name
        What it is called.
    corpus
        Folder of a corpus, or its specification, which is then built beside the results; relative to the grid's
        file.
    tasks
        Tasks of the corpus that models are fine-tuned for and measured on.
    sizes
        Numbers of parameters of models built from nothing, or names of presets.
    architecture
        Of models built from nothing.
    ways
        ``full``: all weights are trained; ``lora``: adapters on the same pretrained model.
    samples
        Samples seen in fine-tuning. Each is a run of its own, whose learning rate falls to zero at its end.
    pretrain
        See `PretrainSpec`.
    held_out
        Samples of the corpus's test part, as many of each task; the paper takes 500.
    batch_size
        Samples of a step, in both stages.
    learning_rate
        Highest learning rate of each way.
    lora_rank
        Of the adapters.
    learn
        ``"answer"`` or ``"full"``, see `c2s.training.SFTConfig`.
    max_new_tokens
        Longest generated answer.
    bert_score
        Measure BERTScore where the answer is text, with the encoder found by `c2s.metrics.load_text_encoder`.
    context_length
        Of models built from nothing.
    max_words
        Words that become tokens, of models built from nothing on a corpus without a tokenizer of its own.
    seeds
        Of first weights, order and choice of samples; each repeats the whole grid.
    keep_models
        Keep the trained models; without, results alone are kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="scaling", min_length=1)
    corpus: str
    tasks: tuple[str, ...] = Field(min_length=1)
    sizes: tuple[int | str, ...] = Field(min_length=1)
    architecture: Literal["gpt_neox", "gemma2", "llama"] = "gpt_neox"
    ways: tuple[Way, ...] = ("full",)
    samples: tuple[int, ...] = Field(min_length=1)
    pretrain: PretrainSpec = PretrainSpec()
    held_out: int = Field(default=500, ge=2)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: dict[Way, float] = {"full": 3e-3, "lora": 1e-2}
    lora_rank: int = Field(default=8, ge=1)
    learn: Literal["answer", "full"] = "answer"
    max_new_tokens: int = Field(default=128, ge=1)
    bert_score: bool = True
    context_length: int = Field(default=512, ge=8)
    max_words: int | None = Field(default=None, ge=1)
    seeds: tuple[int, ...] = (0,)
    keep_models: bool = False

    @field_validator("sizes")
    @classmethod
    def _known_sizes(cls, value: tuple[int | str, ...]) -> tuple[int | str, ...]:
        problems = [f"{s} parameters are too few for a model" for s in value if isinstance(s, int) and s < 1000]
        problems += [
            f"there is no preset {s!r} (see `c2s models list`)"
            for s in value
            if isinstance(s, str) and s not in PRESETS
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @model_validator(mode="after")
    def _together(self) -> ScalingGrid:
        problems = [f"unknown task {task!r}" for task in (*self.tasks, *(self.pretrain.tasks or ()))
                    if task not in TASKS]  # fmt: skip
        for what in ("tasks", "sizes", "ways", "samples", "seeds"):
            values: tuple[Any, ...] = getattr(self, what)
            problems += [f"{what} names {v!r} twice" for v in dict.fromkeys(values) if values.count(v) > 1]
        problems += [f"{n} samples do not fill a step of {self.batch_size}" for n in self.samples
                     if n < self.batch_size]  # fmt: skip
        problems += [
            f"learning_rate says nothing of {way!r}" for way in self.ways if way not in self.learning_rate
        ]
        problems += [f"the learning rate of {w!r} is {r:g}" for w, r in self.learning_rate.items() if r <= 0]
        if 0 < self.pretrain.samples < self.batch_size:
            problems.append(f"{self.pretrain.samples} samples of pretraining do not fill a step")
        if "lora" in self.ways and not self.pretrain.samples and any(isinstance(s, int) for s in self.sizes):
            problems.append("adapters on weights that were drawn at random learn nothing: give pretrain.samples")
        if self.held_out < len(self.tasks):
            problems.append(f"{self.held_out} held-out samples are fewer than the tasks")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def units(self) -> list[Unit]:
        """Return the runs, smallest model first; each with the pretrained model it begins with."""
        return [
            Unit(size, way, samples, seed)
            for seed in self.seeds
            for size in self.sizes
            for way in self.ways
            for samples in sorted(self.samples)
        ]

    def digest(self) -> str:
        """Return a checksum of what decides the results."""
        said = self.model_dump(mode="json", exclude={"keep_models", "name"})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Unit:
    """One run of a grid: a model of this size, fine-tuned this way, on so many samples.

    Attributes
    ----------
    size
        Number of parameters asked for, or the name of a preset.
    way, samples, seed
        As in `ScalingGrid`.
    """

    size: int | str
    way: Way
    samples: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.size}-{self.way}-{self.samples}-seed{self.seed}"

    @property
    def base(self) -> str:
        """Name of the folder of the model it begins with."""
        return f"{self.size}-base-seed{self.seed}"


def load_grid(path: str | os.PathLike[str]) -> ScalingGrid:
    """Read ``GRID.yaml``; the corpus's path in it is relative to its folder.

    Raises
    ------
    InputFileError
        The file is missing or is not YAML.
    ConfigError
        It breaks the format; all its problems are named.
    """
    source = Path(path)
    content = read_yaml(source, "grid", see="grids/ has examples, with keys such as sizes")
    grid = make_grid(content, f"grid {source}")
    return grid.model_copy(update={"corpus": str((source.parent / grid.corpus).resolve())})


def make_grid(options: dict[str, Any], subject: str = "scaling grid") -> ScalingGrid:
    """Build a grid from plain values; all problems are reported at once.

    Raises
    ------
    ConfigError
        An option is unknown, missing or has a bad value.
    """
    return checked(ScalingGrid, options, subject)
