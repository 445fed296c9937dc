"""Makes the cells of a grid out of the flags of `bench`, and finds each model before anything is started."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, TypeVar

import typer

from phiplug.cli.runs import percentage
from phiplug.cli.several import named
from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.bench.conduct import Plan
    from phiplug.bench.grid import Cell
    from phiplug.bench.types import Hardware, ModelIdentity
    from phiplug.bench.worker import Task
    from phiplug.cli.bench import BenchFlags
    from phiplug.cli.several import GridFlags
    from phiplug.plugins import Plugins

T = TypeVar("T")


def grid_of(load: GridFlags, flags: BenchFlags) -> tuple[list[Cell], Hardware]:
    """Return a benchmark for each combination of what the flags name, and the machine.

    Raises:
        PhiplugError: a flag makes no sense, a model is not found, or a backend is not there.
    """
    from phiplug.bench.grid import Cell
    from phiplug.bench.hardware import identify
    from phiplug.plugins import Plugins

    plugins = Plugins.installed()
    plans = [_plan(load, flags, task, plugins) for task in _tasks(load, flags, plugins)]
    identities: dict[str, ModelIdentity] = {}  # by reference: one file is read once
    for plan in plans:
        for name in plan.backends:
            reference = plan.reference_of(name)
            if reference not in identities:
                takers = [each for each in plan.backends if plan.reference_of(each) == reference]
                identities[reference] = _identified(reference, takers, plugins, offline=load.offline)
    typer.echo("looking at this machine", err=True)
    cells = [Cell(plan, {name: identities[plan.reference_of(name)] for name in plan.backends}) for plan in plans]
    return cells, identify(plugins.hardware_info())


def _tasks(load: GridFlags, flags: BenchFlags, plugins: Plugins) -> list[Task]:
    from phiplug.bench.worker import Task
    from phiplug.bench.workloads import workload
    from phiplug.load import DEFAULT_MODEL

    if load.chat_template is not None:
        raise InvalidParameter("chat_template", "a benchmark's prompt has none", hint="drop it")
    if flags.workload and flags.depth:
        raise InvalidParameter("depth", f"{flags.workload} begins in an empty context", hint="drop one of the two")
    axes = (
        _axis("model", load.references()),
        _axis("threads", load.thread_counts),
        _axis("prompt_tokens", flags.prompt_tokens),
        _axis("gen_tokens", flags.gen_tokens),
        _axis("depth", flags.depth),
    )
    pairs = named(load.backends)
    own = next((plugins.backend(name).default_model for name, _ in pairs), None) or DEFAULT_MODEL
    default = "" if pairs and all(model for _, model in pairs) else own  # which nobody would load
    tasks = []
    for model, threads, prompt_tokens, gen_tokens, depth in product(*axes):
        work = workload(flags.workload, model=model, prompt_tokens=prompt_tokens, gen_tokens=gen_tokens)
        options = replace(load.options(), threads=threads)
        reference = work.model or default
        tasks.append(Task(reference, work.prompt_tokens, work.gen_tokens, options, load.offline, depth or 0))
    return tasks


def _axis(name: str, values: Sequence[T] | None) -> Sequence[T | None]:
    if values and len(set(values)) < len(values):
        raise InvalidParameter(name, "the same one is named twice")
    return values or [None]


def _plan(load: GridFlags, flags: BenchFlags, task: Task, plugins: Plugins) -> Plan:
    from phiplug.bench.conduct import Plan

    pairs = named(load.backends)
    return Plan(
        task,
        tuple(plugins.backend(name).name for name, _ in pairs),
        {name: model for name, model in pairs if model},
        tuple(flags.slots or (1,)),
        rounds=flags.rounds,
        precision=percentage("precision", flags.precision),
        max_s=60 * flags.max_minutes,
        engine_only=flags.engine_only,
        positions=flags.positions,
        seed=flags.order_seed,
        workload=flags.workload,
        delay_s=flags.delay,
    )


def _identified(reference: str, takers: Sequence[str], plugins: Plugins, *, offline: bool) -> ModelIdentity:
    from phiplug.bench.identity import identity_of
    from phiplug.cli.progress import DownloadBar
    from phiplug.load import cache, find
    from phiplug.plugins.choice import require_engine

    backends = [plugins.backend(name) for name in takers]
    before = partial(require_engine, backends, reference)
    files = find(reference, plugins, offline=offline, before_fetch=before, progress=DownloadBar())
    model = identity_of(files, cache())
    typer.echo(f"{model.reference}, SHA-256 {model.sha256[:12]}", err=True)
    return model
