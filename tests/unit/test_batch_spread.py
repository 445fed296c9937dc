"""Tests that a line has one row whatever dies on the way: an engine's process, an actor, or several of them."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from batches import bad, good, llm, rows, tasks

from phiplug.batch.asking import Asking, Terms
from phiplug.batch.rows import compared
from phiplug.batch.spread import LOSSES, Spread
from phiplug.batch.supervised import TRIALS, Supervised
from phiplug.errors import EngineDied, EngineUnavailable, InvalidParameter, PromptTooLong, RequestError
from phiplug.forms.problems import Refused
from phiplug.server.local import LocalEngine

TERMS = Terms(names=("toy",))
LINES = [*good(30), *(line for _, line in bad(32))]


def by_line(found):
    return {row["line"]: compared(row) for row in found}


async def down_under_it():
    raise EngineUnavailable("it died too often", retry_after=0)
    yield


class Mortal(LocalEngine):
    """An engine that dies when it is handed a line whose seed is 13, and takes all others along.

    A line whose seed is 14 ends in a circuit that opens.
    """

    def __init__(self, engine):
        super().__init__(engine, "toy")
        self.deaths = 0
        self.alone = []
        self.down = 0

    async def submit(self, work):
        if self.down:
            self.down -= 1
            raise EngineUnavailable("it is down", retry_after=0)
        if work.request.sampling.seed == 13:
            self.deaths += 1
            self.alone.append(not self._open)
            for events in list(self._open):
                events._queue.put_nowait(EngineDied("a neighbour"))
            raise EngineDied("the process died twice")
        if work.request.sampling.seed == 14:
            self.deaths += 1
            return down_under_it()
        return await super().submit(work)


def supervised(lines, prepare=lambda engine: None):
    model = llm(slots=4)
    engine = Mortal(model.engine)
    prepare(engine)

    async def scenario():
        answering = Supervised(engine, Asking(model, TERMS))
        return [row async for row in answering.rows(list(tasks(lines)))]

    return asyncio.run(scenario()), engine


def test_rows_of_a_supervised_engine_are_those_of_one_in_this_process():
    assert by_line(supervised(LINES)[0]) == by_line(rows(LINES))


def test_a_line_that_kills_its_engine_alone_is_an_error_and_its_neighbours_live():
    lines = [*good(20), {"custom_id": "poison", "prompt": "a", "seed": 13, "max_tokens": 2}, *good(40)[20:]]
    found, engine = supervised(lines)
    errors = {row["custom_id"]: row["error"]["message"] for row in found if row["error"]}
    assert errors == {"poison": "the process died twice"}
    assert (engine.deaths, engine.alone[-1]) == (2, True)
    others = [line for line in lines if line["custom_id"] != "poison"]
    texts = {row["custom_id"]: row["response"]["body"]["choices"] for row in found if not row["error"]}
    assert texts == {row["custom_id"]: row["response"]["body"]["choices"] for row in rows(others)}


def test_a_line_under_which_an_engine_goes_down_is_an_error_when_it_does_so_again_alone():
    (row,), engine = supervised([{**good(1)[0], "seed": 14}])
    assert "died while it answered this line" in row["error"]["message"]
    assert engine.deaths == 2


def test_an_engine_that_is_down_is_waited_for_and_not_for_ever():
    assert all(not row["error"] for row in supervised(good(2), lambda engine: setattr(engine, "down", 3))[0])
    (row,), _ = supervised(good(1), lambda engine: setattr(engine, "down", TRIALS))
    assert row["error"]["code"] == "engine_unavailable"


def test_a_fault_of_ours_is_the_error_of_one_line(monkeypatch):
    prepare = Asking.prepare

    def faulty(self, task):
        return {}["nothing"] if task.line == 2 else prepare(self, task)

    monkeypatch.setattr(Asking, "prepare", faulty)
    found, _ = supervised(good(4))
    assert {row["line"] for row in found if row["error"]} == {2}


@pytest.mark.parametrize("error", [
    RequestError("a", hint="b"), InvalidParameter("n", "is odd", hint="c"), PromptTooLong(3, 2),
    Refused(400, "code", "a", param="b"), EngineUnavailable("a", retry_after=3),
])  # fmt: skip
def test_errors_go_from_process_to_process(error):
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


class RayError(Exception):
    """What Ray raises."""


class FakeRay:
    """Ray in this process: an actor answers a window with the rows of a `Run`, and dies when it is told to.

    `deaths` has for each call of an actor after how many rows its actor dies, or None.
    """

    class exceptions:  # noqa: N801  as Ray has it
        RayError = RayError

    def __init__(self, deaths=()):
        self.deaths = iter(deaths)
        self.killed = []

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, cls):
        return self

    def options(self, **_):
        return type("Remote", (), {"remote": staticmethod(lambda order: Handle(self))})

    def wait(self, streams, *, num_returns, timeout):
        return streams[:1], streams[1:]

    def get(self, found):
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self, handle):
        self.killed.append(handle)


class Handle:
    def __init__(self, ray):
        self.identity = type("Method", (), {"remote": staticmethod(lambda: {"backend": "toy"})})
        self.rows = type("Method", (), {"remote": staticmethod(lambda asked: Stream(asked, next(ray.deaths, None)))})


class Stream:
    """Ray's generator: `next` gives what `get` turns into a row."""

    def __init__(self, asked, death):
        model = llm()
        from phiplug.batch.running import Run

        found = [row for row in Run(model, Asking(model, TERMS), asked).rows() if row]
        self._items = iter(found if death is None else [*found[:death], RayError("the actor died")])

    def __next__(self):
        return next(self._items)


def spread(lines, deaths=()):
    ray = FakeRay(deaths)
    with Spread(ray, None, 2, cpus=1.0) as over:
        assert over.identities() == [{"backend": "toy"}] * 2
        found = [row for row in over.over(tasks(lines)).rows() if row]
        assert over.open == 0
    assert len(ray.killed) == 2
    return found


MANY = good(300)


@pytest.mark.parametrize("deaths", [(), (3,), (0, 7, None, 1), (63, 2, 2, 2)])
def test_every_line_has_its_row_once_whichever_actors_die(deaths):
    found = spread(MANY, deaths)
    assert len(found) == len(MANY)
    assert by_line(found) == by_line(rows(MANY))


def test_a_window_under_which_actors_die_again_and_again_is_errors():
    found = spread(good(3), [0] * LOSSES)
    assert [row["error"]["message"] for row in found] == [f"{LOSSES} actors died while they had this line"] * 3


def test_who_stops_gets_the_rows_that_were_handed_out():
    with Spread(FakeRay(), None, 1, cpus=1.0) as over:
        iterator = over.over(tasks(MANY)).rows()
        next(iterator)
        assert over.open == 127
        over.stop()
        assert len([row for row in iterator if row]) == 127


def test_a_line_that_does_not_come_can_be_given_up():
    def waiting():
        yield from tasks(good(2))
        raise KeyboardInterrupt

    with Spread(FakeRay(), None, 1, cpus=1.0) as over:
        assert [row for row in over.over(waiting()).rows() if row] == []


def test_more_actors_than_the_cluster_has_room_for_are_refused():
    with pytest.raises(InvalidParameter, match="3 actors ask for 3 CPUs, and the cluster has 2"):
        Spread(FakeRay(), None, 3, cpus=1.0)
