"""The messages between a supervisor and its worker, and how they become bytes.

A message is a frozen dataclass. On the pipe each dataclass is a msgpack extension: its code says which class it is, its
body holds the fields in order. Both ends run the same version, so there is none to negotiate; and only the classes of
the list below can be made from bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import msgpack

from phiplug import errors
from phiplug.errors import PhiplugError
from phiplug.markup import Markup, ParameterMarks, ReasoningFormat, ToolFormat, ToolUse
from phiplug.messages import Tool, ToolCallDelta
from phiplug.server.ports import EngineInfo, Event, Work
from phiplug.spi import LookaheadMode, ModelInfo
from phiplug.types import Chunk, Constraint, Request, SamplingParams, Timings, TokenLogprob, Usage


@dataclass(frozen=True, slots=True)
class Load:
    """The first message to a worker: what it loads. The options are those of `phiplug.load.load`."""

    reference: str | None = None
    backend: str = "auto"
    device: str | None = None
    ctx_size: int | None = None
    slots: int = 1
    threads: int | None = None
    gpu_layers: int | None = None
    exact_scales: bool = False
    offline: bool = False
    verbose: bool = False
    lookahead: LookaheadMode = "auto"


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a request, or go on with it.

    Attributes:
        key: names the request in later messages.
        work: what was asked.
        drawn: the tokens that were drawn already, for each choice that has not ended.
    """

    key: int
    work: Work
    drawn: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request, whose answer nobody reads any more."""

    key: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is loaded, and its number of threads settled."""

    info: EngineInfo


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """The model cannot be loaded; the worker ends."""

    error: PhiplugError


@dataclass(frozen=True, slots=True)
class Begun:
    """A request whose grammar had to be compiled is queued."""

    key: int


@dataclass(frozen=True, slots=True)
class Produced:
    """What one step of the loop has brought: events, and requests that failed, each with the key of its request."""

    events: tuple[tuple[int, Event], ...]
    failures: tuple[tuple[int, PhiplugError], ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """Says every second how the computing goes, from a thread beside it.

    Attributes:
        pass_s: how long the step that runs has taken so far, or None where nothing is computed.
        longest_s: how long the longest step took.
        cpu_s: processor time of the computing thread, or None where the system does not say.
    """

    pass_s: float | None
    longest_s: float
    cpu_s: float | None


ToWorker: TypeAlias = Load | Begin | Cancel
FromWorker: TypeAlias = Loaded | NotLoaded | Begun | Produced | Beat

_CLASSES: tuple[type, ...] = (
    *(Load, Begin, Cancel, Loaded, NotLoaded, Begun, Produced, Beat),
    *(Work, Request, SamplingParams, Constraint, Event, Chunk, Usage, Timings, TokenLogprob, EngineInfo, ModelInfo),
    *(Markup, ReasoningFormat, ToolUse, ToolFormat, ParameterMarks, Tool, ToolCallDelta),
)
_CODES = {cls: code for code, cls in enumerate(_CLASSES)}
_FIELDS = {cls: tuple(field.name for field in fields(cls)) for cls in _CLASSES}
_ERROR, _INTEGER = 100, 101  # codes of what is no dataclass

SMALL = 1024
"""Bytes that a packer allocates at first; with msgpack's own 256 KiB a message of 8 chunks took three times as long."""


def encode(message: ToWorker | FromWorker) -> bytes:
    """Return a message as bytes, which may follow one another without a separator."""
    return _packed(message)


class Decoder:
    """Turns bytes, cut anywhere, into messages."""

    def __init__(self) -> None:
        self._unpacker = msgpack.Unpacker(
            ext_hook=_from_extension, use_list=False, strict_map_key=False, max_buffer_size=0
        )

    def feed(self, data: bytes) -> Iterator[Any]:  # Any: `ToWorker` in the worker, `FromWorker` in the supervisor
        """Take bytes; yield the messages that they complete."""
        self._unpacker.feed(data)
        yield from self._unpacker


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, default=_extension, buf_size=SMALL)
    return packed


def _extension(value: object) -> object:
    """Turn what msgpack does not know into what it knows."""
    code = _CODES.get(type(value))
    if code is not None:
        return msgpack.ExtType(code, _packed([getattr(value, name) for name in _FIELDS[type(value)]]))
    if isinstance(value, PhiplugError):
        return msgpack.ExtType(_ERROR, _packed([_known_class(value), value.args[0], vars(value)]))
    if isinstance(value, int):  # beyond 64 bits
        return msgpack.ExtType(_INTEGER, b"%d" % value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot go through the pipe")


def _from_extension(code: int, data: bytes) -> object:
    if code == _INTEGER:
        return int(data)
    values = msgpack.unpackb(data, ext_hook=_from_extension, use_list=False, strict_map_key=False)
    if code == _ERROR:
        return _error(*values)
    cls = _CLASSES[code]
    if cls is ModelInfo:
        named = dict(zip(_FIELDS[cls], values, strict=True))
        return ModelInfo(**{**named, "features": frozenset(named["features"])})
    return cls(*values)


def _known_class(error: PhiplugError) -> str:
    """Return the name of the error's class; one that a plugin derived counts as its nearest ancestor of ours."""
    names: list[str] = [cls.__name__ for cls in type(error).__mro__ if getattr(errors, cls.__name__, None) is cls]
    return names[0]


def _error(name: str, message: str, attributes: Mapping[str, Any]) -> PhiplugError:  # Any: what the error carries
    """Build an error without its constructor, which would compose the message again."""
    cls: type[PhiplugError] = getattr(errors, name)
    error = cls.__new__(cls, message)
    vars(error).update(attributes)
    return error
