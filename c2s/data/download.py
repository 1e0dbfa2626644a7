"""The downloader that pooch is given: it resumes, tries again, and takes only what was promised."""

from __future__ import annotations

import errno
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from requests.adapters import HTTPAdapter

from c2s.data.manifest import url_problem
from c2s.data.mirror import sum_of
from c2s.data.records import discard, read_validator, write_validator
from c2s.errors import DatasetError, OutputError

_CHUNK = 1 << 18
_LONGEST_WAIT = 60.0
#: Attempts in all, however much each of them brings.
_MOST_ATTEMPTS = 200


class DownloadFailed(Exception):
    """An address could not be read; another may be tried."""


class _TryAgain(Exception):
    """What may be over the next time: a cut connection, a busy server."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class ContentRefused(DatasetError):
    """What came is not what the manifest, or the first download, says."""


class ResumingDownloader:
    """Downloads one file for pooch; call it with an address and the path to write.

    What has come is kept in `part` when the connection is cut, the program is stopped or the machine goes down;
    the next attempt asks the server for the rest (HTTP ``Range``). What the server called the file (``ETag``, or
    else ``Last-Modified``) is kept beside it and asked for (``If-Range``), so that a rest never comes from another
    file than the beginning. Where the server gives neither, only a checksum could tell: without one, all is
    fetched again. A server that ignores the question sends all of it again.

    Parameters
    ----------
    part
        Where an unfinished download is kept.
    aside
        ``sha256 -> path``: where a file goes that is not what it should be.
    what
        The file and its dataset, for messages.
    sha256, size
        What the file must be, where that is known.
    retries
        Attempts after one that brought nothing.
    backoff
        Seconds before the second attempt; doubled each time, to at most a minute.
    timeout
        Seconds without a byte after which the connection is given up.
    loopback_http
        Allow ``http`` to this machine itself, for tests with a server of their own.
    show_progress
        Show a bar on a terminal, lines otherwise.
    """

    def __init__(
        self,
        part: Path,
        aside: Callable[[str], Path],
        what: str,
        *,
        sha256: str | None,
        size: int | None,
        retries: int = 5,
        backoff: float = 1.0,
        timeout: float = 60.0,
        loopback_http: bool = False,
        show_progress: bool = True,
    ) -> None:
        self.part, self.aside, self.what = part, aside, what
        self.sha256, self.size = sha256, size
        self.retries, self.backoff, self.timeout = retries, backoff, timeout
        self.loopback_http, self.show_progress = loopback_http, show_progress

    def __call__(self, url: str, output_file: str, pooch: object = None, check_only: bool = False) -> None:
        """Bring the file at `url` to `output_file`.

        Raises
        ------
        DownloadFailed
            The address cannot be read.
        ContentRefused
            It holds something else; it was kept aside, and the message states both sums.
        OutputError
            The disk is full.
        """
        try:
            resumed = self._local(url) if urlsplit(url).scheme == "file" else self._remote(url)
            if not self._as_promised(url, last=not resumed):
                # A rest that does not belong to the beginning: the file was changed in between.
                self._remote(url)
                self._as_promised(url, last=True)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                discard(self.part)
                raise OutputError(
                    f"the disk is full while fetching {self.what} to {self.part.parent}; nothing was left behind.",
                    fix="free some space, or set C2S_DATA_HOME to a folder on another disk.",
                ) from error
            raise
        self.part.replace(output_file)
        discard(self.part)

    def _as_promised(self, url: str, *, last: bool) -> bool:
        """Compare the sum; put what is wrong aside if this was the last attempt, else remove it."""
        found = sum_of(self.part)
        if self.sha256 is None or found == self.sha256:
            return True
        size = self.part.stat().st_size
        if not last:
            discard(self.part)
            return False
        kept = self.aside(found)
        self.part.replace(kept)
        discard(self.part)
        raise ContentRefused(
            f"{self.what} at {url} is corrupt or was changed: its sha256 must be {self.sha256}, but {size:,} "
            f"bytes with sha256 {found} came. They were kept aside as {kept}.",
            fix="fetch it again; if the sum is the same, tell the owner of the manifest, or set "
            "C2S_DATA_MIRROR to a folder with the right file.",
        )

    def _local(self, url: str) -> bool:
        source = Path(url2pathname(urlsplit(url).path))
        try:
            with source.open("rb") as file, self.part.open("wb") as target:
                shutil.copyfileobj(file, target, _CHUNK)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise DownloadFailed(f"{url}: {error.strerror}") from error
        return False

    def _remote(self, url: str) -> bool:
        """Download until it is complete; return whether the last attempt continued an earlier one."""
        fruitless = 0
        with requests.Session() as session:
            adapter = _OnlyAllowed(self.loopback_http)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            for _ in range(_MOST_ATTEMPTS):
                before = self._came()
                try:
                    return self._attempt(session, url)
                except _TryAgain as error:
                    fruitless = 0 if self._came() > before else fruitless + 1
                    if fruitless > self.retries:
                        raise DownloadFailed(f"{url}: {error} (after {fruitless} attempts)") from error
                    wait = max(self.backoff * 2 ** max(fruitless - 1, 0), error.after)
                    time.sleep(min(wait, _LONGEST_WAIT))
                except requests.exceptions.RequestException as error:
                    raise DownloadFailed(f"{url}: {_short(error)}") from error
        raise DownloadFailed(f"{url}: the connection was cut {_MOST_ATTEMPTS} times")

    def _came(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, session: requests.Session, url: str) -> bool:
        """Ask once for what is missing, and append it."""
        known = read_validator(self.part)
        if known is None and self.sha256 is None:
            discard(self.part)  # nothing would tell that a rest belongs to another release than this beginning
        have = self._came()
        # Without `identity` a server may compress the file, whose bytes and sums would then be other ones.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": known} if known else {})
        try:
            with session.get(url, stream=True, headers=headers, timeout=(self.timeout, self.timeout)) as response:
                continues = _check_status(response, have, self.part, self._same(known, response))
                start = have if continues else 0
                total = _total(response, start)
                self._refuse_too_long(url, total)
                self._refuse_too_large(total, have if continues else 0)
                with self.part.open("ab" if continues else "wb") as file, _bar(self, total, start) as advance:
                    if not continues:  # the old beginning is gone by now, so this names what follows
                        write_validator(self.part, _validator(response))
                    for chunk in response.raw.stream(_CHUNK, decode_content=False):
                        file.write(chunk)
                        advance(len(chunk))
                        self._refuse_too_long(url, file.tell())
        except (
            urllib3.exceptions.HTTPError,
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            # Neither gets better by waiting: a false certificate, and a name that nobody knows here.
            if isinstance(error, requests.exceptions.SSLError):
                raise
            if isinstance(_innermost(error), urllib3.exceptions.NameResolutionError):
                raise DownloadFailed(f"{url}: no network, or no such server") from error
            raise _TryAgain(_short(error)) from error
        wanted = total or self.size
        if wanted is not None and self._came() < wanted:
            raise _TryAgain(f"the connection was cut after {self._came():,} of {wanted:,} bytes")
        return continues

    def _same(self, known: str | None, response: requests.Response) -> bool:
        """Whether a rest may be of the file that was begun; a server that ignores ``If-Range`` sends any."""
        now = _validator(response)
        # With an ETag it must give that again; a date it need not, and where there is a sum, that is compared.
        silent = now is None and (self.sha256 is not None or not str(known).startswith('"'))
        return known is None or now == known or silent

    def _refuse_too_long(self, url: str, length: int | None) -> None:
        """Stop before a disk is filled with what cannot be the file."""
        if self.size is not None and length is not None and length > self.size:
            discard(self.part)
            expected = f" with sha256 {self.sha256}" if self.sha256 else ""
            raise ContentRefused(
                f"{self.what} at {url} is corrupt or was changed: it must have {self.size:,} bytes{expected}, but "
                f"the server sends {length:,} or more. The download was stopped.",
                fix="tell the owner of the manifest, or set C2S_DATA_MIRROR to a folder with the right file.",
            )

    def _refuse_too_large(self, total: int | None, have: int) -> None:
        """Say before the download that it does not fit, rather than after an hour."""
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - have > free:
            raise OutputError(
                f"the disk is full: {self.what} needs {total - have:,} bytes more, and {self.part.parent} has "
                f"{free:,} free.",
                fix="free some space, or set C2S_DATA_HOME to a folder on another disk.",
            )


class _OnlyAllowed(HTTPAdapter):
    """Checks the address of every request, and so of every redirect."""

    def __init__(self, loopback_http: bool) -> None:
        super().__init__()
        self.loopback_http = loopback_http

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        problem = url_problem(str(request.url), loopback_http=self.loopback_http)
        if problem:
            raise requests.exceptions.InvalidURL(f"the server redirects to {problem}")
        return super().send(request, *args, **kwargs)


def _validator(response: requests.Response) -> str | None:
    """Return what the server calls this state of the file, if a rest may be asked for by it (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):  # a weak one says that states are alike, not that they are the same
        return etag
    return response.headers.get("Last-Modified") or None


def _check_status(response: requests.Response, have: int, part: Path, same: bool) -> bool:
    """Return whether the server sends the rest of the same file; False if it sends everything."""
    status = response.status_code
    if status == 206 and same and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        return True
    if status == 200:
        return False
    if status in {206, 416}:
        # Nothing is left to send, or another part came than was asked for: begin again.
        discard(part)
        raise _TryAgain(f"the server answers {status} to a request for the rest")
    answer = f"the server answers {status} {response.reason or ''}".rstrip()
    if status == 429 or status >= 500:
        after = response.headers.get("Retry-After", "")
        raise _TryAgain(answer, float(after) if after.isdigit() else 0.0)
    raise requests.exceptions.HTTPError(answer)


def _total(response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _innermost(error: BaseException) -> BaseException:
    """Return the error that the network libraries have wrapped."""
    inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
    return _innermost(inner) if isinstance(inner, BaseException) else error


def _short(error: Exception) -> str:
    """Say what went wrong on one line, without the connection object that the message begins with."""
    text = " ".join(str(_innermost(error)).split())
    return text.rpartition("): ")[2][:200] if text.startswith("HTTP") else text[:200]


@contextmanager
def _bar(download: ResumingDownloader, total: int | None, start: int) -> Iterator[Callable[[int], None]]:
    """Show bytes: a bar on a terminal, a line every ten seconds otherwise."""
    if not download.show_progress:
        yield lambda _: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(download.what, total=total, completed=start)
            yield lambda n: bar.advance(task, n)
    else:
        done, printed = start, time.monotonic()

        def lines(n: int) -> None:
            nonlocal done, printed
            done += n
            if time.monotonic() - printed >= 10:
                printed = time.monotonic()
                of = f" of {total / 1e6:,.1f}" if total else ""
                print(f"{download.what}: {done / 1e6:,.1f}{of} MB", file=sys.stderr, flush=True)

        yield lines
