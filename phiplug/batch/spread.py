"""Spreads a batch over the actors of a Ray cluster, and yields a row for each task, once, whatever dies on the way.

Ray Core and not Ray Data: rows come back one by one, a window whose actor has died is asked for again without the rows
that came, and nothing is dropped in silence. Each actor has an engine in a process of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from phiplug.batch.rows import failed
from phiplug.errors import EngineDied, InvalidParameter, NotInstalled, PhiplugError

if TYPE_CHECKING:
    from phiplug.batch.answerer import Order
    from phiplug.batch.tasks import Task
    from phiplug.forms.problems import Json

WINDOW = 64
"""Tasks that an actor is handed at once; it has two such windows, so that its slots stay full between them."""

LOSSES = 5
"""Actors that may die under a window before its tasks are errors."""

POLL_S = 0.2


@dataclass(slots=True, eq=False)
class Window:
    """Tasks that were handed to an actor, by their lines, without those whose rows came; and how often it was lost."""

    tasks: dict[int, Task]
    losses: int = 0


@dataclass(slots=True)
class Actor:
    """An actor of the cluster, and what it has in hand: streams of rows, each with its window."""

    handle: Any  # Ray's own
    open: dict[Any, Window] = field(default_factory=dict)  # Any: Ray's generators


def connect(address: str | None) -> Any:  # Any: the module ray
    """Join a Ray cluster, or begin one on this machine.

    Raises:
        NotInstalled: Ray is missing.
        InvalidParameter: there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise NotInstalled("a batch is spread by Ray", hint="pip install 'phiplug[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError) as error:
            said = str(error).partition("\n")[0][:200]
            raise InvalidParameter("ray", f"{address} is no cluster that can be joined: {said}") from None
    return ray


class Spread:
    """The actors of one batch; also a context manager, which ends them.

    Attributes:
        is_reading: it waits for a line; interrupting it then loses nothing, and Ray's own calls are left alone.
    """

    def __init__(self, ray: Any, order: Order, count: int, *, cpus: float) -> None:  # Any: the module ray
        """Start `count` actors, each of which asks the cluster for so many `cpus`."""
        from phiplug.batch.answerer import Answerer

        here = ray.cluster_resources().get("CPU", 0)
        if count * cpus > here:
            raise InvalidParameter(
                "actors", f"{count} actors ask for {count * cpus:g} CPUs, and the cluster has {here:g}"
            )
        remote = ray.remote(Answerer).options(num_cpus=cpus, max_restarts=-1, max_concurrency=8)
        self._ray = ray
        self._actors = [Actor(remote.remote(order)) for _ in range(count)]
        self._waiting: deque[Window] = deque()
        self._source: Iterator[Task] = iter(())
        self._has_ended = False
        self.is_reading = False

    def identities(self) -> list[dict[str, Any]]:  # Any: as `computed_by` has them
        """Wait until every actor has its engine, and return what each says that it computes with.

        Raises:
            PhiplugError: a model cannot be loaded.
        """
        found = []
        for actor in self._actors:
            try:
                identity = self._ray.get(actor.handle.identity.remote())
            except self._ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                said = str(error).partition("\n")[0]
                raise cause if isinstance(cause, PhiplugError) else EngineDied(f"an actor: {said}") from None
            found.append(identity)
        return found

    @property
    def open(self) -> int:
        """How many tasks are in the hands of actors."""
        return sum(len(window.tasks) for actor in self._actors for window in actor.open.values())

    def stop(self) -> None:
        """Hand out no further tasks; those that were handed out come to their ends."""
        self._has_ended = True

    def over(self, tasks: Iterable[Task]) -> Spread:
        """Take the tasks to answer; return this."""
        self._source = iter(tasks)
        return self

    def rows(self) -> Iterator[Json | None]:
        """Yield a row for each task, and None now and then: the caller may look around then."""
        while self._hand_out():
            streams = [stream for actor in self._actors for stream in actor.open]
            ready, _ = self._ray.wait(streams, num_returns=1, timeout=POLL_S)
            for actor in self._actors:
                for stream in [each for each in ready if each in actor.open]:
                    yield from self._taken(actor, stream)
            yield None

    def _hand_out(self) -> bool:
        """Give each actor two windows; return whether any is open."""
        for actor in sorted(self._actors, key=lambda actor: len(actor.open)):
            while len(actor.open) < 2:
                window = self._waiting.popleft() if self._waiting else self._window()
                if window is None:
                    break
                actor.open[actor.handle.rows.remote(list(window.tasks.values()))] = window
        return any(actor.open for actor in self._actors)

    def _window(self) -> Window | None:
        tasks = [] if self._has_ended else self._read()
        return Window({task.line: task for task in tasks}) if tasks else None

    def _read(self) -> list[Task]:
        self.is_reading = True
        try:
            return list(islice(self._source, WINDOW))
        except KeyboardInterrupt:  # whoever waits for a line that does not come
            self.stop()
            return []
        finally:
            self.is_reading = False

    def _taken(self, actor: Actor, stream: Any) -> Iterator[Json]:  # Any: Ray's generator
        """Take what a stream has brought: a row, its end, or the death of its actor."""
        window = actor.open[stream]
        try:
            row: Json = self._ray.get(next(stream))
        except StopIteration:
            del actor.open[stream]
            if window.tasks:
                yield from self._lost(window)
        except self._ray.exceptions.RayError:
            del actor.open[stream]
            yield from self._lost(window)
        else:
            if window.tasks.pop(row["line"], None) is not None:
                yield row

    def _lost(self, window: Window) -> Iterator[Json]:
        """Ask for a window again, or call it an error that actors die under it."""
        window.losses += 1
        if window.losses < LOSSES:
            self._waiting.append(window)
            return
        for task in window.tasks.values():
            yield failed(task, EngineDied(f"{window.losses} actors died while they had this line"))

    def __enter__(self) -> Spread:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor.handle)
