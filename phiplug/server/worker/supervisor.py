"""Keeps one worker's process alive, and carries every request over its death to the next one.

A request goes on with the tokens that were drawn, so its stream does not show that another process computes it. A
second death ends it: it may be the cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from phiplug.engine.scheduler import QUEUE
from phiplug.engine.sequence import admit
from phiplug.errors import (
    BackendFailed,
    EngineDied,
    EngineUnavailable,
    ModelBusy,
    PhiplugError,
    RequestError,
    UnsupportedParameter,
)
from phiplug.server.ports import EngineInfo, EngineStatus
from phiplug.server.worker.health import Circuit, Watch
from phiplug.server.worker.job import Job, JobEvents
from phiplug.server.worker.machine import Child, Machine, ThisMachine
from phiplug.server.worker.wire import Beat, Begun, Cancel, Load, Loaded, NotLoaded, Produced

if TYPE_CHECKING:
    from phiplug.engine.stream import Observer
    from phiplug.server.ports import EngineState, Event, Work
    from phiplug.server.worker.wire import FromWorker

log = logging.getLogger("phiplug.server")

LOOK_S = 0.25
"""How often the process table is read."""

FAREWELL_S = 5.0
"""How long a worker may take to close its model."""


class Supervisor:
    """An `EnginePort` whose engine is a process of its own. Call `start` before anything else, and `close` at the end.

    Attributes:
        pid: the number of the worker's process, or None between two of them.
    """

    def __init__(
        self,
        order: Load,
        *,
        machine: Machine | None = None,
        finished: Observer | None = None,
        circuit: Circuit | None = None,
    ) -> None:
        """Serve the model of `order`.

        Args:
            order: what the worker loads.
            machine: starts it; None for this one.
            finished: is told of each answer that ran to its end.
            circuit: how long it rests after too many deaths; None for a minute.
        """
        self._order = order
        self._machine = machine or ThisMachine()
        self._finished = finished
        self._keys = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._child: Child | None = None
        self._watch = Watch(self._machine.now())
        self._circuit = circuit or Circuit()
        self._info: EngineInfo | None = None
        self._load_error: PhiplugError | None = None
        self._state: EngineState = "restarting"
        self._deaths = 0
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def info(self) -> EngineInfo:
        """What the first worker said of itself; its number of threads holds for all that follow."""
        if self._info is None:
            raise RequestError("the worker has not started")
        return self._info

    @property
    def status(self) -> EngineStatus:
        """How it is doing now."""
        return EngineStatus(self._state, len(self._jobs), self._deaths)

    @property
    def pid(self) -> int | None:
        """The number of the worker's process."""
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Start the worker and wait until its model is loaded.

        Raises:
            PhiplugError: the model cannot be loaded.
        """
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._live(loaded)), asyncio.create_task(self._look_on())]
        try:
            await loaded
        except BaseException:
            await self.close()
            raise

    async def submit(self, work: Work) -> JobEvents:
        """Queue a request; see `phiplug.server.ports.EnginePort.submit`."""
        if self._closing:
            raise RequestError("the server is closing")
        if self._state == "down":
            raise self._unavailable()
        admit(work.request.prompt_ids, self.info.model)
        if work.request.logits_processors:
            raise UnsupportedParameter("logits_processors", "a function cannot go to the process that computes")
        if len(self._jobs) >= QUEUE:
            raise ModelBusy(f"{QUEUE} requests wait for this model already", hint="try again later")
        job = Job(next(self._keys), work)
        self._jobs[job.key] = job
        if self._state == "ready" and self._child is not None:
            self._child.send(job.begin())
        events = JobEvents(job, self._cancel)
        if work.request.has_grammar:
            await events.begun()
        return events

    async def close(self) -> None:
        """End the worker when its step is done; open requests end in an error. May be called twice."""
        if self._closing:
            return
        self._closing = True
        self._end_all(RequestError("the server was closed"))
        if self._child is not None:
            self._child.dismiss()
            await asyncio.wait(self._tasks[:1], timeout=FAREWELL_S)
            if self._child is not None:
                self._child.kill()
                await asyncio.wait(self._tasks[:1], timeout=FAREWELL_S)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # One worker after another

    async def _live(self, loaded: asyncio.Future[None]) -> None:
        """Start a worker, wait for its death, and so on."""
        try:
            while not self._closing:
                how = await self._one_life(loaded)
                if self._info is None:
                    error = self._load_error or BackendFailed(f"the process that loads the model ended: {how}")
                    if not loaded.done():
                        loaded.set_exception(error)
                    return
                if not self._closing:
                    self._bury(how)
                    await self._machine.sleep(self._circuit.pause(self._machine.now()))
        except Exception as error:  # an error of ours must not leave requests waiting
            log.exception("the supervisor of a worker failed")
            self._state = "down"
            self._end_all(EngineDied("the supervisor of the process that computes failed"))
            if not loaded.done():
                loaded.set_exception(error)

    async def _one_life(self, loaded: asyncio.Future[None]) -> str:
        """Start a worker and listen to it; return how it ended."""
        self._watch = Watch(self._machine.now())
        try:
            child = await self._machine.spawn()
        except OSError as error:
            return f"the system did not start it: {error}"
        self._child = child
        child.send(self._order)
        async for message in child.messages():
            self._take(message)
            if isinstance(message, Loaded) and not loaded.done():
                loaded.set_result(None)
        self._child = None
        code = await child.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _take(self, message: FromWorker) -> None:
        if isinstance(message, Produced):
            self._hand_out(message)
        elif isinstance(message, Begun):
            if (job := self._jobs.get(message.key)) is not None:
                job.begun.set()
        elif isinstance(message, Beat):
            self._watch.beat(message, self._machine.now())
        elif isinstance(message, Loaded):
            self._begin_all(message.info)
        elif isinstance(message, NotLoaded):
            self._load_error = message.error
            log.error("the worker could not load its model: %s", message.error)

    def _begin_all(self, info: EngineInfo) -> None:
        """Hand a new worker every request, where it was."""
        if self._info is None:
            self._info = info
            if "autotune" in info.model.features:  # a later worker must compute the same bits
                self._order = replace(self._order, threads=info.model.threads)
        self._watch.loaded(info.model.device)
        self._state = "ready"
        for job in self._jobs.values():
            if self._child is not None:
                self._child.send(job.begin())

    def _bury(self, how: str) -> None:
        """Count a death, and end the requests that cannot go on after it."""
        self._deaths += 1
        self._state = "restarting"
        bereaved = [job for job in self._jobs.values() if job.is_sent]
        log.warning("the worker ended (%s); it is started again, %d requests go on", how, len(bereaved))
        for job in bereaved:
            job.is_sent = False
            job.deaths += 1
            job.deaths_alone += len(bereaved) == 1
            if job.deaths > 1:
                self._give_up(job)
        if self._circuit.died(self._machine.now()):
            self._state = "down"
            log.error("the worker ended too often; the next trial is in %d s", self._retry_after())
            self._end_all(self._unavailable())

    def _give_up(self, job: Job) -> None:
        if job.deaths_alone > 1:
            log.error("request %s was alone in two deaths of the worker", job.work.id)
        self._end(job, EngineDied("the process that computes died twice while it answered this request"))

    # One request

    def _hand_out(self, produced: Produced) -> None:
        for key, event in produced.events:
            if (job := self._jobs.get(key)) is not None:
                self._deliver(job, event)
        for key, error in produced.failures:
            if (job := self._jobs.get(key)) is not None:
                self._end(job, error)
                self._tell_to_cancel(job)

    def _deliver(self, job: Job, event: Event) -> None:
        is_new = job.take(event)
        chunk = event.chunk
        if is_new and self._finished is not None and chunk.usage is not None and chunk.timings is not None:
            self._finished(job.work.request.choice(event.choice), chunk.usage, chunk.timings)
        if job.is_over:
            self._end(job, None)

    def _end(self, job: Job, error: PhiplugError | None) -> None:
        del self._jobs[job.key]
        job.end(error)

    def _end_all(self, error: PhiplugError) -> None:
        for job in list(self._jobs.values()):
            self._end(job, error)

    def _cancel(self, job: Job) -> None:
        if self._jobs.pop(job.key, None) is not None:
            self._tell_to_cancel(job)

    def _tell_to_cancel(self, job: Job) -> None:
        if job.is_sent and self._child is not None:
            self._child.send(Cancel(job.key))

    # Health

    async def _look_on(self) -> None:
        """End a worker that is stopped or hangs; its requests then go on in the next one."""
        while True:
            await self._machine.sleep(LOOK_S)
            child = self._child
            look = None if child is None else self._machine.look(child.pid)
            if child is None or look is None:
                continue
            owes = any(job.is_sent for job in self._jobs.values())
            if (verdict := self._watch.judge(look, owes=owes)) is not None:
                log.warning("the worker %s; it is ended", verdict)
                child.kill()

    def _unavailable(self) -> EngineUnavailable:
        return EngineUnavailable("the process that computes ended too often", retry_after=self._retry_after())

    def _retry_after(self) -> int:
        return max(1, math.ceil(self._circuit.pause(self._machine.now())))
