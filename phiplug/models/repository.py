"""Brings the files of one model from a repository of the hub into huggingface_hub's cache.

The cache's layout is the one that huggingface_hub documents ("Understand caching"): `blobs/<checksum>` holds the bytes,
`snapshots/<commit>/<file>` links to them, `refs/<revision>` names a commit. So what other programs fetched is found
here, and the other way round. A file is linked into a snapshot only after its checksum was compared. Beside them,
`phiplug/<commit>.json` keeps the names that the hub listed: a snapshot alone does not say what it lacks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phiplug.errors import DownloadFailed, ModelNotFound, PhiplugError
from phiplug.models import proxy
from phiplug.models.download import Progress, RemoteFile, fetch, partial_of, retry_after
from phiplug.models.reference import Reference, is_file_name
from phiplug.models.selection import Selection, select

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoSibling

NAMES = "phiplug"
"""The folder, in that of a repository, of the names that the hub listed."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LISTING_TIMEOUT = 15.0  # seconds without a byte
_SPARE = 16 << 20  # bytes of the disk that a download leaves free: file systems need some to work


def hub_cache() -> Path:
    """Return huggingface_hub's cache; it may not exist."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cache_of(repo: str) -> Path:
    """Return the folder of `owner/repo` in the cache."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def is_offline() -> bool:
    """Whether huggingface_hub was told to stay off the network (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def snapshot_of(reference: Reference) -> Path:
    """Return the folder where the files of a hub reference would be by what the cache knows; it may not exist."""
    folder = cache_of(reference.place)
    revision = reference.revision or "main"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        revision = (folder / "refs" / revision).read_text(encoding="ascii").strip()
    return folder / "snapshots" / (revision if _COMMIT.fullmatch(revision) else "none")


def names_in(folder: Path) -> list[str]:
    """Return the names of all files below `folder`, with forward slashes; a link that leads nowhere is no file."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def listed_names(repo: str, commit: str) -> list[str] | None:
    """Return the names that the hub listed for a commit, or None where it was never asked from this cache."""
    try:
        names = json.loads(_names_file(repo, commit).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return names if isinstance(names, list) and all(map(is_file_name, names)) else None


def pull(reference: Reference, progress: Progress) -> tuple[Path, Selection]:
    """Fetch what a hub reference chooses, but for what is here already.

    Returns:
        the snapshot's folder, and the files in it.

    Raises:
        ModelNotFound: there is no such repository, revision or file, or the reference does not choose one model.
        ModelCorrupt: the repository lacks a part of a split.
        DownloadFailed: the hub, the network or the disk would not let the files arrive whole.
    """
    folder = cache_of(reference.place)
    with _errors_of(reference):
        listing = _list(reference)
        selection = select(listing.files, file=reference.file, quant=reference.quant)
        snapshot = folder / "snapshots" / listing.commit
        files = [_remote(reference.place, listing, name) for name in selection.files]
        files = [file for file in files if not _is_whole(file, snapshot / file.name)]
        _require_space(files, folder)
        for file in files:
            _bring(file, folder, progress)
        uses = Counter(file.etag for file in files)
        for file in reversed(files):  # the first is what a model is recognized by: it is linked when all is here
            uses[file.etag] -= 1
            _link(folder / "blobs" / file.etag, snapshot / file.name, needed=uses[file.etag] > 0)
        _replace_text(_names_file(reference.place, listing.commit), json.dumps(sorted(listing.files)))
        if not _COMMIT.fullmatch(revision := reference.revision or "main"):
            _replace_text(folder / "refs" / revision, listing.commit)
    return snapshot, selection


@dataclass(frozen=True, slots=True)
class _Listing:
    commit: str
    files: dict[str, RepoSibling]


def _list(reference: Reference) -> _Listing:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError

    repo = reference.place
    proxy.require_usable(constants.ENDPOINT)
    try:
        info = HfApi().model_info(repo, revision=reference.revision, files_metadata=True, timeout=_LISTING_TIMEOUT)
    except HFValidationError as error:
        raise ModelNotFound(f"no repository can be called {repo}", hint="look at the name") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, OSError):  # huggingface_hub's BadRequestError is both
            raise
        raise _not_a_hub(constants.ENDPOINT) from error
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise _not_a_hub(constants.ENDPOINT)
    return _Listing(info.sha, {each.rfilename: each for each in info.siblings or () if is_file_name(each.rfilename)})


def _remote(repo: str, listing: _Listing, name: str) -> RemoteFile:
    from huggingface_hub import hf_hub_url

    listed = listing.files[name]
    etag = listed.lfs.sha256 if listed.lfs else listed.blob_id
    url = hf_hub_url(repo, name, revision=listing.commit)
    return RemoteFile(name, url, -1 if listed.size is None else listed.size, etag or "")


def _not_a_hub(endpoint: str) -> DownloadFailed:
    return DownloadFailed(
        f"what answers at {endpoint} does not speak the hub's protocol",
        hint="a proxy or a login page may answer in its place; see HF_ENDPOINT",
    )


def _is_whole(file: RemoteFile, path: Path) -> bool:
    try:
        return path.stat().st_size == file.size
    except FileNotFoundError:
        return False


def _require_space(files: Sequence[RemoteFile], folder: Path) -> None:
    missing = 0
    for file in files:
        blob = folder / "blobs" / file.etag
        if not _is_whole(file, blob):
            partial = partial_of(blob)
            missing += max(0, file.size - (partial.stat().st_size if partial.exists() else 0))
    disk = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(disk).free
    if missing and missing + _SPARE > free:
        raise DownloadFailed(
            f"{_megabytes(missing)} are to be fetched and the disk of {disk} has {_megabytes(free)} free",
            hint="make room, or set HF_HOME to a folder on another disk",
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _bring(file: RemoteFile, folder: Path, progress: Progress) -> None:
    """See that a file's blob is in the cache; of two processes that want it, one fetches it and the other waits."""
    from huggingface_hub.utils import WeakFileLock

    blob = folder / "blobs" / file.etag
    if _is_whole(file, blob):
        return
    lock = lock_of(blob)
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not _is_whole(file, blob):
            fetch(file, blob, progress)


def lock_of(blob: Path) -> Path:
    """Return the file whose lock a process holds that fetches `blob`; huggingface_hub uses the same."""
    folder = blob.parent.parent
    return folder.parent / ".locks" / folder.name / f"{blob.name}.lock"


def _link(blob: Path, place: Path, *, needed: bool) -> None:
    """Make `place` lead to `blob`.

    Where links are not allowed, as on most of Windows, the blob itself moves there, or a copy of it where another file
    of the model needs the same bytes.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(blob, place.parent)
    fresh = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        fresh.symlink_to(target)
    except OSError:
        if needed:
            shutil.copyfile(blob, place)
        else:
            blob.replace(place)
    else:
        fresh.replace(place)


def _names_file(repo: str, commit: str) -> Path:
    return cache_of(repo) / NAMES / f"{commit}.json"


def _replace_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="ascii")
    fresh.replace(path)


@contextlib.contextmanager
def _errors_of(reference: Reference) -> Iterator[None]:
    """Turn whatever goes wrong between here and the hub into an error of ours."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except PhiplugError as error:
        if not str(error).startswith(reference.text):
            raise type(error)(f"{reference.text}: {error.message}", hint=error.hint) from error
        raise
    except HfHubHTTPError as error:
        raise _refused(reference, error) from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        variable = proxy.variable_for(constants.ENDPOINT)
        through = f" through the proxy of {variable}" if variable else ""
        raise DownloadFailed(
            f"{reference.text}: the connection to {constants.ENDPOINT}{through} failed: {error}",
            hint=proxy.hint_about(variable)
            if variable
            else "look at the network and try again: what has arrived is kept",
        ) from error
    except OSError as error:
        raise DownloadFailed(
            f"{reference.text}: the cache {constants.HF_HUB_CACHE} cannot be written: {error.strerror or error}",
            hint="make room or set HF_HOME to a folder that can be written; what has arrived is kept",
        ) from error


def _refused(reference: Reference, error: HfHubHTTPError) -> PhiplugError:
    """Say what an answer of the hub with an error status means."""
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    repo, status = reference.place, error.response.status_code
    if status in (401, 403) and (denied := _denied(reference, error)):
        return denied
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(f"{reference.text}: {repo} has no revision {reference.revision}")
    if isinstance(error, EntryNotFoundError):
        return ModelNotFound(f"{reference.text}: {repo} lists a file that it does not have", hint="try again later")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return ModelNotFound(
            f"{reference.text}: the hub shows no repository {repo}",
            hint="look at the name; if it is private or gated, set HF_TOKEN",
        )
    if status == 429:
        wait = retry_after(error.response.headers)
        when = f"in {wait:.0f} seconds" if wait else "in a few minutes"
        return DownloadFailed(
            f"{reference.text}: the hub asks for fewer requests (429)", hint=f"try again {when}, or set HF_TOKEN"
        )
    return DownloadFailed(f"{reference.text}: the hub failed ({status})", hint="try again later: what arrived is kept")


def _denied(reference: Reference, error: HfHubHTTPError) -> PhiplugError | None:
    """Say who may have a repository; None where the hub may mean that there is none (401 is for both)."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    repo = reference.place
    if isinstance(error, GatedRepoError) or error.response.status_code == 403:
        return DownloadFailed(
            f"{reference.text}: the hub lets only some users have {repo}",
            hint=f"accept its terms at https://huggingface.co/{repo} and set HF_TOKEN to a token of yours",
        )
    if isinstance(error, RepositoryNotFoundError):
        return None
    return DownloadFailed(f"{reference.text}: the hub does not accept the token", hint="renew or unset HF_TOKEN")
