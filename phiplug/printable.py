"""Makes text that is not ours fit to print: names out of files, messages of engines, answers of a hub.

Such text may hold escape sequences that move the cursor or rename the window, marks that reverse what is read, and
hundreds of kilobytes. Whoever prints it asks here. It knows nothing of terminals and colours.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 2000  # characters of one line; a screen of 80 columns shows them on 25
_SPACE = re.compile(r"[ \t\r\n\f\v]+")
_JOINERS = "\u200c\u200d"  # between the parts of one emoji, and within words of Persian and Hindi


def printable(text: str, *, longest: int = LONGEST) -> str:
    """Return text on one line: control characters are spelt out, and the middle of a long text is left out."""
    return shortened(spelt_out(_SPACE.sub(" ", text).strip(" ")), longest)


def spelt_out(text: str, *, keep: str = "") -> str:
    """Return text with every character that prints nothing, but those to keep, as Python writes it: \\x1b."""
    if text.isprintable():
        return text
    return "".join(each if _prints(each) or each in keep else repr(each)[1:-1] for each in text)


def shortened(text: str, longest: int) -> str:
    """Return text of at most `longest` characters, with "..." for what is left out of its middle."""
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end - 3]}...{text[-end:]}"


def _prints(character: str) -> bool:
    """Whether a character shows: control and format characters (Cc, Cf), surrogates and line separators do not."""
    return character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
