"""Settings for every test: one thread, no network, reproducible properties; and the folder of real data sets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Set before numpy, numba or torch start their thread pools; two test processes on two cores must not fight.
# (numba as well, which would tell torch its own number when scanpy first calls it.)
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A test that reaches for the network must fail here as it would on an offline machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
# What the reader of these tests has set for their own plugins must not change what is tested.
for variable in ("C2S_LOAD_PLUGINS", "C2S_STRICT_PLUGINS", "C2S_TRACE_PLUGINS", "C2S_DEBUG"):
    os.environ.pop(variable, None)

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the property tests say so themselves
    pass
else:
    settings.register_profile(
        "c2s", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.register_profile("thorough", deadline=None, max_examples=500)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "c2s"))


@pytest.fixture(autouse=True)
def _no_wait_for_reading_threads() -> None:
    """Leave out the five seconds that datasets sleeps at the end of every shuffled stream."""
    if "datasets" in sys.modules:
        # For good, and not by monkeypatch: a test may undo what it has set.
        sys.modules["datasets"].config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.05


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tracebacks of deliberately broken plugins out of the user's cache."""
    monkeypatch.setenv("C2S_TRACEBACK_DIR", str(tmp_path_factory.getbasetemp() / "tracebacks"))


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Folder of the real data sets; tests that use it are marked ``mirror`` and skipped without it."""
    folder = os.environ.get("C2S_DATA_MIRROR")
    if not folder:
        pytest.skip("C2S_DATA_MIRROR is not set: the real data sets are not here")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"C2S_DATA_MIRROR={folder} is not a folder")
    return path
