"""A batch from its input to its output: reads, skips what is done, runs, writes, counts, and stops when it should."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from phiplug.batch.asking import Asking, Terms
from phiplug.batch.rows import written
from phiplug.batch.running import Run
from phiplug.batch.tasks import TaskReader
from phiplug.errors import InvalidParameter, PhiplugError

if TYPE_CHECKING:
    from phiplug.batch.manifest import Done
    from phiplug.batch.source import Source
    from phiplug.batch.tasks import Task
    from phiplug.forms.problems import Json
    from phiplug.llm import LLM
    from phiplug.spi import ModelInfo


class TooManyErrors(PhiplugError):
    """More lines ended in an error than the user allows."""


class Sink(Protocol):
    """Where rows go: `Output` or `Pipe`."""

    done: Done

    def write(self, row: bytes) -> None:
        """Take a row."""
        ...

    def tick(self) -> None:
        """Do what is due."""
        ...


@dataclass(slots=True)
class Tally:
    """How far a batch is.

    Attributes:
        rows: written by this run.
        errors: so many of them are errors.
        skipped: lines whose rows an earlier run wrote.
        tokens: drawn for the rows.
        position: bytes of the input that were read, about.
        size: how many it has, or None.
        started: in seconds of `time.monotonic`.
    """

    rows: int = 0
    errors: int = 0
    skipped: int = 0
    tokens: int = 0
    position: int = 0
    size: int | None = None
    started: float = 0.0

    def count(self, row: Json) -> None:
        """Count a row."""
        self.rows += 1
        self.errors += row["error"] is not None
        self.tokens += row["response"]["body"].get("usage", {}).get("completion_tokens", 0)


class Running(Protocol):
    """What answers tasks: a `Run` here, or a `Spread` over a cluster."""

    @property
    def open(self) -> int:
        """How many lines are being computed."""
        ...

    @property
    def is_reading(self) -> bool:
        """Whether it waits for a line; interrupting it then loses nothing."""
        ...

    def stop(self) -> None:
        """Begin no further line."""
        ...

    def rows(self) -> Iterator[Json | None]:
        """Yield a row for each task, and None where the caller may look around."""
        ...


class Watch(Protocol):
    """Who looks at a batch while it runs."""

    def look(self, run: Running, tally: Tally) -> None:
        """Called after every step and row: show how far it is, and call `run.stop` or raise KeyboardInterrupt."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done.

    Attributes:
        source: the input.
        terms: what holds for every line.
        raw: prompts of plain lines are texts to continue.
        max_errors: stop after more rows than this that are errors, or None.
        computed_by: added to each row, where rows are mixed.
    """

    source: Source
    terms: Terms
    raw: bool = False
    max_errors: int | None = None
    computed_by: Json | None = None


def require_independence(info: ModelInfo, *, mixed: bool) -> None:
    """Refuse an engine that lets the neighbours of a row change it, unless rows may be mixed.

    Raises:
        InvalidParameter: it does.
    """
    if info.row_independence == "none" and not mixed:
        message = "on this engine the neighbours of a row may change it, and a batch would depend on its order"
        raise InvalidParameter("backend", message, hint="`mixed` allows it, and each row says what computed it")


def check_resumed(job: Job, done: Done) -> None:
    """Read the whole input before anything is computed, and refuse one that has changed; a pipe cannot be read twice.

    Raises:
        InvalidParameter: a line whose row is there is another now, or is gone.
    """
    if len(done) and not job.source.is_pipe:
        with job.source.lines() as lines:
            for _ in done.missing(TaskReader(raw=job.raw).read(lines)):
                pass


def conduct(job: Job, start: Callable[[Iterator[Task]], Running], sink: Sink, watch: Watch) -> Tally:
    """Answer every line that has no row yet, by what `start` makes of the tasks.

    Raises:
        TooManyErrors: the open rows are written, and no further line was begun.
        InvalidParameter: the input or the output fails, or the input has changed.
        KeyboardInterrupt: `watch` raised it; what was open is dropped, and what is written is whole.
    """
    tally = Tally(size=job.source.size, started=time.monotonic())
    with job.source.lines() as lines:
        tasks = sink.done.missing(TaskReader(raw=job.raw).read(lines))
        run = start(tasks)
        for row in run.rows():
            tally.position, tally.skipped = lines.position, sink.done.met
            if row is None:
                sink.tick()
            else:
                sink.write(written(row if job.computed_by is None else row | {"computed_by": job.computed_by}))
                tally.count(row)
            if job.max_errors is not None and tally.errors > job.max_errors:
                run.stop()
            watch.look(run, tally)
    if job.max_errors is not None and tally.errors > job.max_errors:
        raise TooManyErrors(f"{tally.errors} lines ended in an error", hint="the rows are written; `resume` goes on")
    return tally


def here(job: Job, llm: LLM) -> Callable[[Iterator[Task]], Running]:
    """Return what `conduct` starts to compute in this process."""
    return lambda tasks: Run(llm, Asking(llm, job.terms), tasks)


def check(job: Job, llm: LLM) -> Iterator[tuple[Task, PhiplugError | None]]:
    """Yield each line with what is wrong with it, as far as that shows before anything is computed."""
    asking = Asking(llm, job.terms)
    with job.source.lines() as lines:
        for task in TaskReader(raw=job.raw).read(lines):
            error = task.error
            if error is None:
                try:
                    asking.prepare(task)
                except PhiplugError as refused:
                    error = refused
            yield task, error
