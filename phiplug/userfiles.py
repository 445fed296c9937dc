"""Opens what a user names: reads texts of a bounded size, and writes files whole or not at all.

Every failure is an `InvalidParameter` with the name of the parameter that held the path. It knows no file formats.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from phiplug.errors import InvalidParameter

LARGEST = 2**26  # bytes of a text: conversations, templates, prompts and runs are far smaller
_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading ~ replaced, and with one of an unknown user as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  Path.expanduser raises RuntimeError for an unknown user


def read_text(name: str, path: str | os.PathLike[str]) -> str:
    """Read a regular file of UTF-8; a byte order mark is no part of its text.

    Raises:
        InvalidParameter: it cannot be read, is no regular file, is too large, or is no text.
    """
    try:
        handle = os.open(expanded(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe must not be waited for
        with os.fdopen(handle, "rb") as file:
            kind = os.fstat(handle)
            if not stat.S_ISREG(kind.st_mode):
                raise InvalidParameter(name, f"{path} is no regular file")
            data = read_bounded(file)
    except (OSError, ValueError) as error:
        raise InvalidParameter(name, f"{path} cannot be read: {_cause(error)}") from None
    return decoded(name, data, str(path))


def read_bounded(file: BinaryIO) -> bytes:
    """Read a file to its end, or to just beyond `LARGEST`; `file.read(LARGEST)` would take that memory at once."""
    data = bytearray()
    while len(data) <= LARGEST and (piece := file.read(2**16)):
        data += piece
    return bytes(data)


def decoded(name: str, data: bytes, source: str) -> str:
    """Return the text of bytes; a byte order mark is no part of it.

    Raises:
        InvalidParameter: they are too many, or are not UTF-8.
    """
    if len(data) > LARGEST:
        raise InvalidParameter(name, f"{source} is larger than {LARGEST >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        other = _ENCODINGS.get(data[:2])
        hint = f"it begins as {other}; save it as UTF-8" if other else None
        raise InvalidParameter(
            name, f"{source} is not UTF-8: {error.reason} at byte {error.start}", hint=hint
        ) from None


def write_text(name: str, path: str | os.PathLike[str], text: str) -> None:
    """Write a file, whole or not at all: on failure, what was there before still is.

    Raises:
        InvalidParameter: the file cannot be written.
    """
    try:
        target = Path(os.path.realpath(expanded(path)))  # through a link, which stays
        temporary = _beside(target)
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            temporary.chmod(_mode(target))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise InvalidParameter(name, f"{path} cannot be written: {_cause(error)}") from None


def require_writable(name: str, path: str | os.PathLike[str]) -> None:
    """Check, before the work that is to be written, that a file can be made there.

    Raises:
        InvalidParameter: it cannot.
    """
    try:
        _beside(Path(os.path.realpath(expanded(path)))).unlink()
    except (OSError, ValueError) as error:
        raise InvalidParameter(name, f"{path} cannot be written: {_cause(error)}") from None


def _beside(target: Path) -> Path:
    """Make an empty file in the folder of a target that may be replaced; its name does not depend on the target's."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(target.stat().st_mode):
            raise ValueError("it is a folder" if target.is_dir() else "it is no regular file")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".phiplug-")
    os.close(handle)
    return Path(name)


def _mode(target: Path) -> int:
    """Return the permissions of the file that is there, or those that a new one gets."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _cause(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
