"""Where the files of datasets lie: in the mirror, found by checksum, or in the store folder, downloaded once.

``C2S_DATA_HOME`` names the store folder, ``C2S_DATA_MIRROR`` a folder that is searched by checksum first, and
``C2S_OFFLINE=1`` forbids the network.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from c2s.data.manifest import Manifest, ManifestFile
from c2s.data.mirror import MIRROR, by_size, find_in_mirror, mirror_folder, sum_of
from c2s.data.records import (
    aside_path,
    discard,
    part_path,
    read_record,
    record_path,
    unchanged,
    write_record,
)
from c2s.errors import C2SError, C2SWarning, DatasetError

HOME = "C2S_DATA_HOME"
OFFLINE = "C2S_OFFLINE"


class DatasetUnavailable(DatasetError):
    """A dataset is sound but cannot be had here; its fallbacks may be used."""


@dataclass(frozen=True)
class Verified:
    """What `Store.verify` found.

    Attributes
    ----------
    dataset, file
        Names.
    state
        ``"ok"``; ``"recorded"``: as at the first download, nobody states a sum; ``"absent"``; ``"refused"``.
    where
        The file, if it is here.
    what
        What is wrong, or where it comes from.
    """

    dataset: str
    file: str
    state: Literal["ok", "recorded", "absent", "refused"]
    where: Path | None
    what: str


@dataclass(frozen=True)
class Store:
    """Finds, downloads and checks the files of datasets.

    Attributes
    ----------
    home
        The store folder; a file lies in ``home/DATASET/FILE``.
    mirror
        Folder that is searched by checksum before anything else.
    offline
        Use no network.
    retries, backoff, timeout
        As for `c2s.data.download.ResumingDownloader`.
    loopback_http
        Allow ``http`` to this machine itself, for tests with a server of their own.
    show_progress
        Show downloads on standard error.
    """

    home: Path
    mirror: Path | None = None
    offline: bool = False
    retries: int = 5
    backoff: float = 1.0
    timeout: float = 60.0
    loopback_http: bool = False
    show_progress: bool = True
    _sizes: dict[int, list[Path]] = field(default_factory=dict, compare=False, repr=False)

    def path(self, name: str | os.PathLike[str] | Manifest, file: str | None = None) -> Path:
        """Return one file of a dataset, fetching it if needed.

        Parameters
        ----------
        name
            Name of a dataset, path of a manifest, or a manifest.
        file
            Which file; may be left out where there is one.

        Raises
        ------
        DatasetUnavailable
            It is neither here nor to be had.
        DatasetError
            It was refused, being corrupt or changed.
        RegistryError, ConfigError
            No manifest has this name, or it has no such file.
        """
        from c2s.data.catalogue import find_manifest

        manifest = name if isinstance(name, Manifest) else find_manifest(name)
        return self.find(manifest, manifest.file(file))

    def paths(self, manifest: Manifest) -> dict[str, Path]:
        """Return all files of a dataset by name, fetching or simulating what is missing; raises as `path` does."""
        if manifest.simulated:
            from c2s.data.simulated_files import simulated_file

            made = simulated_file(self, manifest)
            return {made.name: made}
        if not manifest.files:
            raise DatasetUnavailable(
                f"dataset {manifest.name!r} has no file with a known address.",
                fix=manifest.note or f"see {manifest.homepage}.",
            )
        return {file.name: self.find(manifest, file) for file in manifest.files}

    def find(self, manifest: Manifest, file: ManifestFile) -> Path:
        """Return a file of a manifest: from the mirror, from the store folder, or downloaded."""
        if file.package is not None:
            return _in_package(manifest, file)
        final = self.place(manifest, file)
        expected = self._expected(file, final)
        in_mirror, others = self._in_mirror(expected, file)
        if in_mirror is not None:
            self._warn_unstated(manifest, file, final)
            return in_mirror
        if not self._sound(manifest, file, final, expected):
            with self.alone(final):
                if not self._sound(manifest, file, final, expected):  # another process was quicker
                    self._download(manifest, file, final, expected, others)
        self._warn_unstated(manifest, file, final)
        return final

    def place(self, manifest: Manifest, file: ManifestFile) -> Path:
        """Return where the store keeps a file.

        Raises
        ------
        DatasetError
            That would be outside the store folder: a link leads away from it.
        """
        final = self.home / manifest.name / file.name
        inside = final.parent.resolve()
        if inside != self.home.resolve() / manifest.name or final.is_symlink():
            raise DatasetError(
                f"{final} leads out of the store folder {self.home}.",
                fix="remove that link; set C2S_DATA_HOME to keep the store elsewhere.",
            )
        return final

    def whereabouts(self, manifest: Manifest, file: ManifestFile) -> Literal["package", "mirror", "store", ""]:
        """Say where a file is, at a glance: by name and size, without reading it; empty if it is not here."""
        if file.package is not None:
            return "package" if _package_path(file) is not None else ""
        if self.mirror is not None and not self._sizes:
            self._sizes.update(by_size(self.mirror))
        if file.bytes in self._sizes:
            return "mirror"
        return "store" if (self.home / manifest.name / file.name).is_file() else ""

    def verify(self, manifest: Manifest, file: ManifestFile) -> Verified:
        """Read a file that is here and compare its sum; a corrupt one in the store folder is kept aside."""

        def found(
            state: Literal["ok", "recorded", "absent", "refused"], where: Path | None, what: str
        ) -> Verified:
            return Verified(manifest.name, file.name, state, where, what)

        if file.package is not None:
            path = _package_path(file)
            if path is None:
                return found("absent", None, f"{file.package.partition(':')[0]} is not installed, or without it")
            return found("ok", path, f"comes with {file.package.partition(':')[0]}")
        final = self.place(manifest, file)
        expected = self._expected(file, final)
        in_mirror, others = self._in_mirror(expected, file)
        if in_mirror is not None:
            return found("ok" if file.sha256 else "recorded", in_mirror, "in the mirror")
        if final.is_file():
            try:
                self._check(manifest, file, final, expected)
            except C2SError as error:
                return found("refused", None, str(error))
            return found("ok" if file.sha256 else "recorded", final, "in the store")
        if others:
            return found("refused", others[0], f"{others[0]} has its size but not its content")
        return found("absent", None, "can be fetched" if file.urls else "only from a mirror")

    def forget(self, manifest: Manifest, file: ManifestFile) -> bool:
        """Forget the sum recorded at the first download, and the file; return whether there was one."""
        final = self.place(manifest, file)
        known = record_path(final).exists() and file.sha256 is None
        if known:
            record_path(final).unlink()
            if file.urls:  # what was put here by hand could not be had again
                final.unlink(missing_ok=True)
        return known

    def _expected(self, file: ManifestFile, final: Path) -> str | None:
        """Return the sum that a file must have: stated, or recorded at its first download."""
        if file.sha256 is not None:
            return file.sha256
        record = read_record(final)
        return record["sha256"] if record else None

    def _warn_unstated(self, manifest: Manifest, file: ManifestFile, final: Path) -> None:
        """Tell whoever uses a file without a stated sum how far it can be trusted."""
        record = read_record(final) if file.sha256 is None else None
        if record is not None:
            warnings.warn(
                f"nobody states a checksum of {file.name} of dataset {manifest.name!r} ({file.sha256_reason}). "
                f"When it was first used {record.get('date', '')[:10]} it had sha256 {record['sha256']}; a later "
                "change is refused.",
                C2SWarning,
                stacklevel=4,
            )

    def _in_mirror(self, expected: str | None, file: ManifestFile) -> tuple[Path | None, list[Path]]:
        if self.mirror is None or expected is None:
            return None, []
        return find_in_mirror(self.mirror, expected, file.bytes)

    def _sound(self, manifest: Manifest, file: ManifestFile, final: Path, expected: str | None) -> bool:
        """Whether the store has the file; one that has not changed since it was last read is not read again."""
        if not final.is_file():
            return False
        if not unchanged(read_record(final), final, expected):
            self._check(manifest, file, final, expected)
        return True

    def _check(self, manifest: Manifest, file: ManifestFile, final: Path, expected: str | None) -> None:
        """Read the file; record its sum, or put it aside."""
        found = sum_of(final)
        if expected is not None and found != expected:
            kept = aside_path(final, found)
            with suppress(OSError):  # a store that may only be read
                final.replace(kept)
            origin = "the manifest states" if file.sha256 else "when it was first used it had"
            raise DatasetError(
                f"{final} of dataset {manifest.name!r} is corrupt or was changed: {origin} sha256 {expected}, but "
                f"it has {found}. It was kept aside as {kept.name}.",
                fix=f"c2s data fetch {manifest.name} brings it again." + _accept(manifest, file),
            )
        write_record(final, found)

    def _download(
        self, manifest: Manifest, file: ManifestFile, final: Path, expected: str | None, others: list[Path]
    ) -> None:
        """Try the addresses in order; the lock is held."""
        import pooch

        from c2s.data.download import ContentRefused, DownloadFailed, ResumingDownloader

        urls = [url for url in file.urls if not self.offline or urlsplit(url).scheme == "file"]
        pooch.get_logger().setLevel("WARNING")
        reasons, refused = [], None
        for url in urls:
            get = ResumingDownloader(
                part_path(final, url),
                lambda found: aside_path(final, found),
                f"{file.name} of dataset {manifest.name!r}",
                sha256=expected,
                size=file.bytes,
                retries=self.retries,
                backoff=self.backoff,
                timeout=self.timeout,
                loopback_http=self.loopback_http,
                show_progress=self.show_progress,
            )
            known = f"sha256:{expected}" if expected else None
            try:
                pooch.retrieve(url, known_hash=known, fname=final.name, path=final.parent, downloader=get)
            except DownloadFailed as error:
                reasons.append(str(error))
                continue
            except ContentRefused as error:
                refused = refused or ContentRefused(error.problem, fix=error.fix + _accept(manifest, file))
                continue
            write_record(final, sum_of(final), url)
            for left in final.parent.glob(f"{final.name}.{'[0-9a-f]' * 16}.part"):  # of other addresses
                discard(left)
            return
        if refused is not None:
            raise refused
        raise self._unavailable(manifest, file, expected, others, reasons)

    def _unavailable(
        self,
        manifest: Manifest,
        file: ManifestFile,
        expected: str | None,
        others: list[Path],
        reasons: list[str],
    ) -> DatasetUnavailable:
        place = f"is not in the mirror {self.mirror}" if self.mirror else f"is not here, {MIRROR} is not set"
        also = f" ({others[0]} has its size but not its content)" if others else ""
        if reasons:
            why, first = "no address could be read: " + "; ".join(reasons), "try again later, or "
        elif file.urls:
            why, first = f"{OFFLINE} is set", f"unset {OFFLINE}, or "
        else:
            why, first = "no public address of it is known", ""
        size = f" of {file.bytes:,} bytes" if file.bytes else ""
        named = f"the file{size} with sha256 {expected[:16]}…" if expected else f"{file.name}"
        where = "" if expected else f" ({self.home / manifest.name / file.name})"
        fix = f"{first}set {MIRROR} to a folder that holds, under any name, {named}."
        return DatasetUnavailable(
            f"dataset {manifest.name!r} is not on this machine: {file.name} {place}{also}, and {why}.",
            fix=fix if expected else f"{first}put it into the store by hand{where}.",
        )

    @contextmanager
    def alone(self, final: Path) -> Iterator[None]:
        """Hold the lock of a file, so that of several processes one downloads and the others wait."""
        from filelock import FileLock, Timeout

        locks = self.home / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            final.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(
                f"the store folder {self.home} cannot be written ({error.strerror}).",
                fix=f"set {HOME} to a folder that you may write to.",
            ) from error
        lock = FileLock(locks / f"{final.parent.name}.{final.name}.lock")
        try:
            lock.acquire(timeout=0.1)
        except Timeout:
            if self.show_progress:
                print(f"{final.name}: another process fetches it; waiting.", file=sys.stderr, flush=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _accept(manifest: Manifest, file: ManifestFile) -> str:
    """Say how a change is accepted of a file whose sum was only recorded here."""
    return "" if file.sha256 else f" If the change is meant: c2s data fetch {manifest.name} --forget"


def store() -> Store:
    """Return the store that the environment describes.

    Raises
    ------
    DatasetError
        ``C2S_DATA_MIRROR`` names something that is no folder.
    """
    home = os.environ.get(HOME)
    if home:
        folder = Path(home).expanduser()
    else:
        import pooch

        folder = Path(pooch.os_cache("c2s")) / "data"
    return Store(
        home=folder.absolute(),
        mirror=mirror_folder(),
        offline=os.environ.get(OFFLINE, "") not in {"", "0"},
    )


def _package_path(file: ManifestFile) -> Path | None:
    package, _, inside = str(file.package).partition(":")
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / inside
    return path if path.is_file() else None


def _in_package(manifest: Manifest, file: ManifestFile) -> Path:
    path = _package_path(file)
    if path is None:
        package = str(file.package).partition(":")[0]
        raise DatasetUnavailable(
            f"dataset {manifest.name!r} comes with {package}, and the {package} here is without {manifest.name}.",
            fix=f"python -m pip install --force-reinstall {package}",
        )
    return path
