"""The worker's process: it loads a model and makes the steps of its scheduler, for as long as its supervisor is there.

`python -m phiplug.server.worker.process` reads messages from stdin and writes messages to stdout; see `wire`. It knows
nothing of deaths: a request that goes on after one is a request whose first tokens are given.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from phiplug.engine.autotune import settle_threads
from phiplug.errors import BackendFailed, PhiplugError
from phiplug.load import load
from phiplug.server.ports import EngineInfo, Event
from phiplug.server.worker.pipes import Compiled, Inbox, Outbox, Pulse
from phiplug.server.worker.wire import Begin, Begun, Cancel, Load, Loaded, NotLoaded, Produced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from phiplug.engine import Scheduler
    from phiplug.engine.sequence import Sequence
    from phiplug.llm import LLM
    from phiplug.server.worker.wire import ToWorker
    from phiplug.types import Chunk

MEASURED = "Once upon a time, in a village by the sea, there lived a clockmaker who "
"""A prompt by which the number of threads is settled."""


class Worker:
    """The requests of one scheduler: it obeys messages, makes steps, and says what each has brought.

    A thread compiles grammars beside the loop, one after another, since each may take seconds in which others go on.
    """

    def __init__(self, scheduler: Scheduler, compiled: Callable[[Compiled], None]) -> None:
        """Serve `scheduler`; `compiled` is called by another thread, and has `obey` take what it is given."""
        self._scheduler = scheduler
        self._compiler = ThreadPoolExecutor(1, "phiplug-compile")
        self._compiled = compiled
        self._compiling: set[int] = set()  # keys of requests
        self._places: dict[Sequence, tuple[int, int]] = {}  # the key of its request, and which choice it is

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return self._scheduler.is_idle

    def obey(self, message: ToWorker | Compiled) -> Begun | Produced | None:
        """Begin or cancel a request; one that cannot begin has failed at once."""
        if isinstance(message, Cancel):
            self._compiling.discard(message.key)
            for sequence, (key, _) in self._places.items():
                if key == message.key:
                    sequence.cancelled = True
        elif isinstance(message, Compiled):
            return self._go_on(message)
        elif isinstance(message, Begin):
            if not message.work.request.has_grammar:
                return self._begin(message)
            self._compiling.add(message.key)
            self._compiler.submit(self._compile, message)
        return None

    def step(self) -> Produced | None:
        """Make one step; return what it has brought, if anything."""
        return self._told(self._scheduler.step())

    def _begin(self, message: Begin) -> Produced | None:
        """Queue a request, or say why that cannot be."""
        asked = message.work.request
        try:
            requests = [replace(asked.choice(index), replayed=drawn) for index, drawn in message.drawn.items()]
            family = self._scheduler.add_family(requests)
        except PhiplugError as error:
            return Produced((), ((message.key, error),))
        self._places.update((each, (message.key, index)) for each, index in zip(family, message.drawn, strict=True))
        return None

    def _compile(self, message: Begin) -> None:
        """Compile the grammar of a request, unless it was cancelled; runs in the compiler's thread."""
        request, error = message.work.request, None
        try:
            if message.key in self._compiling:
                self._scheduler.grammars.guide(request.constraint, request.markup)
        except PhiplugError as raised:
            error = raised
        except BaseException as raised:  # noqa: BLE001  a panic of the parser is no Exception
            error = BackendFailed(f"the parser of grammars failed: {raised}")
        self._compiled(Compiled(message, error))

    def _go_on(self, message: Compiled) -> Begun | Produced | None:
        """Begin a request whose constraint is compiled, unless it was cancelled meanwhile."""
        key = message.begin.key
        if key not in self._compiling:
            return None
        self._compiling.remove(key)
        if message.error is not None:
            return Produced((), ((key, message.error),))
        return self._begin(message.begin) or Begun(key)

    def _told(self, produced: Iterable[tuple[Sequence, Chunk]]) -> Produced | None:
        places = self._places
        events = [(places[sequence][0], Event(places[sequence][1], chunk)) for sequence, chunk in produced]
        over = [sequence for sequence in places if sequence.is_over]
        failed = {places[sequence][0]: sequence.error for sequence in over if sequence.error is not None}
        for sequence in over:
            del places[sequence]
        return Produced(tuple(events), tuple(failed.items())) if events or failed else None


def serve(worker: Worker, inbox: Inbox, outbox: Outbox, pulse: Pulse) -> None:
    """Make steps while there is something to compute, until the supervisor closes its end."""
    while True:
        try:
            while (message := inbox.get(wait=worker.is_idle)) is not None:
                if (failed := worker.obey(message)) is not None:
                    outbox.put(failed)
        except queue.Empty:
            with pulse:
                produced = worker.step()
            if produced is not None:
                outbox.put(produced)
        else:
            return


def opened(order: Load) -> LLM:
    """Load the model, and settle its number of threads, which stays as it is from then on.

    Raises:
        PhiplugError: it cannot be loaded.
    """
    llm = load(
        order.reference,
        backend=order.backend,
        device=order.device,
        ctx_size=order.ctx_size,
        slots=order.slots,
        threads=order.threads,
        gpu_layers=order.gpu_layers,
        exact_scales=order.exact_scales,
        offline=order.offline,
        verbose=order.verbose,
        lookahead=order.lookahead,
    )
    settle_threads(llm.engine, llm.tokenizer.encode(MEASURED))
    return llm


def main() -> None:
    """Serve the supervisor that started this process."""
    for name in ("SIGINT", "SIGTERM"):  # they are the supervisor's to handle, whose requests go on meanwhile
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    orders, answers = _private_pipes()
    pulse, inbox, outbox = Pulse(), Inbox(orders), Outbox(answers)
    inbox.start()
    outbox.start(pulse.beat)
    order = inbox.get(wait=True)
    if not isinstance(order, Load):
        return
    try:
        llm = opened(order)
    except PhiplugError as error:
        outbox.put(NotLoaded(error))
    else:
        with llm:
            outbox.put(Loaded(EngineInfo(llm.backend, llm.info)))
            serve(Worker(llm.engine.scheduler, inbox.put), inbox, outbox, pulse)
    outbox.close()


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout away from everybody else: what a plugin prints goes to stderr, and it reads nothing."""
    orders, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  as long as the process
    return orders, answers


if __name__ == "__main__":
    main()
