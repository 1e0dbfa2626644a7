"""Small models built from a configuration, offline: the real architectures at toy size."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from c2s.errors import ConfigError
from c2s.options import Options

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast


class TinyConfig(Options):
    """Shape of a model that is built from nothing and trained on the spot.

    Attributes
    ----------
    architecture
        ``"gpt_neox"`` (Pythia's), ``"gemma2"`` or ``"llama"``.
    layers, hidden_size, heads, intermediate_size
        Shape; `intermediate_size` defaults to four times `hidden_size`.
    kv_heads
        Heads of keys and values, each shared by several heads of queries (Gemma 2 and Llama); by default `heads`.
    sliding_window
        Tokens that every other layer of Gemma 2 looks back; by default 4,096 or the context if that is shorter.
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

    subject: ClassVar[str] = "tiny model"

    architecture: Literal["gpt_neox", "gemma2", "llama"] = "gpt_neox"
    layers: int = Field(default=2, ge=1)
    hidden_size: int = Field(default=128, ge=8)
    heads: int = Field(default=4, ge=1)
    intermediate_size: int | None = Field(default=None, ge=8)
    kv_heads: int | None = Field(default=None, ge=1)
    sliding_window: int | None = Field(default=None, ge=2)
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
        if self.kv_heads is not None and (self.heads % self.kv_heads or self.architecture == "gpt_neox"):
            raise ValueError(
                f"kv_heads {self.kv_heads} must divide the {self.heads} heads, and is for gemma2 and llama only"
            )
        if self.sliding_window is not None and self.architecture != "gemma2":
            raise ValueError(f"sliding_window is for gemma2 only, not for {self.architecture}")
        return self

    @classmethod
    def of_size(cls, n_parameters: int, *, vocabulary: int, **options: Any) -> TinyConfig:
        """Choose width and depth for a number of parameters; for scaling studies.

        The rule: one layer per 32 of width (1 to 12 layers), so that width and depth grow together; heads of 32
        dimensions from a width of 128 on, else of 16, else of 8; the width is the multiple of 16 (below 64: of 8)
        whose size is nearest with a feed-forward part four times as wide; then that part moves between one and
        eight times the width to meet the target. Embeddings count: they are tied unless told otherwise, and at
        these sizes they are much of the model.

        Parameters
        ----------
        n_parameters
            All parameters together, tied ones once; met within 10%, from 200,000 on within 1%.
        vocabulary
            Tokens of the tokenizer, ``len(tokenizer)``.
        options
            Other fields of the configuration: architecture, context_length, ...

        Raises
        ------
        ConfigError
            An option is wrong, or the vocabulary alone needs more parameters than that.
        """
        fixed = sorted({"layers", "hidden_size", "heads", "kv_heads", "intermediate_size"} & set(options))
        if fixed:
            raise ConfigError(
                "tiny model",
                [f"{', '.join(fixed)} follow from the number of parameters"],
                fix="leave them out, or give the whole shape with TinyConfig.of.",
            )
        options = {"tie_embeddings": True} | options

        def shaped(width: int, inner: int) -> TinyConfig:
            head = 32 if width >= 128 and width % 32 == 0 else 16 if width % 16 == 0 else 8
            layers = min(12, max(1, round(width / 32)))
            return cls.of(
                **options, layers=layers, hidden_size=width, heads=width // head, intermediate_size=inner
            )

        def count(width: int, times: int = 4) -> int:
            return shaped(width, times * width).n_parameters(vocabulary)

        widths = [*range(8, 64, 8), *range(64, 2049, 16)]
        above = bisect_right(widths, n_parameters, key=count)
        width = min(widths[max(0, above - 1) : above + 1], key=lambda w: abs(count(w) - n_parameters))
        smallest, largest = count(width, 1), count(width, 8)
        inner = width + round(7 * width * (n_parameters - smallest) / (largest - smallest) / 8) * 8
        chosen = shaped(width, min(8 * width, max(width, inner)))
        reached = chosen.n_parameters(vocabulary)
        if abs(reached - n_parameters) > 0.1 * n_parameters:
            raise ConfigError(
                "tiny model",
                [f"{n_parameters:,} parameters cannot be met with {vocabulary:,} tokens; nearest is {reached:,}"],
                fix=f"ask for {reached:,}, or keep fewer tokens (max_words).",
            )
        return chosen

    def n_parameters(self, vocabulary: int) -> int:
        """Return how many parameters a model of this shape has with so many tokens; counted without memory."""
        from c2s.models.shapes import count_parameters, empty_network

        return count_parameters(empty_network(transformers_config(self, vocabulary)))


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
    described = transformers_config(
        config, len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(described, dtype=torch.float32)
    return model.eval(), tokenizer


def transformers_config(config: TinyConfig, vocabulary: int, **tokens: int | None) -> PretrainedConfig:
    """Translate `config` into the configuration of its architecture.

    Parameters
    ----------
    config
        Shape of the model.
    vocabulary
        Number of tokens.
    tokens
        ``eos_token_id`` and ``pad_token_id``; not needed to count parameters.
    """
    from transformers import Gemma2Config, GPTNeoXConfig, LlamaConfig

    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate_size or 4 * config.hidden_size,
        "max_position_embeddings": config.context_length,
        "attention_dropout": config.dropout,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,
        **({"eos_token_id": None, "pad_token_id": None} | tokens),
    }
    if config.architecture == "gpt_neox":
        rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": config.rotary_pct}
        return GPTNeoXConfig(**common, hidden_dropout=config.dropout, rope_parameters=rope)
    head_dim = config.hidden_size // config.heads
    grouped: dict[str, Any] = {"num_key_value_heads": config.kv_heads or config.heads, "head_dim": head_dim}
    if config.architecture == "llama":
        return LlamaConfig(**common, **grouped)
    return Gemma2Config(
        **common,
        **grouped,
        query_pre_attn_scalar=head_dim,
        sliding_window=config.sliding_window or min(4096, config.context_length),
    )
