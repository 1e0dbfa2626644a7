"""vLLM behind the calls of `c2s.inference.Engine`.

What can be is kept apart from vLLM and tested without it: the parameters of a request, the file from which a
constraint is read in vLLM's own process, and the sums of log-probabilities.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from c2s.errors import ConfigError, ModelError
from c2s.inference.batching import as_texts, encode
from c2s.inference.constrain import Constraint, Spelled, Speller, answer_tokens, spelled_for
from c2s.inference.processors import ConstrainRequest
from c2s.inference.sampling import Sampling, request_seeds
from c2s.inference.score import Scores, label_continuations
from c2s.inference.stopping import StopRules, check_stop
from c2s.inference.word_tree import TreeWalk, WordTree

if TYPE_CHECKING:
    from c2s.models import LanguageModel

#: Under this name a request carries the path of its constraint.
EXTRA = "c2s_constraint"
#: Class that vLLM's own process imports.
PROCESSOR = "c2s.inference.vllm_processor:ConstrainRequests"


def require_vllm() -> None:
    """Raise `ModelError` where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            "vLLM is not installed.",
            fix='pip install "c2s[models,vllm]" in an environment of its own, without constraints.txt (vLLM pins '
            'another torch), on a machine with a GPU; or leave backend="vllm" out.',
        )


def request_parameters(
    sampling: Sampling, steps: int, seed: int, end: int, constraint_path: str | None
) -> dict[str, Any]:
    """Return the arguments of ``vllm.SamplingParams`` for one request.

    Parameters
    ----------
    sampling
        The settings.
    steps
        Most tokens of the answer.
    seed
        Of this request; vLLM takes 63 bits.
    end
        Token that ends an answer.
    constraint_path
        File of `save_spelled`, if there is a constraint.
    """
    result: dict[str, Any] = {
        "max_tokens": steps,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "stop_token_ids": [end],
        # The rules are applied to the text again; vLLM's part is to stop early.
        "stop": list(sampling.stop) or None,
        "seed": seed >> 1,
    }
    if constraint_path is not None:
        result["extra_args"] = {EXTRA: constraint_path}
    return result


def save_spelled(spelled: Spelled, path: Path) -> None:
    """Write a constraint to a file that `load_spelled` reads, also in another process."""
    rest = {"end": spelled.end, "least": spelled.least, "most": spelled.most, "repeats": spelled.repeats}
    path.write_text(json.dumps({**spelled.tree.to_lists(), **rest}), encoding="utf-8")


@lru_cache(maxsize=8)
def load_spelled(path: str) -> Spelled:
    """Return the constraint of a file; read once per process."""
    plain = json.loads(Path(path).read_text(encoding="utf-8"))
    first, again = (tuple(tuple(ids) for ids in plain.pop(name)) for name in ("first", "again"))
    return Spelled(WordTree.build(first, again), **plain)


def request_processor(extra_args: Mapping[str, Any] | None) -> ConstrainRequest | None:
    """Return what keeps a request to its constraint, from the request's extra arguments; None without one."""
    path = (extra_args or {}).get(EXTRA)
    return None if path is None else ConstrainRequest(load_spelled(path))


def summed(prompt_logprobs: Sequence[Mapping[int, Any] | None], tokens: Sequence[int], continued: int) -> float:
    """Add up the log-probabilities of the last `continued` tokens of a prompt.

    Parameters
    ----------
    prompt_logprobs
        As vLLM gives them: per token of the prompt, log-probabilities by token; None for the first.
    tokens
        The prompt.
    continued
        How many of its last tokens count.
    """
    total = 0.0
    for place in range(len(tokens) - continued, len(tokens)):
        here = prompt_logprobs[place]
        if here is None:
            raise ModelError("vLLM gave no log-probability for a token.", fix="report this with the prompt.")
        total += float(here[tokens[place]].logprob)
    return total


class VLLMBackend:
    """Runs a model folder with vLLM.

    Parameters
    ----------
    model
        A model that was saved, or the folder of one.
    options
        Of ``vllm.LLM``.

    Raises
    ------
    ModelError
        vLLM is not installed, or the model is only in memory.
    """

    def __init__(self, model: LanguageModel | Any, options: Mapping[str, Any]) -> None:
        require_vllm()
        from vllm import LLM

        from c2s.models import LanguageModel
        from c2s.models.loading import check_model_folder, find_model_folder

        folder = model.path if isinstance(model, LanguageModel) else find_model_folder(model)[0]
        if folder is None:
            raise ModelError(
                "vLLM reads model folders, and this model is only in memory.", fix="model.save(folder) first."
            )
        check_model_folder(folder)
        if "trust_remote_code" in options:
            raise ConfigError("vLLM", ["trust_remote_code is never set"], fix="leave it out.")
        self.llm = LLM(model=str(folder), logits_processors=[PROCESSOR], **options)
        self.reader = _Reader(self.llm, str(folder))
        self._scratch = Path(tempfile.mkdtemp(prefix="c2s-vllm-"))
        weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        self._files = itertools.count()

    def generate(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        *,
        constraint: Constraint | None,
        request_ids: Sequence[str] | None,
    ) -> list[str]:
        """Continue each prompt; the constraint runs in vLLM's process."""
        from vllm import SamplingParams, TokensPrompt

        check_stop(sampling.stop, constraint)
        texts = as_texts(prompts)
        tokens = encode(self.reader, texts)
        seeds = request_seeds(texts, request_ids, sampling.seed)
        spelled, anew = spelled_for(Speller(self.reader, constraint) if constraint else None, texts, tokens)
        paths: dict[Any, str | None] = {None: None}
        for one in dict.fromkeys(spelled):
            if one is not None:
                path = self._scratch / f"{next(self._files)}.json"
                save_spelled(one, path)
                paths[one] = str(path)
        end = int(self.reader.tokenizer.eos_token_id)
        parameters = []
        for one, ids, seed in zip(spelled, tokens, seeds, strict=True):
            steps = answer_tokens(self.reader, one, sampling.max_new_tokens, len(ids))
            parameters.append(SamplingParams(**request_parameters(sampling, steps, seed, end, paths[one])))
        outputs = self.llm.generate([TokensPrompt(prompt_token_ids=ids) for ids in tokens], parameters)
        rules = StopRules(self.reader.tokenizer, sampling.stop, sampling.max_genes, anew)
        answers = []
        for one, begun, output in zip(spelled, anew, outputs, strict=True):
            new = whole_words(one, [token for token in output.outputs[0].token_ids if token != end])
            text = str(self.reader.tokenizer.decode(new, skip_special_tokens=True))
            answers.append(rules.cut(text.removeprefix(begun)))
        return answers

    def score(self, prompts: Sequence[str], candidates: Sequence[str]) -> Scores:
        """Score every label for every prompt by the log-probabilities of a prompt that holds it."""
        from vllm import SamplingParams, TokensPrompt

        texts = as_texts(prompts)
        labels, pairs = label_continuations(self.reader, texts, candidates)
        wanted = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        asked = [TokensPrompt(prompt_token_ids=[*prefix, *rest]) for row in pairs for prefix, rest in row]
        outputs = iter(self.llm.generate(asked, wanted))
        result = np.empty((len(texts), len(labels)))
        for i, row in enumerate(pairs):
            for j, (prefix, rest) in enumerate(row):
                result[i, j] = summed(next(outputs).prompt_logprobs, [*prefix, *rest], len(rest))
        return Scores(result, tuple(labels))


def whole_words(spelled: Spelled | None, tokens: list[int]) -> list[int]:
    """Return the tokens of an answer up to the end of its last whole word."""
    if spelled is None:
        return tokens
    vocabulary = max([spelled.end, *tokens, int(spelled.tree.token.max())]) + 1
    walk = TreeWalk(spelled, 1, vocabulary, torch.device("cpu"))
    walk.begin(0, 1)
    for token in tokens:
        walk.advance(slice(0, 1), torch.tensor([token]))
    return tokens[: walk.whole(0)]


class _Reader:
    """What the pure parts need to know of a model: its name, tokenizer and context."""

    def __init__(self, llm: Any, name: str) -> None:
        self.tokenizer = llm.get_tokenizer()
        self.name = name
        self.context_length = int(llm.llm_engine.model_config.max_model_len)
