"""Low-rank adapters (LoRA): put on a model, read from a folder, merged into its weights.

The paper fine-tunes its larger models this way (sections 4.4 and 4.5.1). PEFT does the work; here the targets are
checked against the model, and an adapter against the network it is put on.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from c2s.errors import ModelError
from c2s.models.folder import ADAPTER_WEIGHTS, check_adapter_folder, first_line
from c2s.options import Options

if TYPE_CHECKING:
    from torch import nn

    from c2s.models.loading import LanguageModel

_LORA_KEY = re.compile(
    r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>A|B|embedding_A|embedding_B)(\.weight)?$"
)


class LoraOptions(Options):
    """How a low-rank adapter is made.

    Attributes
    ----------
    rank
        Of the update of each weight matrix.
    alpha
        The update is scaled by ``alpha / rank``.
    dropout
        On the input of the adapter, while training.
    targets
        Names of the linear layers that get one (the last part of the module's name, or several parts), or
        ``"auto"``: all linear layers of the blocks, attention and feed-forward. The output layer never is.
    """

    subject: ClassVar[str] = "LoRA"

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["auto"] | tuple[str, ...] = "auto"


def linear_layers(network: Any) -> dict[str, nn.Linear]:
    """Return the linear layers of a network by full name, without its output layer."""
    from torch import nn

    output = network.get_output_embeddings()
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    }


def lora_targets(network: Any, targets: Literal["auto"] | tuple[str, ...] = "auto") -> list[str]:
    """Return the full names of the linear layers that `targets` stands for, in the network's order.

    Raises
    ------
    ModelError
        A target is not in the network; the message lists what it has.
    """
    layers = linear_layers(network)
    if targets == "auto":
        return list(layers)
    missing = [t for t in targets if not any(_named(name, t) for name in layers)]
    if missing or not targets:
        kinds = list(dict.fromkeys(name.rpartition(".")[2] for name in layers))
        what = f"no linear layer {' or '.join(map(repr, missing))}" if missing else "no LoRA target to work on"
        raise ModelError(
            f"{type(network).__name__} has {what}; it has {', '.join(kinds)}.",
            fix=f'use targets="auto", or some of {", ".join(kinds)}.',
        )
    return [name for name in layers if any(_named(name, t) for t in targets)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what PEFT is told of names that transformers will drop one day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _named(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def has_adapter(network: Any) -> bool:
    """Whether a network is wrapped in an adapter."""
    return hasattr(network, "peft_config") and hasattr(network, "get_base_model")


def add_lora(model: LanguageModel, options: LoraOptions | None = None, *, seed: int = 0) -> LanguageModel:
    """Put a new adapter on a model; its first outputs stay what they were.

    Parameters
    ----------
    model
        Its network gets the adapter in place, and its own weights are frozen.
    options
        See `LoraOptions`.
    seed
        Of the adapter's first weights; torch's global generator is left as it was.

    Returns
    -------
    LanguageModel
        The same tokenizer and context with the wrapped network; `path` is None until it is saved.

    Raises
    ------
    ModelError
        A target is not in the network, or the model has an adapter already.
    """
    network = model.model
    if has_adapter(network):
        raise ModelError(f"{model.name} has an adapter already.", fix="merge_lora(model) first.")
    wrapped = wrap_lora(network, options or LoraOptions(), seed=seed)
    # PEFT would name what the network's configuration names, which need not be the folder it was read from.
    wrapped.peft_config["default"].base_model_name_or_path = (
        str(model.path.resolve()) if model.path else model.name
    )
    return replace(model, model=wrapped.train(network.training), path=None)


def wrap_lora(network: Any, options: LoraOptions, *, seed: int = 0) -> Any:
    """Return a network inside PEFT's wrapper, with a new adapter; see `add_lora`."""
    import torch
    from peft import LoraConfig, get_peft_model

    # One name per kind where that says the same, so that the adapter's configuration can be read by a person.
    chosen = lora_targets(network, options.targets)
    kinds = sorted({name.rpartition(".")[2] for name in chosen})
    everywhere = [name for name in linear_layers(network) if name.rpartition(".")[2] in kinds]
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=kinds if everywhere == chosen else chosen,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        wrapped: Any = get_peft_model(network, config)
    # Left to itself, PEFT asks the hub, at every checkpoint, whether the base model's vocabulary was changed.
    wrapped.save_pretrained = functools.partial(wrapped.save_pretrained, save_embedding_layers=False)
    return wrapped


def merge_lora(model: LanguageModel) -> LanguageModel:
    """Add the adapter's update to the weights, and return the plain network; its outputs stay what they are.

    Raises
    ------
    ModelError
        The model has no adapter, or its weights are quantised.
    """
    network: Any = model.model
    if not has_adapter(network):
        raise ModelError(
            f"{model.name} has no adapter to merge.", fix="add_lora(model), or load_model(adapter=...)."
        )
    if getattr(network.get_base_model(), "quantization_method", None) is not None:
        raise ModelError(
            f"the weights of {model.name} are quantised, and merging into them would round the adapter away.",
            fix="load the base without quantise=, then merge.",
        )
    training = network.training
    merged = network.merge_and_unload()
    merged.requires_grad_(True)  # the adapter had frozen the base
    return replace(model, model=merged.train(training), path=None)


def read_adapter(model: LanguageModel, folder: Path, *, trainable: bool = False) -> LanguageModel:
    """Put the adapter of a folder on a model, after checking that it was made for such a network.

    Raises
    ------
    ModelError
        The folder is no LoRA adapter in safetensors, or the adapter belongs to another architecture or size.
    """
    check_adapter_folder(folder)
    _check_fit(model, folder)
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        with torch.random.fork_rng(devices=[]), _quiet():
            wrapped = PeftModel.from_pretrained(model.model, folder, is_trainable=trainable)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the adapter in {folder} cannot be read: {first_line(error)}.", fix="copy its files again."
        ) from error
    wrapped.eval()
    return replace(model, model=wrapped, path=folder)


def _check_fit(model: LanguageModel, folder: Path) -> None:
    """Compare the tensors of an adapter with the layers of the network they are for."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder / ADAPTER_WEIGHTS} cannot be read: {first_line(error)}.", fix="copy the file again."
        ) from error
    modules = dict(model.model.named_modules())
    found = [(match, shape) for key, shape in shapes.items() if (match := _LORA_KEY.match(key))]
    absent = sorted({m["module"] for m, _ in found if m["module"] not in modules})
    name = type(model.model).__name__
    if absent or not found:
        what = f"{absent[0]!r} and {len(absent) - 1} other(s), which it" if absent else "layers it"
        raise ModelError(
            f"the adapter {folder} was made for another architecture than {name}: it changes "
            f"{what} does not have.",
            fix="load it on the model it was trained from (base_model_name_or_path in its adapter_config.json).",
        )
    # A is [rank, in], B is [out, rank].
    wrong = [
        (m["module"], shape)
        for m, shape in found
        if m["side"] in "AB" and shape[m["side"] == "A"] != _width(modules[m["module"]], m["side"])
    ]
    if wrong:
        raise ModelError(
            f"the adapter {folder} was made for another size of {name}: its tensor for {wrong[0][0]!r} is "
            f"{list(wrong[0][1])}.",
            fix="load it on the model it was trained from (base_model_name_or_path in its adapter_config.json).",
        )


def _width(module: Any, side: str) -> int | None:
    found = getattr(module, "in_features" if side == "A" else "out_features", None)
    return None if found is None else int(found)
