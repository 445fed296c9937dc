"""What turns text into ids and back, for a plugin that brings its own kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

TokenKind = Literal["text", "control", "byte", "unused"]


class Tokenizer(Protocol):
    """Text to ids and back to bytes, the same for every backend."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The id that begins a sequence, or None."""
        ...

    @property
    def adds_bos(self) -> bool:
        """Whether the model's own flag asks for `bos_id` at the beginning."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer; never part of its text."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The texts of bos_token, eos_token, unk_token and pad_token, where there are such, for the chat template."""
        ...

    def encode(self, text: str, *, parse_special: bool = True) -> list[int]:
        """Return the ids of `text`, without adding any; `parse_special` turns control tokens' texts into their ids."""
        ...

    def control_tokens_in(self, text: str) -> list[str]:
        """Return the texts of the control tokens that `encode` would find in `text`, in order."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that `token` stands for; b"" for a control token."""
        ...
