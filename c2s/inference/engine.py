"""One object for all that a trained model can be asked: text, probabilities of labels, vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from c2s.errors import ConfigError
from c2s.inference.constrain import Constraint
from c2s.inference.embed import embed
from c2s.inference.generate import generate
from c2s.inference.score import Scores, score
from c2s.inference.to_file import EVERY, fingerprint, sampling_of, write_answers

if TYPE_CHECKING:
    import pyarrow as pa

    from c2s.inference.vllm_backend import VLLMBackend
    from c2s.models import LanguageModel

BACKENDS = ("transformers", "vllm")


class Engine:
    """A model and the program that runs it, behind three calls.

    ``transformers`` runs everywhere and gives the same answers whatever is asked together. ``vllm`` is for GPUs
    and many answers; it draws with random numbers of its own, seeded per request, and reads vectors with
    transformers.

    Parameters
    ----------
    model
        A `LanguageModel`, or what `c2s.load_model` takes.
    backend
        ``"transformers"`` or ``"vllm"`` (of the extra ``vllm``).
    tokens_per_batch
        Most tokens that run together with transformers; by default what suits the device.
    show_progress
        Show progress bars.
    **options
        Options of the backend: for transformers, those of `c2s.load_model` where `model` is a name; for vLLM,
        those of ``vllm.LLM``, e.g. ``gpu_memory_utilization=0.8``.

    Raises
    ------
    ConfigError
        The backend is unknown, or options are given that it does not take.
    ModelError
        The model cannot be loaded, or vLLM is not installed or cannot read it.

    Examples
    --------
    >>> engine = Engine("model/")  # doctest: +SKIP
    >>> engine.generate(prompts, constraint=Genes(vocabulary, n=200), temperature=1.0)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: LanguageModel | str | os.PathLike[str],
        *,
        backend: Literal["transformers", "vllm"] = "transformers",
        tokens_per_batch: int | None = None,
        show_progress: bool = False,
        **options: Any,
    ) -> None:
        from c2s.models import LanguageModel, load_model

        if backend not in BACKENDS:
            raise ConfigError(
                "engine", [f"there is no backend {backend!r}"], fix=f"use one of {', '.join(BACKENDS)}."
            )
        self.backend = backend
        self.tokens_per_batch, self.show_progress = tokens_per_batch, show_progress
        self._vllm: VLLMBackend | None = None
        if backend == "vllm":
            from c2s.inference.vllm_backend import VLLMBackend

            self._vllm = VLLMBackend(model, options)
            self._model: LanguageModel | None = model if isinstance(model, LanguageModel) else None
            self._source = model
            return
        if isinstance(model, LanguageModel):
            if options:
                raise ConfigError(
                    "engine",
                    [f"{name} has no meaning for a model that is loaded" for name in sorted(options)],
                    fix="pass them to load_model.",
                )
            self._model = model
        else:
            self._model = load_model(model, **options)

    @property
    def model(self) -> LanguageModel:
        """The model as transformers runs it; with vLLM, loaded when first asked for."""
        if self._model is None:
            from c2s.models import load_model

            assert isinstance(self._source, str | os.PathLike)
            self._model = load_model(self._source)
        return self._model

    def generate(
        self,
        prompts: Sequence[str],
        *,
        constraint: Constraint | None = None,
        request_ids: Sequence[str] | None = None,
        **settings: Any,
    ) -> list[str]:
        """Continue each prompt; see `c2s.inference.generate` for the settings, the result and the errors."""
        sampling = sampling_of(settings)
        if self._vllm is not None:
            return self._vllm.generate(prompts, sampling, constraint=constraint, request_ids=request_ids)
        return generate(
            self.model,
            prompts,
            constraint=constraint,
            request_ids=request_ids,
            tokens_per_batch=self.tokens_per_batch,
            show_progress=self.show_progress,
            **sampling.as_json(),
        )

    def score(self, prompts: Sequence[str], candidates: Sequence[str]) -> Scores:
        """Score every label for every prompt; see `c2s.inference.score`."""
        if self._vllm is not None:
            return self._vllm.score(prompts, candidates)
        return score(
            self.model,
            prompts,
            candidates,
            tokens_per_batch=self.tokens_per_batch,
            show_progress=self.show_progress,
        )

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts; see `c2s.inference.embed`. Both backends read vectors with transformers."""
        return embed(self.model, texts, tokens_per_batch=self.tokens_per_batch, show_progress=self.show_progress)

    def generate_to(
        self,
        path: str | os.PathLike[str],
        requests: Mapping[str, str] | pa.Table,
        *,
        constraint: Constraint | None = None,
        every: int = EVERY,
        **settings: Any,
    ) -> Path:
        """Write answers to a file as they come, and go on where an earlier run was stopped.

        See `c2s.inference.generate_to`.
        """
        sampling = sampling_of(settings)

        def write(prompts: Sequence[str], request_ids: Sequence[str]) -> list[str]:
            return self.generate(prompts, constraint=constraint, request_ids=request_ids, **sampling.as_json())

        identity = {"model": fingerprint(self.model), "engine": self.backend}
        return write_answers(path, write, requests, sampling, constraint, identity, every, self.show_progress)
