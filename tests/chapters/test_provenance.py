"""run.json says what ran, on what, and how it ended."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import c2s
from c2s import provenance
from c2s.data import cells_checksum, find_manifest
from c2s.data.store import store
from c2s.errors import InputFileError
from c2s.provenance import RunRecord, checksum
from c2s.testing import simulated_cells


def test_a_record_holds_what_repeating_the_run_needs(tmp_path: Path) -> None:
    data = tmp_path / "cells.txt"
    data.write_bytes(b"cells")
    with RunRecord(tmp_path / "run.json", config={"top_k": 3, "out": tmp_path}, seeds={"split": 7}) as record:
        record.add_data("cells", data, cells=5)
        assert not (tmp_path / "run.json").exists()
    value = json.loads((tmp_path / "run.json").read_text())
    assert list(value)[:3] == ["command", "status", "started"]
    assert value["status"] == "finished"
    assert value["config"] == {"top_k": 3, "out": str(tmp_path)}
    assert value["seeds"] == {"split": 7}
    assert value["data"] == [
        {
            "name": "cells",
            "path": str(data),
            "bytes": 5,
            "sha256": hashlib.sha256(b"cells").hexdigest(),
            "cells": 5,
        }
    ]
    assert value["versions"]["c2s"]
    assert value["wall_seconds"] >= 0
    assert value["peak_memory_bytes"] > 10_000_000
    assert value["device"]
    assert value["machine"]["cpus"] >= 1


@pytest.mark.parametrize(
    "error, status", [(ValueError("bad gene"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_run_that_fails_leaves_its_record_and_its_error(
    tmp_path: Path, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), RunRecord(tmp_path / "run.json"):
        raise error
    value = json.loads((tmp_path / "run.json").read_text())
    assert value["status"] == status
    assert value["error"] == repr(error)


def test_a_folder_taken_away_by_the_failing_run_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone"), RunRecord(tmp_path / "gone" / "run.json"):
        raise ValueError("gone")
    assert list(tmp_path.iterdir()) == []


def test_a_record_in_memory_folds_on_a_page() -> None:
    record = RunRecord(config={"label": "<b>"}).start().finish()
    page = record._repr_html_()
    assert page.startswith("<details")
    assert "&lt;b&gt;" in page


def test_the_checksum_of_a_folder_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").write_text("1")
    first = checksum(tmp_path / "a")
    assert checksum(tmp_path / "a") == first
    (tmp_path / "a" / "deep" / "x").rename(tmp_path / "a" / "deep" / "y")
    second = checksum(tmp_path / "a")
    (tmp_path / "a" / "deep" / "y").write_text("2")
    assert len({first, second, checksum(tmp_path / "a")}) == 3


def test_cells_are_recorded_as_what_they_are_and_not_only_as_what_was_asked_for(tmp_path: Path) -> None:
    adata = simulated_cells(12)
    adata.uns["c2s"] |= {"source": "stand_in", "instead_of": "wanted", "sha256": "0" * 64}
    record = RunRecord()
    record.add_cells("wanted", adata, part="test")
    assert record.data == [
        {
            "name": "wanted",
            "sha256": "0" * 64,
            "cells": 12,
            "source": "stand_in",
            "instead_of": "wanted",
            "simulated": True,
            "part": "test",
        }
    ]
    file = tmp_path / "cells.h5ad"
    adata.write_h5ad(file)
    record.add_cells(file, adata)
    assert record.data[1]["path"] == str(file)
    assert record.data[1]["sha256"] == checksum(file)  # of the file, whatever it says of itself


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="nowhere"):
        RunRecord().add_data("cells", tmp_path / "nowhere")


def test_git_state_tells_a_changed_checkout_from_a_clean_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "c2s" / "provenance.py"))
    assert provenance.git_state() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert provenance.git_state() is None
    (tmp_path / "x").write_text("1")
    subprocess.run([*git, "add", "x"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    state = provenance.git_state()
    assert state is not None
    assert state["dirty"] is False
    assert len(str(state["revision"])) == 40
    (tmp_path / "x").write_text("2")
    changed = provenance.git_state()
    assert changed is not None
    assert changed["dirty"] is True


def test_keeping_a_record_imports_nothing_heavy() -> None:
    script = (
        "import sys; from c2s.provenance import RunRecord; RunRecord().start().finish().to_json();"
        "print([m for m in ('torch', 'numpy', 'pandas', 'scanpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cells_without_a_file_are_recorded_with_a_checksum_of_what_they_hold() -> None:
    adata = simulated_cells(12)
    record = RunRecord()
    record.add_cells("made here", adata)
    entry = record.data[0]
    assert entry["sha256"] == cells_checksum(simulated_cells(12))
    assert entry["sha256_of"] == "cells"


def test_the_checksum_of_cells_follows_their_content_and_not_their_storage() -> None:
    adata = simulated_cells(12)
    first = cells_checksum(adata)
    dense = adata.copy()
    dense.X = dense.X.toarray()
    dense.obs["cell_type"] = dense.obs["cell_type"].astype(str)
    assert cells_checksum(dense) == first
    changed = []
    for change in ("value", "label", "cell", "gene", "order"):
        other = adata.copy()
        if change == "value":
            other.X.data[0] += 1
        elif change == "label":
            other.obs["cell_type"] = ["other", *other.obs["cell_type"].astype(str)[1:]]
        elif change == "cell":
            other.obs_names = ["other", *other.obs_names[1:]]
        elif change == "gene":
            other.var_names = ["OTHER", *other.var_names[1:]]
        else:
            other = other[::-1].copy()
        changed.append(cells_checksum(other))
    assert len({first, *changed}) == 6


def test_datasets_that_come_with_a_package_are_recorded_with_the_sum_of_their_file() -> None:
    record = RunRecord()
    record.add_cells("pbmc68k_reduced", c2s.load_dataset("pbmc68k_reduced"))
    file = store().path(find_manifest("pbmc68k_reduced"))
    assert record.data[0]["sha256"] == checksum(file)
    assert "sha256_of" not in record.data[0]


def test_the_record_of_a_command_holds_every_option_as_it_was_resolved(tmp_path: Path) -> None:
    app = typer.Typer()

    @app.command()
    def made(
        context: typer.Context,
        source: str,
        genes: int | None = None,
        seed: int = 3,
        profile: str = "laptop",
        out: Path = tmp_path / "run.json",
    ) -> None:
        RunRecord.of_command(context, out, config={"genes": 200, "more": "x"}).start().finish()

    assert CliRunner().invoke(app, ["cells.h5ad"]).exit_code == 0
    value = json.loads((tmp_path / "run.json").read_text())
    assert value["config"] == {
        "source": "cells.h5ad",
        "genes": 200,
        "seed": 3,
        "profile": "laptop",
        "out": str(tmp_path / "run.json"),
        "more": "x",
    }
    assert (value["seeds"], value["profile"]) == ({"seed": 3}, "laptop")
