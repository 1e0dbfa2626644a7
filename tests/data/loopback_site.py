"""A real HTTP server on loopback that follows a script: it cuts, waits, redirects, sends wrong bytes."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Step:
    """What the server does with one request.

    Attributes
    ----------
    content
        The file; with `ranges`, only what was asked for is sent.
    cut
        Close the connection after this many bytes.
    status, headers
        Answer this instead of the file, if the status is not 200.
    wait
        Seconds before the answer begins.
    stated
        Whether the length of the body is stated.
    if_range
        Whether ``If-Range`` is obeyed: the rest is sent only of a file with that ``ETag`` or ``Last-Modified``.
    """

    content: bytes = b""
    cut: int | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    wait: float = 0.0
    stated: bool = True
    if_range: bool = True


class Site:
    """A real HTTP server on loopback that follows a script, path by path; the last step is repeated."""

    def __init__(self) -> None:
        self.steps: dict[str, list[Step]] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.conditions: list[str | None] = []
        self.lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with site.lock:
                    asked = self.headers.get("Range")
                    site.requests.append((self.path, asked))
                    condition = self.headers.get("If-Range")
                    site.conditions.append(condition)
                    script = site.steps.get(self.path, [Step(status=404)])
                    step = script.pop(0) if len(script) > 1 else script[0]
                time.sleep(step.wait)
                self.close_connection = True
                if step.status != 200:
                    self.send_response(step.status)
                    for key, value in {"Content-Length": "0", "Connection": "close", **step.headers}.items():
                        self.send_header(key, value)
                    self.end_headers()
                    return
                if condition and step.if_range and condition not in step.headers.values():
                    asked = None
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and step.ranges else 0
                if start and start >= len(step.content):
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = step.content[start:]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(step.content) - 1}/{len(step.content)}")
                if step.stated:
                    self.send_header("Content-Length", str(len(body)))
                for key, value in step.headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body if step.cut is None else body[: step.cut])

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def serve(self, path: str, *steps: Step | bytes) -> str:
        """Set what is done with the requests of a path; return its address."""
        self.steps[path] = [step if isinstance(step, Step) else Step(step) for step in steps]
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"

    def asked(self, path: str) -> list[str | None]:
        """The ranges that were asked for, one per request."""
        return [asked for requested, asked in self.requests if requested == path]


def sha256(content: bytes) -> str:
    """The sum as manifests state it."""
    return hashlib.sha256(content).hexdigest()
