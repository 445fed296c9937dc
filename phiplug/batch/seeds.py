"""The seed of a line that names none: a hash of the batch's seed and of what the line is called."""

from __future__ import annotations

import hashlib


def key_of(custom_id: str | None, line: int) -> str:
    """Return what a line is called in hashes: its id, or where it has none the number of its line."""
    return f"line:{line}" if custom_id is None else f"id:{custom_id}"


def seed_of(seed: int, custom_id: str | None, line: int) -> int:
    """Return the seed of a line: the first 8 bytes, big-endian, of SHA-256("phiplug batch 1\\0" seed "\\0" key).

    The seed is written in decimal, and the key is "id:" and the id, or "line:" and the number, in UTF-8. Vectors are in
    docs/batch.md.
    """
    return int.from_bytes(_hash("phiplug batch 1", str(seed), key_of(custom_id, line))[:8], "big")


def name_of(custom_id: str | None, line: int) -> str:
    """Return what the ids of an answer end with: 24 hexadecimal digits that follow from the line's own id."""
    return _hash("phiplug batch id", key_of(custom_id, line)).hex()[:24]


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()
