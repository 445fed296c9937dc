"""Text to bytes and back: ids 0 to 255 are the bytes, then one id begins a sequence and one ends it."""

from __future__ import annotations

import re
from collections.abc import Mapping

BOS, STOP = 256, 257
VOCAB_SIZE = 258
CONTROL = {"<|begin|>": BOS, "<|end|>": STOP}
_CONTROL = re.compile("(" + "|".join(map(re.escape, CONTROL)) + ")")


class ByteTokenizer:
    """A `phiplug.spi.Tokenizer` whose vocabulary is the 256 bytes and two control tokens."""

    vocab_size = VOCAB_SIZE
    bos_id = BOS
    adds_bos = True
    stop_ids = frozenset({STOP})
    special_tokens: Mapping[str, str] = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}

    def encode(self, text: str, *, parse_special: bool = True) -> list[int]:
        """Return the ids of `text`, without adding any; `parse_special` turns control tokens' texts into their ids."""
        pieces = _CONTROL.split(text) if parse_special else [text]
        return [
            token
            for piece in pieces
            for token in ([CONTROL[piece]] if piece in CONTROL and parse_special else piece.encode())
        ]

    def control_tokens_in(self, text: str) -> list[str]:
        """Return the texts of the control tokens that `encode` would find in `text`, in order."""
        return _CONTROL.findall(text)

    def token_bytes(self, token: int) -> bytes:
        """Return the byte that `token` stands for; b"" for a control token."""
        return bytes([token]) if token < BOS else b""
