"""A connection to a Ray cluster, and the question whether its machines can do the work."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from c2s import __version__
from c2s.errors import ClusterError
from c2s.files import atomic_output

#: Seconds to wait for the cluster's address, and for each of its machines to answer.
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 120.0
#: Memory of the object store of a cluster that is started here; results go through files, not through it.
_STORE_BYTES = 200_000_000


@contextmanager
def connected(address: str, *, timeout: float = CONNECT_SECONDS) -> Iterator[Any]:
    """Connect to a Ray cluster for as long as the block runs; yield the module ``ray``.

    Parameters
    ----------
    address
        ``HOST:PORT`` of a cluster; ``"auto"`` for the one that runs on this machine (or that ``RAY_ADDRESS``
        names), started here if there is none; ``"local"`` to start one here in any case.
    timeout
        Seconds to wait for the address to answer.

    Yields
    ------
    module
        A connection that was there before is used, and left open; one that is made here is closed.

    Raises
    ------
    ClusterError
        Ray is not installed, nobody answers at the address, or it runs another version of Ray or Python.
    """
    # Read once, when ray is imported: nothing is sent to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError("Ray is not installed.", fix="python -m pip install 'c2s[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        found = _find(address, timeout)
        if found is None:
            ray.init(address="local", include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
        else:
            ray.init(address=found, **quiet)
    except ClusterError:
        raise
    except Exception as error:  # Ray raises bare ones, too
        ray.shutdown()
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(
            f"cannot join the Ray cluster at {address!r}: {reason}",
            fix="start it with the same versions of Python and Ray (`ray start --head`), run this command on one "
            "of its machines, and try again if the machine is busy.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _find(address: str, timeout: float) -> str | None:
    """Return the address to join after making sure that somebody listens there; None to start a cluster here."""
    if address == "local":
        return None
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        # What `ray.init()` asks, too: RAY_ADDRESS, then the cluster that was last started on this machine.
        address = os.environ.get("RAY_ADDRESS") or canonicalize_bootstrap_address("auto") or ""
        if not address or address in ("auto", "local"):
            return None
        if not _answers(address, timeout) and "RAY_ADDRESS" not in os.environ:
            return None  # a cluster that is gone
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is a Ray client address, and this command writes files that all machines must see.",
            fix="run it on a machine of the cluster, address='auto' (--ray auto) or HOST:6379, as a rule.",
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(
            f"{address!r} is no address of a Ray cluster.", fix="pass auto, local or HOST:PORT (10.0.0.1:6379)."
        )
    if not _answers(address, timeout):
        raise ClusterError(
            f"nobody answers at {address} within {timeout:g} s.",
            fix="check the address and the firewall; `ray start --head` prints the address, and `ray status` on a "
            "machine of the cluster shows whether it runs.",
        )
    return address


def _answers(address: str, timeout: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except (OSError, ValueError):
        return False
    return True


def check_machines(ray: Any, folder: Path, files: Sequence[str | Path], *, timeout: float = ANSWER_SECONDS) -> int:
    """Ask every machine of the cluster whether it can do the work, before any of it is handed out.

    Parameters
    ----------
    ray
        The connected module.
    folder
        Where results go; it must be the same folder everywhere.
    files
        What is read.
    timeout
        Seconds to wait for the answers.

    Returns
    -------
    int
        Machines that can.

    Raises
    ------
    ClusterError
        A machine does not see the folder or a file, may not write, has no c2s or another version of it, or does
        not answer; all such machines are named.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / f".seen-{uuid.uuid4().hex}"
    token.write_text(token.name, encoding="utf-8")
    wanted = [(str(Path(f).resolve()), _size(Path(f))) for f in files]
    question = ray.remote(num_cpus=0, max_retries=0)(answer)
    try:
        asked = {
            question.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(token), wanted, __version__): node
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        }
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=timeout) if asked else ([], [])
        said = {asked[ref]["NodeID"]: ["does not answer"] for ref in late}
        for ref in done:
            try:
                said[asked[ref]["NodeID"]] = ray.get(ref)
            except Exception as error:  # of any kind, from another machine
                last = [line for line in str(error).splitlines() if line.strip()][-1]
                said[asked[ref]["NodeID"]] = [f"cannot run c2s ({last.strip()[:200]})"]
    finally:
        token.unlink(missing_ok=True)
    # A machine that went away while it was asked is nobody's problem.
    here = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] in said]
    problems = [f"{node['NodeManagerAddress']} {text}" for node in here for text in said[node["NodeID"]]]
    if not here:
        problems = ["no machine of the cluster has a free processor to offer (CPU)"]
    if problems:
        raise ClusterError(
            "; ".join(problems) + ".",
            fix="mount the folder of the output and of the data on every machine under the same path (a shared "
            "file system), and install the same version of c2s on each.",
        )
    return len(here)


def answer(token: str, files: Sequence[tuple[str, int]], version: str) -> list[str]:
    """Say what this machine cannot do; runs on the machine that is asked."""
    place = Path(token)
    if version != __version__:
        return [f"has c2s {__version__}, and here it is {version}"]
    if not place.exists() or place.read_text(encoding="utf-8") != place.name:
        return [f"does not see the output folder {place.parent}"]
    problems = [f"does not see {name} as it is here" for name, size in files if _size(Path(name)) != size]
    try:
        with atomic_output(place.parent / f"{place.name}-{os.getpid()}.try") as temporary:
            temporary.mkdir()
            temporary.rmdir()
    except Exception as error:
        problems.append(f"cannot write to {place.parent} ({error})")
    return problems


def _size(path: Path) -> int:
    """Return the bytes of a file, 0 for a folder, and -1 for what is not there."""
    try:
        return path.stat().st_size if path.is_file() else int(path.exists()) - 1
    except OSError:
        return -1
