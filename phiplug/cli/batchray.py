"""`phiplug batch --ray`: the same batch over the actors of a Ray cluster."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from phiplug.cli import note
from phiplug.cli.batchrun import agreed
from phiplug.cli.flags import template_source
from phiplug.errors import InvalidParameter, NotInstalled

if TYPE_CHECKING:
    from phiplug.batch.answerer import Order
    from phiplug.batch.asking import Terms
    from phiplug.batch.conduct import Job, Running
    from phiplug.batch.output import Output, Pipe
    from phiplug.batch.source import Source
    from phiplug.batch.tasks import Task
    from phiplug.cli.batch import BatchFlags
    from phiplug.cli.flags import LoadFlags

Start = Callable[[Iterator["Task"]], "Running"]


def spread_over(
    load: LoadFlags, flags: BatchFlags, source: Source, sink: Output | Pipe, stack: ExitStack
) -> tuple[Job, Start]:
    """Start the actors, which `stack` ends, and return what they are to do."""
    from phiplug.batch.conduct import Job
    from phiplug.batch.manifest import Manifest
    from phiplug.batch.spread import Spread, connect

    if any(importlib.util.find_spec(name) is None for name in ("ray", "msgpack", "psutil")):
        raise NotInstalled("a batch is spread by Ray", hint="pip install 'phiplug[ray]'")
    order = _order(load, flags, _created(sink))
    ray = connect(None if flags.ray == "local" else flags.ray)
    cpus = flags.actor_cpus if flags.actor_cpus is not None else float(order.load.threads or 1)
    spread = stack.enter_context(Spread(ray, order, flags.actors, cpus=cpus))
    identity = _one(spread.identities(), mixed=flags.mixed)
    terms = order.terms
    asked = {"seed": terms.seed, "max_tokens": terms.max_tokens, "raw": flags.raw, "names": list(terms.names)}
    job = Job(source, terms, flags.raw, flags.max_errors)
    job = agreed(job, Manifest(terms.created, asked, identity), sink, mixed=flags.mixed)
    note(f"{order.load.reference}: {identity['backend']} on {flags.actors} actors of a Ray cluster; seed {terms.seed}")
    return job, spread.over


def _created(sink: Output | Pipe) -> int:
    """Return when the batch began: now, or with the run whose rows are there."""
    from phiplug.batch.manifest import Manifest, manifest_path
    from phiplug.batch.output import Output

    if isinstance(sink, Output) and len(sink.done):
        return Manifest.read(manifest_path(sink.path)).created
    return int(time.time())


def _order(load: LoadFlags, flags: BatchFlags, created: int) -> Order:
    """Return what every actor loads: by reference, so that each node finds the model in its own way."""
    from phiplug.batch.answerer import Order
    from phiplug.load import choose_for
    from phiplug.plugins import Plugins
    from phiplug.server.worker import Load

    files, backend = choose_for(load.model, Plugins.installed(), backend=load.backend, offline=load.offline)
    options = replace(load, threads=load.threads or 1).options(flags.slots)
    given = {each.name: getattr(options, each.name) for each in fields(Load) if hasattr(options, each.name)}
    engine = Load(**given, reference=files.reference, backend=backend.name, offline=load.offline)
    return Order(engine, _terms(flags, files.reference, created), template_source(load.chat_template))


def _terms(flags: BatchFlags, reference: str, created: int) -> Terms:
    from phiplug.batch.asking import Terms

    return Terms(created, flags.seed, flags.max_tokens, (*(flags.served_name or ()), reference), flags.mixed)


def _one(identities: list[dict[str, Any]], *, mixed: bool) -> dict[str, Any]:  # Any: as `computed_by` has them
    """Return what all actors compute with.

    Raises:
        InvalidParameter: two of them differ, and rows may not be mixed.
    """
    first, *others = identities
    for other in others:
        unlike = [name for name in first if other.get(name) != first[name]]
        if unlike and not mixed:
            said = f"the actors differ in {unlike[0]}: {first[unlike[0]]} and {other.get(unlike[0])}"
            raise InvalidParameter("ray", said, hint="`mixed` lets rows differ, and each says what computed it")
    return first
