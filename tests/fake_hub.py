"""The hub's protocol on 127.0.0.1, with faults on demand and a count of what was sent.

It speaks as much as a client of models needs: the listing of a repository (`/api/models/...`), `resolve` with its
redirect to a separate store for large files, ranges, and the error codes in headers. The names of headers and fields
are huggingface_hub's: `constants.py`, `hf_api.py` and `utils/_http.py`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

GIT_LIMIT = 4096  # bytes; larger files are in LFS, as the hub's repositories have their weights


@dataclass
class Repository:
    """One repository at one commit."""

    files: dict[str, bytes]
    commit: str = "c" * 40
    gated: bool = False


@dataclass
class Fault:
    """What goes wrong; by default nothing does."""

    listing_status: int | None = None  # answer to a listing
    file_status: int | None = None  # answer to a request for a file
    code: str | None = None  # X-Error-Code beside either
    retry_after: int | None = None  # seconds, beside either
    cut_at: int | None = None  # the connection ends before this byte of a file
    stall_at: int | None = None  # nothing more comes from this byte on, until `release` is set or it is mended
    drip: float | None = None  # seconds between single bytes
    wrong_at: int | None = None  # this byte of a file is another
    html: bool = False  # a page for people, with status 200, to everything
    ignores_range: bool = False
    announces_no_length: bool = False
    release: threading.Event = field(default_factory=threading.Event)


class FakeHub:
    """A hub that serves `repositories` until it is closed."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.fault = Fault()
        self.listings = 0  # how many were asked for
        self.sent: dict[str, int] = {}  # bytes of content, by name of file
        self.sending = threading.Lock()  # bytes are sent and counted under one fault
        self.requests: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.store = f"http://localhost:{port}/store"  # another host, as the hub's store is
        self.tokens_at_store = 0  # requests that took a token there

    def add(self, name: str, files: dict[str, bytes], **options: object) -> Repository:
        self.repositories[name] = Repository(files, **options)
        return self.repositories[name]

    def close(self) -> None:
        self.mend()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def mend(self) -> None:
        """End the fault; connections that suffer from it are dropped."""
        with self.sending:
            stalled, self.fault = self.fault, Fault()
        stalled.release.set()

    def total(self) -> int:
        """How many bytes of content were sent since the last call."""
        total = sum(self.sent.values())
        self.sent.clear()
        return total


class _Server(ThreadingHTTPServer):
    hub: FakeHub
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


def etag_of(content: bytes) -> str:
    """Return the checksum that the hub gives: SHA-256 in LFS, a git object id elsewhere."""
    if len(content) > GIT_LIMIT:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if hub.fault.html:
            self.answer(200, b"<!DOCTYPE html><title>Please log in</title>", {"Content-Type": "text/html"})
        elif path.startswith("/api/models/"):
            hub.listings += 1
            self.list_files(path.removeprefix("/api/models/"))
        elif path.startswith("/store/"):
            _, _, repo, file = path.split("/", 3)
            hub.tokens_at_store += "Authorization" in self.headers
            self.send_file(file, hub.repositories[repo.replace("--", "/")].files[file])
        elif "/resolve/" in path:
            repo, _, rest = path.strip("/").partition("/resolve/")
            self.resolve(repo, *rest.split("/", 1))
        else:
            self.refuse(404, None)

    def list_files(self, path: str) -> None:
        fault = self.server.hub.fault
        repo, _, revision = path.partition("/revision/")
        found = self.server.hub.repositories.get(repo)
        if fault.listing_status:
            self.refuse(fault.listing_status, fault.code)
        elif found is None:
            self.refuse(401, "RepoNotFound")  # as the hub answers those without a token
        elif revision not in ("", "main", found.commit):
            self.refuse(404, "RevisionNotFound")
        else:
            siblings = [sibling(name, content) for name, content in found.files.items()]
            body = {"id": repo, "modelId": repo, "sha": found.commit, "siblings": siblings}
            self.answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def resolve(self, repo: str, revision: str, file: str) -> None:
        fault, found = self.server.hub.fault, self.server.hub.repositories[repo]
        if fault.file_status:
            self.refuse(fault.file_status, fault.code)
        elif found.gated and "Authorization" not in self.headers:
            self.refuse(403, "GatedRepo")
        elif file not in found.files:
            self.refuse(404, "EntryNotFound")
        elif len(content := found.files[file]) <= GIT_LIMIT:
            self.send_file(file, content, {"X-Repo-Commit": found.commit})
        else:
            headers = {
                "Location": f"{self.server.hub.store}/{repo.replace('/', '--')}/{file}",
                "X-Repo-Commit": found.commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{etag_of(content)}"',
            }
            self.answer(302, b"", headers)

    def send_file(self, name: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        hub, fault = self.server.hub, self.server.hub.fault
        start = 0
        if (wanted := self.headers.get("Range")) and not fault.ignores_range:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if fault.wrong_at is not None:
            content = content[: fault.wrong_at] + b"?" + content[fault.wrong_at + 1 :]
        headers = {"Content-Type": "application/octet-stream", "ETag": f'"{etag_of(content)}"'} | (headers or {})
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if fault.announces_no_length:
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = str(len(content) - start)
        self.begin(206 if start else 200, headers)
        if self.command == "GET":
            self.send_bytes(hub, name, content, start)

    def send_bytes(self, hub: FakeHub, name: str, content: bytes, start: int) -> None:
        fault = hub.fault
        end = len(content) if fault.cut_at is None else fault.cut_at
        step = 1 if fault.drip else 16 * 1024
        position = start
        while position < end:
            if position == fault.stall_at:
                fault.release.wait()
            stop = min(position + step, end)
            if fault.stall_at is not None and position < fault.stall_at:
                stop = min(stop, fault.stall_at)
            with hub.sending:
                if hub.fault is not fault:  # it was mended for others, not for this connection
                    raise ConnectionAbortedError
                self.wfile.write(content[position:stop])
                hub.sent[name] = hub.sent.get(name, 0) + stop - position
            position = stop
            if fault.drip:
                time.sleep(fault.drip)
        if end < len(content) or fault.announces_no_length:
            self.close_connection = True

    def refuse(self, status: int, code: str | None) -> None:
        headers = {"X-Error-Code": code} if code else {}
        if self.server.hub.fault.retry_after is not None:
            headers["Retry-After"] = str(self.server.hub.fault.retry_after)
        self.answer(status, b"", headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.begin(status, headers | {"Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def sibling(name: str, content: bytes) -> dict[str, object]:
    """Return a file as a listing with `blobs=true` has it."""
    facts: dict[str, object] = {"rfilename": name, "size": len(content)}
    if len(content) > GIT_LIMIT:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{etag_of(content)}\nsize {len(content)}\n"
        lfs = {"sha256": etag_of(content), "size": len(content), "pointerSize": len(pointer)}
        return facts | {"blobId": etag_of(pointer.encode()), "lfs": lfs}
    return facts | {"blobId": etag_of(content)}
