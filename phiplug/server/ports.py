"""What HTTP asks of an engine, wherever that runs: a request goes in, chunks come out, closing cancels.

`LocalEngine` answers in this process, `phiplug.server.worker` from another one. Nothing here knows HTTP, templates or
processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from phiplug import checks

if TYPE_CHECKING:
    from typing import Self

    from phiplug.spi import ModelInfo
    from phiplug.types import Chunk, Request

EngineState = Literal["ready", "restarting", "down"]


@dataclass(frozen=True, slots=True)
class Work:
    """One request, with so many answers to it.

    Attributes:
        id: what the request is called in logs; it tells nothing of its content.
        request: the prompt's ids and how to continue them.
        choices: how many answers; the i-th has the seed + i, and the prompt is computed once.
    """

    id: str
    request: Request
    choices: int = 1

    def __post_init__(self) -> None:
        checks.integer("n", self.choices, low=1)


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of the answer number `choice`."""

    choice: int
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says about itself.

    Attributes:
        backend: the name of the backend.
        model: what the loaded model says; `threads` is the number that was measured or fixed.
    """

    backend: str
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How an engine is doing.

    Attributes:
        state: "ready"; "restarting", while its requests wait; or "down", while it refuses new ones.
        open: requests that were submitted and have not ended.
        restarts: how often its process was started again.
    """

    state: EngineState = "ready"
    open: int = 0
    restarts: int = 0


class Events(Protocol):
    """An answer as it comes: iterate over it; it ends when every choice had its last chunk.

    Iterating raises the `PhiplugError` that ended the request; what came before it stands.
    """

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Event: ...

    async def aclose(self) -> None:
        """Cancel; what was not read is dropped. May be called twice, and at any time."""
        ...


class EnginePort(Protocol):
    """A loaded model that answers requests side by side. It is used from one event loop."""

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""
        ...

    @property
    def status(self) -> EngineStatus:
        """How it is doing now."""
        ...

    async def submit(self, work: Work) -> Events:
        """Queue a request.

        Raises:
            PromptTooLong: the context does not hold the prompt.
            InvalidParameter: the prompt has an id that the model does not have, or its constraint cannot be kept to.
            ModelBusy: too many requests wait already.
            EngineUnavailable: the engine ended too often; it is tried again later.
        """
        ...

    async def close(self) -> None:
        """Give back the model's memory; open requests end in an error. May be called twice."""
        ...
