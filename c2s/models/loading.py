"""Load a causal language model with its own tokenizer: tiny, from a folder, or from the hub's local cache.

Weights are read from safetensors only and code from a repository is never run. Nothing is downloaded: a model that
is not here is an error that names the command that gets it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.errors import ModelError
from c2s.files import atomic_output, refuse_existing
from c2s.models.presets import ModelPreset, find_preset, suggest
from c2s.models.tiny import TinyConfig, build_tiny

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# What a snapshot must hold; the weights' other formats are not asked for.
_WANTED = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.txt"]


@dataclass
class LanguageModel:
    """A causal language model and the tokenizer it reads with.

    Attributes
    ----------
    model
        In evaluation mode, on its device.
    tokenizer
        With a padding token, padding on the left.
    name
        What it is called in messages and records.
    path
        Folder it was read from or saved to; None if it is only in memory.
    context_length
        Tokens of prompt and answer together that it can read.
    preset
        What is known of it, if it is a published model.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    path: Path | None
    context_length: int
    preset: ModelPreset | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    @property
    def n_parameters(self) -> int:
        """Number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.model.parameters())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the model (safetensors), its configuration and its tokenizer to a folder, whole or not at all.

        Raises
        ------
        OutputError
            The folder exists and `overwrite` is false, or cannot be written.
        """
        final = Path(path)
        with atomic_output(final, overwrite=overwrite) as temporary:
            write_model(self, temporary)
        self.path = final
        return final


def write_model(model: LanguageModel, folder: Path) -> None:
    """Write weights, configuration and tokenizer into `folder`."""
    with quiet_transformers():
        model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    readable = (folder / "config.json").stat().st_mode
    for weights in folder.glob("*.safetensors"):
        weights.chmod(readable)  # safetensors lets only the owner read; a model folder is for sharing


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back the progress bars of reading and writing weights; ours are shown instead."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    corpus: Iterable[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
    config: TinyConfig | None = None,
) -> LanguageModel:
    """Load a language model, or build the tiny one.

    Parameters
    ----------
    name_or_path
        ``"tiny"``; a folder; the name of a preset (`c2s.models.PRESETS`); or a hub id that was downloaded before.
    corpus
        For ``"tiny"``: texts its tokenizer learns its words from.
    out
        Save the model here as well; the folder must not exist.
    device
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    dtype
        ``"auto"`` (float32 on a CPU, the checkpoint's own type elsewhere), ``"float32"``, ``"bfloat16"``,
        ``"float16"``.
    seed
        Of the tiny model's first weights.
    config
        Shape of the tiny model.

    Raises
    ------
    ModelError
        The name is unknown, the model is not on this machine, the folder is not a complete model with a tokenizer,
        its weights are pickled, or it wants to run code of its own.
    OutputError
        `out` exists.
    """
    if out is not None:
        refuse_existing(Path(out))
    place = find_device(device)
    if str(name_or_path) == "tiny":
        if corpus is None:
            raise ModelError(
                "the tiny model learns its words from texts, and none were given.",
                fix='load_model("tiny", corpus=[*prompts, *answers]).',
            )
        network, tokenizer = build_tiny(corpus, config, seed=seed)
        kind = _dtype(dtype, place)
        _move(network, place, None if kind == "auto" else kind)
        result = LanguageModel(network, tokenizer, "tiny", None, _context_length(network.config, tokenizer, None))
    else:
        if corpus is not None or config is not None:
            raise ModelError(
                f"{name_or_path} has a tokenizer and a shape of its own; corpus= and config= are for tiny.",
                fix='leave corpus and config out, or load "tiny".',
            )
        folder, preset = find_model_folder(name_or_path)
        result = _read(folder, str(name_or_path), preset, place, dtype)
    if out is not None:
        result.save(out)
    return result


def find_model_folder(name_or_path: str | os.PathLike[str]) -> tuple[Path, ModelPreset | None]:
    """Return the folder that `name_or_path` stands for, and its preset; raise `ModelError` if it is not here."""
    name = os.fspath(name_or_path)
    path = Path(name).expanduser()
    if path.is_dir():
        return path, None
    if path.exists():
        raise ModelError(
            f"{path} is a file, not a model folder.",
            fix="give the folder that holds config.json and *.safetensors.",
        )
    preset = find_preset(name)
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not path.parent.is_dir()
    if preset is None and not is_hub_id:
        near = suggest(name)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ModelError(
            f"there is no model folder {name!r}, and no preset of that name.{hint}",
            fix='give "tiny", a folder, a preset of c2s.models.PRESETS, or a hub id like EleutherAI/pythia-70m.',
        )
    hub_id, revision = (preset.hub_id, preset.revision) if preset else (name, "main")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(hub_id, revision=revision, local_files_only=True, allow_patterns=_WANTED)
    except (LocalEntryNotFoundError, HFValidationError, FileNotFoundError):
        pinned = "" if revision == "main" else f" --revision {revision}"
        near = suggest(name) if preset is None else []
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ModelError(
            f"the model {hub_id} is not on this machine.{hint}",
            fix=f"hf download {hub_id}{pinned} (or give the folder of a copy).",
        ) from None
    return Path(folder), preset


def _read(folder: Path, name: str, preset: ModelPreset | None, device: str, dtype: str) -> LanguageModel:
    """Read a model folder after checking that it is complete and safe."""
    settings = check_model_folder(folder)
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ModelError(
            f"{folder / 'config.json'} (type {settings.get('model_type')!r}) is not a configuration that "
            f"Transformers knows: {_first_line(error)}.",
            fix="use a causal language model that Transformers knows, or update transformers.",
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the tokenizer in {folder} cannot be read: {_first_line(error)}.",
            fix="copy the tokenizer files of the model into the folder again.",
        ) from error
    _complete_tokens(tokenizer, folder)
    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                dtype=_dtype(dtype, device),
                output_loading_info=True,
            )
        network, report = loaded
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model in {folder} (type {settings.get('model_type')!r}) cannot be read: {_first_line(error)}.",
            fix="give a causal language model; copy its files again if they are cut off.",
        ) from error
    # Transformers would fill these with random numbers and go on.
    missing = sorted({*report["missing_keys"], *(str(k) for k, *_ in report.get("mismatched_keys", ()))})
    if missing:
        raise ModelError(
            f"the weights in {folder} lack {len(missing)} tensor(s) of its configuration, first {missing[0]!r}.",
            fix="copy config.json and all *.safetensors of the same model.",
        )
    _move(network, device)
    context = _context_length(network.config, tokenizer, preset)
    return LanguageModel(network, tokenizer, name, folder, context, preset)


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Return config.json of a folder that holds a whole model and nothing that runs."""
    config = folder / "config.json"
    if (folder / "adapter_config.json").exists() and not config.exists():
        raise ModelError(
            f"{folder} holds an adapter, not a whole model.",
            fix="merge the adapter into its base model and save that.",
        )
    if not config.exists():
        raise ModelError(
            f"{folder} is not a model folder: it has no config.json.",
            fix="give the folder that train or hf download wrote.",
        )
    settings: dict[str, Any] = {}
    for file in (folder / "tokenizer_config.json", config):
        settings = _read_json(file) if file.exists() else {}
        if "auto_map" in settings:
            raise ModelError(
                f"{file} asks to run code from the repository (auto_map), which is never done.",
                fix="use a model whose architecture Transformers knows, or remove auto_map if it is one.",
            )
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
        if pickles:
            raise ModelError(
                f"the weights in {folder} are pickled ({pickles[0]}), and reading a pickle can run any code.",
                fix="ask for a safetensors copy, or convert them on a machine you can throw away: "
                "save_pretrained of Transformers writes safetensors.",
            )
        raise ModelError(
            f"{folder} has a config.json but no weights (*.safetensors).", fix="copy the weights into the folder."
        )
    if not any((folder / name).exists() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder} has no tokenizer ({', '.join(_TOKENIZER_FILES[:3])} ...).",
            fix="copy the tokenizer of the model it was trained from into the folder.",
        )
    return settings


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} is not readable JSON: {_first_line(error)}.", fix="copy the file again."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} is not a configuration.", fix="copy the file again.")
    return content


def _complete_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Make sure that answers can end and batches be padded."""
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer in {folder} has no end-of-text token, so no answer could end.",
            fix="set eos_token in its tokenizer_config.json.",
        )
    if tokenizer.pad_token_id is None:
        # Padding is masked everywhere, so which token stands there changes nothing.
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"


def _context_length(config: Any, tokenizer: PreTrainedTokenizerBase, preset: ModelPreset | None) -> int:
    """Return the smallest of the limits that configuration, tokenizer and preset state."""
    text = config.get_text_config()
    stated = [
        getattr(text, "max_position_embeddings", None),
        getattr(text, "n_positions", None),
        # Tokenizers without a limit state an enormous one.
        tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None,
        preset.context_length if preset else None,
    ]
    known = [int(limit) for limit in stated if limit]
    if not known:
        raise ModelError(
            "the model does not say how long its context is.",
            fix="set max_position_embeddings in its config.json, or model_max_length in tokenizer_config.json.",
        )
    return min(known)


def _move(network: PreTrainedModel, device: str, dtype: torch.dtype | None = None) -> None:
    import torch

    torch.nn.Module.to(network, device=device, dtype=dtype)
    network.eval()


def find_device(device: str) -> str:
    """Return the device that ``"auto"`` stands for, or the one named; raise `ModelError` if it is not here."""
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ModelError(
            f"unknown device {device!r}.", fix='pass device="auto", "cpu", "cuda" or "mps".'
        ) from None
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(kind, True)
    if not present:
        raise ModelError(f"this machine has no {kind} device.", fix='pass device="auto" or "cpu".')
    return device


def _dtype(dtype: str, device: str) -> Any:
    """Return what ``from_pretrained`` takes: a torch type, or ``"auto"`` for the checkpoint's own."""
    import torch

    if dtype == "auto":
        # Half precision is slow on most CPUs, and results should not hang on how a checkpoint was stored.
        return torch.float32 if device == "cpu" else "auto"
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        raise ModelError(f"unknown dtype {dtype!r}.", fix=f'pass "auto" or one of {", ".join(kinds)}.')
    return kinds[dtype]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
