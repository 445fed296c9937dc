"""Carries out a benchmark: a worker for each backend, one warm-up, then rounds in a shuffled, repeatable order.

Interleaving makes a machine that slows down slow all contenders alike. What a backend raises ends its own rows and
nobody else's. It knows nothing of how a run is shown.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

from phiplug.bench import meters
from phiplug.bench.compare import lines
from phiplug.bench.process import WorkerProcess
from phiplug.bench.record import built
from phiplug.bench.types import Contender, Loaded, ModelIdentity, Row, Run, Sample, Workload
from phiplug.bench.worker import POSITIONS, Task
from phiplug.errors import BackendFailed, InvalidParameter
from phiplug.spi import LoadOptions

if TYPE_CHECKING:
    from phiplug.bench.types import Hardware

Advance = Callable[[int], None]
ROUNDS = 10  # two more than an interval needs
MAX_S = 600.0
USUAL = LoadOptions()
NAMED = ("device", "ctx_size", "gpu_layers", "exact_scales", "lookahead")  # of the options, in a plan's `options`
TELLING_S = 2.0  # systems count processor time in hundredths of seconds, on each core


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        task: what each worker loads and runs.
        backends: their names, each once.
        references: to the models of backends that have others than the task's.
        slots: how many sequences at once; each number is measured.
        rounds: how many samples each contender gets, at least.
        precision: go on until half of each ratio's interval is at most this share of it, or `max_s` are over.
        max_s: seconds, after which no round begins beyond `rounds`.
        engine_only: measure the bare engine beside phiplug.
        positions: how many forced positions each backend draws at; 0 for none, and no ranking.
        seed: of the order of the rounds.
        workload: its name, where it has one.
        delay_s: of rest before each round but the first, for machines that grow hot.
    """

    task: Task
    backends: tuple[str, ...]
    references: Mapping[str, str] = field(default_factory=dict)
    slots: tuple[int, ...] = (1,)
    rounds: int = ROUNDS
    precision: float | None = None
    max_s: float = MAX_S
    engine_only: bool = False
    positions: int = POSITIONS
    seed: int = 0
    workload: str | None = None
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.backends:
            raise InvalidParameter("backend", "none is named", hint="as in -b llama-cpp -b mlx")
        for name, values in (("backend", self.backends), ("slots", self.slots)):
            if len(set(values)) < len(values):
                raise InvalidParameter(name, "the same one is named twice")
        if min(self.slots) < 1 or self.rounds < 1:
            raise InvalidParameter("slots" if min(self.slots) < 1 else "rounds", "is less than 1")
        for name, limit in (("precision", self.precision), ("max_s", self.max_s), ("delay", self.delay_s)):
            if limit is not None and limit < 0:
                raise InvalidParameter(name, "is less than 0")
        if not 0 <= self.positions <= POSITIONS:
            raise InvalidParameter("positions", f"{self.positions} is outside [0, {POSITIONS}]")

    @property
    def cell(self) -> str:
        """Its place in a grid, beside the lengths: the model, and the threads where they are fixed."""
        threads = self.task.options.threads
        fixed = f"{threads} thread{'s' if threads > 1 else ''}" if threads else ""
        return ", ".join(filter(None, (PurePath(self.task.reference).name, fixed)))

    @property
    def options(self) -> str:
        """The load options that were named beside the threads."""
        pairs = [(name, getattr(self.task.options, name)) for name in NAMED]
        return ", ".join(f"{name} {value}" for name, value in pairs if value != getattr(USUAL, name))

    def reference_of(self, backend: str) -> str:
        """Return what names the model that a backend is to load."""
        return self.references.get(backend, self.task.reference)

    @property
    def contenders(self) -> list[Contender]:
        """Everyone who is measured, the backends in their order."""
        modes = [Contender(backend, "engine") for backend in self.backends if self.engine_only]
        through = [Contender(backend, slots=slots) for backend in self.backends for slots in self.slots]
        return sorted(
            through + modes, key=lambda who: (self.backends.index(who.backend), who.slots, who.mode == "engine")
        )


def shuffled(plan: Plan, order: random.Random) -> list[Contender]:
    """Return everyone once: the backends in a random order, and within each its contenders in a random order.

    Phiplug and the bare engine come one after the other, so that what disturbs the one disturbs the other.
    """
    backends = order.sample(plan.backends, len(plan.backends))
    groups = [[who for who in plan.contenders if who.backend == backend] for backend in backends]
    return [contender for group in groups for contender in order.sample(group, len(group))]


@dataclass(slots=True)
class _Standing:
    """A backend's worker while it lives, and what was learnt of it."""

    worker: WorkerProcess
    loaded: Loaded | None = None
    round_s: float = 0.0
    peak_memory: int | None = None
    device_memory: int | None = None
    error: str | None = None


@dataclass(slots=True)
class Session:
    """One benchmark under way: `prepare`, `measure`, then `run`. Use it as a context manager."""

    plan: Plan
    models: Mapping[str, ModelIdentity]  # of each backend
    hardware: Hardware
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    complete: bool = False
    others_cpu: float | None = None
    throttled: int | None = None
    _own_s: float = 0.0
    _standings: dict[str, _Standing] = field(default_factory=dict)
    _samples: dict[Contender, list[Sample]] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self) -> float:
        """Load each backend and run the workload once; return how many seconds the rounds will take, as it looks."""
        task = replace(self.plan.task, options=replace(self.plan.task.options, slots=max(self.plan.slots)))
        for backend in self.plan.backends:
            its_task = replace(task, reference=self.plan.reference_of(backend))
            worker = self._stack.enter_context(WorkerProcess(backend, its_task))
            standing = self._standings[backend] = _Standing(worker)
            try:
                answer = worker.ask("load", backend=backend, positions=self.plan.positions)
            except BackendFailed as error:
                standing.error = error.message
            else:
                standing.loaded, standing.round_s = built(Loaded, answer["loaded"]), answer["seconds"]
        if all(standing.error for standing in self._standings.values()):
            raise BackendFailed("; ".join(str(standing.error) for standing in self._standings.values()))
        once = sum(self._standings[who.backend].round_s * who.slots for who in self.plan.contenders)
        return self.plan.rounds * (once + self.plan.delay_s)

    @property
    def total(self) -> int:
        """How many rounds there will be, over all contenders."""
        return self.plan.rounds * len(self.plan.contenders)

    def measure(self, advance: Advance) -> None:
        """Take the rounds; `advance` is told of each. KeyboardInterrupt ends it, and what is done stays."""
        order = random.Random(self.plan.seed)  # noqa: S311  the order need not be secret
        heat, busy, started = meters.throttled(), meters.busy_s() - time.process_time(), time.perf_counter()
        try:
            for done in itertools.count(1):
                if done > 1 and self.plan.delay_s:
                    time.sleep(self.plan.delay_s)
                for contender in shuffled(self.plan, order):
                    self._round(contender)
                    advance(done <= self.plan.rounds)
                if done >= self.plan.rounds and (self._is_precise() or time.perf_counter() - started > self.plan.max_s):
                    break
            self.complete = True
        except KeyboardInterrupt:
            pass
        elapsed = time.perf_counter() - started
        if elapsed > TELLING_S:
            self.others_cpu = max(0.0, meters.busy_s() - time.process_time() - busy - self._own_s) / elapsed
        hotter = meters.throttled()
        self.throttled = None if heat is None or hotter is None else hotter - heat

    def run(self) -> Run:
        """Return what was measured.

        Raises:
            KeyboardInterrupt: it ended before there was a sample.
        """
        if not self._samples and not self.complete:
            raise KeyboardInterrupt
        return Run(
            started=self.started,
            model=self._model,
            workload=self._workload(),
            hardware=self.hardware,
            rows=tuple(self._row(contender) for contender in self.plan.contenders),
            rounds=max(self.plan.rounds, *map(len, self._samples.values())),
            complete=self.complete,
            others_cpu=self.others_cpu,
            throttled=self.throttled,
            delay_s=self.plan.delay_s,
            cell=self.plan.cell,
            options=self.plan.options,
        )

    @property
    def _model(self) -> ModelIdentity:
        return self.models[self.plan.backends[0]]

    def _is_precise(self) -> bool:
        """Whether every ratio is known as well as was asked for."""
        most = self.plan.precision
        ratios = [line.decode for line in lines([self.run()])] if most else []
        return all(ratio is None or ratio.precision <= (most or math.inf) for ratio in ratios)

    def _round(self, contender: Contender) -> None:
        standing = self._standings[contender.backend]
        if standing.error:
            return
        try:
            answer = standing.worker.ask("round", mode=contender.mode, slots=contender.slots)
        except BackendFailed as error:
            standing.error = error.message
            return
        self._samples.setdefault(contender, []).append(built(Sample, answer["sample"]))
        self._own_s += answer["cpu_s"]
        standing.peak_memory, standing.device_memory = answer["peak_memory"], answer["device_memory"]

    def _workload(self) -> Workload:
        loaded = [standing.loaded for standing in self._standings.values() if standing.loaded]
        task = self.plan.task
        return Workload(task.prompt_tokens, task.gen_tokens, loaded[0].prompt_sha256, self.plan.workload, task.depth)

    def _row(self, contender: Contender) -> Row:
        standing = self._standings[contender.backend]
        return Row(
            contender,
            standing.loaded,
            tuple(self._samples.get(contender, ())),
            standing.peak_memory,
            standing.device_memory,
            standing.error,
            None if (own := self.models[contender.backend]) == self._model else own,
        )
