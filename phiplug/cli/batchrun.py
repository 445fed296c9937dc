"""How a batch runs from a terminal: its terms are agreed with an earlier run's, and it is watched while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from phiplug.cli import INTERRUPTED, note

if TYPE_CHECKING:
    from phiplug.batch.conduct import Job, Running, Tally
    from phiplug.batch.manifest import Manifest
    from phiplug.batch.output import Output, Pipe
    from phiplug.batch.tasks import Task


def agreed(job: Job, manifest: Manifest, sink: Output | Pipe, *, mixed: bool) -> Job:
    """Compare with what an earlier run wrote, or write down the terms of this one."""
    from phiplug.batch.conduct import check_resumed
    from phiplug.batch.manifest import Manifest, manifest_path
    from phiplug.batch.output import Output

    if not isinstance(sink, Output):
        return job
    path = manifest_path(sink.path)
    if not len(sink.done):
        manifest.write(path)
        return job
    earlier = Manifest.read(path)
    earlier.require(manifest, mixed=mixed)
    check_resumed(job, sink.done)
    return replace(job, terms=replace(job.terms, created=earlier.created))


def run(job: Job, start: Callable[[Iterator[Task]], Running], sink: Output | Pipe) -> None:
    """Answer the lines, show how far it is, obey Ctrl-C, and say what was written."""
    from phiplug.batch.conduct import conduct
    from phiplug.batch.interrupts import Interrupts
    from phiplug.cli.batchprogress import Screen, summary

    with Screen() as screen:
        interrupts = Interrupts(screen.say)

        class Watch:
            def look(self, run: Running, tally: Tally) -> None:
                screen.show(run, tally)
                interrupts.obey(run)

        with interrupts.listening():
            tally = conduct(job, start, sink, Watch())
    note(summary(tally, time.monotonic()))
    if interrupts.was_pressed:
        note("interrupted; --resume goes on")
        raise typer.Exit(INTERRUPTED)
