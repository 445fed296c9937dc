"""Tells from the first bytes of a file what it is, in the words of somebody who wonders why it does not load.

It knows nothing of what a file of the right kind holds.
"""

from __future__ import annotations

import re

MAGIC = b"GGUF"

_KINDS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (  # the start of the file, what it is, what to do
    (re.compile(rb"$"), "empty", "download it again"),
    (
        re.compile(rb"version https://git-lfs"),
        "a Git LFS pointer, not the model it stands for",
        "fetch the model itself with `git lfs pull`",
    ),
    (
        re.compile(rb"\s*<(!doctype|html|\?xml|head)", re.IGNORECASE),
        "a web page, not a model",
        "the download was answered with an error or a login page; download it again",
    ),
    (re.compile(rb".{8}\{\s*[\"}]", re.DOTALL), "a safetensors file", "give the folder that holds it"),
    (re.compile(rb"\s*[{\[]"), "a JSON file", "give the GGUF file, or the folder that holds the model"),
    (re.compile(rb"PK\x03\x04"), "a zip archive or a PyTorch checkpoint", "unpack it, or look for a GGUF of the model"),
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle", "look for a GGUF of the model"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"), "a compressed file", "unpack it"),
    (
        re.compile(rb"lmgg|fmgg|tjgg"),
        "in a format of llama.cpp that was older than GGUF",
        "look for a GGUF of the model",
    ),
    (re.compile(rb"\x00{16}"), "filled with zeros: a download that never finished", "download it again"),
    (re.compile(rb"G(G(U(F.{0,3})?)?)?$", re.DOTALL), "cut off within its first 8 bytes", "download it again"),
)


def kind_of(start: bytes) -> tuple[str, str | None]:
    """Return what a file that is no GGUF is, and what to do about it.

    Args:
        start: its first 64 bytes, or all that there are.
    """
    for pattern, kind, hint in _KINDS:
        if pattern.match(start):
            return kind, hint
    return f"no GGUF: it begins with {start[:4]!r}", None
