"""Many streams from replicas of a server on the toy model, one of which is killed meanwhile: what their clients saw."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from time import monotonic

import httpx
from served import client_of, make

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Seen:
    """What a client saw of the stream number `at`, which it asked for at the time `began`."""

    at: int
    text: str
    is_whole: bool
    began: float


@dataclass(frozen=True)
class Tally:
    """Streams by what became of them; a broken one is wrong, too, where it is no beginning of the right text.

    Attributes:
        whole: came to their ends.
        broken: had an end before theirs, after some text or none.
        without_text: of the broken ones, those that can be asked for again without a trace.
        came_after: of the whole ones, those that were asked for after the death.
        wrong: have other text than one server computes.
    """

    whole: int
    broken: int
    without_text: int
    came_after: int
    wrong: int


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url):
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def body(at, **fields):
    said = [{"role": "user", "content": f"Tell me of {at}."}]
    return {"messages": said, "seed": at, "max_tokens": 200, "ignore_eos": True, **fields}


def expected(count):
    """Return the texts of so many streams as one server computes them."""

    async def scenario():
        async with client_of(make(queue=count)) as client:
            answers = await asyncio.gather(*[client.post(CHAT, json=body(at), timeout=None) for at in range(count)])
            return [answer.json()["choices"][0]["message"]["content"] for answer in answers]

    return asyncio.run(scenario())


async def stream(client, at):
    """Read a stream; it is whole when its last word has come."""
    began, text, is_whole = monotonic(), "", False
    try:
        async with client.stream("POST", CHAT, json=body(at, stream=True), headers={"x-session": f"s{at}"}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:]).get("choices", ()):
                        text += choice["delta"].get("content") or ""
                        is_whole = choice["finish_reason"] is not None
    except httpx.TransportError:
        pass
    return Seen(at, text, is_whole, began)


def ask(url, count, *, act, after, at_once=12):
    """Ask for so many streams, and `act` when the one number `after` has ended.

    Returns:
        What was seen of each, and when `act` was called.
    """

    async def scenario():
        numbers, seen, moment = iter(range(count)), [], []

        async def one_after_another(client):
            for at in numbers:
                seen.append(await stream(client, at))
                if len(seen) == after:
                    moment.append(monotonic())
                    act()

        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await asyncio.gather(*[one_after_another(client) for _ in range(at_once)])
        return seen, moment[0]

    return asyncio.run(scenario())


def tally(seen, texts, moment):
    whole = [each for each in seen if each.is_whole]
    rest = [each for each in seen if not each.is_whole]
    wrong = [each for each in whole if each.text != texts[each.at]]
    wrong += [each for each in rest if not texts[each.at].startswith(each.text)]
    return Tally(
        whole=len(whole),
        broken=len(rest),
        without_text=sum(not each.text for each in rest),
        came_after=sum(each.began > moment for each in whole),
        wrong=len(wrong),
    )
