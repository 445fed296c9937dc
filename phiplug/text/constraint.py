"""Holds an answer to a grammar: which ids may come next, which must, and when the answer is whole.

The parser is llguidance's; it is imported when a constraint is first used. It sees a tokenizer through
`phiplug.spi.Tokenizer` alone, as the bytes of its ids, so every tokenizer is constrained alike. This module knows
nothing of logits or of how a token is drawn.
"""

from __future__ import annotations

import queue
import threading
import warnings
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from phiplug.errors import GrammarStuck, InvalidParameter, PhiplugWarning
from phiplug.markup import NO_MARKUP
from phiplug.text.composition import answer_grammar
from phiplug.text.grammar import EMPTY, grammar_of, one_line, parser, refusal
from phiplug.text.tools.grammar import arguments_schema, constraint_of, naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llguidance import LLMatcher, LLTokenizer
    from numpy.typing import NDArray

    from phiplug.markup import Markup
    from phiplug.spi import Tokenizer
    from phiplug.types import Constraint, Tool

T = TypeVar("T")

COMPILE_S = 10.0
"""So long a grammar may take to compile; the parser's own limits end most of them earlier, alike on every machine."""

_REGEX_FUEL = 100_000
"""Expressions that the lexer may make of a regular expression before the first token. A schema has llguidance's own
limit, a million, for its many expressions; one that needs so many, as `a{100000}` does, costs that at every mask."""

_TOOLS = "tools"  # what errors of a grammar without a constraint name
_REMEMBERED = 16  # compiled grammars
_SHOWN = 20  # characters of the answer in an error
_PROBE = "\x02"  # what no tokenizer joins to the text after it


class Grammars:
    """Compiles constraints for one tokenizer and remembers the last of them. Threads may share it."""

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        """Serve a model whose rows of logits are `width` wide; nothing is computed before a constraint comes."""
        self._tokenizer = tokenizer
        self._width = width
        self._vocabulary: LLTokenizer | None = None
        self._compiled: OrderedDict[tuple[Constraint | None, Markup], LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def guide(self, constraint: Constraint | None, markup: Markup = NO_MARKUP) -> Guide:
        """Compile a constraint and the calls of tools that a markup has, or take them from what was compiled.

        The constraint, None for no other than that of the calls, begins after the answer's reasoning.

        Raises:
            InvalidParameter: it is not sound, allows nothing, says what cannot be enforced, or takes too long.
            NotInstalled: llguidance is missing.
        """
        with self._lock:
            found = self._compiled.get((constraint, markup))
            self._vocabulary = self._vocabulary or _vocabulary(self._tokenizer, self._width)
        if found is None:
            grammar = answer_grammar(constraint, markup, self._tokenizer)
            found = _compiled(constraint, grammar, self._vocabulary)
        with self._lock:
            self._compiled[constraint, markup] = found
            self._compiled.move_to_end((constraint, markup))
            if len(self._compiled) > _REMEMBERED:
                self._compiled.popitem(last=False)
        return Guide(found.deep_copy(), self._tokenizer, self._width, force=constraint is None or constraint.force)


class Guide:
    """Follows one answer through a grammar."""

    def __init__(self, matcher: LLMatcher, tokenizer: Tokenizer, width: int, *, force: bool) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer
        self._width = width
        self._force = force
        self._ends = np.array(sorted(token for token in tokenizer.stop_ids if token < width), np.intp)
        self._bits = np.empty(width // 32 + 1, np.uint32)  # one more than the ids: the end of the grammar
        self._forbidden = np.empty(width, np.bool_)
        self._is_prepared = False
        self._tail = b""

    @property
    def is_complete(self) -> bool:
        """Whether what was accepted is a whole text of the grammar."""
        return self._matcher.is_accepting()

    @property
    def must_end(self) -> bool:
        """Whether no token can follow what was accepted."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def prepare(self) -> None:
        """Compute which ids may come next, unless that is known; what goes wrong is raised by `forbidden`."""
        if self._is_prepared:
            return
        bits = self._bits
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        allowed = np.unpackbits(bits.view(np.uint8), bitorder="little", count=self._width + 1)
        np.equal(allowed[:-1], 0, out=self._forbidden)
        self._forbidden[self._ends] = not allowed[-1]
        self._is_prepared = True

    def forbidden(self) -> NDArray[np.bool_]:
        """Return True for each id that may not come next, shape (width,), valid until the next `accept`.

        Where the grammar may end, all stop ids may come. Ids that stand for nothing never may.

        Raises:
            GrammarStuck: no id may come, or the grammar has become too complex for the parser's limits.
        """
        self.prepare()
        if self._matcher.is_error() or self._forbidden.all():
            hint = one_line(self._matcher.get_error()) or "its vocabulary cannot spell what the constraint asks for"
            raise GrammarStuck(f"the grammar allows no token of this model{self._place()}", hint=hint)
        return self._forbidden

    def accept(self, token: int) -> None:
        """Go on to the place after `token`.

        Raises:
            GrammarStuck: the grammar does not allow it; a drawn token is always allowed, a replayed one may not be.
        """
        if not self._matcher.consume_token(token):
            raise GrammarStuck(f"the grammar does not allow token {token}{self._place()}")
        self._moved_past(token)

    def forced(self) -> tuple[int, ...]:
        """Return the ids that must come next, as the tokenizer would cut their text, and go on to the place after them.

        They are none where the constraint does not force, or where more than one text can follow.
        """
        if not self._force or self._matcher.is_stopped():
            return ()
        tokens = self._matcher.compute_ff_tokens()
        tokens = tokens[: self._matcher.validate_tokens(tokens)] if tokens else []
        for token in tokens:
            self._matcher.consume_token(token)
            self._moved_past(token)
        return tuple(tokens)

    def _moved_past(self, token: int) -> None:
        self._is_prepared = False
        self._tail = (self._tail + self._tokenizer.token_bytes(token))[-4 * _SHOWN :]

    def _place(self) -> str:
        tail = self._tail.decode("utf-8", "ignore")[-_SHOWN:]
        return f" after {tail!r}" if tail else " at the beginning"


def check(constraint: Constraint) -> None:
    """Refuse a constraint that is not sound, without a model; errors are those of `Grammars.guide`.

    What a Lark grammar says of tokens is the only thing that waits for the model's.

    Warns:
        PhiplugWarning: what a lenient constraint says and nothing enforces.
    """
    library = parser()
    grammar = grammar_of(constraint)
    if constraint.kind != "lark" or "<" not in constraint.texts[0]:
        _compiled(constraint, grammar, library.LLTokenizer("byte"))
        return
    failed, messages = _within_time(constraint, lambda: library.LLMatcher.validate_grammar_with_warnings(grammar))
    if failed:
        raise refusal(constraint, messages[0])


def check_tools(tools: Iterable[Tool]) -> None:
    """Refuse tools whose arguments cannot be held to their schemas, without a model; errors are those of `check`."""
    for tool in tools:
        with naming(tool):
            check(constraint_of(tool, arguments_schema(tool)))


def _compiled(constraint: Constraint | None, grammar: str, vocabulary: LLTokenizer) -> LLMatcher:
    """Compile a grammar and take a step in it, where what is too complex shows."""
    library = parser()

    def compiled() -> tuple[LLMatcher, str]:
        fuel = _REGEX_FUEL if constraint and constraint.kind == "regex" else None
        limits = library.LLParserLimits(verbose_errors=False, initial_lexer_fuel=fuel)
        matcher: LLMatcher = library.LLMatcher(vocabulary, grammar, log_level=0, limits=limits)
        bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
        first = np.flatnonzero(bits[: vocabulary.vocab_size - 1])[:1].tolist()  # the last id is the end
        step = matcher.deep_copy()
        if first and step.consume_tokens(first):
            return matcher, ""
        return matcher, step.get_error() or EMPTY

    matcher, fault = _within_time(constraint, compiled)
    if fault:
        raise refusal(constraint, fault) if constraint else InvalidParameter(_TOOLS, one_line(fault))
    _warn(constraint, matcher.get_grammar_warnings())
    return matcher


def _warn(constraint: Constraint | None, messages: list[str]) -> None:
    name = constraint.name if constraint else _TOOLS
    for message in messages:
        warnings.warn(f"{name}: not enforced: {one_line(message)}", PhiplugWarning, stacklevel=2)


def _within_time(constraint: Constraint | None, work: Callable[[], T]) -> T:
    """Do what may take long in another thread, which is left alone where it takes too long."""
    results: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except BaseException as error:  # noqa: BLE001  it is raised in the other thread
            results.put(error)

    threading.Thread(target=run, daemon=True, name="phiplug-grammar").start()
    try:
        result = results.get(timeout=COMPILE_S)
    except queue.Empty:
        name = constraint.name if constraint else _TOOLS
        raise InvalidParameter(name, f"takes longer than {COMPILE_S:.0f} s to compile") from None
    if isinstance(result, BaseException):
        raise result
    return result


class _Vocabulary:
    """What llguidance asks of a tokenizer: the bytes of every id, and how a text is cut into tokens.

    One id more than the model has stands for the end of the grammar; a `Guide` lets every stop id take its place.
    """

    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        size, stops = min(tokenizer.vocab_size, width), tokenizer.stop_ids
        spelled = [b"" if token in stops else tokenizer.token_bytes(token) for token in range(size)]
        self.tokens = spelled + [b""] * (width + 1 - size)
        self.eos_token_id = width
        self._tokenizer = tokenizer
        self._before = ""
        if not self._spell("a", tokenizer.encode("a", parse_special=False)):
            self._before = _PROBE

    def __call__(self, text: str) -> list[int]:
        """Cut a text into tokens as in the middle of an answer: SentencePiece would put a space before it.

        Where it does not, nothing may stand before the text: it would change how the first word is cut.
        """
        if not isinstance(text, str):
            raise TypeError(text)  # it tries bytes first
        for before in dict.fromkeys((self._before, "")):
            begin = len(self._tokenizer.encode(before, parse_special=False)) if before else 0
            ids = self._tokenizer.encode(before + text, parse_special=False)[begin:]
            if self._spell(text, ids):
                return ids
        return self._greedily(text.encode())

    def _greedily(self, spelled: bytes) -> list[int]:
        """Take the longest token again and again: SentencePiece cannot cut "\u2581", which it reads as a space."""
        found: list[int] = []
        while spelled:
            ends = range(min(len(spelled), self._longest), 0, -1)
            end = next((end for end in ends if spelled[:end] in self._ids), 0)
            if not end:
                break
            found.append(self._ids[spelled[:end]])
            spelled = spelled[end:]
        return found

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {spelled: token for token, spelled in enumerate(self.tokens) if spelled}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.tokens))

    def _spell(self, text: str, ids: list[int]) -> bool:
        return max(ids, default=0) < self.eos_token_id and b"".join(self.tokens[each] for each in ids) == text.encode()


def _vocabulary(tokenizer: Tokenizer, width: int) -> LLTokenizer:
    library = parser()
    made: LLTokenizer = library.LLTokenizer(library.TokenizerWrapper(_Vocabulary(tokenizer, width)))
    return made
