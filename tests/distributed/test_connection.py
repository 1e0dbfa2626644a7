"""What is said when there is no Ray, no cluster, or no address of one."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import time

import pytest

import c2s.errors as errors
from c2s.distributed.connection import connected
from c2s.errors import C2SError, ClusterError, ConfigError, GeneError


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match="Ray is not installed") as caught, connected("auto"):
        pass
    assert caught.value.fix == "python -m pip install 'c2s[ray]'"


@pytest.mark.parametrize(
    ("address", "problem", "fix"),
    [
        ("ray://10.0.0.1:10001", "is a Ray client address", "--ray auto"),
        ("somewhere", "is no address of a Ray cluster", "HOST:PORT"),
        ("10.0.0.1:port", "is no address of a Ray cluster", "HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, problem: str, fix: str) -> None:
    with pytest.raises(ClusterError, match=problem) as caught, connected(address):
        pass
    assert fix in caught.value.fix


def test_an_address_where_nobody_answers_is_refused_soon() -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        started = time.monotonic()
        with (
            pytest.raises(ClusterError, match=f"nobody answers at {address}") as caught,
            connected(address, timeout=2),
        ):
            pass
    assert time.monotonic() - started < 20
    assert "ray status" in caught.value.fix


def test_nothing_imports_ray_before_it_is_asked_for() -> None:
    code = (
        "import sys, c2s, c2s.corpus.build; from c2s.distributed import run_units; sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "error",
    [
        GeneError("a problem", fix="a fix"),
        ConfigError("subject", ["one", "two"], fix="mend both"),
        ClusterError("gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_from_another_process_whole(error: C2SError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.problem, again.fix) == (error.problem, error.fix)
    assert getattr(again, "problems", None) == getattr(error, "problems", None)


def test_every_error_of_the_project_can_be_sent() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, C2SError)]
    assert len(kinds) > 15
    for kind in kinds:
        made = kind("subject", ["p"]) if kind is ConfigError else kind("p", fix="f")
        assert pickle.loads(pickle.dumps(made)).problem == made.problem
