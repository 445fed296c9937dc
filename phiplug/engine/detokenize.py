"""Turns the bytes of tokens into text, as early as the text is certain.

A character may be spread over several tokens, and a token need not be valid UTF-8 by itself. So bytes are kept, and the
longest prefix that is certain becomes text; what can never become valid turns into U+FFFD at once, as
`bytes.decode(errors="replace")` does it. It does not know stop strings, or what is on a screen.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phiplug.spi import Tokenizer

_Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The decoder of one sequence.

    All that `feed` returned, followed by what `flush` returns, is `data.decode("utf-8", "replace")` of all the bytes,
    however they were cut into pieces; without the space that they begin with, where `drop_space` asks for that.
    """

    def __init__(self, *, drop_space: bool = False) -> None:
        self._decoder = _Decoder(errors="replace")
        self._drop_space = drop_space

    def feed(self, data: bytes) -> str:
        """Take the bytes of the next token; return the text that they complete, which may be empty."""
        if self._drop_space and data:
            self._drop_space = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Return U+FFFD if the bytes ended within a character, else nothing; a new sequence may begin afterwards."""
        tail = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return tail


def brings_space(tokenizer: Tokenizer) -> bool:
    """Return whether the tokenizer puts a space before a text, as SentencePiece does.

    The first token of an answer then brings that space, too. In an answer to a chat template's prompt it is no part of
    the text: sent back as part of the next prompt, it would become a token that the model never computed.
    """
    return b"".join(map(tokenizer.token_bytes, tokenizer.encode("a"))).startswith(b" ")
