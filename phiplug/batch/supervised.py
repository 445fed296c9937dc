"""Answers tasks by an engine in a process of its own, which may die: a line that kills it twice alone is an error row.

It knows `phiplug.server.ports.EnginePort`, and neither HTTP nor where the process is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from phiplug.batch.rows import answered, failed
from phiplug.batch.seeds import name_of
from phiplug.errors import EngineDied, EngineUnavailable, PhiplugError
from phiplug.forms.admission import naming_the_form
from phiplug.forms.answers import Answer
from phiplug.forms.problems import unexpected
from phiplug.server.answers import submit
from phiplug.server.ports import Work as Asked

if TYPE_CHECKING:
    from phiplug.batch.asking import Asking, Work
    from phiplug.batch.tasks import Task
    from phiplug.forms.problems import Json
    from phiplug.server.ports import EnginePort

TRIALS = 24
"""So often a line waits for an engine that is down before that is its error."""


class Gate:
    """Lets many through at once, or one alone."""

    def __init__(self, width: int) -> None:
        """Let up to `width` through together."""
        self._width = width
        self._inside = 0
        self._waiting_alone = 0
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def passed(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait until there is room, or until nobody else is inside."""
        async with self._changed:
            self._waiting_alone += alone
            await self._changed.wait_for(lambda: self._inside == 0 if alone else self._has_room())
            self._waiting_alone -= alone
            self._inside += self._width if alone else 1
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= self._width if alone else 1
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._inside < self._width and not self._waiting_alone


class Supervised:
    """Answers tasks side by side. When the engine dies twice under a line, the line is tried again with no other."""

    def __init__(self, engine: EnginePort, asking: Asking) -> None:
        self._engine = engine
        self._asking = asking
        self._gate = Gate(2 * engine.info.model.slots)

    async def rows(self, tasks: Iterable[Task]) -> AsyncIterator[Json]:
        """Yield a row for each task, in the order in which they end."""
        running = [asyncio.ensure_future(self.row(task)) for task in tasks]
        try:
            for row in asyncio.as_completed(running):
                yield await row
        finally:
            for each in running:
                each.cancel()

    async def row(self, task: Task) -> Json:
        """Return the row of a task; an error is a row."""
        if task.error is not None:
            return failed(task, task.error)
        try:
            work = self._asking.prepare(task)
            await self._answer(work)
        except PhiplugError as error:
            return failed(task, error)
        except Exception as error:  # noqa: BLE001  a fault of ours must not take the rows of others along
            return failed(task, unexpected(error))
        return answered(work)

    async def _answer(self, work: Work) -> None:
        """Fill the answers of a line, alone after the engine has died twice under it: a neighbour may be the cause."""
        try:
            await self._try(work, alone=False)
        except EngineDied:
            await self._try(work, alone=True)

    async def _try(self, work: Work, *, alone: bool) -> None:
        """Fill the answers of a line; an engine that is down is waited for."""
        for trial in range(TRIALS):
            try:
                async with self._gate.passed(alone=alone):
                    await self._compute(work)
            except EngineUnavailable as error:
                if trial == TRIALS - 1:
                    raise
                await asyncio.sleep(error.retry_after)
            else:
                return

    async def _compute(self, work: Work) -> None:
        work.answers = [Answer() for _ in work.answers]
        name = name_of(work.task.custom_id, work.task.line)
        asked = [Asked(f"{name}.{at}", request, work.choices) for at, request in enumerate(work.requests)]
        with naming_the_form(work.requests[0], work.form_field):
            events = await submit(self._engine, asked)
        try:
            async for event in events:
                work.answers[event.choice].add(event.chunk)
        except EngineUnavailable:  # it went down under this line, and was not down before
            raise EngineDied("the process that computes died while it answered this line") from None
        finally:
            await events.aclose()
