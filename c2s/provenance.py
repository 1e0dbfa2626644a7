"""What a run leaves behind so that it can be repeated: ``run.json``."""

from __future__ import annotations

import hashlib
import html
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from c2s.errors import InputFileError
from c2s.files import atomic_output

if TYPE_CHECKING:
    from anndata import AnnData

    from c2s.models import LanguageModel

#: Distributions whose version can change a result; those not installed are left out.
KEY_PACKAGES = (
    "c2s",
    "accelerate",
    "anndata",
    "datasets",
    "numba",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "scanpy",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


class _Options(Protocol):
    @property
    def params(self) -> dict[str, Any]: ...


class RunRecord:
    """Write down a run: what was asked, with which code, data and machine, and what it took.

    Use it around the work, ``with RunRecord(folder / "run.json", config=...) as record: ...``, or call `start` and
    `finish`, as the chapters do. The file is written when the run ends, also when it fails.

    Parameters
    ----------
    path
        Where ``run.json`` goes; None keeps the record in memory.
    command
        What was run; ``sys.argv`` if not given.
    config
        Settings, as plain values. Paths and other objects are written as text.
    seeds
        Seeds by name.
    profile
        The profile that the settings equal, or what is nearest to it; None where there are no profiles.
    device
        Device the work ran on; found out at the end if not given.
    overwrite
        Replace an older record at `path`.

    Attributes
    ----------
    data
        One mapping per input: ``name``, ``sha256``, and ``path`` and ``bytes`` where it is a file.

    Examples
    --------
    >>> with RunRecord(config={"top_k": 200}, seeds={"split": 0}) as record:
    ...     pass
    >>> record.as_dict()["status"]
    'finished'
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        command: Sequence[str] | None = None,
        config: Mapping[str, object] | None = None,
        seeds: Mapping[str, Any] | None = None,
        profile: str | None = None,
        device: str | None = None,
        overwrite: bool = True,
    ) -> None:
        self.path = Path(path) if path is not None else None
        self.command = list(command) if command is not None else [Path(sys.argv[0]).name, *sys.argv[1:]]
        self.config = dict(config or {})
        self.seeds = dict(seeds or {})
        self.profile = profile
        self.device = device
        self.overwrite = overwrite
        self.data: list[dict[str, object]] = []
        self.status = "running"
        self.error: str | None = None
        self.wall_seconds: float | None = None
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()

    @classmethod
    def of_command(
        cls,
        context: _Options,
        path: str | os.PathLike[str] | None = None,
        *,
        config: Mapping[str, object] | None = None,
        overwrite: bool = True,
    ) -> Self:
        """Make the record of a command: every argument and option is in it, also those left at their defaults.

        Parameters
        ----------
        context
            The command's `typer.Context`.
        path, overwrite
            As above.
        config
            What the command made of its options, and other settings; these go before what was given. What is only
            known later is added to the attribute.
        """
        options = context.params
        return cls(
            path,
            config={**options, **(config or {})},
            seeds={"seed": options["seed"]} if "seed" in options else {},
            profile=options.get("profile"),
            overwrite=overwrite,
        )

    def start(self) -> Self:
        """Start the clock again and return the record."""
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()
        return self

    def add_data(
        self, name: str, path: str | os.PathLike[str] | None = None, *, sha256: str | None = None, **facts: object
    ) -> None:
        """Record an input; the same one again is recorded once.

        Parameters
        ----------
        name
            What the run calls it.
        path
            The file or folder; its checksum is computed unless `sha256` is given.
        sha256
            Checksum, where it is known already.
        **facts
            Anything else worth keeping (number of cells, licence).

        Raises
        ------
        InputFileError
            `path` does not exist.
        """
        entry: dict[str, object] = {"name": name}
        if path is not None:
            entry["path"] = str(path)
            entry["bytes"] = sum(f.stat().st_size for f in _files(Path(path)))
            sha256 = sha256 or checksum(path)
        entry = {**entry, "sha256": sha256, **facts}
        if entry not in self.data:
            self.data.append(entry)

    def add_cells(self, name: str | os.PathLike[str], cells: AnnData, **facts: object) -> None:
        """Record cells that were loaded by name or from a file.

        Parameters
        ----------
        name
            What was asked for: a path, or the name of a dataset.
        cells
            What was loaded. What its ``uns["c2s"]`` says is kept: the dataset that it is (``source``; another
            one than was asked for, where a fallback was used), its sha256, and whether it is simulated. Where
            there is no file to take a sha256 of, it is that of the cells as they are now
            (`c2s.data.cells_checksum`), and ``sha256_of`` says so: record cells before they are changed.
        **facts
            Anything else worth keeping.
        """
        told = cells.uns.get("c2s", {})
        source = Path(name) if Path(name).exists() else None
        kept = {key: told[key] for key in ("source", "instead_of", "simulated") if key in told}
        stated = told.get("sha256") if source is None else None
        if source is None and not stated:
            from c2s.data import cells_checksum

            stated, kept["sha256_of"] = cells_checksum(cells), "cells"
        self.add_data(os.fspath(name), source, sha256=stated, cells=int(cells.n_obs), **kept, **facts)

    def add_corpus(self, folder: str | os.PathLike[str], **facts: object) -> list[str]:
        """Record a corpus by its manifest, which holds the checksum of every shard, and what it was made from.

        Parameters
        ----------
        folder
            Folder that `c2s.corpus.build_corpus` wrote.
        **facts
            Anything else worth keeping.

        Returns
        -------
        list of str
            Names of the datasets and gene set collections in it.

        Raises
        ------
        InputFileError
            The folder holds no manifest.
        """
        manifest = Path(folder, "manifest.json")
        self.add_data("corpus", manifest, sha256=None, **facts)
        sources = json.loads(manifest.read_text(encoding="utf-8"))["datasets"]
        for name, source in sources.items():
            kept: dict[str, Any] = {"simulated": True} if source.get("simulated") else {}
            self.add_data(name, sha256=source["sha256"], cells=source.get("cells"), **kept)
        return list(sources)

    def ran_with(self, model: LanguageModel) -> None:
        """Record the device of a model and the type of its weights, in place of what was asked for (``auto``)."""
        self.device = str(model.device)
        self.config |= {"device": self.device, "dtype": str(model.model.dtype).removeprefix("torch.")}

    def finish(self, status: str = "finished", *, error: str | None = None) -> Self:
        """Stop the clock, write the file if there is a path, and return the record."""
        self.wall_seconds = round(time.perf_counter() - self._clock, 3)
        self.status, self.error = status, error
        self.device = self.device or _device()
        if self.path is not None:
            with atomic_output(self.path, overwrite=self.overwrite) as temporary:
                temporary.write_text(self.to_json())
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif self.path is None or self.path.parent.is_dir():
            # A folder that the failing work has taken away again is not made anew for its record.
            self.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", error=repr(error))

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values, in the order of the file."""
        return {
            "command": self.command,
            "status": self.status,
            **({"error": self.error} if self.error else {}),
            "started": self._started.isoformat(timespec="seconds"),
            "wall_seconds": self.wall_seconds,
            "peak_memory_bytes": peak_memory(),
            "device": self.device,
            "machine": {
                "system": platform.platform(terse=True),
                "architecture": platform.machine(),
                "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            },
            "git": git_state(),
            "python": platform.python_version(),
            "versions": package_versions(),
            "seeds": self.seeds,
            "profile": self.profile,
            "config": self.config,
            "data": self.data,
        }

    def to_json(self) -> str:
        """Return the text of ``run.json``."""
        return json.dumps(self.as_dict(), indent=2, default=str) + "\n"

    def _repr_html_(self) -> str:
        """Fold the record, for the end of a chapter."""
        return (
            '<details class="c2s-run"><summary>How this page was made</summary>'
            f'<pre style="overflow-x:auto">{html.escape(self.to_json())}</pre></details>'
        )


def checksum(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file, or of a folder's file names and contents.

    Raises
    ------
    InputFileError
        `path` does not exist.
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{checksum(file)}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """List the file, or the files of the folder, in a fixed order."""
    if not path.exists():
        raise InputFileError(f"no file or folder {path}.", fix="check the path.")
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def package_versions() -> dict[str, str]:
    """Return the versions of the key packages that are installed, without importing them."""
    found = {}
    for name in KEY_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state() -> dict[str, object] | None:
    """Return revision and dirty flag of the checkout that ``c2s`` runs from; None for an installed package."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(checkout), *words], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": answers[0], "dirty": bool(answers[1])}


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device() -> str:
    """Name the device, asking torch only if the run has imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return "cpu"
