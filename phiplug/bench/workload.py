"""Makes a prompt of a fixed length, as ids, from the built-in texts, and the hash that names it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from phiplug.bench.parity import default_prompts
from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    from phiplug.spi import Tokenizer


def prompt_ids(tokenizer: Tokenizer, length: int) -> tuple[int, ...]:
    """Return `length` ids of the built-in texts, repeated as often as it takes; the first one begins a sequence.

    Raises:
        InvalidParameter: `length` is less than 1.
    """
    if length < 1:
        raise InvalidParameter("prompt_tokens", f"{length} is less than 1")
    bos = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    texts = [token for text in default_prompts() for token in tokenizer.encode(text, parse_special=False)]
    return tuple(bos + list(islice(cycle(texts), length - len(bos))))


def hash_of(ids: Sequence[int]) -> str:
    """Return the SHA-256 of ids, each as a little-endian 32-bit integer, as 64 hexadecimal digits."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()
