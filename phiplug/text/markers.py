"""Finds markers in a text that comes in pieces, among them control tokens, which stand for no bytes.

A control token becomes one character that no decoded text can hold: a lone surrogate. So a marker is a string whatever
it is made of, and a model that only spells out `<|channel|>`, letter by letter, has written text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from phiplug.spi import Tokenizer

_FIRST, _LAST = 0xD800, 0xDFFF  # U+D800 to U+DFFF: no UTF-8 decodes to them


class Controls:
    """The control tokens of some markers, each with the character that stands for it.

    Attributes:
        characters: by the ids of the tokens.
    """

    def __init__(self, tokenizer: Tokenizer, markers: Iterable[str]) -> None:
        """Look for control tokens in `markers`."""
        self.characters: dict[int, str] = {}
        self._texts: dict[str, str] = {}
        for text in dict.fromkeys(text for marker in markers for text in tokenizer.control_tokens_in(marker)):
            silent = [token for token in tokenizer.encode(text) if not tokenizer.token_bytes(token)]
            for token in silent[:1]:
                self.characters[token] = self._texts[text] = chr(_FIRST + len(self.characters))

    def marker(self, text: str) -> str:
        """Return a marker with each control token as its character."""
        for control in sorted(self._texts, key=len, reverse=True):
            text = text.replace(control, self._texts[control])
        return text

    def pieces(self, marker: str) -> list[int | str]:
        """Return the ids and the texts that a marker consists of, in order."""
        ids = {character: token for token, character in self.characters.items()}
        found: list[int | str] = []
        for character in self.marker(marker):
            if character in ids:
                found.append(ids[character])
            elif found and isinstance(found[-1], str):
                found[-1] += character
            else:
                found.append(character)
        return found


def without_controls(text: str) -> str:
    """Return a text without the characters that stand for control tokens: alone, they are no text."""
    return text if text.isascii() else "".join(each for each in text if not _FIRST <= ord(each) <= _LAST)


def cut(text: str, markers: Collection[str]) -> tuple[str, str, str]:
    """Cut a text at the first of some markers; of two that begin at one place the longer one counts.

    Returns:
        What is certain to come before any marker, the marker or "", and what follows it. Where no marker is whole, what
        follows is the longest end of the text that may become one.
    """
    held = next((start for start in range(len(text)) if _may_begin(text[start:], markers)), len(text))
    found = [(text.find(marker), -len(marker), marker) for marker in markers if marker in text]
    if not found or held < min(found)[0]:
        return text[:held], "", text[held:]
    start, _, marker = min(found)
    return text[:start], marker, text[start + len(marker) :]


def _may_begin(text: str, markers: Collection[str]) -> bool:
    return any(len(text) < len(marker) and marker.startswith(text) for marker in markers)
