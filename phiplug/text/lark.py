"""Writes pieces of grammars in llguidance's Lark: texts, tokens by their ids, any text up to a marker."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from phiplug.markup import ID

if TYPE_CHECKING:
    from phiplug.text.markers import Controls

ANY = r"/(.|\n)*/"
BREAKS = r"/\n{0,2}/"
SPACE = r"/[ \t\n]{0,8}/"
"""Where a form has white space; bounded, because some models repeat line breaks for ever."""

_SPACES = re.compile(r"[ \t\n]+")
_STANDING = re.compile(rf"([ \t\n]+|{re.escape(ID)})")
_STANDS = {"": SPACE, ID: r"/[A-Za-z0-9_-]{1,64}/"}


def text(value: str) -> str:
    """Return a text."""
    return json.dumps(value, ensure_ascii=False)


def marker(controls: Controls, value: str) -> str:
    """Return a marker, exactly as it is."""
    return " ".join(map(_piece, controls.pieces(value)))


def loose(controls: Controls, value: str) -> str:
    """Return a text of a row, in which white space stands for any white space, also none, and `ID` for an id."""
    found: list[str] = []
    for piece in controls.pieces(value):
        if isinstance(piece, int):
            found.append(_piece(piece))
            continue
        found += (_STANDS.get(part.strip(), text(part)) for part in _STANDING.split(piece) if part)
    return " ".join(found)


def loose_expression(value: str) -> str:
    """Return the same as one regular expression, which must not hold control tokens."""
    words = [re.sub(r"([^\w ])", r"\\\1", word) for word in _SPACES.split(value)]
    return "/" + r"[ \t\n]{0,8}".join(words) + "/"


def up_to(name: str, controls: Controls, value: str) -> tuple[str, list[str]]:
    """Return any text up to a marker, and the marker, and the rules that this needs under `name`."""
    first, *rest = controls.pieces(value)
    after = " ".join(map(_piece, rest))
    if isinstance(first, int):
        return f"{ANY} {_piece(first)} {after}".rstrip(), []
    repeated = "+" if rest else ""  # without its control token, the beginning of a marker is text
    return f"{name}{repeated} {after}".rstrip(), [f"{name}[lazy]: {ANY} {text(first)}"]


def without(name: str, controls: Controls, value: str) -> str:
    """Return any text that has no marker, by the rules that `up_to` returns under `name`; it stands beside those."""
    first, *rest = controls.pieces(value)
    return f"{name}* {ANY}" if rest and isinstance(first, str) else ANY


def combined(rules: list[str], parts: dict[str, str]) -> str:
    """Return one grammar of rules, the first of which is `start`, and of the grammars that they call @name."""
    named = [{**_alone(grammar), "name": name} for name, grammar in parts.items()]
    return json.dumps({"grammars": [{"name": "main", "lark_grammar": "\n".join(rules)}, *named]})


def _piece(piece: int | str) -> str:
    return f"<[{piece}]>" if isinstance(piece, int) else text(piece)


def _alone(grammar: str) -> dict[str, Any]:  # Any: what JSON holds
    """Return a grammar as an entry of a list of them; llguidance leaves Lark as it is."""
    if not grammar.startswith('{"grammars":'):
        return {"lark_grammar": grammar}
    entry: dict[str, Any] = json.loads(grammar)["grammars"][0]  # Any: as above
    return entry
