"""What supervised fine-tuning is told: one flat configuration, checked as a whole."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from c2s.options import Options


class SFTConfig(Options):
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
    lora_rank
        Train low-rank adapters of this rank instead of all weights (LoRA); None trains all.
    lora_alpha
        Scale of the adapters, as a multiple of ``1 / lora_rank``; None takes twice the rank.
    lora_dropout
        Dropout before the adapters.
    lora_targets
        Names of the linear layers that get adapters; empty for every linear layer but the output.
    lora_merge
        Write the model with the adapters merged into its weights; false writes the adapters alone, to be loaded on
        top of the model they were trained on.
    gene_dropout
        Share of genes left out of each prompt, drawn anew each epoch; used by whoever makes the augmentation.
    length_window
        Steps whose examples are sorted by length together, so that batches pad little; 0 keeps the shuffled order.
    padding_free
        Lay the examples of a batch end to end instead of padding each to the longest. No token sees another
        example, which is tried out before the first step; pays with attention kernels for many lengths at once
        (``flash_attention_2``), and costs on a CPU.
    eval_every
        Steps between evaluations; None for one per epoch.
    eval_examples
        Validation examples that are answered by generation and measured by the task's metrics at each evaluation;
        0 measures the validation loss alone. A task whose candidates are scored does without.
    patience
        Stop after this many evaluations without a better score; None never stops early.
    save_steps
        Steps between checkpoints. A run that is killed loses at most these.
    keep_checkpoints
        Newest checkpoints to keep; the best one is kept as well.
    divergence
        Stop when the mean loss of the last 20 steps is so many nats above the lowest such mean; None never does.
    report_to
        Also send the record to ``tensorboard``, ``trackio`` or ``wandb``, where installed.
    bf16
        Compute in bfloat16, with weights kept as they are.
    activation_checkpointing
        Trade a second forward pass for memory.
    seed
        Of the order of the examples, of dropout and of the augmentation.
    """

    subject: ClassVar[str] = "training configuration"

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
    lora_rank: int | None = Field(default=None, ge=1)
    lora_alpha: float | None = Field(default=None, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    lora_targets: tuple[str, ...] = ()
    lora_merge: bool = True
    gene_dropout: float = Field(default=0.0, ge=0, lt=1)
    length_window: int = Field(default=8, ge=0)
    padding_free: bool = False
    eval_every: int | None = Field(default=None, ge=1)
    eval_examples: int = Field(default=0, ge=0)
    patience: int | None = Field(default=None, ge=1)
    save_steps: int = Field(default=200, ge=1)
    keep_checkpoints: int = Field(default=1, ge=1)
    divergence: float | None = Field(default=3.0, gt=0)
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    bf16: bool = False
    activation_checkpointing: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)

    @classmethod
    def paper(cls, **changes: Any) -> SFTConfig:
        """Return the paper's fine-tuning settings: learning rate 1e-5 with linear decay, weight decay 0.01."""
        return cls.of({"learning_rate": 1e-5, "lr_schedule": "linear", "weight_decay": 0.01}, **changes)


#: Options that change how often a run is written down, but not what it computes.
BOOKKEEPING = frozenset({"save_steps", "keep_checkpoints", "report_to", "divergence"})
