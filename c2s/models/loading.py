"""Load a causal language model with its own tokenizer: tiny, from a folder, or from the hub's local cache.

Weights are read from safetensors only and code from a repository is never run. Nothing is downloaded: a model that
is not here is an error that names the command that gets it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c2s.errors import ModelError
from c2s.files import atomic_output, check_target
from c2s.models.devices import attention_for, checked_device_map, find_device, quantisation, torch_dtype
from c2s.models.folder import (
    ADAPTER_CONFIG,
    check_adapter_folder,
    check_model_folder,
    find_model_folder,
    first_line,
    is_adapter,
)
from c2s.models.presets import ModelPreset
from c2s.models.tiny import TinyConfig, build_tiny

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "LanguageModel",
    "check_model_folder",
    "find_device",
    "find_model_folder",
    "load_model",
    "quiet_transformers",
    "write_model",
]


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
    """Write weights, configuration and tokenizer into `folder`; of a model with an adapter, the adapter alone."""
    from c2s.models.lora import has_adapter

    # PEFT would look for the base on the hub to see whether its vocabulary had changed; here it never does.
    options: dict[str, Any] = {"save_embedding_layers": False} if has_adapter(model.model) else {}
    with quiet_transformers():
        model.model.save_pretrained(folder, **options)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    model.tokenizer.save_pretrained(folder)
    readable = (folder / "tokenizer_config.json").stat().st_mode
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
    device_map: str | dict[str, Any] | None = None,
    attention: str | None = None,
    gradient_checkpointing: bool = False,
    quantise: int | None = None,
    adapter: str | os.PathLike[str] | None = None,
    merge: bool = False,
) -> LanguageModel:
    """Load a language model, or build the tiny one.

    Parameters
    ----------
    name_or_path
        ``"tiny"``; a folder; the name of a preset (`c2s.models.PRESETS`); a hub id that was downloaded before; or
        a folder with a LoRA adapter, whose base model is then loaded from where the adapter says it is.
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
    device_map
        Spread the layers over devices with accelerate: ``"auto"``, ``"balanced"``, ``"balanced_low_0"``,
        ``"sequential"``, or a mapping of modules to devices. `device` then only decides the number format.
    attention
        ``"eager"``, ``"sdpa"`` or ``"flash_attention_2"``; by default what transformers takes for it.
    gradient_checkpointing
        While training, keep only the input of each block and compute the rest again: less memory, more work.
    quantise
        4 or 8: load the linear layers in so many bits (bitsandbytes, CUDA only).
    adapter
        Folder of a LoRA adapter to put on the model.
    merge
        Merge the adapter into the weights.

    Raises
    ------
    ModelError
        The name is unknown, the model is not on this machine, the folder is not a complete model with a tokenizer,
        its weights are pickled, it wants to run code of its own, the adapter belongs to another model, or the
        machine cannot do what an option asks.
    OutputError
        `out` exists.
    """
    if out is not None:
        check_target(Path(out), fix="choose another path.")
    place = find_device(device)
    kind = torch_dtype(dtype, place)
    spread = checked_device_map(device_map)
    if str(name_or_path) == "tiny":
        given = {"device_map": device_map, "quantise": quantise, "adapter": adapter}
        unfit = [name for name, value in given.items() if value is not None]
        if unfit:
            raise ModelError(
                f"the tiny model is built on the spot and takes no {', '.join(unfit)}.",
                fix="leave it out, or save the model and load the folder.",
            )
        result = _tiny(corpus, config, seed, place, kind, attention)
    else:
        if corpus is not None or config is not None:
            raise ModelError(
                f"{name_or_path} has a tokenizer and a shape of its own; corpus= and config= are for tiny.",
                fix='leave corpus and config out, or load "tiny".',
            )
        options: dict[str, Any] = {"dtype": kind, "device_map": spread, "attention": attention}
        options["quantisation"] = quantisation(quantise, device=place)
        folder, preset = find_model_folder(name_or_path)
        if is_adapter(folder) and adapter is None:
            adapter, (folder, preset) = folder, _base_of(folder)
        result = _read(folder, str(name_or_path), preset, place, **options)
    if gradient_checkpointing:
        result.model.activation_checkpointing_enable()
    if adapter is None and merge:
        raise ModelError("merge=True, but there is no adapter.", fix="pass adapter=FOLDER, or leave merge out.")
    if adapter is not None:
        from c2s.models.lora import merge_lora, read_adapter

        result = read_adapter(result, Path(adapter).expanduser())
        result = merge_lora(result) if merge else result
    if out is not None:
        result.save(out)
    return result


def _tiny(
    corpus: Iterable[str] | None,
    config: TinyConfig | None,
    seed: int,
    device: str,
    dtype: Any,
    attention: str | None,
) -> LanguageModel:
    if corpus is None:
        raise ModelError(
            "the tiny model learns its words from texts, and none were given.",
            fix='load_model("tiny", corpus=[*prompts, *answers]).',
        )
    network, tokenizer = build_tiny(corpus, config, seed=seed)
    chosen = attention_for(attention, network.config, device=device, dtype=dtype)
    if chosen is not None:
        network.set_attn_implementation(chosen)
    _move(network, device, None if dtype == "auto" else dtype)
    return LanguageModel(network, tokenizer, "tiny", None, _context_length(network.config, tokenizer, None))


def _base_of(adapter: Path) -> tuple[Path, ModelPreset | None]:
    """Return the folder of the model that an adapter says it was trained from."""
    base = str(check_adapter_folder(adapter).get("base_model_name_or_path") or "")
    try:
        # The empty text would stand for the folder we are in.
        return find_model_folder(base or "unknown-base")
    except ModelError as error:
        said = f"its base model {base!r} is not here" if base else f"{ADAPTER_CONFIG} does not say of which model"
        raise ModelError(
            f"{adapter} holds an adapter, not a whole model, and {said}.",
            fix=f'load_model(BASE, adapter="{adapter}"), and merge=True for a whole model.',
        ) from error


def _read(
    folder: Path,
    name: str,
    preset: ModelPreset | None,
    device: str,
    *,
    dtype: Any,
    device_map: str | dict[str, Any] | None,
    attention: str | None,
    quantisation: Any,
) -> LanguageModel:
    """Read a model folder after checking that it is complete and safe."""
    settings = check_model_folder(folder)
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ModelError(
            f"{folder / 'config.json'} (type {settings.get('model_type')!r}) is not a configuration that "
            f"Transformers knows: {first_line(error)}.",
            fix="use a causal language model that Transformers knows, or update transformers.",
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the tokenizer in {folder} cannot be read: {first_line(error)}.",
            fix="copy the tokenizer files of the model into the folder again.",
        ) from error
    _complete_tokens(tokenizer, folder)
    # What is not asked for is not named, so that transformers keeps its own defaults.
    asked = {
        "attn_implementation": attention_for(attention, config, device=device, dtype=dtype),
        "quantization_config": quantisation,
        "device_map": device_map if quantisation is None else device_map or {"": device},
    }
    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
                **{key: value for key, value in asked.items() if value is not None},
            )
        network, report = loaded
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model in {folder} (type {settings.get('model_type')!r}) cannot be read: {first_line(error)}.",
            fix="give a causal language model; copy its files again if they are cut off.",
        ) from error
    # Transformers would fill these with random numbers and go on.
    missing = sorted({*report["missing_keys"], *(str(k) for k, *_ in report.get("mismatched_keys", ()))})
    if missing:
        raise ModelError(
            f"the weights in {folder} lack {len(missing)} tensor(s) of its configuration, first {missing[0]!r}.",
            fix="copy config.json and all *.safetensors of the same model.",
        )
    if asked["device_map"] is None:
        _move(network, device)
    context = _context_length(network.config, tokenizer, preset)
    return LanguageModel(network.eval(), tokenizer, name, folder, context, preset)


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
