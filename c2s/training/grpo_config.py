"""What GRPO is told: one flat configuration, checked as a whole (section 4.5.2)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from c2s.errors import ConfigError
from c2s.options import Options

#: What the paper states of its three runs with GRPO (sections 4.6.8 and 4.6.9); what it leaves open stays.
_PAPER: dict[str, dict[str, Any]] = {
    "qa": {"beta": 0.03, "learning_rate": 5e-7, "group_size": 32},
    # Neither beta nor the learning rate is stated for this run; those of the other perturbation run stand in.
    "dong": {"beta": 5e-3, "learning_rate": 1e-6, "group_size": 32, "epochs": 3.0},
    # 8 answers at a time, 4 times, on the three devices that train make 96 answers a step: 4 prompts of 24.
    "l1000": {
        "beta": 5e-3,
        "learning_rate": 1e-6,
        "group_size": 24,
        "prompts_per_step": 4,
        "answers_per_batch": 8,
        "epochs": 3.0,
    },
}


class GRPOConfig(Options):
    """Configuration of group relative policy optimization.

    The defaults suit the tiny model; `paper` gives the paper's settings.

    Attributes
    ----------
    epochs
        Passes over the prompts; need not be whole.
    max_steps
        Optimizer steps; overrides `epochs`.
    prompts_per_step
        Prompts that are answered for one step, over all processes.
    group_size
        Answers per prompt (G).
    answers_per_batch
        Answers per forward pass and process; None for all at once. Lower it when memory runs out: the result stays
        the same up to rounding.
    iterations
        Optimizer steps on the same answers (mu). With 1, the probability ratio is 1 and nothing is ever clipped.
    epsilon, epsilon_high
        The ratio is clipped to ``[1 - epsilon, 1 + epsilon_high]``; `epsilon_high` is `epsilon` where None.
    beta
        Weight of the KL divergence from the model that training began with; 0 leaves the reference out.
    scale_rewards
        ``"group"``: advantages are divided by the group's standard deviation, as in the paper; ``"batch"``: by
        that of all answers of the step; ``"none"``. TRL adds 1e-4 to what it divides by.
    loss
        How the tokens of a step are averaged. ``"grpo"``: over each answer, then over answers, as in the paper;
        ``"dapo"`` and ``"bnpo"``: over all tokens of the step or of the forward pass; ``"dr_grpo"``: by
        `max_answer_tokens`.
    temperature, top_p
        Of the draws. The policy that is trained is the one at this temperature.
    max_answer_tokens
        Longest answer; a longer one is cut there.
    learning_rate
        Highest learning rate.
    lr_schedule
        From `learning_rate` to zero along a line or a cosine, or constant.
    warmup_steps
        Steps over which the learning rate rises from zero.
    weight_decay, max_grad_norm, adam_epsilon
        AdamW's decay, the norm gradients are clipped to, and what is added to the root of the second moment.
    lora_rank
        Train low-rank adapters of this rank instead of all weights (LoRA), and merge them at the end; the
        reference is then the same network with the adapters switched off. None trains all weights.
    lora_alpha, lora_targets
        As in `c2s.training.SFTConfig`.
    vllm
        Generate with vLLM: ``"colocate"`` in the training process, ``"server"`` on `vllm_server`; None generates
        with Transformers.
    vllm_server, vllm_memory
        Address of the server; share of the GPU's memory that a colocated vLLM may use.
    eval_every
        Steps between evaluations; None for a tenth of the run.
    patience
        Stop after this many evaluations without a better score; None never stops early.
    save_steps, keep_checkpoints
        Steps between checkpoints, and how many of the newest to keep; the best one is kept as well.
    report_to
        As in `c2s.training.SFTConfig`.
    guard_window
        Steps a guard looks at.
    no_signal
        Warn when this share of the groups had equal rewards over the window: they teach nothing.
    length_collapse
        Warn when answers are shorter than this share of their length in the first window.
    max_kl
        Warn when the divergence from the reference exceeds this many nats per token.
    stop_on
        Guards that stop the run: any of ``"signal"``, ``"length"``, ``"kl"``.
    bf16, activation_checkpointing
        Compute in bfloat16; trade a second forward pass for memory.
    seed
        Of the order of the prompts and of the draws.
    """

    subject: ClassVar[str] = "GRPO configuration"

    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    prompts_per_step: int = Field(default=4, ge=1)
    group_size: int = Field(default=8, ge=2)
    answers_per_batch: int | None = Field(default=None, ge=1)
    iterations: int = Field(default=1, ge=1)
    epsilon: float = Field(default=0.2, gt=0, lt=1)
    epsilon_high: float | None = Field(default=None, gt=0)
    beta: float = Field(default=0.03, ge=0)
    scale_rewards: Literal["group", "batch", "none"] = "group"
    loss: Literal["grpo", "dapo", "bnpo", "dr_grpo"] = "grpo"
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_answer_tokens: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora_rank: int | None = Field(default=None, ge=1)
    lora_alpha: float | None = Field(default=None, gt=0)
    lora_targets: tuple[str, ...] = ()
    vllm: Literal["colocate", "server"] | None = None
    vllm_server: str | None = None
    vllm_memory: float = Field(default=0.3, gt=0, le=1)
    eval_every: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=1)
    save_steps: int = Field(default=50, ge=1)
    keep_checkpoints: int = Field(default=1, ge=1)
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    guard_window: int = Field(default=10, ge=1)
    no_signal: float = Field(default=0.9, gt=0, le=1)
    length_collapse: float = Field(default=0.5, ge=0, lt=1)
    max_kl: float = Field(default=1.0, gt=0)
    stop_on: tuple[Literal["signal", "length", "kl"], ...] = ()
    bf16: bool = False
    activation_checkpointing: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _fits_together(self) -> GRPOConfig:
        answers = self.prompts_per_step * self.group_size
        problems = []
        if self.answers_per_batch is not None and answers % self.answers_per_batch:
            problems.append(
                f"answers_per_batch {self.answers_per_batch} must divide prompts_per_step x group_size = {answers}"
            )
        if "kl" in self.stop_on and self.beta == 0:
            problems.append("stop_on kl needs beta above 0: without a reference no divergence is measured")
        if self.vllm_server is not None and self.vllm != "server":
            problems.append("vllm_server needs vllm: server")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def answers_per_step(self) -> int:
        """Answers of one optimizer step, over all processes."""
        return self.prompts_per_step * self.group_size

    @classmethod
    def paper(cls, run: str, **changes: Any) -> GRPOConfig:
        """Return the settings of one of the paper's runs, as far as it states them.

        Parameters
        ----------
        run
            ``"qa"``: question answering, 32 answers, beta 0.03, learning rate 5e-7 (section 4.6.8); ``"dong"``:
            cytokine responses, 32 answers against 32 real cells, 3 epochs; ``"l1000"``: drug responses, 24
            answers, beta 5e-3, learning rate 1e-6, forward passes of 8, 3 epochs (section 4.6.9). Clipping,
            temperature and iterations are not stated, nor are beta and learning rate of ``"dong"``, which here
            are those of ``"l1000"``.
        **changes
            Options to change.

        Raises
        ------
        ConfigError
            There is no such run, or an option is bad.
        """
        if run not in _PAPER:
            raise ConfigError("GRPO configuration", [f"the paper has no run {run!r}"], fix=f"{', '.join(_PAPER)}.")
        return cls.of(_PAPER[run], **changes)
