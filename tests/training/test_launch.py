"""The configurations for ``accelerate launch`` are ones that accelerate takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

FOLDER = Path(__file__).parents[2] / "deploy" / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_is_one_for_each_way() -> None:
    assert sorted(file.stem for file in FILES) == ["ddp", "ddp-cpu", "deepspeed-zero3", "fsdp", "single"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_it_and_knows_every_word(file: Path) -> None:
    read = load_config_from_file(str(file))
    kinds = {
        "ddp": "MULTI_GPU", "ddp-cpu": "MULTI_CPU", "deepspeed-zero3": "DEEPSPEED", "fsdp": "FSDP", "single": "NO",
    }  # fmt: skip
    assert str(read.distributed_type) == f"DistributedType.{kinds[file.stem]}"
    known = {name.removeprefix("fsdp_") for name in vars(launch_command_parser().parse_args(["script.py"]))}
    unknown = {name for name in (read.fsdp_config or {}) if name.removeprefix("fsdp_") not in known}
    assert not unknown


@pytest.mark.parametrize("stem", ["ddp-cpu", "single"])
def test_accelerate_would_launch_it_here(stem: str) -> None:
    arguments = launch_command_parser().parse_args(
        ["--config_file", str(FOLDER / f"{stem}.yaml"), "-m", "c2s", "train", "sft"]
    )
    checked, config, _ = _validate_launch_command(arguments)
    assert checked.num_processes == config.num_processes == (2 if stem == "ddp-cpu" else 1)
