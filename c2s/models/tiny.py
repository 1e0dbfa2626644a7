"""Small models built from a configuration, offline: the real architectures at toy size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from c2s.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


class TinyConfig(BaseModel):
    """Shape of a model that is built from nothing and trained on the spot.

    Attributes
    ----------
    architecture
        ``"gpt_neox"`` (Pythia's), ``"gemma2"`` or ``"llama"``.
    layers, hidden_size, heads, intermediate_size
        Shape; `intermediate_size` defaults to four times `hidden_size`.
    dropout
        On embeddings, attention and the feed-forward part, where the architecture has it.
    rotary_pct
        Share of each head's dimensions that carry the position (GPT-NeoX only).
    tie_embeddings
        Use one matrix for reading and writing words. Halves the parameters of a large vocabulary.
    initializer_range
        Standard deviation of the first weights.
    context_length
        Longest prompt and answer together, in tokens. Positions are rotary, so it costs no parameter.
    min_count, max_words
        Which words of the corpus become tokens, see `c2s.models.tokenizer.learn_tokenizer`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["gpt_neox", "gemma2", "llama"] = "gpt_neox"
    layers: int = Field(default=2, ge=1)
    hidden_size: int = Field(default=128, ge=8)
    heads: int = Field(default=4, ge=1)
    intermediate_size: int | None = Field(default=None, ge=8)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rotary_pct: float = Field(default=0.25, gt=0, le=1)
    tie_embeddings: bool = False
    initializer_range: float = Field(default=0.02, gt=0)
    context_length: int = Field(default=2048, ge=8)
    min_count: int = Field(default=1, ge=1)
    max_words: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> TinyConfig:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over {self.heads} heads must give an even whole number"
            )
        return self

    @classmethod
    def of(cls, **options: Any) -> TinyConfig:
        """Build the configuration; all problems are reported at once.

        Raises
        ------
        ConfigError
            An option is unknown or has a bad value.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            raise ConfigError(
                "tiny model", problems_of(error), fix=f"it takes {', '.join(cls.model_fields)}."
            ) from None


def problems_of(error: ValidationError) -> list[str]:
    """Return one line per problem of a pydantic error, with the name of the field and the value given."""
    lines = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown option {where!r}")
        else:
            given = f", got {problem['input']!r}" if where else ""
            lines.append(f"{where + ': ' if where else ''}{problem['msg'].removeprefix('Value error, ')}{given}")
    return lines


def build_tiny(
    corpus: Iterable[str] | PreTrainedTokenizerFast, config: TinyConfig | None = None, *, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Build an untrained model and its tokenizer.

    Parameters
    ----------
    corpus
        Texts the tokenizer learns its words from, or a tokenizer that has learned.
    config
        Shape of the model.
    seed
        Of the first weights; torch's global generator is left as it was.

    Returns
    -------
    tuple
        The model, in float32 on the CPU and in evaluation mode, and its tokenizer.
    """
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from c2s.models.tokenizer import learn_tokenizer

    config = config or TinyConfig()
    if isinstance(corpus, PreTrainedTokenizerFast):
        tokenizer = corpus
    else:
        tokenizer = learn_tokenizer(corpus, min_count=config.min_count, max_words=config.max_words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_architecture(config, tokenizer), dtype=torch.float32)
    return model.eval(), tokenizer


def _architecture(config: TinyConfig, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """Translate `config` into the configuration of its architecture."""
    from transformers import Gemma2Config, GPTNeoXConfig, LlamaConfig

    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate_size or 4 * config.hidden_size,
        "max_position_embeddings": config.context_length,
        "attention_dropout": config.dropout,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if config.architecture == "gpt_neox":
        rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": config.rotary_pct}
        return GPTNeoXConfig(**common, hidden_dropout=config.dropout, rope_parameters=rope)
    grouped: dict[str, Any] = {"num_key_value_heads": config.heads, "head_dim": config.hidden_size // config.heads}
    if config.architecture == "llama":
        return LlamaConfig(**common, **grouped)
    return Gemma2Config(
        **common,
        **grouped,
        query_pre_attn_scalar=config.hidden_size // config.heads,
        sliding_window=min(4096, config.context_length),
    )
