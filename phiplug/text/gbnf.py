"""Grammars in llama.cpp's form, GBNF, as Lark: llguidance converts them, and this module mends what it reads wrongly.

Errors name the line and the column of the grammar that the user wrote. It compiles nothing.
"""

from __future__ import annotations

import re

from phiplug.errors import InvalidParameter

_PIECES = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<text>"(?:\\.|[^"\\])*")
      | (?P<class>\[(?:\\.|[^\]\\])*\])
      | (?P<any>\.)
      | (?P<group>(?<=[*+?}])\s*\)(?=\s*[*+?{]))
      | (?P<token>!?<[^\s>]*>)""",
    re.VERBOSE | re.DOTALL,
)
_RULE = re.compile(r"^[ \t]*([\w-]+)[ \t]*::=", re.MULTILINE)
_LARK_RULE = re.compile(r"\w+\s*:")
_LARK_PLACE = re.compile(r"at (\d+)\(\d+\): ")
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)|&", re.DOTALL)
_ANY = '([^\\x0a] | "\\x0a")'  # in Lark a dot leaves out the end of a line


def lark_of_gbnf(source: str) -> str:
    """Convert a grammar.

    Raises:
        InvalidParameter: it is no GBNF, lacks a rule, or names tokens by id or text, which no grammar of bytes can.
    """
    from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

    mended, origin = _mended(source)
    try:
        return gbnf_to_lark(mended)
    except GbnfToLarkError as error:
        message = str(error).removesuffix(f" at {error.pos}")
        raise _wrong(source, origin[error.pos.pos], message) from None
    except Exception as error:  # noqa: BLE001  the converter raises a bare Exception
        message = str(error) or type(error).__name__
        name = re.search(r"Rule '([^']+)'", message)
        use = re.search(rf"(?<![\w-]){re.escape(name[1])}(?![\w-])", source) if name else None
        if use is None:
            raise InvalidParameter("grammar", message) from None
        raise _wrong(source, use.start(), message) from None


def place_in_gbnf(source: str, message: str) -> str:
    """Return what is said of the Lark that a sound grammar became, with the place of its rule in the grammar."""
    place = _LARK_PLACE.match(message)
    if place is None:
        return message
    lines = lark_of_gbnf(source).splitlines()[: int(place[1])]
    count = sum(_LARK_RULE.match(line) is not None for line in lines)  # rules keep their order
    rules: dict[str, int] = {}
    for rule in _RULE.finditer(source):
        rules.setdefault(rule[1], rule.start(1))
    at = [*rules.values()][count - 1]
    return f"{_place(source, at)}: {message[place.end() :]}"


def _mended(source: str) -> tuple[str, list[int]]:
    """Spell out escapes that the converter garbles; return the text and, for each character, where it came from."""
    text: list[str] = []
    origin: list[int] = []
    at = 0

    def copy(start: int, piece: str, width: int) -> None:
        text.append(piece)
        origin.extend(start + min(index, max(width - 1, 0)) for index in range(len(piece)))

    for piece in _PIECES.finditer(source):
        copy(at, source[at : piece.start()], piece.start() - at)
        at = piece.end()
        if piece.lastgroup == "comment":
            copy(piece.start(), piece[0], len(piece[0]))
        if piece.lastgroup == "token":
            raise _wrong(source, piece.start(), f"{piece[0]} names a token, which is not supported")
        if piece.lastgroup == "any":
            copy(piece.start(), _ANY, 1)
        if piece.lastgroup == "group":  # the converter drops the parentheses of ("a"*)*, and "a"** is no Lark
            copy(piece.start(), f' ""{piece[0]}', len(piece[0]))
        if piece.lastgroup not in ("text", "class"):
            continue
        inside = piece.start()
        for escape in _ESCAPE.finditer(source, piece.start(), piece.end()):
            copy(inside, source[inside : escape.start()], escape.start() - inside)
            copy(escape.start(), _spelled(escape), len(escape[0]))
            inside = escape.end()
        copy(inside, source[inside:at], at - inside)
    copy(at, source[at:], len(source) - at)
    return "".join(text), [*origin, len(source)]


def _spelled(escape: re.Match[str]) -> str:
    """Write an escape so that the converter and the regular expression that it makes read the same character."""
    name = escape[1] or "&"  # two of which would intersect classes
    if len(name) == 1 and name not in "-^&":
        return escape[0]
    code = ord(name) if len(name) == 1 else int(name[1:], 16)
    return f"\\x{code:02x}" if code < 0x80 else chr(min(code, 0x10FFFF))


def _wrong(source: str, at: int, message: str) -> InvalidParameter:
    return InvalidParameter("grammar", f"{_place(source, at)}: {message}")


def _place(source: str, at: int) -> str:
    line = source.count("\n", 0, at) + 1
    return f"line {line}, column {at - source.rfind(chr(10), 0, at)}"
