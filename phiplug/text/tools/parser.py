"""Reads calls of tools out of an answer as it comes: name first, then the arguments piece by piece.

A row of `phiplug.markup.ToolFormat` says what it looks for. It knows no grammar; where one held the model, nothing that
begins like a call is anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from phiplug.markup import ParameterMarks
from phiplug.messages import ToolCallDelta, joined
from phiplug.text.markers import cut, without_controls
from phiplug.text.tools.arguments import WHITE_SPACE, Braces, Characters, NoCall, Reading, json_object, parameters

if TYPE_CHECKING:
    from phiplug.markup import ToolUse
    from phiplug.text.markers import Controls
    from phiplug.text.tools.arguments import Arguments

_IN_NAMES = re.compile(r"[A-Za-z0-9_.-]")


class CallParser:
    """Reads the calls of one answer.

    What it returns, put together, is the same however the answer was cut into pieces.

    Attributes:
        count: how many calls have begun.
    """

    def __init__(self, use: ToolUse, controls: Controls, name_call: Callable[[int], str]) -> None:
        """Read an answer to a request that has these tools.

        Args:
            use: the tools, and how the model calls them.
            controls: how the control tokens of markers are spelt.
            name_call: returns the id of a call by its index.
        """
        self.count = 0
        self._row, self._marker = use.format, controls.marker
        self._begin = controls.marker(use.format.begin)
        self._tools = {tool.name: tool for tool in use.tools}
        self._name_call = name_call
        self._characters = Characters()
        self._raw = ""  # of a block, until a call in it has a name
        self._is_named = False
        self._held = ""
        self._deltas: list[ToolCallDelta] = []
        self._block: Reading[None] | None = self._calls() if use.format.is_bare else None
        if self._block is not None:
            next(self._block)

    def feed(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Take the next piece; return the text that is certain to be no call, and what came of calls."""
        said = ""
        for character in text:
            block = self._block
            said += self._outside(character) if block is None else self._inside(block, character)
        deltas, self._deltas = joined(self._deltas), []
        return said, deltas

    def flush(self) -> str:
        """Return the text that was held back: the answer has ended. What began with a marker is a call that was cut."""
        held, self._held, self._block = self._held, "", None
        raw, self._raw = self._raw if self._row.is_bare else "", ""
        is_marker = self.count > 0 or held != without_controls(held)
        return raw + ("" if is_marker else held)

    def _outside(self, character: str) -> str:
        before, marker, self._held = cut(self._held + character, (self._begin,))
        if marker:
            self._block, self._raw, self._is_named = self._calls(), marker, False
            next(self._block)
        return before if self.count == 0 or before.strip() else ""  # white space stands between blocks

    def _inside(self, block: Reading[None], character: str) -> str:
        """Give a character to the block; what turns out to be none is text."""
        self._raw += "" if self._is_named else character
        try:
            block.send(character)
        except StopIteration:
            self._block, self._raw = None, ""
            rest, self._characters.ahead = self._characters.ahead, ""
            return "".join(map(self._outside, rest))
        except NoCall:
            raw, self._raw, self._block, self._characters.ahead = self._raw or character, "", None, ""
            return "".join(map(self._outside, raw)) if self._row.is_bare else raw
        return ""

    def _calls(self) -> Reading[None]:
        """Read a block, whose marker was read."""
        row, characters = self._row, self._characters
        if row.is_bare and not self._raw:
            yield from characters.skip()
        yield from characters.literal(self._marker(row.open))
        before, end = self._marker(row.before_name), self._marker(row.end)
        yield from characters.literal(before)
        yield from self._call()
        while row.between is not None:
            another = (self._marker(row.between) + before).strip(WHITE_SPACE)
            yield from characters.skip()
            if not end:
                yield from characters.literal(another)
            elif not (yield from characters.either(another, end.strip(WHITE_SPACE))):
                return
            yield from self._call()
        yield from characters.literal(end)

    def _call(self) -> Reading[None]:
        """Read a call from its name on."""
        row, characters = self._row, self._characters
        name = ""
        while _IN_NAMES.match((yield from characters.peek())):
            name += yield from characters.take()
        if name not in self._tools:
            raise NoCall
        yield from characters.literal(self._marker(row.after_name))
        self._raw, self._is_named = "", True
        index, self.count = self.count, self.count + 1
        self._deltas.append(ToolCallDelta(index, self._name_call(index), name))

        def emit(piece: str) -> None:
            if piece:
                self._deltas.append(ToolCallDelta(index, arguments=piece))

        yield from self._arguments(name)(characters, emit)
        yield from characters.literal(self._marker(row.after_arguments))

    def _arguments(self, name: str) -> Arguments:
        match self._row.arguments:
            case "json":
                return json_object
            case "parameters":
                end = self._marker(self._row.after_arguments.strip() or self._row.end.strip())
                return parameters(self._tools[name].schema, self._marks(), end)
            case "braces":
                return Braces(self._marker(self._row.quote))

    def _marks(self) -> ParameterMarks:
        """Return the marks of parameters as they are spelt."""
        marks, spelt = self._row.parameter, self._marker
        return ParameterMarks(
            spelt(marks.before_key),
            spelt(marks.after_key),
            spelt(marks.end),
            after_text_key=spelt(marks.after_text_key),
            on_lines=marks.on_lines,
        )
