"""Folders that hold a model or an adapter: found by name, and checked before anything of them is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from c2s.errors import ModelError
from c2s.models.presets import ModelPreset, find_preset, suggest

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# What a snapshot must hold; the weights' other formats are not asked for.
_WANTED = ["*.json", "*.safetensors", "tokenizer*", "*.model", "*.txt"]
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


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
        near = suggest(name) if preset is None else []
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ModelError(
            f"the model {hub_id} is not on this machine.{hint}",
            fix=f"hf download {hub_id} --revision {revision} (or give the folder of a copy).",
        ) from None
    return Path(folder), preset


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Return config.json of a folder that holds a whole model and nothing that runs."""
    config = folder / "config.json"
    if is_adapter(folder):
        raise ModelError(
            f"{folder} holds an adapter, not a whole model.",
            fix="merge the adapter into its base model and save that: "
            f'load_model(BASE, adapter="{folder}", merge=True, out=...).',
        )
    if not config.exists():
        raise ModelError(
            f"{folder} is not a model folder: it has no config.json.",
            fix="give the folder that train or hf download wrote.",
        )
    settings: dict[str, Any] = {}
    for file in (folder / "tokenizer_config.json", config):
        settings = read_json(file) if file.exists() else {}
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


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`; raise `ModelError` if there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} is not readable JSON: {first_line(error)}.", fix="copy the file again."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} is not a configuration.", fix="copy the file again.")
    return content


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter without the model it belongs to."""
    return (folder / ADAPTER_CONFIG).exists() and not (folder / "config.json").exists()


def check_adapter_folder(folder: Path) -> dict[str, Any]:
    """Return the configuration of a folder that holds a LoRA adapter in safetensors.

    Raises
    ------
    ModelError
        The folder is missing or incomplete, its weights are pickled, or it is another kind of adapter.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{folder} is not an adapter: it has no {ADAPTER_CONFIG}.",
            fix="give the folder that save_pretrained of PEFT, or training with LoRA, wrote.",
        )
    settings = read_json(folder / ADAPTER_CONFIG)
    if settings.get("peft_type") != "LORA":
        raise ModelError(
            f"{folder} holds an adapter of type {settings.get('peft_type')!r}; only LoRA is read.",
            fix="merge it into its base model with the tool that made it, and load the whole.",
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").exists()
        raise ModelError(
            f"the adapter {folder} has no {ADAPTER_WEIGHTS}"
            + (", only a pickle, and reading a pickle can run any code." if pickled else "."),
            fix="save it again as safetensors (the default of PEFT).",
        )
    return settings


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
