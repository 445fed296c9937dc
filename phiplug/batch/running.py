"""Runs the tasks of a batch through one scheduler and yields a row for each, in the order in which they end.

A window of tasks is prepared at a time and sorted by prompt, so that beginnings are shared where that changes no bit.
It writes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from phiplug.batch.rows import answered, failed
from phiplug.errors import EngineDied, PhiplugError
from phiplug.forms.admission import naming_the_form

if TYPE_CHECKING:
    from phiplug.batch.asking import Asking, Work
    from phiplug.batch.tasks import Task
    from phiplug.engine.sequence import Sequence
    from phiplug.forms.problems import Json
    from phiplug.llm import LLM
    from phiplug.types import Chunk

WINDOW = 256
"""Lines that are prepared and sorted together."""

WINDOW_BYTES = 16 * 2**20
"""Bytes of lines after which a window ends, however few they are."""


class Run:
    """One pass over the tasks.

    Attributes:
        is_reading: it waits for a line; interrupting it then loses nothing.
        open: how many lines have requests in the engine.
    """

    def __init__(self, llm: LLM, asking: Asking, tasks: Iterable[Task]) -> None:
        self._llm = llm
        self._scheduler = llm.engine.scheduler
        self._asking = asking
        self._tasks = iter(tasks)
        self._ready: deque[tuple[Work, int]] = deque()  # a line, and which of its prompts
        self._members: dict[Sequence, tuple[Work, int]] = {}  # and which of its answers
        self._rows: deque[Json] = deque()
        self._has_ended = False
        self._begun: set[Work] = set()
        self.is_reading = False

    @property
    def open(self) -> int:
        """How many lines have requests in the engine."""
        return len(self._begun)

    def stop(self) -> None:
        """Begin no further line; those that are open come to their end."""
        self._has_ended = True
        self._ready = deque(each for each in self._ready if each[0] in self._begun)

    def rows(self) -> Iterator[Json | None]:
        """Yield a row for each task, and None after a step that ended none: the caller may look around then.

        Leaving the iterator cancels what is open.
        """
        try:
            while self._fill() or self._rows:
                yield from self._taken()
                if self._members:
                    self._step()
                yield from self._taken()
                yield None
        finally:
            for sequence in self._members:
                sequence.cancelled = True
            self._scheduler.tidy()

    def _taken(self) -> Iterator[Json]:
        while self._rows:
            yield self._rows.popleft()

    def _fill(self) -> bool:
        """Queue requests until as many are open as keep the slots busy; return whether any are."""
        while len(self._members) < 2 * self._llm.info.slots:
            if not self._ready and not self._read():
                break
            if self._ready:
                self._begin(*self._ready.popleft())
            if self._rows:
                break
        return bool(self._members or self._ready or not self._has_ended)

    def _read(self) -> bool:
        """Prepare the next window; return whether there was one."""
        works, size = [], 0
        for _ in range(WINDOW):
            task = None if self._has_ended else self._next()
            if task is None:
                self._has_ended = True
                break
            size += task.size
            if (work := self._prepared(task)) is not None:
                works.append(work)
            if size > WINDOW_BYTES:
                break
        works.sort(key=lambda work: work.requests[0].prompt_ids)
        self._ready.extend((work, at) for work in works for at in range(len(work.requests)))
        return bool(works) or not self._has_ended

    def _next(self) -> Task | None:
        self.is_reading = True
        try:
            return next(self._tasks, None)
        except KeyboardInterrupt:  # whoever waits for a line that does not come
            self.stop()
            return None
        finally:
            self.is_reading = False

    def _prepared(self, task: Task) -> Work | None:
        try:
            if task.error is not None:
                raise task.error
            return self._asking.prepare(task)
        except PhiplugError as error:
            self._rows.append(failed(task, error))
            return None

    def _begin(self, work: Work, at: int) -> None:
        """Queue one of a line's prompts, unless an error has ended the line."""
        if not work.open:
            return
        self._begun.add(work)
        request = work.requests[at]
        try:
            with naming_the_form(request, work.form_field):
                family = self._scheduler.add_choices(request, work.choices)
        except PhiplugError as error:
            self._fail(work, error)
            return
        for index, sequence in enumerate(family):
            self._members[sequence] = work, at * work.choices + index

    def _step(self) -> None:
        """Make a step of the loop, and take what has ended."""
        for sequence, chunk in self._scheduler.step():
            if (member := self._members.get(sequence)) is not None:
                self._take(sequence, *member, chunk)
        for sequence, (work, _) in [each for each in self._members.items() if each[0].error is not None]:
            if sequence in self._members:
                self._fail(work, sequence.error or EngineDied("the request ended"))

    def _take(self, sequence: Sequence, work: Work, index: int, chunk: Chunk) -> None:
        work.answers[index].add(chunk)
        if chunk.finish_reason is None:
            return
        del self._members[sequence]
        if self._llm.finished and chunk.usage and chunk.timings:
            self._llm.finished(sequence.request, chunk.usage, chunk.timings)
        work.open -= 1
        if not work.open:
            self._begun.discard(work)
            self._rows.append(answered(work))

    def _fail(self, work: Work, error: PhiplugError) -> None:
        """End a line, with all that it has in the engine."""
        for sequence in [each for each, (owner, _) in self._members.items() if owner is work]:
            sequence.cancelled = True
            del self._members[sequence]
        work.open = 0
        self._begun.discard(work)
        self._rows.append(failed(work.task, error))
