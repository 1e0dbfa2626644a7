"""What supervised fine-tuning is told: one flat configuration, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from c2s.errors import ConfigError
from c2s.models.tiny import problems_of


class SFTConfig(BaseModel):
    """Configuration of supervised fine-tuning (sections 4.3.4 and 4.5.1).

    The defaults suit the tiny model; `paper` gives the paper's settings.

    Attributes
    ----------
    epochs
        Passes over the training examples; need not be whole.
    max_steps
        Optimizer steps; overrides `epochs`.
    batch_size
        Examples per forward pass and process.
    gradient_accumulation
        Forward passes per optimizer step.
    learning_rate
        Highest learning rate.
    lr_schedule
        From `learning_rate` to zero along a line or a cosine, or constant.
    warmup_steps
        Steps over which the learning rate rises from zero.
    weight_decay, max_grad_norm
        AdamW's decay, and the norm gradients are clipped to.
    adam_epsilon
        Added to the root of AdamW's second moment. With the usual 1e-8, the vector of a gene that one cell in a
        thousand has moves as far in one step as that of a gene all cells have, and a small model learns its
        training cells by heart; a larger one lets rare genes move as little as their gradients.
    loss
        ``"answer"``: next-token loss on the answer and its end; ``"full"``: on the whole text.
    gene_dropout
        Share of genes left out of each prompt, drawn anew each epoch; used by whoever makes the augmentation.
    length_window
        Steps whose examples are sorted by length together, so that batches pad little; 0 keeps the shuffled order.
    eval_every
        Steps between evaluations; None for one per epoch.
    patience
        Stop after this many evaluations without a better score; None never stops early.
    save_steps
        Steps between checkpoints. A run that is killed loses at most these.
    keep_checkpoints
        Newest checkpoints to keep; the best one is kept as well.
    bf16
        Compute in bfloat16, with weights kept as they are.
    activation_checkpointing
        Trade a second forward pass for memory.
    seed
        Of the order of the examples, of dropout and of the augmentation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=4.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    adam_epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    loss: Literal["answer", "full"] = "answer"
    gene_dropout: float = Field(default=0.0, ge=0, lt=1)
    length_window: int = Field(default=8, ge=0)
    eval_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=1)
    save_steps: int = Field(default=200, ge=1)
    keep_checkpoints: int = Field(default=1, ge=1)
    bf16: bool = False
    activation_checkpointing: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)

    @classmethod
    def of(cls, options: Mapping[str, Any] | None = None, **more: Any) -> SFTConfig:
        """Build the configuration from plain values; all problems are reported at once.

        Raises
        ------
        ConfigError
            An option is unknown or has a bad value.
        """
        try:
            return cls(**{**(options or {}), **more})
        except ValidationError as error:
            raise ConfigError(
                "training configuration", problems_of(error), fix=f"it takes {', '.join(cls.model_fields)}."
            ) from None

    @classmethod
    def paper(cls, **changes: Any) -> SFTConfig:
        """Return the paper's fine-tuning settings: learning rate 1e-5 with linear decay, weight decay 0.01."""
        return cls.of({"learning_rate": 1e-5, "lr_schedule": "linear", "weight_decay": 0.01}, **changes)


#: Options that change how often a run is written down, but not what it computes.
BOOKKEEPING = frozenset({"save_steps", "keep_checkpoints"})
