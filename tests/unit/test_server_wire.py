"""Messages between supervisor and worker: what goes in on one side comes out on the other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from phiplug.errors import BackendFailed, EngineUnavailable, InvalidParameter, PromptTooLong
from phiplug.markup import Markup, ReasoningFormat, ToolFormat, ToolUse
from phiplug.server.ports import EngineInfo, Event, Work
from phiplug.server.worker.wire import Beat, Begin, Cancel, Decoder, Load, Loaded, NotLoaded, Produced, encode
from phiplug.spi import ModelInfo
from phiplug.types import Chunk, Constraint, Request, SamplingParams, Timings, TokenLogprob, Tool, ToolCallDelta, Usage

SAMPLING = SamplingParams(
    seed=2**64 - 1, logit_bias={3: -math.inf, 7: 1.5}, dialect="llama.cpp", dry_breakers=((1, 2), (3,))
)
REQUEST = Request(
    (1, 2, 3),
    SAMPLING,
    stop=("\n", "é"),
    logprobs=2,
    score_from=1,
    templated=True,
    replayed=(5,),
    constraint=Constraint("regex", "[a-z]+"),
    markup=Markup(
        ReasoningFormat("x", "<x>", "</x>", framing=("<y>",)),
        begins_inside=True,
        tools=ToolUse(ToolFormat("y", ("<y>",), "<y>", "", ":"), (Tool("f", "", {"type": "object"}),), parallel=False),
    ),
)
CALL = ToolCallDelta(0, "i", "f", "{")
TOP = TokenLogprob(4, b"\xff", -0.1)
LAST = Chunk(
    "é", (4,), "stop", Usage(3, 2, 1), Timings(0.1, None, 0.2, 30.0, None), (replace(TOP, top=(TOP,)),), (TOP, TOP)
)
INFO = ModelInfo(
    16, 64, 2, "cpu", "Q4_1", "1", features=frozenset({"copy"}), cache_bytes=2**40, metadata={"flash attention": "on"}
)
MESSAGES = {
    "load": Load("model.gguf", "llama-cpp", slots=8, threads=2),
    "begin": Begin(7, Work("chatcmpl-1", REQUEST, 3), {0: (), 2: (9, 9)}),
    "cancel": Cancel(7),
    "loaded": Loaded(EngineInfo("toy", INFO)),
    "produced": Produced(((7, Event(0, Chunk("a"))), (8, Event(1, LAST)))),
    "beat": Beat(None, 0.25, 1.5),
    "called": Produced(((7, Event(0, Chunk("a", tool_calls=(CALL,)))),)),
}


def through(*messages, size=1 << 16):
    data, decoder = b"".join(map(encode, messages)), Decoder()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [message for piece in pieces for message in decoder.feed(piece)]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_message_comes_out_as_it_went_in(message):
    (came,) = through(message)
    assert came == message
    assert repr(came) == repr(message)  # tuples are tuples, and sets sets


@pytest.mark.parametrize("size", [1, 7, 100])
def test_messages_may_be_cut_anywhere(size):
    assert through(*MESSAGES.values(), size=size) == list(MESSAGES.values())


def test_half_a_message_is_none():
    assert list(Decoder().feed(encode(MESSAGES["produced"])[:-1])) == []


@pytest.mark.parametrize(
    "error",
    [
        BackendFailed("the engine broke", hint="try another"),
        InvalidParameter("prompt", "has an id that is not there"),
        PromptTooLong(70, 64),
        EngineUnavailable("it ended too often", retry_after=60),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_class_its_text_and_its_attributes(error):
    (came,) = through(NotLoaded(error))
    assert (type(came.error), str(came.error), vars(came.error)) == (type(error), str(error), vars(error))


def test_an_error_of_a_plugins_class_becomes_the_nearest_of_ours():
    class TooHot(BackendFailed):
        pass

    (came,) = through(NotLoaded(TooHot("it burns")))
    assert (type(came.error), str(came.error)) == (BackendFailed, "it burns")


def test_an_integer_of_any_size_comes_through():
    (came,) = through(Begin(1, Work("x", replace(REQUEST, max_tokens=10**30)), {}))
    assert came.work.request.max_tokens == 10**30


def test_every_value_is_checked_again():
    good = encode(Begin(1, Work("x", REQUEST), {}))
    with pytest.raises(InvalidParameter, match="n: "):
        list(Decoder().feed(good[: -good[::-1].index(1) - 1] + b"\x00" + good[-good[::-1].index(1) :]))


def test_what_no_message_holds_is_refused():
    with pytest.raises(TypeError, match="a complex cannot go through the pipe"):
        encode(Cancel(1j))
