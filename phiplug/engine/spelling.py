"""From tokens to what a reader sees: text, and the reasoning and the calls beside it.

It chains the stages that turn bytes into text, tell reasoning and calls from text, and look for stop strings. It knows
nothing of logits, grammars or clocks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from phiplug.engine.detokenize import Detokenizer
from phiplug.engine.stopping import StopFilter
from phiplug.messages import ToolCallDelta, joined
from phiplug.text.markers import Controls, without_controls
from phiplug.text.reasoning import Splitter
from phiplug.text.tools.parser import CallParser

if TYPE_CHECKING:
    from phiplug.spi import Tokenizer
    from phiplug.types import Request


@dataclass(frozen=True, slots=True)
class Spelled:
    """What a token brought, each part of which may be empty."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCallDelta, ...] = ()

    def __add__(self, other: Spelled) -> Spelled:
        calls = joined((*self.calls, *other.calls)) if self.calls or other.calls else ()
        return Spelled(self.text + other.text, self.reasoning + other.reasoning, calls)


class Speller:
    """Spells the tokens of one answer.

    Stop strings are looked for in the text alone: a model may think of them, or write them into an argument.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, *, drop_space: bool) -> None:
        """Begin; `drop_space` leaves out the space that the first token brings."""
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(drop_space=drop_space)
        markup = request.markup
        self._controls = Controls(tokenizer, markup.markers)
        self._splitter = Splitter(markup, self._controls)
        self._parser = CallParser(markup.tools, self._controls, partial(_call_id, request)) if markup.tools else None
        self._stop = StopFilter(request.stop)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was complete."""
        return self._stop.stopped

    @property
    def has_calls(self) -> bool:
        """Whether a call has begun."""
        return self._parser is not None and self._parser.count > 0

    def feed(self, token: int) -> Spelled:
        """Take the next token; return what it makes certain."""
        control = self._controls.characters.get(token)
        if control is None:
            return self._split(self._detokenizer.feed(self._tokenizer.token_bytes(token)))
        return self._split(self._detokenizer.flush() + control)

    def flush(self) -> Spelled:
        """Return what was held back: the answer has ended."""
        last = self._split(self._detokenizer.flush())
        last += self._told(*self._splitter.flush())
        rest = self._stop.feed(without_controls(self._parser.flush())) if self._parser else ""
        return last + Spelled(rest + self._stop.flush())

    def _split(self, text: str) -> Spelled:
        return self._told(*self._splitter.feed(text))

    def _told(self, said: str, thought: str) -> Spelled:
        said, calls = self._parser.feed(said) if self._parser else (said, ())
        return Spelled(self._stop.feed(without_controls(said)), without_controls(thought), calls)


def _call_id(request: Request, index: int) -> str:
    """Return the id of a call: 9 letters and digits, as Mistral's templates demand. It depends on the request alone."""
    asked = repr((request.prompt_ids, request.sampling.seed, index))
    return hashlib.blake2b(asked.encode(), digest_size=5).hexdigest()[:9]
