"""Takes a model reference apart and says which kind of place it names.

It looks nothing up: no disk, no network, no alias table.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeGuard

from phiplug.errors import InvalidParameter

ReferenceKind = Literal["path", "package", "hub", "name"]

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_QUANT = re.compile(r"[\w.+-]+", re.ASCII)
_REVISION = re.compile(r"[\w.+-]+(/[\w.+-]+)*", re.ASCII)  # a branch, a tag, a commit, refs/pr/1
_MAX_PART = 240  # bytes: most file systems take 255, and a download adds to the name
_MAX_NAME = 1024  # bytes, so that the path fits below any cache
_HUB_FORM = "hf:owner/repo, hf:owner/repo:QUANT or hf:owner/repo/file.gguf, each with @revision if need be"
_PACKAGE_FORM = "package:import_name/file.gguf"


@dataclass(frozen=True, slots=True)
class Reference:
    """A model reference, taken apart.

    Attributes:
        text: what the user wrote.
        kind: which kind of place it names.
        place: the path, the package's import name, the hub's `owner/repo`, or the bare name.
        file: the file within the package or repository, with forward slashes, or None.
        quant: what of a repository's files is wanted, as in their names ("Q4_K_M"), or None.
        revision: the repository's branch, tag or commit, or None for its default.
    """

    text: str
    kind: ReferenceKind
    place: str
    file: str | None = None
    quant: str | None = None
    revision: str | None = None


def parse(text: str) -> Reference:
    """Take a reference apart.

    A text with a slash, a backslash, a leading `.` or `~`, or the ending `.gguf` is a path; what is left is a name.

    Raises:
        InvalidParameter: it is empty, holds what no place can, or begins as `hf:` or `package:` and is neither.
    """
    if not text.strip():
        raise InvalidParameter("model", "the reference is empty", hint="name a path, an alias or hf:owner/repo")
    if "\0" in text:
        raise InvalidParameter("model", f"{text!r} holds a NUL")
    if text.startswith("hf:"):
        return _hub(text)
    if text.startswith("package:"):
        return _package(text)
    if any(mark in text for mark in "/\\") or text[0] in ".~" or text.lower().endswith(".gguf"):
        return Reference(text, "path", text)
    if not text.isprintable():
        raise InvalidParameter("model", f"{text!r} holds control characters")
    return Reference(text, "name", text)


def _hub(text: str) -> Reference:
    rest, at, revision = text.removeprefix("hf:").rpartition("@")
    if not at:
        rest, revision = revision, ""
    rest, colon, quant = rest.partition(":")
    owner, _, tail = rest.partition("/")
    repo, slash, file = tail.partition("/")
    place = f"{owner}/{repo}"
    sound = (
        _REPOSITORY.fullmatch(place)
        and ".." not in place
        and (not colon or (_QUANT.fullmatch(quant) and not slash))
        and (not slash or is_inside(file))
        and (not at or (_REVISION.fullmatch(revision) and ".." not in revision))
    )
    if not sound:
        raise InvalidParameter("model", f"{text!r} is not a reference to the hub", hint=_HUB_FORM)
    return Reference(text, "hub", place, file or None, quant or None, revision or None)


def _package(text: str) -> Reference:
    name, _, file = text.removeprefix("package:").partition("/")
    if not name.isidentifier() or not is_inside(file):  # a dotted name would import its parents to be found
        raise InvalidParameter("model", f"{text!r} is not a reference to a package", hint=_PACKAGE_FORM)
    return Reference(text, "package", name, file)


def is_inside(file: str) -> bool:
    """Whether a name with forward slashes stays inside the folder that it is taken from."""
    return "\\" not in file and ":" not in file and all(part not in ("", ".", "..") for part in file.split("/"))


def is_file_name(name: object) -> TypeGuard[str]:
    """Whether every file system can hold a file of this name inside a folder, and a terminal can show it."""
    return (
        isinstance(name, str)
        and is_inside(name)
        and not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name)  # control signs, half characters
        and all(len(part.encode()) <= _MAX_PART for part in name.split("/"))
        and len(name.encode()) <= _MAX_NAME
    )
