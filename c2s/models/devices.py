"""How a model is put on a machine: device, number format, attention kernel, quantisation.

What the machine or the architecture cannot do is an error that says what to choose instead, before weights are
read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from c2s.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ATTENTION = ("eager", "sdpa", "flash_attention_2")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


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


def torch_dtype(dtype: str, device: str) -> Any:
    """Return what ``from_pretrained`` takes: a torch type, or ``"auto"`` for the checkpoint's own."""
    import torch

    if dtype == "auto":
        # Half precision is slow on most CPUs, and results should not hang on how a checkpoint was stored.
        return torch.float32 if device == "cpu" else "auto"
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        raise ModelError(f"unknown dtype {dtype!r}.", fix=f'pass "auto" or one of {", ".join(kinds)}.')
    return kinds[dtype]


def attention_for(attention: str | None, config: PretrainedConfig, *, device: str, dtype: Any) -> str | None:
    """Return the attention implementation to ask for; None leaves it to transformers.

    Parameters
    ----------
    attention
        ``"eager"``, ``"sdpa"``, ``"flash_attention_2"``, or None.
    config
        Of the model that will use it.
    device, dtype
        Where the weights go, and their torch type or ``"auto"``.

    Raises
    ------
    ModelError
        The name is unknown, or the machine or the architecture does not have it.
    """
    if attention is None:
        return None
    if attention not in ATTENTION:
        raise ModelError(
            f"unknown attention implementation {attention!r}.", fix=f"pass one of {', '.join(ATTENTION)}."
        )
    network_class = network_class_of(config)
    if attention == "sdpa" and not network_class._supports_sdpa:
        raise ModelError(
            f"{network_class.__name__} cannot use sdpa attention: the kernel does not compute what it needs "
            "(Gemma 2 caps its scores).",
            fix='pass attention="eager", or "flash_attention_2" on a GPU.',
        )
    if attention == "flash_attention_2":
        import torch
        from transformers.utils.import_utils import is_flash_attn_2_available

        problems = [
            (not is_flash_attn_2_available(), "the package flash-attn is not installed, or there is no CUDA GPU"),
            (not device.startswith("cuda"), f"the device is {device}, and its kernels run on CUDA only"),
            (dtype == torch.float32, "the weights are float32, and its kernels take half precision only"),
            (not network_class._supports_flash_attn, f"{network_class.__name__} does not support it"),
        ]
        said = [text for wrong, text in problems if wrong]
        if said:
            raise ModelError(
                f"flash_attention_2 is not available: {'; '.join(said)}.",
                fix='pass attention="sdpa" or "eager"; on a GPU: pip install flash-attn, dtype="bfloat16".',
            )
    return attention


def network_class_of(config: PretrainedConfig) -> Any:
    """Return the causal language model class of a configuration.

    Raises
    ------
    ModelError
        Transformers has no causal language model of this type.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM._model_mapping[type(config)]
    except KeyError:
        raise ModelError(
            f"{type(config).__name__} (type {config.model_type!r}) is not a causal language model.",
            fix="give a causal language model; of an encoder there is nothing to generate from.",
        ) from None


def quantisation(bits: int | None, *, device: str) -> Any:
    """Return the configuration that loads linear layers in 8 or 4 bits; None for None.

    4 bits are NormalFloat with double quantisation, computed in bfloat16 (the QLoRA setting).

    Raises
    ------
    ModelError
        `bits` is neither 4 nor 8, bitsandbytes is missing, or there is no CUDA device.
    """
    if bits is None:
        return None
    if bits not in (4, 8):
        raise ModelError(
            f"quantise={bits!r} is not 4 or 8 bits.", fix="pass quantise=4, quantise=8 or leave it out."
        )
    import torch
    from transformers.utils.import_utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise ModelError(
            f"{bits}-bit loading needs the package bitsandbytes, which is not installed.",
            fix="python -m pip install 'c2s[quantised]', on a machine with a CUDA GPU.",
        )
    if not device.startswith("cuda"):
        raise ModelError(
            f"{bits}-bit loading needs a CUDA GPU; the device is {device}.",
            fix='leave quantise out; dtype="bfloat16" halves the memory on any device.',
        )
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def checked_device_map(device_map: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Return `device_map` if accelerate knows it; raise `ModelError` otherwise."""
    if isinstance(device_map, str) and device_map not in DEVICE_MAPS:
        raise ModelError(
            f"unknown device_map {device_map!r}.",
            fix=f"pass one of {', '.join(DEVICE_MAPS)}, a mapping of modules to devices, or use device= for one.",
        )
    return device_map
