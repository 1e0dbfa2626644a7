"""A stranger's plugin: written outside the repository, installed from wheels into a fresh environment, used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


def _done(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "C2S_", "COV_", "PYTEST"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An environment with the dependencies but without c2s; returns a function that runs its programs.

    The dependencies are this environment's own, by links, so that nothing is downloaded; everything that is c2s is
    left out, an editable installation's path files too.
    """
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder / "env", with_pip=False)
    # Into its own site-packages: libraries tell their own modules from a user's by that name.
    site = next((folder / "env").glob("lib/python*/site-packages"))
    for kind in ("purelib", "platlib"):
        for item in Path(sysconfig.get_path(kind)).iterdir():
            ours = item.name.startswith(("c2s", "_c2s", "__editable__")) or item.suffix == ".pth"
            if not ours and not (site / item.name).exists():
                (site / item.name).symlink_to(item)
    programs = folder / "env" / "bin"

    def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return _done(programs / program, *arguments, cwd=folder, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")

    return run


def _wheel(source: Path, out: Path) -> Path:
    _done(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    wheels = sorted(out.glob("*.whl"), key=lambda p: p.stat().st_mtime)
    return wheels[-1]


def _install(wheel: Path, run: Run) -> None:
    python = run("python", "-c", "import sys; print(sys.executable)").stdout.strip()
    _done(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--quiet", "--no-index", "--no-deps", "--ignore-installed", "--disable-pip-version-check", wheel),
        cwd=wheel.parent,
    )


@pytest.mark.slow
def test_a_stranger_adds_a_task(fresh: Run, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with pytest.raises(AssertionError, match="No module named 'c2s'"):
        fresh("python", "-c", "import c2s")

    # Core from its wheel; the plugin does not exist yet.
    _install(_wheel(ROOT, wheels), fresh)
    where = fresh("python", "-c", "import c2s; print(c2s.__file__)").stdout
    assert str(ROOT) not in where, "the checkout must not be what is tested"
    assert [p["name"] for p in json.loads(fresh("c2s", "plugins", "list", "--json").stdout)] == ["core"]

    # The stranger writes a plugin, outside the repository, and installs it.
    source = tmp_path / "c2s-lineage"
    fresh("c2s", "plugins", "new", "lineage", "--folder", source)
    _install(_wheel(source, wheels), fresh)
    listed = {p["name"]: p for p in json.loads(fresh("c2s", "plugins", "list", "--json").stdout)}
    assert listed["lineage"]["state"] == "loaded"
    assert listed["lineage"]["distribution"] == "c2s-lineage"
    assert listed["lineage"]["registered"]["tasks"] == ["lineage"]
    assert "checks of plugin 'lineage' passed." in fresh("c2s", "plugins", "check", "lineage").stdout

    # It is trained and evaluated by the core's own commands.
    model, results = tmp_path / "model", tmp_path / "results"
    cells = ("--data", "pbmc68k_reduced")
    limits = ("--profile", "smoke", "--genes", "32", "--max-steps", "40", "--batch-size", "16")
    fresh("c2s", "train", "sft", "--task", "lineage", *cells, "--model", "tiny", "--out", model, *limits)
    fresh(
        "c2s", "evaluate", "--task", "lineage", "--model", model, *cells, "--out", results, "--n-bootstrap", "50"
    )
    measured = ("lineage_balanced_accuracy", "accuracy")
    rows = {
        (row["predictor"], row["metric"]): row["value"] for row in _metrics(results) if row["metric"] in measured
    }
    ours, majority = "language model", "majority"
    assert set(rows) == {(p, m) for p in (ours, majority) for m in measured}
    assert rows[majority, "lineage_balanced_accuracy"] < rows[ours, "lineage_balanced_accuracy"] <= 1

    # Its own tests pass as generated, in an environment that knows nothing of the checkout.
    tests = fresh("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", source)
    assert " passed" in tests.stdout
    assert "failed" not in tests.stdout


def _metrics(results: Path) -> list[dict[str, object]]:
    return json.loads((results / "results.json").read_text())["rows"]
