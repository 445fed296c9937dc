"""Tests what keeps a server safe: keys, hosts, bounds, clients that go or do not read, and its end."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from served import SAY_HI, ask, client_of, events, make, post, served_model

from phiplug.server.body import BodyLimits
from phiplug.server.drain import Drain
from phiplug.server.eventstream import EventStream, Pace
from phiplug.server.guard import PUBLIC

CHAT = "/v1/chat/completions"
BODY = {"messages": SAY_HI, "max_tokens": 4, "seed": 1}


def concrete(path):
    return path.replace("{name:path}", "toy")


def routes():
    return [(method, concrete(route.path)) for route in make().routes for method in route.methods]


@pytest.mark.parametrize(("method", "path"), [*routes(), ("GET", "/nowhere"), ("OPTIONS", CHAT)])
@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": "key"}]
)
def test_every_route_but_the_public_ones_asks_for_the_key(method, path, headers):
    answer = ask(make(key="secret"), method, path, BODY, headers=headers)
    assert (answer.status_code == 401) == (path not in PUBLIC)


@pytest.mark.parametrize("headers", [{"authorization": "Bearer secret"}, {"x-api-key": "secret"}])
def test_both_ways_to_send_the_key_are_known(headers):
    assert ask(make(key="secret"), "POST", CHAT, BODY, headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8080", "", "localhost@evil"])
def test_a_foreign_host_is_refused(host):
    assert ask(make(), "GET", "/health", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080"])
def test_loopback_is_a_name_of_every_server(host):
    assert ask(make(), "GET", "/health", headers={"host": host}).status_code == 200


def test_no_answer_lets_other_origins_read_it():
    answer = ask(make(), "POST", CHAT, BODY, headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_page_may_send_is_no_json(kind):
    answer = ask(make(), "POST", CHAT, content=json.dumps(BODY), headers={"content-type": kind})
    assert answer.status_code == 415


def test_a_body_that_is_announced_too_large_is_refused_unread():
    async def body():
        raise AssertionError("it was read")
        yield b""

    headers = {"content-type": "application/json", "content-length": str(10**9)}
    assert ask(make(), "POST", CHAT, content=body(), headers=headers).status_code == 413


def test_a_body_that_turns_out_too_large_is_refused_on_the_way():
    async def body():
        for _ in range(100):
            yield b" " * 1000

    app = make(body=BodyLimits(size=10_000))
    assert ask(app, "POST", CHAT, content=body(), headers={"content-type": "application/json"}).status_code == 413


def test_a_body_that_does_not_come_is_given_up():
    async def scenario():
        never = asyncio.Event()

        async def receive():
            await never.wait()

        return await by_hand(make(body=BodyLimits(seconds=0.01)), receive)

    sent = asyncio.run(scenario())
    assert sent[0]["status"] == 408


def test_a_full_queue_is_429_and_says_when_to_come_back():
    answer = post(CHAT, BODY, queue=0)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


async def by_hand(app, receive, send=None, body=None):
    """Ask as a server would, with a client that this test plays."""
    sent, first = [], [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}] if body else []

    async def receives():
        return first.pop() if first else await receive()

    async def sends(message):
        sent.append(message)
        if send:
            await send(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b""}
    scope |= {"headers": headers, "http_version": "1.1", "scheme": "http", "asgi": {"version": "3.0"}, "root_path": ""}
    await app(scope, receives, sends)
    return sent


def engine_of(app):
    return app.state.service.catalog.model(None).engine(None)


async def idle(app):
    while engine_of(app).status.open:
        await asyncio.sleep(0)
    await app.state.service.catalog.close()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_its_request(stream):
    app = make(served_model(ctx_size=4096))

    async def scenario():
        async def receive():
            while not engine_of(app).status.open:
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        await by_hand(app, receive, body={**BODY, "max_tokens": 4000, "ignore_eos": True, "stream": stream})
        await idle(app)

    asyncio.run(scenario())
    assert app.state.service._open == 0


def test_a_client_that_does_not_read_is_cut_off_and_its_request_cancelled():
    app = make(served_model(ctx_size=4096), pace=Pace(unread=2000))

    async def scenario():
        never = asyncio.Event()

        async def send(message):
            if message["type"] == "http.response.body":
                await never.wait()

        sent = await by_hand(app, never.wait, send, {**BODY, "max_tokens": 4000, "ignore_eos": True, "stream": True})
        assert sent[-1].get("more_body", True)
        await idle(app)

    asyncio.run(scenario())
    assert app.state.service._open == 0


def test_a_silent_stream_is_kept_alive_by_comments():
    sent, commented = [], asyncio.Event()

    async def computing():
        await commented.wait()
        yield b"data: done\n\n"

    async def send(message):
        sent.append(message.get("body", b""))
        if b": still computing" in sent[-1]:
            commented.set()

    async def over():
        """Nothing is left to do."""

    async def scenario():
        stream = EventStream(
            computing(), drain=Drain(), failed=lambda error: str(error).encode(), pace=Pace(comment_s=0.0), ended=over
        )
        await stream({"type": "http", "state": {"request_id": "r1"}}, asyncio.Event().wait, send)

    asyncio.run(scenario())
    assert b"data: done" in b"".join(sent)


def test_a_stream_that_is_open_when_the_time_is_over_ends_in_an_error_and_openais_last_word():
    app = make(served_model(ctx_size=4096))

    async def scenario():
        async with client_of(app) as client:
            body = {**BODY, "max_tokens": 4000, "ignore_eos": True, "stream": True}
            asked = asyncio.create_task(client.post(CHAT, json=body))
            whole = asyncio.create_task(client.post(CHAT, json={**body, "stream": False}))
            while engine_of(app).status.open < 2:
                await asyncio.sleep(0)
            app.state.service.drain.begin()
            refused = await client.post(CHAT, json=BODY)
            app.state.service.drain.finish()
            return refused, await asked, await whole

    refused, streamed, whole = asyncio.run(scenario())
    assert refused.status_code == whole.status_code == 503
    assert refused.headers["retry-after"]
    assert [*events(streamed)][-1] == "[DONE]"
    assert "stopping" in events(streamed)[-2]["error"]["message"]


def test_the_log_has_no_prompt_and_no_key(caplog):
    caplog.set_level(logging.INFO, "phiplug.server")
    body = {**BODY, "messages": [{"role": "user", "content": "my secret prompt"}]}
    ask(make(key="my-key"), "POST", CHAT + "?q=my-query", body, headers={"x-api-key": "my-key"})
    assert CHAT in caplog.text
    assert "my" not in caplog.text


def test_a_fault_of_ours_is_a_500_without_its_text_and_the_server_goes_on(monkeypatch):
    app = make()
    model = app.state.service.catalog.model(None)
    monkeypatch.setattr(type(model.tokenizer), "encode", lambda *_, **__: 1 / 0)
    answer = ask(app, "POST", CHAT, BODY)
    assert answer.status_code == 500
    assert "zero" not in answer.text
