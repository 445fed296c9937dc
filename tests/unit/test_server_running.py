"""Tests a connection's time-outs on a clock that passes by hand: headers, idleness, and what a client leaves unread."""

from __future__ import annotations

import asyncio

import pytest
from served import make
from uvicorn.server import ServerState

from phiplug.server.running import HEADER_S, IDLE_S, UNREAD_S, Address, PatientProtocol, config_of

HEAD = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"


class Timer:
    def __init__(self, at, call):
        self.at, self.call = at, call

    def cancel(self):
        self.call = lambda: None


class Loop:
    """A loop with a clock, whose tasks run on the one of asyncio."""

    def __init__(self):
        self.time, self.timers = 0.0, []

    def call_later(self, seconds, call):
        self.timers.append(Timer(self.time + seconds, call))
        return self.timers[-1]

    def create_task(self, coroutine, **options):
        return asyncio.get_running_loop().create_task(coroutine, **options)

    def pass_time(self, seconds):
        self.time += seconds
        due = [timer for timer in self.timers if timer.at <= self.time]
        self.timers = [timer for timer in self.timers if timer.at > self.time]
        for timer in due:
            timer.call()


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.sent, self.ended = b"", None

    def write(self, data):
        self.sent += data

    def close(self):
        self.ended = self.ended or "closed"

    def abort(self):
        self.ended = "aborted"

    def is_closing(self):
        return self.ended is not None


class Connection:
    def __init__(self):
        self.app, self.loop, self.transport = make(), Loop(), Transport()
        config = config_of(self.app, Address())
        config.load()
        self.protocol = PatientProtocol(config, ServerState(), {}, self.loop)
        self.protocol.connection_made(self.transport)

    async def answered(self):
        while not self.transport.sent.endswith(b'"ok"}'):
            await asyncio.sleep(0)
        self.transport.sent = b""


def play(scenario):
    async def played():
        connection = Connection()
        await scenario(connection)
        await connection.app.state.service.catalog.close()
        return connection.transport.ended

    return asyncio.run(played())


@pytest.mark.parametrize("sent", [b"", b"G", HEAD])
def test_a_client_that_does_not_finish_its_headers_is_dropped(sent):
    async def scenario(it):
        if sent:
            it.protocol.data_received(sent)
        it.loop.pass_time(HEADER_S - 1)
        if sent == HEAD:
            it.protocol.data_received(b"x: y\r\n")
        assert it.transport.ended is None
        it.loop.pass_time(1)

    assert play(scenario) == "closed"


def test_a_client_that_drips_the_headers_of_its_second_request_is_dropped():
    async def scenario(it):
        it.protocol.data_received(HEAD + b"\r\n")
        await it.answered()
        it.loop.pass_time(IDLE_S - 1)
        for _ in range(int(HEADER_S)):
            assert it.transport.ended is None
            it.protocol.data_received(b"G" if not _ else b"E")
            it.loop.pass_time(1)

    assert play(scenario) == "closed"


def test_a_client_may_ask_again_and_an_idle_one_is_closed():
    async def scenario(it):
        for _ in range(3):
            it.protocol.data_received(HEAD + b"\r\n")
            await it.answered()
            it.loop.pass_time(IDLE_S - 1)
            assert it.transport.ended is None
        it.loop.pass_time(1)

    assert play(scenario) == "closed"


def test_a_client_that_reads_nothing_is_dropped_and_one_that_reads_slowly_is_not():
    async def scenario(it):
        it.protocol.data_received(HEAD + b"\r\n")
        for _ in range(3):
            it.protocol.pause_writing()
            it.loop.pass_time(UNREAD_S - 1)
            it.protocol.resume_writing()
        await it.answered()
        assert it.transport.ended is None
        it.protocol.pause_writing()
        it.loop.pass_time(UNREAD_S)

    assert play(scenario) == "aborted"


def test_a_connection_that_is_gone_has_no_deadline_left():
    async def scenario(it):
        it.protocol.data_received(b"G")
        it.protocol.pause_writing()
        it.protocol.connection_lost(ConnectionResetError())
        it.loop.pass_time(IDLE_S + UNREAD_S)

    assert play(scenario) is None
