"""Bytes of tokens -> text, as early as it is certain.

A character may be spread over several tokens, and a token need not be valid UTF-8 by itself. So bytes are kept, and the
longest prefix that is certain becomes text; what can never become valid turns into U+FFFD at once, as
`bytes.decode(errors="replace")` does it. It knows nothing of tokens, of stop strings or of what is on a screen.
"""

from __future__ import annotations

import codecs

_Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """The decoder of one sequence.

    All that `feed` returned, followed by what `flush` returns, is `data.decode("utf-8", "replace")` of all the bytes,
    however they were cut into pieces.
    """

    def __init__(self) -> None:
        self._decoder = _Decoder(errors="replace")

    def feed(self, data: bytes) -> str:
        """Take the bytes of the next token; return the text that they complete, which may be empty."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Return U+FFFD if the bytes ended within a character, else nothing; a new sequence may begin afterwards."""
        tail = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return tail
