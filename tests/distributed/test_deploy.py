"""The files for a cluster parse, and name only commands and options that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from c2s.cli import app
from c2s.training import SFTConfig

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sh"))


def command_at(words: list[str]) -> tuple[Any, list[str]]:
    """Follow ``c2s a b ...`` to the command it names; return it with the words that are left."""
    found: Any = typer.main.get_command(app)
    context = found.make_context("c2s", [], resilient_parsing=True)
    while words and hasattr(found, "get_command") and (inner := found.get_command(context, words[0])):
        found = inner.resolve() if hasattr(inner, "resolve") else inner
        words = words[1:]
    return found, words


def calls(text: str) -> list[list[str]]:
    """Return the words of every call of ``c2s`` in a text."""
    joined = text.replace("\\\n", " ")
    lines = [re.search(r"(?:^|\s|'|-m )c2s ((?:corpus|train) [^']*)", line) for line in joined.splitlines()]
    return [shlex.split(found[1].replace('"$@"', "")) for found in lines if found and "--out" in found[1]]


@pytest.mark.parametrize("file", [*SCRIPTS, DEPLOY / "cluster.yaml"], ids=lambda path: path.name)
def test_a_file_calls_commands_with_options_that_exist(file: Path) -> None:
    text = file.read_text()
    found = calls(text)
    assert found
    for words in found:
        command, rest = command_at(words)
        assert not hasattr(command, "get_command"), words
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known
        for pair in (rest[i + 1] for i, word in enumerate(rest[:-1]) if word == "--option"):
            assert pair.split("=")[0] in SFTConfig.model_fields


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_says_how_it_is_used(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: sbatch")
    assert script.stat().st_mode & 0o111


def test_the_cluster_has_what_the_launcher_asks_for() -> None:
    content = yaml.safe_load((DEPLOY / "cluster.yaml").read_text())
    assert {"cluster_name", "provider", "auth", "setup_commands"} <= set(content)
    assert len(content["provider"]["worker_ips"]) == content["max_workers"]
    started = [*content["head_start_ray_commands"], *content["worker_start_ray_commands"]]
    assert sum("ray start" in command for command in started) == 2
    assert all("--disable-usage-stats" in command for command in started if "ray start" in command)
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    used = {word.split("=")[0] for command in started for word in command.split() if word.startswith("--")}
    assert used <= known
