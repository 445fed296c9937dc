"""Writes pieces of grammars in llguidance's Lark: texts, tokens by their ids, any text up to a marker."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from phiplug.text.markers import Controls

ANY = r"/(.|\n)*/"
BREAKS = r"/\n{0,2}/"
SPACE = r"/[ \t\n]{0,8}/"
"""Where a form has white space; bounded, because some models repeat line breaks for ever."""

_SPACES = re.compile(r"[ \t\n]+")


def text(value: str) -> str:
    """Return a text."""
    return json.dumps(value, ensure_ascii=False)


def marker(controls: Controls, value: str) -> str:
    """Return a marker, exactly as it is."""
    return " ".join(map(_piece, controls.pieces(value)))


def loose(controls: Controls, value: str) -> str:
    """Return a text of a row, in which white space stands for any white space, also none."""
    found: list[str] = []
    for piece in controls.pieces(value):
        if isinstance(piece, int):
            found.append(_piece(piece))
            continue
        words = _SPACES.split(piece)
        spaced = [part for word in words for part in (SPACE, text(word) if word else "")][1:]
        found += [part for part in spaced if part]
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
    return f"{name} {after}".rstrip(), [f"{name}[lazy]: {ANY} {text(first)}"]


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
