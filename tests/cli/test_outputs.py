"""Whether an output can be written is found out before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_inputs import cli

from c2s.errors import OutputError

#: Commands whose input is missing, which they would say next.
COMMANDS = (
    "transform missing.h5ad OUT.parquet",
    "invert missing.parquet OUT.h5ad",
    "train sft --task annotation --data missing.h5ad --out OUT",
    "train grpo --model missing --data missing.h5ad --out OUT",
    "predict missing.h5ad OUT.h5ad --model missing",
    "evaluate --model missing --data missing.h5ad --out OUT",
    "embed missing.h5ad OUT.h5ad --model missing",
    "embed missing.h5ad OUT.h5ad --model missing --samples donor_id",
    "embedding-report missing.h5ad --out OUT",
    "generate --model missing --data missing.h5ad OUT.h5ad",
    "results missing --out OUT.csv",
    "chapters run annotation --out OUT",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("a_file/out", r"cannot write .*a_file/out.*Fix: choose a folder you may write to"),
        pytest.param(
            "/proc/out",
            r"cannot write /proc/out.*Fix: choose a folder",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc"),
        ),
        ("o" * 256, r"cannot write .*: File name too long.*Fix: choose a shorter name"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(command, place, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    with pytest.raises(OutputError, match=says):
        cli(*(word.replace("OUT", place) for word in command.split()))
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]
