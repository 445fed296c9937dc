"""Downloads one file of the hub and checks that it arrived as it is there.

What has arrived is kept beside the goal as `<name>.incomplete` and continued by the next attempt, in this process or a
later one; the goal itself appears whole, or not at all. huggingface_hub keeps nothing of a download that failed (as of
2.4), looks at no checksum, and only warns of a full disk; so the transfer is done here, with its HTTP client, headers
and error classes. It knows nothing of repositories or of the cache's layout.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from phiplug.errors import DownloadFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIES = 4  # in a row that brought no byte
PAUSE = 0.5  # seconds before the second try; doubled for each one after it
LONGEST_PAUSE = 30.0  # seconds; a hub that asks for more is not waited for
WINDOW = 60.0  # seconds in which at least LEAST bytes arrive
LEAST = 64 * 1024
PARTIAL = ".incomplete"
"""How the name ends of what has arrived of a file; huggingface_hub's partial downloads have the same."""

_BLOCK = 1 << 20  # bytes read at once to compute a checksum


class Progress(Protocol):
    """Who is told how far a download is."""

    def start(self, name: str, total: int) -> None:
        """A file of `total` bytes begins to arrive, or begins anew."""
        ...

    def advance(self, count: int) -> None:
        """`count` more bytes of it are here."""
        ...

    def finish(self) -> None:
        """All of it is here, or it is given up."""
        ...


class Quiet:
    """A `Progress` that tells nobody."""

    def start(self, name: str, total: int) -> None:
        """Do nothing."""

    def advance(self, count: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it.

    Attributes:
        name: within its repository.
        url: where its bytes are.
        size: in bytes.
        etag: its SHA-256 (64 hexadecimal digits), or its git object id (40), which is a SHA-1 of its size and content.
    """

    name: str
    url: str
    size: int
    etag: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.etag) or self.size < 0:
            raise DownloadFailed(
                f"the hub gives no checksum or size of {self.name}", hint="see whether HF_ENDPOINT leads to a hub"
            )


def fetch(remote: RemoteFile, goal: Path, progress: Progress) -> None:
    """Bring `remote` to `goal`, continuing what an earlier attempt left.

    Raises:
        DownloadFailed: other bytes than the listed ones came, too few in too long a time, or another process writes
            to the same file.
        OSError: the disk would not take them, the hub refused (HfHubHTTPError), or the connection was cut.
        httpx's HTTPError: the hub could not be reached.
    """
    path = partial_of(goal)
    with _Partial.open(path, remote) as partial:
        progress.start(remote.name, remote.size)
        progress.advance(partial.length)
        try:
            _receive_all(remote, partial, progress)
        finally:
            progress.finish()
        os.fsync(partial.fileno())
        partial.require_alone()
        sound = partial.digest.hexdigest() == remote.etag
    if not sound:
        path.unlink()
        raise DownloadFailed(
            f"what arrived as {remote.name} has another checksum than the hub lists, and was thrown away",
            hint="try again; if it happens again, a proxy on the way may change files",
        )
    path.replace(goal)


def partial_of(goal: Path) -> Path:
    """Return where the bytes of an unfinished download are."""
    return goal.with_name(goal.name + PARTIAL)


class _Partial:
    """What has arrived of a file: bytes on disk, how many, and their running checksum."""

    def __init__(self, file: Any, path: Path, remote: RemoteFile) -> None:  # Any: an unbuffered binary file
        self._file = file
        self._path = path
        self._remote = remote
        self.restart(keep=True)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, remote: RemoteFile) -> Iterator[_Partial]:
        with path.open("a+b", buffering=0) as file:
            yield cls(file, path, remote)

    def restart(self, *, keep: bool = False) -> None:
        """Forget everything, or compute the checksum of what is there, if it can be the beginning of the file."""
        self.length = 0
        if len(self._remote.etag) == 40:  # git hashes a blob with a header: git-scm.com, "Git Internals - Git Objects"
            self.digest = hashlib.sha1(b"blob %d\0" % self._remote.size, usedforsecurity=False)
        else:
            self.digest = hashlib.sha256()
        if not keep or os.fstat(self._file.fileno()).st_size > self._remote.size:
            self._file.truncate(0)
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            self._count(block)

    def append(self, data: bytes) -> None:
        """Write what came next; a disk that takes only a part of it is asked again for the rest."""
        self.require_alone()
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self._count(view[:written])
            view = view[written:]

    def require_alone(self) -> None:
        """Raise DownloadFailed if the file holds what another process wrote: on some network disks locks do nothing."""
        found = os.fstat(self._file.fileno())
        if found.st_size == self.length and found.st_nlink:
            return
        self._path.unlink(missing_ok=True)
        raise DownloadFailed(
            f"another process fetches {self._remote.name} into the same folder, and the lock between them does nothing",
            hint="wait for the other one and try again, or set HF_HOME to a folder on another disk",
        )

    def fileno(self) -> int:
        return int(self._file.fileno())

    def _count(self, data: bytes | memoryview) -> None:
        self.digest.update(data)
        self.length += len(data)


class _Pace:
    """Raises when too little arrives, though the connection lives."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since = time.monotonic()
        self._count = 0

    def note(self, count: int) -> None:
        self._count += count
        passed = time.monotonic() - self._since
        if passed < WINDOW:
            return
        if self._count < LEAST:
            raise DownloadFailed(
                f"only {self._count} bytes of {self._name} arrived in {passed:.0f} seconds",
                hint="try again later: what has arrived is kept",
            )
        self._since, self._count = time.monotonic(), 0


def _receive_all(remote: RemoteFile, partial: _Partial, progress: Progress) -> None:
    pace, failures = _Pace(remote.name), 0
    while partial.length < remote.size:
        before = partial.length
        try:
            _receive(remote, partial, progress, pace)
        except Exception as error:
            failures = 1 if partial.length > before else failures + 1
            pause = _pause(error, failures)
            if pause is None:
                raise
            time.sleep(pause)


def _pause(error: Exception, failures: int) -> float | None:
    """Return how many seconds to wait before the next try, or None to give up."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    wait = PAUSE * 2 ** (failures - 1)
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status not in (408, 429) and status < 500:
            return None
        wait = max(wait, retry_after(error.response.headers) or 0.0)
    elif not isinstance(error, (HTTPError, ConnectionError)):
        return None
    return wait if failures < TRIES and wait <= LONGEST_PAUSE else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a hub asks to wait (RFC 9110, 10.2.3), or None; a date counts as None."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


def _receive(remote: RemoteFile, partial: _Partial, progress: Progress, pace: _Pace) -> None:
    """Append what one request brings.

    Raises:
        ConnectionError: it ended early.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if partial.length:
        headers["Range"] = f"bytes={partial.length}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT  # seconds without a byte
    with get_session().stream("GET", remote.url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if partial.length and not _continues(response.headers, response.status_code, partial.length):
            partial.restart()
            progress.start(remote.name, remote.size)
        _require_length(remote, response.headers, remote.size - partial.length)
        for data in response.iter_bytes():
            if partial.length + len(data) > remote.size:
                raise DownloadFailed(f"the hub sends more of {remote.name} than the {remote.size} bytes it lists")
            partial.append(data)
            progress.advance(len(data))
            pace.note(len(data))
    if partial.length < remote.size:
        raise ConnectionError(f"the answer ended after {partial.length} of {remote.size} bytes")


def _continues(headers: Mapping[str, str], status: int, start: int) -> bool:
    """Whether an answer begins at the byte that was asked for; one that ignores the range begins at 0."""
    return status == 206 and headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _require_length(remote: RemoteFile, headers: Mapping[str, str], expected: int) -> None:
    """Raise DownloadFailed where an answer announces another length, or is a page for people."""
    length, kind = headers.get("Content-Length"), headers.get("Content-Type", "an unknown kind").partition(";")[0]
    if headers.get("Content-Encoding", "identity") != "identity":
        length = None  # it counts the compressed bytes
    if kind != "text/html" and length in (None, str(expected)):
        return
    raise DownloadFailed(
        f"instead of {expected} bytes of {remote.name} came {length or 'some'} bytes of {kind}",
        hint="a proxy or a login page may answer in the hub's place",
    )
